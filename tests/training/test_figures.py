"""Figures from samples, by hand and against scipy; and files of samples that a kill cut short."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from alphatier_training.errors import TrainingError
from alphatier_training.evaluation.figures import accuracy, evaluation, tokens_where
from alphatier_training.evaluation.intervals import difference, mean, ratio, share
from alphatier_training.evaluation.samples import Answers, Plan, Progress, Sample, SampleFile, missing, read_plan
from alphatier_training.evaluation.tasks import Task, checksum
from alphatier_training.run.reporting import silent
from alphatier_training.tiny.sums import generate

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


def test_several_samples_of_a_problem_that_always_agree_count_as_one() -> None:
    samples = [sample(problem, problem < 8, number=number) for problem in range(10) for number in range(8)]
    assert accuracy(samples) == accuracy([sample(problem, problem < 8) for problem in range(10)])


def test_where_all_of_several_samples_are_right_the_doubt_is_that_of_as_many_problems() -> None:
    interval = accuracy([sample(problem, True, number=number) for problem in range(20) for number in range(8)])
    assert (interval.low, interval.high) == pytest.approx((0.8389, 1.0), abs=1e-3)


def test_samples_that_know_nothing_of_their_problem_count_each() -> None:
    # Every problem half right: the variance between problems is 0, and 10 x 4 responses have Wilson's interval.
    samples = [sample(problem, number < 2, number=number) for problem in range(10) for number in range(4)]
    half = stats.binomtest(20, 40).proportion_ci(method="wilson")
    assert (accuracy(samples).low, accuracy(samples).high) == pytest.approx((half.low, half.high), abs=1e-6)


@pytest.mark.parametrize(("a", "b"), [(1, 1), (4, 0.4), (20, 0.4), (50, 50)])
def test_nineteen_of_twenty_intervals_hold_the_truth(a: float, b: float) -> None:
    # 30 problems of Beta(a, b) difficulty, 10 responses each; 400 times: a standard error of 1.1 points.
    rng = np.random.default_rng(0)
    shares = rng.binomial(10, rng.beta(a, b, (400, 30))) / 10
    held = [one.low <= a / (a + b) <= one.high for one in (share(row.tolist(), 300) for row in shares)]
    assert np.mean(held) > 0.92


def test_pass_at_1_is_the_mean_over_problems_of_the_share_that_is_right() -> None:
    # Problem 0: 1 of 4 right, problem 1: 3 of 4, problem 2: 4 of 4; (.25 + .75 + 1) / 3 = 2 / 3.
    right = {0: 1, 1: 3, 2: 4}
    samples = [
        sample(problem, number < count, number=number) for problem, count in right.items() for number in range(4)
    ]
    assert accuracy(samples).mean == pytest.approx(2 / 3, abs=1e-6)


def test_the_interval_of_mean_tokens_is_students_on_the_scale_of_logarithms() -> None:
    # Mean 10, standard error 4 / sqrt(4) = 2 of a mean of 10, t of 3 degrees 3.1824: 10 exp(+-.6365).
    samples = [sample(number, True, tokens=count) for number, count in enumerate([6, 6, 14, 14])]
    interval = evaluation(PLAN, samples).tokens
    half = 3.182446 * math.sqrt(64 / 3 / 4) / 10
    assert (interval.low, interval.high) == pytest.approx((10 * math.exp(-half), 10 * math.exp(half)), abs=1e-5)


@pytest.mark.parametrize(("problems", "skew"), [(30, 0.6), (200, 0.8)])
def test_nineteen_of_twenty_intervals_hold_the_mean_of_skewed_lengths(problems: int, skew: float) -> None:
    # Lognormal lengths, 400 times. A percentile bootstrap holds it in 90 % of the first.
    lengths = np.exp(np.random.default_rng(0).normal(0, skew, (400, problems)))
    held = [one.low <= math.exp(skew**2 / 2) <= one.high for one in (mean(row.tolist()) for row in lengths)]
    assert np.mean(held) > 0.92


def test_equal_tokens_have_no_spread() -> None:
    interval = evaluation(PLAN, [sample(number, True, tokens=7) for number in range(5)]).tokens
    assert (interval.mean, interval.low, interval.high) == (7, 7, 7)


def test_differences_have_tangos_interval() -> None:
    # Fagerland, Lydersen, Laake (Statistics in Medicine 33, 2014), table of the airway data: 1 and 7 of 21.
    interval = difference([1.0] + [-1.0] * 7 + [0.0] * 13, responses=21)
    assert (interval.mean, interval.low, interval.high) == pytest.approx((-0.286, -0.517, -0.026), abs=5e-4)


@pytest.mark.parametrize("problems", [5, 1000])
@pytest.mark.parametrize("each", [1, 10])
def test_where_no_problem_differs_there_is_still_doubt(problems: int, each: int) -> None:
    # Tango with b = c = 0 leaves z^2 / (n + z^2) on either side; z^2 = 3.8415; responses do not count, problems do.
    found, doubt = difference([0.0] * problems, problems * each), 3.8415 / (problems + 3.8415)
    assert (found.low, found.high) == pytest.approx((-doubt, doubt), abs=1e-5)


def test_differences_of_several_responses_that_agree_count_once() -> None:
    once = [1.0] * 3 + [-1.0] + [0.0] * 6
    assert difference(once, 80) == difference(once, 10)


def test_nineteen_of_twenty_intervals_hold_the_difference_of_several_responses() -> None:
    # 60 problems of Beta(8, 2) difficulty, both tiers alike but for a tenth; 10 responses each, 400 times.
    rng = np.random.default_rng(0)
    hard = rng.beta(8, 2, (400, 60))
    rows = (rng.binomial(10, hard) - rng.binomial(10, 0.9 * hard)) / 10
    held = [one.low <= 0.08 <= one.high for one in (difference(row.tolist(), 600) for row in rows)]
    assert np.mean(held) > 0.92


def test_a_ratio_of_proportional_values_has_no_spread() -> None:
    # Whatever is drawn, each numerator is half of its denominator.
    found = ratio([1, 2, 3, 4], [2, 4, 6, 8])
    assert found is not None
    assert (found.mean, found.low, found.high) == (0.5, 0.5, 0.5)


def test_tokens_of_right_and_of_wrong_responses_are_means_over_responses() -> None:
    # Right: 10 and 20 (problem 0), 60 (problem 1); wrong: 100 (problem 1).
    samples = [sample(0, True, 10), sample(0, True, 20, 1), sample(1, True, 60), sample(1, False, 100, 1)]
    right, wrong = tokens_where(samples, correct=True), tokens_where(samples, correct=False)
    assert right is not None
    assert wrong is not None
    assert (right.mean, wrong.mean) == (30, 100)
    assert right.low < 30 < right.high
    assert (wrong.low, wrong.high) == (100, 100)  # one problem tells nothing of the spread


def test_where_nothing_is_wrong_there_are_no_tokens_of_wrong_responses() -> None:
    assert tokens_where([sample(0, True)], correct=False) is None


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


def test_samples_read_back_as_they_were_written(tmp_path: Path) -> None:
    file = SampleFile(PLAN, tmp_path)
    thoughtful = replace(sample(1, True), reasoning="hm")
    file.append([thoughtful])
    file.append([sample(0, False)])
    assert file.read() == [sample(0, False), thoughtful]
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


@pytest.mark.parametrize("content", ["", "{}\n", "not JSON\n", '{"plan": {"family": "f"}}\n'])
def test_a_file_that_holds_no_samples_is_one_clear_error(tmp_path: Path, content: str) -> None:
    path = tmp_path / "other.jsonl"
    path.write_text(content)
    with pytest.raises(TrainingError, match=r"other\.jsonl does not begin with the plan"):
        read_plan(path)


def test_a_truncated_response_is_wrong_whatever_the_grader_says(tmp_path: Path) -> None:
    problems, file = generate(1, seed=7, split="heldout"), SampleFile(PLAN, tmp_path)
    answers = Answers(PLAN, problems, file, Progress("", 2, silent))
    right = f"\\boxed{{{problems[0].answer}}}"
    answers.add([answers.sample((0, number), right, 64, truncated=bool(number)) for number in range(2)])
    assert [one.correct for one in file.read()] == [True, False]


@pytest.mark.parametrize(
    "change",
    [{"seed": 8}, {"problems_sha256": "0" * 64}, {"prompt": "{question}!"}, {"system": "s"}, {"baseline": "concise"}],
    ids=str,
)
def test_whatever_decides_responses_gives_another_file(tmp_path: Path, change: dict[str, object]) -> None:
    assert PLAN.file(tmp_path) != replace(PLAN, **change).file(tmp_path)  # type: ignore[arg-type]


def test_the_checksum_of_problems_sees_their_text_and_order() -> None:
    problems = generate(5, seed=7, split="heldout")
    assert checksum(problems) == checksum(tuple(problems))
    assert checksum(problems) != checksum(problems[::-1])
    assert checksum(problems) != checksum([*problems[:4], replace(problems[4], answer="-1")])


def test_a_question_stands_in_the_prompt_behind_the_system_message() -> None:
    plan = replace(PLAN, prompt="Box \\boxed{{}}: {question}", system="Add.")
    task = Task("d", tuple(generate(1, seed=7, split="heldout")))
    assert plan.messages(task.problems[0]) == [
        {"role": "system", "content": "Add."},
        {"role": "user", "content": f"Box \\boxed{{}}: {task.problems[0].question}"},
    ]
