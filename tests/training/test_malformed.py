"""Questions that are no problems: the base learns to say what it can do."""

import random
import re

from alphatier_training.recipe.reading import parse_recipe
from alphatier_training.tiny.batches import batches
from alphatier_training.tiny.problems import LARGEST, malformed_question
from alphatier_training.tiny.tokenizer import build_tokenizer
from alphatier_training.tiny.traces import REFUSAL
from support.mini_training import mini_recipe

_PROBLEM = re.compile(r"(?:What is |Compute |Calculate )?(\d+(?: [+-] \d+)+)[?.]?")


def test_no_malformed_question_is_a_problem() -> None:
    rng = random.Random(0)
    for _ in range(2000):
        question = malformed_question(rng)
        match = _PROBLEM.fullmatch(question)
        numbers = [int(number) for number in re.findall(r"\d+", match[1])] if match else []
        assert match is None or max(numbers) > LARGEST, question


def test_the_refusal_is_text_that_the_tokenizer_can_write() -> None:
    tokenizer = build_tokenizer()
    ids = tokenizer(REFUSAL, add_special_tokens=False)["input_ids"]
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids) == REFUSAL


def test_the_share_of_malformed_questions_is_the_recipes() -> None:
    document = mini_recipe()
    document["base"] |= {"steps": 64, "batch_size": 32, "processes": 1, "phases": [{"malformed": 0.25}]}
    tokenizer = build_tokenizer()
    refusal = tokenizer(REFUSAL, add_special_tokens=False)["input_ids"]
    rows = [row for batch in batches(parse_recipe(document, "test"), tokenizer) for row in batch.labels.tolist()]
    refused = sum(1 for row in rows if [token for token in row if token >= 0][:-1] == refusal)
    assert 0.2 < refused / len(rows) < 0.3
