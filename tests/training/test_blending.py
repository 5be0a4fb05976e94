"""Blends against the trained front: figures by hand arithmetic, and the study from a family to its table."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from alphatier_models import load_family
from alphatier_training.blending.curve import Responses, Result, Study, responses_of, table
from alphatier_training.blending.study import lines, main
from alphatier_training.evaluation.samples import Plan, Sample, SampleFile
from support.processes import until

TINY = Path(__file__).parents[2] / "models" / "tiny"


def constant(tokens: float, accuracy: float, problems: int = 4) -> Responses:
    """A tier that does equally well on every problem, so that resampling problems changes nothing."""
    return Responses(np.full(problems, accuracy), np.full(problems, tokens))


def result(*runs: dict[str, Responses]) -> Result:
    """Of trained tiers careful and terse, and a curve between them."""
    study = Study(["base", "careful", "terse"], {str(number): run for number, run in enumerate(runs)})
    return study.result("base", {"mix": {0.0: "careful", 0.5: "half", 1.0: "terse", 1.25: "beyond"}})


def run(half: Responses, shift: float = 0) -> dict[str, Responses]:
    return {
        "base": constant(50, 0.7),
        "careful": constant(40 + shift, 1.0),
        "terse": constant(20 + shift, 0.8),
        "half": half,
        "beyond": constant(15 + shift, 0.7),
    }


def test_a_blend_is_compared_with_the_line_between_trained_tiers_at_its_own_tokens() -> None:
    # At 35 tokens the line from (20, 0.8) to (40, 1.0) is at 0.95.
    half = result(run(constant(35, 0.99))).curves["mix"].points[1]
    assert half.over_front is not None
    assert half.over_front.mean == pytest.approx(0.04)
    assert half.over_front.high - half.over_front.low == pytest.approx(0, abs=1e-12)
    assert half.over_ends == half.over_front


def test_the_ends_of_a_curve_are_the_trained_tiers() -> None:
    points = result(run(constant(35, 0.99))).curves["mix"].points
    assert [points[index].over_front and points[index].over_front.mean for index in (0, 2)] == [0, 0]  # type: ignore[union-attr]


def test_beyond_the_tersest_tier_there_is_nothing_to_compare_with() -> None:
    beyond = result(run(constant(35, 0.99))).curves["mix"].points[3]
    assert (beyond.over_front, beyond.over_ends) == (None, None)


def test_more_tokens_than_the_most_thorough_tier_are_compared_with_it() -> None:
    # The base lies at (50, 0.7); it is no part of the front, which stays at 1.0 from 40 tokens on.
    half = result(run(constant(45, 0.9))).curves["mix"].points[1]
    assert half.over_front is not None
    assert half.over_front.mean == pytest.approx(-0.1)


def test_each_seed_is_compared_with_its_own_tiers() -> None:
    # Seed 0: 0.9 at 30 tokens, on its line. Seed 1, all tiers 10 tokens longer: 0.94 at 40, 0.04 above its line.
    found = result(run(constant(30, 0.9)), run(constant(40, 0.94), shift=10)).curves["mix"]
    half = found.points[1]
    assert half.over_front is not None
    assert half.over_front.mean == pytest.approx(0.02)
    # resampled seeds: both the first (0.00) to both the second (0.04)
    assert half.over_front.low == pytest.approx(0)
    assert half.over_front.high == pytest.approx(0.04)
    assert np.allclose(half.seeds, [(30, 0.9), (40, 0.94)])
    assert found.mean_over_front.mean == pytest.approx(0.02)


def test_problems_are_resampled_together() -> None:
    # The blend is right where `careful` is, at as many tokens: whatever problems are drawn, the difference is 0.
    right = np.array([1.0, 0.0, 1.0, 1.0])
    same = run(Responses(right, np.full(4, 40.0)))
    same["careful"] = Responses(right, np.full(4, 40.0))
    half = result(same).curves["mix"].points[1]
    assert half.accuracy.low < half.accuracy.mean < half.accuracy.high
    assert half.over_front is not None
    assert (half.over_front.low, half.over_front.high) == (0, 0)


def test_smoothness_is_how_far_tokens_are_from_an_even_fall() -> None:
    # 40, 35, 20 at shares 0, 0.5, 1: falls of 5 and 15, even ones would be 10 and 10.
    smooth = result(run(constant(35, 0.9))).curves["mix"].smoothness
    assert (smooth.rises, smooth.steps) == (0, 2)
    assert smooth.largest_step == pytest.approx(1.5)
    assert smooth.off_line == pytest.approx(0.25)  # 35 instead of 30, of 20
    assert result(run(constant(41, 0.9))).curves["mix"].smoothness.rises == 1


def test_the_table_has_a_row_for_every_tier() -> None:
    text = table(result(run(constant(35, 0.99))))
    assert "| mix | 0.5 | 35.0 (35.0 to 35.0) | 99.00 (99.00 to 99.00) | +4.00 (+4.00 to +4.00)" in text
    assert "| mix | 1.25 | 15.0 (15.0 to 15.0) | 70.00 (70.00 to 70.00) | - | - |" in text


def test_responses_are_read_problem_by_problem(tmp_path: Path) -> None:
    plan = Plan("toy", "half", "w", "d", (1,), 2, 2, 0.6, 0.95, 64, 7)
    answers = [(0, 0, 10, True), (0, 1, 20, False), (1, 0, 6, True), (1, 1, 8, True)]
    samples = [Sample(p, s, "1", "q", "a", "r", tokens, False, right) for p, s, tokens, right in answers]
    file = SampleFile(plan, tmp_path)
    file.append(samples)
    found = responses_of(file.path)
    assert (found.correct.tolist(), found.tokens.tolist()) == ([0.5, 1.0], [15.0, 7.0])


def test_the_curves_lead_from_the_base_and_the_outermost_alphas_to_the_largest() -> None:
    ends = [(line.first, line.second) for line in lines(load_family(TINY))]
    assert ends == [("base", "alpha-0.4"), ("alpha-0", "alpha-0.4"), ("alpha-0.2", "alpha-0.4")]


def test_a_family_without_three_alphas_is_refused(tmp_path: Path) -> None:
    from support.weights import adapter_family

    outcome = CliRunner().invoke(main, [str(adapter_family(tmp_path / "toy")), "--out", str(tmp_path / "out")])
    assert (outcome.exit_code, "no base and three adapters" in outcome.stderr) == (1, True)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_stopped_study_goes_on_from_what_was_measured_and_ends_in_a_table(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "alphatier_training.blending.study", str(TINY), "--out", str(out)]
    command += ["--problems", "5", "--samples", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        until(lambda: bool(list(out.glob("measured/*/*.json"))), seconds=240)
        process.send_signal(signal.SIGINT)
        assert "Go on with the same command" in process.communicate(timeout=60)[1]
    assert process.returncode == 130
    measured = {path: path.stat().st_mtime_ns for path in out.glob("measured/*/*.json")}
    subprocess.run(command, check=True, capture_output=True, timeout=600)
    assert all(path.stat().st_mtime_ns == when for path, when in measured.items())
    text = (out / "blends.md").read_text()
    # 6 tiers, curves of 11 + 9 + 5 points, 2 + 2 lines of headings and rules, 3 summaries
    assert len([line for line in text.splitlines() if line.startswith("|")]) == 6 + 25 + 2 + 2 + 3
    assert (out / "blends.png").stat().st_size < 100_000
