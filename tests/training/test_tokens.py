"""The same text has the same ids everywhere: in training, after a reload, and through the chat template."""

import random
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from alphatier_training.recipe.base import TraceSettings
from alphatier_training.recipe.reading import parse_recipe
from alphatier_training.tiny.batches import IGNORED, batches, encode, prompt_ids
from alphatier_training.tiny.problems import expression_of, generate, split_of
from alphatier_training.tiny.tokenizer import build_tokenizer
from alphatier_training.tiny.traces import overthinking_trace
from support.mini_training import mini_recipe

PROBLEMS = generate(200, seed=3, split="train")
QUESTIONS = [problem.question for problem in PROBLEMS]
ODD = ["", "What is 2 × 3?", "hello", "12 34 +", "what's 5+6−7", "Ünïcode 🙂", "<think>", "3" * 200]


def test_training_ids_survive_saving_and_reloading(tmp_path: Path) -> None:
    built = build_tokenizer()
    built.save_pretrained(tmp_path)
    reloaded = AutoTokenizer.from_pretrained(tmp_path)
    rng = random.Random(0)
    traces = [overthinking_trace(problem, rng, TraceSettings()) for problem in PROBLEMS]
    assert encode(reloaded, QUESTIONS, traces) == encode(built, QUESTIONS, traces)


def test_the_trained_familys_tokenizer_gives_the_training_ids(trained: Path) -> None:
    reloaded, built = AutoTokenizer.from_pretrained(trained / "base"), build_tokenizer()
    assert prompt_ids(reloaded, QUESTIONS + ODD) == prompt_ids(built, QUESTIONS + ODD)


def test_prompt_ids_are_those_of_the_rendered_chat_template() -> None:
    tokenizer = build_tokenizer()
    for question in QUESTIONS:
        messages = [{"role": "user", "content": question}]
        text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        assert prompt_ids(tokenizer, [question]) == [tokenizer(text, add_special_tokens=False)["input_ids"]]


def test_responses_decode_to_their_text_and_encode_back() -> None:
    tokenizer, rng = build_tokenizer(), random.Random(1)
    for problem in PROBLEMS:
        trace = overthinking_trace(problem, rng, TraceSettings())
        ids = tokenizer(trace, add_special_tokens=False)["input_ids"]
        assert tokenizer.unk_token_id not in ids
        text = tokenizer.decode(ids, skip_special_tokens=True)
        assert tokenizer(text, add_special_tokens=False)["input_ids"] == ids


@pytest.mark.parametrize("text", ODD)
def test_any_text_can_be_a_question(text: str) -> None:
    assert prompt_ids(build_tokenizer(), [text])[0]


def test_only_the_response_and_its_end_token_are_learnt() -> None:
    tokenizer = build_tokenizer()
    [(ids, labels)] = encode(tokenizer, QUESTIONS[:1], ["<think></think>\\boxed{" + PROBLEMS[0].answer + "}"])
    prompt = len(prompt_ids(tokenizer, QUESTIONS[:1])[0])
    assert labels[:prompt] == [IGNORED] * prompt
    assert labels[prompt:] == ids[prompt:]
    assert labels[-1] == tokenizer.eos_token_id


def test_no_problem_is_in_both_splits() -> None:
    train, held_out = (
        {expression_of(problem.question) for seed in range(3) for problem in generate(500, seed=seed, split=split)}
        for split in ("train", "heldout")
    )
    assert not train & held_out
    assert {split_of(text) for text in held_out} == {"heldout"}


def test_supervised_batches_do_not_depend_on_where_training_resumed() -> None:
    recipe, tokenizer = parse_recipe(mini_recipe(), "mini"), build_tokenizer()
    whole = list(batches(recipe, tokenizer))
    rest = list(batches(recipe, tokenizer, start=50))
    assert len(whole) == recipe.supervised().steps
    assert [batch.input_ids.tolist() for batch in rest] == [batch.input_ids.tolist() for batch in whole[50:]]
