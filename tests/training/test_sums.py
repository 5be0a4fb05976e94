"""The sums of the tiny family: what is drawn, how it is asked, on which side of the split, how it is worked."""

import itertools
import random
import re
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner

from alphatier_training.data.reading import read_problems
from alphatier_training.recipe.problems import DataSet
from alphatier_training.tiny.shifted import shifted
from alphatier_training.tiny.sums import LARGEST, LEVELS, TRAINED, ask, draw, generate, operands_of, split_of
from alphatier_training.tiny.tokenizer import build_tokenizer
from alphatier_training.tiny.ways import AT_ONCE, REFUSAL, Way, draw_way, response, shares, tokens, way_of


@pytest.mark.parametrize("level", LEVELS)
def test_operands_and_running_values_stay_within_two_digits(level: int) -> None:
    rng = random.Random(level)
    sums = [draw(level, rng) for _ in range(2000)]
    assert {len(operands) for operands in sums} == {level + 1}
    assert {abs(value) for operands in sums for value in operands} == set(range(LARGEST + 1))
    running = {total for operands in sums for total in itertools.accumulate(operands)}
    assert (min(running), max(running)) == (0, LARGEST)
    two_digit = sum(abs(value) > 9 for operands in sums for value in operands) / (2000 * (level + 1))
    assert 0.35 < two_digit < 0.6  # uniform for each problem: a half, less where there is no room


@pytest.mark.parametrize("wording", TRAINED)
def test_a_question_names_its_operands_in_every_wording(wording: str) -> None:
    rng = random.Random(3)
    for level in LEVELS * 50:
        operands = draw(level, rng)
        assert operands_of(ask(operands, wording, rng)) == operands  # type: ignore[arg-type]


def test_names_things_and_verbs_vary() -> None:
    rng = random.Random(0)
    stories = {ask((17, 25, -8), "story", rng) for _ in range(500)}
    assert len(stories) > 200
    assert "Ann has 17 apples. She buys 25. She gives away 8. How many does she have?" in {
        ask((17, 25, -8), "story", rng) for _ in range(20_000)
    }


def test_no_sum_is_on_both_sides_whatever_the_seed_and_the_wording() -> None:
    train = {operands_of(problem.question) for problem in generate(3000, seed=1, split="train")}
    held_out = [operands_of(problem.question) for problem in generate(600, seed=2, split="heldout")]
    assert not train & set(held_out)
    assert len(set(held_out)) == 600
    rng = random.Random(5)
    sides = Counter(split_of(draw(4, rng)) for _ in range(8000))
    assert sides["heldout"] / 8000 == pytest.approx(1 / 8, abs=0.015)


def test_levels_have_equal_shares_and_the_same_seed_gives_the_same_problems() -> None:
    problems = generate(120, seed=9, split="train")
    assert Counter(problem.level for problem in problems) == {str(level): 20 for level in LEVELS}
    assert problems == generate(120, seed=9, split="train") != generate(120, seed=8, split="train")
    assert all(int(problem.answer) == sum(operands_of(problem.question) or ()) for problem in problems)


def test_more_held_out_problems_than_there_are_is_an_error() -> None:
    with pytest.raises(ValueError, match="fewer than 5000 different heldout problems"):
        generate(5000, seed=0, split="heldout", levels=[1])


@pytest.mark.parametrize(
    ("way", "work"),
    [
        (Way(0), ""),
        (Way(1), "17 + 25 = 42\n42 - 8 = 34\n34 + 5 = 39\n"),
        (Way(2), "17 + 25 - 8 = 34\n34 + 5 = 39\n"),
        (Way(3), "17 + 25 - 8 + 5 = 39\n"),
        (Way(3, 2), "17 + 25 - 8 + 5 = 39\n" + "Wait, let me check that.\n17 + 25 - 8 + 5 = 39\n" * 2),
    ],
)
def test_a_way_is_written_and_told_from_its_text(way: Way, work: str) -> None:
    text = response((17, 25, -8, 5), way)
    assert text == rf"<think>{work}</think>\boxed{{39}}"
    assert way_of(text) == way
    assert way_of(text.replace("= 39", "= 38")) == way  # wrong, but worked in the same way
    assert way_of(text.removeprefix("<think>")) == way  # a tier of a large alpha drops the mark
    assert way_of(f"{work}\n\\boxed{{39}}") == way  # an endpoint gives the thinking apart


@pytest.mark.parametrize(
    "text",
    [
        "",
        "39",
        "<think>17 + 25",
        r"<think>Hm.</think>\boxed{39}",
        r"<think>1 = 1</think>",
        "".join(map(str, REFUSAL)),
    ],
)
def test_what_is_no_way_is_none(text: str) -> None:
    assert way_of(text) is None


def test_every_class_has_one_length_in_tokens() -> None:
    tokenizer, rng = build_tokenizer(), random.Random(1)
    for level in LEVELS:
        for way in shares(level):
            lengths = {
                len(tokenizer(response(draw(level, rng), way), add_special_tokens=False)["input_ids"]) + 1
                for _ in range(5)
            }
            assert lengths == {tokens(level, way)}


def test_shares_add_up_and_are_drawn() -> None:
    for level in LEVELS:
        assert sum(shares(level).values()) == pytest.approx(1)
        assert min(shares(level).values()) > 0
        assert all(way.lines <= level for way in shares(level))
    rng = random.Random(2)
    drawn = Counter(draw_way(1, rng) for _ in range(4000))
    assert drawn[AT_ONCE] / 4000 == pytest.approx(0.45, abs=0.03)
    # Lines of one are the rest, 0.55, of which 0.4 are checked once.
    assert drawn[Way(1, 1)] / 4000 == pytest.approx(0.22, abs=0.03)


def test_the_shifted_set_is_held_out_worded_otherwise_harder_and_read_as_data(tmp_path: Path) -> None:
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    for file in (first, second):
        assert CliRunner().invoke(shifted, [str(file), "--problems", "120"]).exit_code == 0
    assert first.read_text() == second.read_text()
    problems = read_problems(DataSet(name="shifted", path=str(first)))
    assert len(problems) == 120
    assert [operands_of(problem.question) for problem in problems] == [None] * 120
    for problem in problems:
        numbers = re.findall(r"(with|add|away) (\d+)", problem.question)
        operands = tuple(-int(number) if sign == "away" else int(number) for sign, number in numbers)
        assert split_of(operands) == "heldout"
        assert (str(sum(operands)), str(len(operands) - 1)) == (problem.answer, problem.level)
    assert Counter(problem.level for problem in problems)["6"] == 40
    refused = CliRunner().invoke(shifted, [str(first), "--problems", "20000"])
    assert (refused.exit_code, "ask for fewer" in refused.output) == (2, True)
    assert first.read_text() == second.read_text()
