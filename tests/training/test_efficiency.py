"""Figures that put accuracy and tokens together, by hand; the shipped family's from its means."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from alphatier_training.cli import evaluate
from alphatier_training.errors import TrainingError
from alphatier_training.evaluation.figures import (
    Frontier,
    aes,
    dominated,
    efficiency,
    frontier_of,
    hypervolume,
    read_frontiers,
)
from alphatier_training.evaluation.intervals import of_means
from alphatier_training.evaluation.samples import Sample


def sample(problem: int, correct: bool, tokens: int, level: str = "", number: int = 0) -> Sample:
    return Sample(problem, number, level, "q", "a", "r", tokens, False, correct)


def test_the_score_weighs_tokens_saved_accuracy_gained_and_accuracy_lost() -> None:
    # The shipped alpha 0.4 against the base: 1 - 18.5 / 44.8 = .587; 96.0 / 96.4 - 1 = -.00415, times 5.
    assert float(aes(0.960, 18.5, 0.964, 44.8)) == pytest.approx(0.587 - 0.0207, abs=1e-3)
    # alpha 0: 1 - 38.1 / 44.8 = .150; 98.7 / 96.4 - 1 = .0239, times 3.
    assert float(aes(0.987, 38.1, 0.964, 44.8)) == pytest.approx(0.150 + 0.0716, abs=1e-3)
    assert float(aes(0.5, 10, 0.5, 10)) == 0


def test_a_tier_has_a_score_against_the_reference_and_the_reference_none() -> None:
    reference = [sample(n, n < 8, 100) for n in range(10)]
    tier = [sample(n, n < 9, 50) for n in range(10)]
    found = efficiency(tier, reference, 200)
    assert found.aes is not None
    assert found.aes.mean == pytest.approx(0.5 + 3 * 0.125)
    assert found.aes.low < found.aes.mean < found.aes.high
    assert efficiency(reference, reference, 200).aes is None
    assert efficiency(tier, reference[:9], 200).aes is None  # other problems


def test_tokens_of_wrong_answers_are_spent_for_the_right_ones() -> None:
    # 10 + 30 + 80 tokens for two right answers of three; and twenty such problems.
    lengths = [(True, 10), (True, 30), (False, 80)] * 20
    found = efficiency([sample(n, *one) for n, one in enumerate(lengths)], [], 100)
    assert found.tokens_per_right is not None
    assert found.tokens_per_right.mean == 60
    assert efficiency([sample(0, False, 10), sample(1, False, 10)], [], 100).tokens_per_right is None


def test_the_budget_area_is_the_mean_of_accuracy_over_budgets() -> None:
    # Right within 10 and within 60 of 100 tokens: (.9 + .4 + 0) / 3. The sum over whole budgets agrees.
    samples = [sample(0, True, 10), sample(1, True, 60), sample(2, False, 5)]
    found = efficiency(samples, [], 100).budget_area
    assert found is not None
    assert found.mean == pytest.approx((0.9 + 0.4) / 3, abs=1e-6)
    steps = [sum(one.correct and one.tokens <= budget for one in samples) / 3 for budget in range(100)]
    assert found.mean == pytest.approx(sum(steps) / 100, abs=1e-6)


def test_adaptation_is_tokens_at_the_hardest_level_over_the_easiest() -> None:
    tokens = {"Level 2": (10, 20), "Level 3": (99, 99), "Level 10": (30, 60)}
    lengths = [(level, count) for level, counts in tokens.items() for count in counts] * 10
    samples = [sample(n, True, count, level) for n, (level, count) in enumerate(lengths)]
    found = efficiency(samples, [], 100).adaptation
    assert found is not None
    assert found.mean == 3  # 45 / 15; levels in the order of their numbers, not of their letters
    assert efficiency([sample(0, True, 9, "algebra"), sample(1, True, 9, "1")], [], 100).adaptation is None


def test_several_responses_count_as_their_problems_mean() -> None:
    once = [sample(0, True, 10), sample(1, False, 30)]
    often = [sample(0, True, 10, number=n) for n in range(9)] + [sample(1, False, 30)]
    assert efficiency(often, [], 100) == efficiency(once, [], 100)


def test_the_hypervolume_is_what_the_tiers_dominate_together() -> None:
    # 90 % at 1 - .2, 80 % at 1 - .5 of the reference's tokens: .2 x .9 + .3 x .8 = .42; a worse one adds nothing.
    assert float(dominated([0.9, 0.8], [0.8, 0.5])) == pytest.approx(0.42)
    assert float(dominated([0.8, 0.9, 0.7], [0.5, 0.8, 0.6])) == pytest.approx(0.42)
    assert float(dominated([1.0], [1.4])) == 0  # longer than the reference
    tiers = {
        "base": [sample(n, True, 100) for n in range(10)],
        "long": [sample(n, n < 9, 80) for n in range(10)],
        "short": [sample(n, n < 8, 50) for n in range(10)],
    }
    found = hypervolume(tiers, "base")
    assert found is not None
    assert found.mean == pytest.approx(0.42)
    assert found.low < 0.42 < found.high
    assert hypervolume(tiers, "none") is None
    assert hypervolume(tiers | {"short": tiers["short"][:5]}, "base") is None


def test_columns_are_resampled_together() -> None:
    found = of_means([[1, 2, 3, 4], [2, 4, 6, 8]], lambda one, other: one / other)
    assert found is not None
    assert (found.low, found.mean, found.high) == (0.5, 0.5, 0.5)


def test_nineteen_of_twenty_resampled_intervals_of_few_problems_hold_the_truth() -> None:
    # Ten problems, 300 times: a standard error of 1.3 points. Percentiles that are not widened hold it in 90 %.
    rows = np.random.default_rng(0).normal(5, 1, (300, 10))
    held = [found.low <= 5 <= found.high for row in rows if (found := of_means([row.tolist()], lambda mean: mean))]
    assert np.mean(held) > 0.92


def test_a_figure_that_is_no_number_is_none() -> None:
    assert of_means([[1, 1], [0, 0]], lambda one, other: one / other) is None
    assert of_means([[1, 1, 1], [0, 0, 1]], lambda one, other: one / other) is None  # in 8 of 27 resamples


FRONTIER = Frontier((0, 100, 200), (0.0, 0.8, 1.0))


def test_the_gap_to_a_frontier_is_summed_over_budgets() -> None:
    # The frontier's area to 200 tokens: 40 + 90 = 130. Half right within 50, half within 100 tokens: 75 + 50 = 125.
    found = efficiency([sample(n, True, 50 if n % 2 else 100) for n in range(20)], [], 400, FRONTIER).reg
    assert found is not None
    assert found.mean == pytest.approx(5)
    assert found.low < 5 < found.high
    # Cut off at 100 tokens: 40 less 25, and nothing of the others.
    short = efficiency([sample(n, n % 2 == 1, 50) for n in range(20)], [], 100, FRONTIER).reg
    assert short is not None
    assert short.mean == pytest.approx(15)
    assert efficiency([sample(0, True, 50)], [], 400).reg is None


def test_all_right_at_once_leaves_doubt() -> None:
    found = efficiency([sample(n, True, 10) for n in range(30)], [sample(n, True, 20) for n in range(30)], 100)
    for figure in (found.aes, found.tokens_per_right, found.budget_area):
        assert figure is not None
        assert figure.low < figure.high


def test_a_file_of_frontiers_is_found_by_the_data_sets_name(tmp_path: Path) -> None:
    file = tmp_path / "frontiers.json"
    file.write_text(json.dumps({"aime24": [[0, 100, 200], [0, 0.8, 1]], "minerva_math": [[0, 1], [0, 0]]}))
    found = read_frontiers(file)
    assert frontier_of("AIME-24", found) == FRONTIER
    assert frontier_of("aime25", found) is None


@pytest.mark.parametrize("content", ["", "[]", '{"a": [[0, 1], [0]]}', '{"a": [[1, 0], [0, 1]]}', '{"a": 1}'])
def test_a_file_that_holds_no_frontiers_is_one_clear_error(tmp_path: Path, content: str) -> None:
    file = tmp_path / "other.json"
    file.write_text(content)
    with pytest.raises(TrainingError, match=r"other\.json is no file of frontiers"):
        read_frontiers(file)


def test_evaluate_gives_them_for_scripts_and_for_people(tmp_path: Path) -> None:
    asked = ["models/tiny", "--problems", "20", "--out", str(tmp_path)]
    asked += ["--tier", "base", "--tier", "alpha-0", "--tier", "alpha-0.4"]
    frontier = tmp_path / "frontiers.json"
    frontier.write_text(json.dumps({"arithmetic_heldout": [[0, 256], [1, 1]]}))
    asked += ["--frontier", str(frontier)]
    told = CliRunner().invoke(evaluate, [*asked, "--json"])
    assert told.exit_code == 0, told.output
    document = json.loads(told.stdout)
    found = document["datasets"]["arithmetic-heldout"]
    assert document["aes_constants"] == [1, 3, 5]
    assert 0 < found["hypervolume"]["mean"] < 1
    short = found["rows"]["alpha-0.4"]["efficiency"]
    assert short["aes"]["mean"] > 0
    assert short["tokens_per_right"]["mean"] < 30
    assert short["reg"]["mean"] == pytest.approx(256 * (1 - short["budget_area"]["mean"]), abs=1e-3)
    shown = CliRunner().invoke(evaluate, asked).stdout
    for words in ("AES with 1/3/5 against", "hypervolume", "tokens a right answer", "hardest / easiest", "REG"):
        assert words in shown
