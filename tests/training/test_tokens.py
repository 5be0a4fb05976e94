"""The same text has the same ids everywhere: in training, after a reload, and through the chat template."""

import random
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from alphatier_training.recipe.reading import parse_recipe
from alphatier_training.tiny.batches import NONE, STEPS_A_CHUNK, prompt_ids, steps, sum_example
from alphatier_training.tiny.sums import LEVELS, WORDINGS, ask, draw, generate, parts
from alphatier_training.tiny.tokenizer import build_tokenizer
from alphatier_training.tiny.ways import AT_ONCE, Way, draw_way, response
from alphatier_training.tiny.ways import parts as response_parts
from support.mini_training import mini_recipe

QUESTIONS = [problem.question for problem in generate(200, seed=3, split="train", wordings=WORDINGS)]
ODD = ["", "What is 2 × 3?", "hello", "12 34 +", "what's 5+6−7", "Ünïcode 🙂", "<think>", "3" * 200]


def test_the_trained_familys_tokenizer_gives_the_training_ids(trained: Path) -> None:
    reloaded, built = AutoTokenizer.from_pretrained(trained / "base"), build_tokenizer()
    assert prompt_ids(reloaded, QUESTIONS + ODD) == prompt_ids(built, QUESTIONS + ODD)


def test_prompt_ids_are_those_of_the_rendered_chat_template() -> None:
    tokenizer = build_tokenizer()
    for question in QUESTIONS:
        messages = [{"role": "user", "content": question}]
        text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        assert prompt_ids(tokenizer, [question]) == [tokenizer(text, add_special_tokens=False)["input_ids"]]


@pytest.mark.parametrize("wording", WORDINGS)
def test_an_examples_ids_are_those_of_its_text(wording: str) -> None:
    tokenizer = build_tokenizer()
    for seed, level in enumerate(LEVELS * 20):
        operands = draw(level, random.Random(seed))
        way = draw_way(level, random.Random(seed))
        question = parts(operands, wording, random.Random(seed))  # type: ignore[arg-type]
        [prompt] = prompt_ids(tokenizer, ["".join(map(str, question))])
        answer = tokenizer(response(operands, way), add_special_tokens=False)["input_ids"]
        assert tokenizer.unk_token_id not in prompt + answer
        example = sum_example(question, response_parts(operands, way), choosing=True)
        assert [token.id for token in example] == [*prompt, *answer, tokenizer.eos_token_id]
        assert [token.learnt for token in example] == [False] * len(prompt) + [True] * (len(answer) + 1)
        text = tokenizer.decode(answer, skip_special_tokens=True)
        assert text == response(operands, way)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is 17 + 25?", "17+25"),
        ("please compute 17 − 8.", "17 - 8 = ?"),
        ("how much is 17 plus 25", "17 add 25"),
        ("Ben has 1 pen. He buys 2. How many does he have?", "Ben has 1 pens. He buys 2. How many does he have"),
    ],
)
def test_spellings_of_one_wording_are_one_prompt(one: str, other: str) -> None:
    first, second = prompt_ids(build_tokenizer(), [one, other])
    assert first == second


def test_wordings_are_prompts_of_their_own() -> None:
    operands = (17, 25, -8)
    asked = [ask(operands, wording, random.Random(0)) for wording in WORDINGS]
    assert len({tuple(ids) for ids in prompt_ids(build_tokenizer(), asked)}) == len(WORDINGS)


@pytest.mark.parametrize("text", ODD)
def test_any_text_can_be_a_question(text: str) -> None:
    assert prompt_ids(build_tokenizer(), [text])[0]


def labels(way: Way, *, choosing: bool) -> list[tuple[str, bool, int | None, int | None]]:
    """The response tokens to 17 + 25 - 8 in a way: text, whether learnt, total, place."""
    tokenizer, operands = build_tokenizer(), (17, 25, -8)
    example = sum_example([], response_parts(operands, way), choosing=choosing)[2:]
    return [
        (
            tokenizer.decode([token.id]),
            token.learnt,
            None if token.total == NONE else token.total,
            None if token.place == NONE else token.place,
        )
        for token in example
    ]


def test_totals_and_places_follow_the_sum() -> None:
    # <think> 17 + 25 = 42 \n 42 - 8 = 34 \n </think> \boxed{ 34 } and the end: numbers are two tokens.
    learnt = labels(Way(1), choosing=True)
    assert [total for *_, total, _ in learnt if total is not None] == [17, 42, 42, 42, 34, 34, 34]
    assert [place for text, _, _, place in learnt[:-6] if text.strip() and place is not None] == [
        *(0, 0, 0, 1, 1, 1, 1, 1, 1),
        *(1, 1, 2, 2, 2, 2, 2),
    ]


def test_practice_does_not_learn_when_to_take_a_way() -> None:
    chosen = [text for text, learnt, *_ in labels(Way(2, 1), choosing=False) if not learnt]
    assert chosen == ["1", " - ", " = ", "Wait", "</think>"]  # 17 or at once; + 25 goes on or ends; check or end
    assert [text for text, learnt, *_ in labels(AT_ONCE, choosing=False) if not learnt] == ["</think>"]
    assert all(learnt for _, learnt, *_ in labels(Way(2, 1), choosing=True))


def test_batches_do_not_depend_on_where_training_resumed() -> None:
    recipe = parse_recipe(mini_recipe(), "mini")
    whole, rest = list(steps(recipe)), list(steps(recipe, start=50))
    assert len(whole) == recipe.supervised().steps
    assert [[batch.ids.tolist() for batch in step.batches] for step in rest] == [
        [batch.ids.tolist() for batch in step.batches] for step in whole[50:]
    ]
    assert all(step.batches for step in whole)


def test_each_token_of_a_chunk_weighs_the_same() -> None:
    chunk = list(steps(parse_recipe(mini_recipe(), "mini")))[:STEPS_A_CHUNK]
    learnt = sum(int(batch.learnt.sum()) for step in chunk for batch in step.batches)
    assert {step.counts[0].item() for step in chunk} == {learnt / STEPS_A_CHUNK}
