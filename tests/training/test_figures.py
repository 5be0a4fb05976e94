"""Figures from samples, by hand; and files of samples that a kill cut short."""

from pathlib import Path

import pytest

from alphatier_training.evaluation.figures import accuracy, compare, evaluation, mean_tokens
from alphatier_training.evaluation.samples import Completion, Plan, Sample, SampleFile, graded, missing, read_plan

PLAN = Plan("f", "t", "w", "d", (1, 2), 4, 1, 0.6, 0.95, 64, 7)


def sample(problem: int, correct: bool, tokens: int = 10, number: int = 0, truncated: bool = False) -> Sample:
    return Sample(problem, number, str(1 + problem % 2), "q", "a", "r", tokens, truncated, correct)


def test_accuracy_of_one_sample_each_has_wilsons_interval() -> None:
    # 8 of 10: centre (.8 + 1.92 / 10) / (1 + 3.84 / 10) = .7168; half-width .2267: .4902 to .9433.
    interval = accuracy([sample(number, number < 8) for number in range(10)])
    assert (interval.mean, interval.low, interval.high) == pytest.approx((0.8, 0.4902, 0.9433), abs=1e-3)


def test_no_error_at_all_still_leaves_doubt() -> None:
    # Wilson for n of n: low is n / (n + 3.84) = 20 / 23.84.
    interval = accuracy([sample(number, True) for number in range(20)])
    assert (interval.low, interval.high) == pytest.approx((0.8389, 1.0), abs=1e-3)


def test_several_samples_of_a_problem_count_as_one_problem() -> None:
    # Two problems, each always right or always wrong: a bootstrap over problems reaches from 0 to 1.
    samples = [sample(problem, problem == 0, number=number) for problem in range(2) for number in range(8)]
    interval = accuracy(samples)
    assert (interval.mean, interval.low, interval.high) == (0.5, 0.0, 1.0)


def test_equal_tokens_have_no_spread() -> None:
    interval = mean_tokens([sample(number, True, tokens=7) for number in range(5)])
    assert (interval.mean, interval.low, interval.high) == (7, 7, 7)


def test_an_evaluation_has_percentiles_truncation_and_levels() -> None:
    samples = [sample(number, number != 3, tokens=10 * (number + 1), truncated=number == 3) for number in range(4)]
    figures = evaluation(PLAN, samples)
    assert figures.token_percentiles.p50 == 25  # of 10, 20, 30, 40
    assert figures.truncation_rate == 0.25
    assert figures.tokens.mean == 25
    assert [(level.level, level.problems, level.accuracy.mean) for level in figures.levels] == [
        ("1", 2, 1.0),
        ("2", 2, 0.5),
    ]


def test_the_paired_test_looks_only_at_problems_on_which_tiers_differ() -> None:
    # 6 problems differ, all in favour of the first: two-sided exact p = 2 / 2 ** 6 = .03125.
    first = [sample(number, True) for number in range(10)]
    second = [sample(number, number >= 6) for number in range(10)]
    comparison = compare(first, second)
    assert (comparison.first_better, comparison.second_better) == (6, 0)
    assert comparison.p_value == pytest.approx(0.03125)
    assert comparison.difference.mean == pytest.approx(0.6)


def test_equal_tiers_differ_by_nothing() -> None:
    samples = [sample(number, number % 2 == 0) for number in range(6)]
    assert compare(samples, samples).p_value == 1


def test_tiers_measured_on_different_problems_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="different problems"):
        compare([sample(0, True)], [sample(1, True)])


def test_samples_read_back_as_they_were_written(tmp_path: Path) -> None:
    file = SampleFile(PLAN, tmp_path)
    file.append([sample(1, True)])
    file.append([sample(0, False)])
    assert file.read() == [sample(0, False), sample(1, True)]
    assert read_plan(file.path) == PLAN
    assert missing(PLAN, file.read()) == [(2, 0), (3, 0)]


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.99])
def test_a_line_that_a_kill_cut_short_is_taken_again(tmp_path: Path, kept: float) -> None:
    file = SampleFile(PLAN, tmp_path)
    file.append([sample(number, True) for number in range(3)])
    content = file.path.read_bytes()
    file.path.write_bytes(content[: int(kept * len(content))])
    file.append([sample(number, True) for number, _ in missing(PLAN, file.read())])
    assert file.read() == [sample(number, True) for number in range(4)]


def test_a_truncated_response_is_wrong_whatever_the_grader_says() -> None:
    problem = PLAN.held_out()[0]
    assert not graded((0, 0), problem, Completion("right", 64, truncated=True), correct=True).correct


def test_another_plan_has_another_file(tmp_path: Path) -> None:
    from dataclasses import replace

    assert PLAN.file(tmp_path) != replace(PLAN, seed=8).file(tmp_path)


def test_every_tier_is_asked_the_same_problems() -> None:
    from dataclasses import replace

    assert PLAN.held_out() == replace(PLAN, tier="other", weights="other").held_out()
