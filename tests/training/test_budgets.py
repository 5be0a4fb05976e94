"""Accuracy at fixed budgets, computed from samples: a generation that is cut off is a prefix of the longer one."""

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from alphatier_training.cli import evaluate
from alphatier_training.evaluation.figures import cut_off, evaluation
from alphatier_training.evaluation.samples import Plan, Sample

PLAN = Plan("f", "t", "w", "d", (), 4, 1, 0.6, 0.95, 64, 7)


def sample(problem: int, tokens: int, correct: bool = True, truncated: bool = False) -> Sample:
    return Sample(problem, 0, "", "q", "a", "r", tokens, truncated, correct)


def figures(*arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(evaluate, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    rows: dict[str, Any] = json.loads(result.stdout)["datasets"]["arithmetic-heldout"]["rows"]
    return rows


def test_a_response_longer_than_the_budget_is_wrong_and_costs_the_budget() -> None:
    samples = [sample(0, 10), sample(1, 20), sample(2, 21), sample(3, 40, correct=False)]
    (result,) = evaluation(PLAN, samples, [20]).budgets
    assert result.accuracy.mean == 0.5  # 10 and 20 fit, the latter with its end token
    assert result.tokens.mean == 17.5  # (10 + 20 + 20 + 20) / 4
    assert result.truncation_rate == 0.5


def test_a_budget_that_nothing_exceeds_changes_nothing() -> None:
    samples = [sample(number, 10 + number, correct=number > 1) for number in range(4)]
    assert cut_off(samples, 13) == samples
    whole = evaluation(PLAN, samples)
    assert evaluation(PLAN, samples, [13]).budgets[0].accuracy == whole.accuracy


def test_what_was_truncated_already_stays_truncated() -> None:
    cut = [sample(0, 64, correct=False, truncated=True)]
    assert evaluation(PLAN, cut, [64]).budgets[0].truncation_rate == 1


def test_budgets_are_in_order_and_each_once() -> None:
    found = evaluation(PLAN, [sample(0, 10)], [32, 8, 32])
    assert [(budget.max_tokens, budget.accuracy.mean) for budget in found.budgets] == [(8, 0), (32, 1)]


def test_accuracy_never_falls_as_the_budget_grows(trained: Path, tmp_path: Path) -> None:
    budgets = [str(part) for budget in range(4, 49, 4) for part in ("--budget", budget)]
    row = figures(str(trained), "--tier", "base", "--problems", "50", "--out", str(tmp_path), *budgets)["base"]
    shares = [budget["accuracy"]["mean"] for budget in row["budgets"]]
    assert shares == sorted(shares)
    assert row["budgets"][-1]["accuracy"] == row["accuracy"]  # 48 is --max-tokens itself


def test_a_budget_is_what_sampling_with_that_limit_gives(trained: Path, tmp_path: Path) -> None:
    """Greedy decoding, where the longer run's prefix is the shorter run."""
    arguments = [str(trained), "--tier", "base", "--problems", "50", "--temperature", "0", "--out", str(tmp_path)]
    cut = figures(*arguments, "--budget", "12")["base"]["budgets"][0]
    sampled = figures(*arguments, "--max-tokens", "12")["base"]
    assert {key: cut[key] for key in ("accuracy", "tokens", "truncation_rate")} == {
        key: sampled[key] for key in ("accuracy", "tokens", "truncation_rate")
    }
