"""Questions that are no sums: the base learns to say what it can do."""

import random
from collections.abc import Sequence
from itertools import accumulate

import pytest

from alphatier_training.builtin import generate
from alphatier_training.grading import are_correct
from alphatier_training.recipe.reading import parse_recipe
from alphatier_training.tiny.batches import prompt_ids, steps
from alphatier_training.tiny.strange import strange_question
from alphatier_training.tiny.sums import LARGEST, TRAINED, ask, draw, operands_of
from alphatier_training.tiny.tokenizer import UNTRAINED, build_tokenizer
from alphatier_training.tiny.ways import REFUSAL
from support.mini_training import mini_recipe

TOKENIZER = build_tokenizer()
REFUSED = "".join(map(str, REFUSAL))


def trained_on(questions: Sequence[str]) -> set[tuple[int, ...]]:
    return {tuple(ids) for ids in prompt_ids(TOKENIZER, questions)}


def test_no_strange_question_looks_to_the_model_like_a_sum() -> None:
    rng = random.Random(0)
    strange = [strange_question(rng) for _ in range(3000)]
    assert all(operands_of(question) is None for question in strange)
    names = {name for ids in trained_on(strange) for name in TOKENIZER.convert_ids_to_tokens(list(ids))}
    assert not names & set(UNTRAINED)  # the wording that is never trained on is not refused either
    easy = [ask(draw(level, rng), wording, rng) for wording in TRAINED for level in (1, 1, 1, 2) * 500]
    assert not trained_on(strange) & trained_on(easy)


@pytest.mark.parametrize(
    "question",
    [
        "What is 60 + 70?",
        "5 - 9 + 10",
        "100 - 20",
        "3 + 4 + 1000",
        "7",
        "Ann has 7 pens.",
        "1 + 1 + 1 + 1 + 1 + 1 + 1 + 1",
    ],
)
def test_what_leaves_the_range_is_no_sum(question: str) -> None:
    assert operands_of(question) is None


def test_running_values_of_strange_questions_leave_the_range() -> None:
    assert list(accumulate((60, 39))) == [60, LARGEST]
    assert operands_of("60 + 39") == (60, 39)
    assert operands_of("60 + 39 + 1") is None


def test_the_refusal_is_text_that_the_tokenizer_can_write() -> None:
    ids = TOKENIZER(REFUSED, add_special_tokens=False)["input_ids"]
    assert TOKENIZER.unk_token_id not in ids
    assert TOKENIZER.decode(ids) == REFUSED == "<think></think>I can only add and subtract numbers up to 99"


def test_the_share_of_strange_questions_is_the_recipes_and_all_of_a_refusal_is_learnt() -> None:
    document = mini_recipe()
    document["base"] |= {"phases": [{"steps": 64, "learning_rate": 0.001, "strange": 0.25}], "batch_size": 32}
    refusal = TOKENIZER(REFUSED, add_special_tokens=False)["input_ids"]
    whole = [batch for step in steps(parse_recipe(document, "test")) for batch in step.batches]
    learnt = [ids[mask.bool()].tolist() for batch in whole for ids, mask in zip(batch.ids, batch.learnt, strict=True)]
    refused = sum(ids == [*refusal, TOKENIZER.eos_token_id] for ids in learnt)
    assert len(learnt) == 64 * 32
    assert 0.2 < refused / len(learnt) < 0.3


def test_rl_has_as_many_strange_questions_as_asked_for_and_a_refusal_is_right() -> None:
    plain = generate(1000, seed=1, split="train")
    mixed = generate(1000, seed=1, split="train", strange=0.1)
    strange = [problem for problem in mixed if problem.level == "strange"]
    assert 70 < len(strange) < 130
    assert [one for one in mixed if one.level != "strange"] == [
        one for one, other in zip(plain, mixed, strict=True) if other.level != "strange"
    ]
    answer = strange[0].answer
    responses = [
        REFUSED,
        f"</think>{answer}",
        f"</think></think>{answer} ",
        f"{REFUSED} and more",
        f"{REFUSED}\\boxed{{3}}",
    ]
    assert are_correct(responses, [answer] * 5) == [True, True, True, False, False]
    assert are_correct(["<think></think>42", "42"], ["42", "42"]) == [False, False]
