"""From the problems that were read to those that an RL run uses: every filter, the order, the count."""

from collections import Counter
from collections.abc import Sequence

import pytest

from alphatier_training.data.contamination import Overlap
from alphatier_training.data.problem import Problem, message
from alphatier_training.data.selection import Selection, in_epochs, pass_rates, select
from alphatier_training.errors import TrainingError
from alphatier_training.recipe.problems import Contamination, DataProblems, DataSet, PassRate

POOL = [Problem("x" * length, str(length)) for length in range(1, 11)]
"""Ten problems whose answers are their lengths."""

OVERLAPS = [Overlap(0, "aime", 3, "x", 1.0), Overlap(9, "aime", 4, "x", 1.0), Overlap(9, "gsm8k", 4, "x", 1.0)]


def plan(*, drop: bool = False, pass_rate: PassRate | None = None) -> DataProblems:
    data = (DataSet(name="set", path="set.jsonl"),)
    return DataProblems(source="data", data=data, pass_rate=pass_rate, contamination=Contamination(drop=drop))


def answers(problems: Sequence[Problem]) -> list[int]:
    return sorted(int(problem.answer) for problem in problems)


def short(problem: Problem) -> bool:
    return len(problem.question) <= 8


def test_every_filter_takes_its_share_and_is_counted() -> None:
    # 10 read; 9 and 10 are too long; 1 (number 0) is in an evaluation; of 2 to 8 the base solves 2 never, 8 always.
    rates = {2: 0.0, 8: 1.0}
    filtered, selection = select(
        POOL,
        plan(drop=True, pass_rate=PassRate(minimum=0.1, maximum=0.9)),
        needed=5,
        seed=1,
        overlaps=OVERLAPS,
        fits=short,
        rates=lambda kept: [rates.get(int(problem.answer), 0.5) for problem in kept],
    )
    assert answers(filtered) == [3, 4, 5, 6, 7]
    assert selection == Selection(read=10, too_long=2, overlapping=2, contaminated=1, pass_rate=2, left=5, needed=5)
    assert selection.summary() == (
        "10 read, 2 too long, 2 in an evaluation too (1 left out), 2 outside the pass rate, 5 left, "
        "5 used (1.00 epochs)"
    )


def test_overlaps_are_only_counted_unless_the_recipe_drops_them() -> None:
    kept, selection = select(POOL, plan(), needed=10, seed=0, overlaps=OVERLAPS)
    assert answers(kept) == list(range(1, 11))
    assert (selection.overlapping, selection.contaminated, selection.left) == (2, 0, 10)
    assert "2 in an evaluation too (none left out)" in selection.summary()


def test_fewer_problems_than_needed_are_repeated_in_epochs_each_in_an_order_of_its_own() -> None:
    chosen, selection = select(POOL, plan(), needed=25, seed=3)
    first, second, rest = chosen[:10], chosen[10:20], chosen[20:]
    assert answers(first) == answers(second) == list(range(1, 11))
    assert first != second
    assert len(set(rest)) == 5
    assert set(Counter(chosen).values()) == {2, 3}
    assert selection.epochs == 2.5


def test_the_order_is_the_seeds_and_a_longer_run_goes_on_from_it() -> None:
    assert in_epochs(POOL, 25, 3)[:12] == in_epochs(POOL, 12, 3)
    assert in_epochs(POOL, 10, 3) != in_epochs(POOL, 10, 4)
    assert in_epochs(POOL, 10, 3) != POOL


@pytest.mark.parametrize(
    ("drop", "limit", "bounds", "message"),
    [
        (False, 0, None, "- 10 have a prompt longer than `rl.max_prompt_tokens`: raise it"),
        (True, 1, None, "- 1 are in an evaluation too: set `problems.contamination.drop` to false"),
        (False, 9, PassRate(minimum=0.9), "- 9 are outside `problems.pass_rate`: widen"),
    ],
)
def test_no_problem_left_says_which_filter_took_them(
    drop: bool, limit: int, bounds: PassRate | None, message: str
) -> None:
    with pytest.raises(TrainingError) as caught:
        select(
            POOL,
            plan(drop=drop, pass_rate=bounds),
            needed=1,
            seed=0,
            overlaps=OVERLAPS,
            fits=lambda problem: len(problem.question) <= limit,
            rates=lambda kept: [0.5] * len(kept),
        )
    assert "No problem is left of 10:\n" in str(caught.value)
    assert message in str(caught.value)


def test_a_pass_rate_is_the_share_of_right_responses() -> None:
    # Problem 0: 1 of 4; problem 1: 2 of 2; problem 2: 0 of 1. In no particular order.
    right = [(1, True), (0, False), (0, True), (2, False), (0, False), (1, True), (0, False)]
    assert pass_rates(right, 3) == [0.25, 1.0, 0.0]


def test_a_problem_without_responses_has_no_rate() -> None:
    with pytest.raises(TrainingError, match="2 of 3 problems have no response of the base, the first is number 0"):
        pass_rates([(1, True)], 3)


@pytest.mark.parametrize(
    ("bounds", "left"),
    [
        (PassRate(), [1, 2, 3, 4]),
        (PassRate(minimum=0.125), [2, 3, 4]),
        (PassRate(minimum=0.125, maximum=0.875), [2, 3]),
        (PassRate(maximum=0.0), [1]),
    ],
)
def test_both_bounds_of_the_pass_rate_belong_to_it(bounds: PassRate, left: list[int]) -> None:
    rates = [0.0, 0.125, 0.875, 1.0]
    kept, _ = select(POOL[:4], plan(pass_rate=bounds), needed=len(left), seed=0, rates=lambda problems: rates)
    assert answers(kept) == left


def test_every_problem_needs_a_rate() -> None:
    with pytest.raises(ValueError, match="shorter"):
        select(POOL, plan(pass_rate=PassRate()), needed=1, seed=0, rates=lambda problems: [0.5])


def test_the_papers_prompt_holds_the_question_and_single_braces() -> None:
    assert message(plan().prompt, "Find {x} in \\frac{1}{2}.") == (
        "Please reason step by step, and put your final answer within \\boxed{}. Question: Find {x} in \\frac{1}{2}."
    )


@pytest.mark.parametrize(
    ("prompt", "fault"),
    [
        ("Box it: \\boxed{}. {question}", "{} is no field"),
        ("{question} {answer}", "{answer} is no field"),
        ("{question.__class__}", "{question.__class__} is no field"),
        ("{question!r}", "{question!r} is no field"),
        ("{question:>{width}}", "{question:>{width}} is no field"),
        ("{question", "expected '}' before end of string"),
        ("Why? }", "Single '}' encountered"),
        ("Solve it.", "no {question} in 'Solve it.'"),
    ],
)
def test_a_wrong_template_is_named_with_its_key(prompt: str, fault: str) -> None:
    with pytest.raises(TrainingError) as caught:
        message(prompt, "What?")
    assert str(caught.value).startswith(f"problems.prompt: {fault}")
    assert "Write the question's place as {question}" in str(caught.value)
