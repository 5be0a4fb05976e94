"""`alphatier sweep`: what is run, what is refused, and the table."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from alphatier_training.errors import RecipeError
from alphatier_training.evaluation.samples import Sample
from alphatier_training.recipe.reading import parse_recipe
from alphatier_training.recipe.rl import MinMaxPenalty
from alphatier_training.sweep.command import sweep
from alphatier_training.sweep.table import _row, markdown
from alphatier_training.sweep.variants import load_sweep, runs
from support.mini_training import mini_recipe, write_recipe

VARIANTS: dict[str, Any] = {
    "alphas": [0, 0.4],
    "seeds": [1, 2],
    "variants": {"plain": {}, "kimi": {"penalty": {"kind": "min_max"}, "alphas": [0.2]}},
}


def write(folder: Path, document: Any) -> Path:
    path = folder / "variants.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return path


def test_every_variant_is_run_with_every_seed_over_the_same_base(tmp_path: Path) -> None:
    recipe = parse_recipe(mini_recipe(), "mini")
    planned = list(runs(recipe, load_sweep(write(tmp_path, VARIANTS))))
    assert [(run.variant, run.seed) for run in planned] == [("plain", 1), ("kimi", 1), ("plain", 2), ("kimi", 2)]
    assert [run.recipe.rl_seed() for run in planned] == [1, 1, 2, 2]
    assert {run.recipe.seed for run in planned} == {42}
    assert all(run.recipe.base == recipe.base for run in planned)
    assert isinstance(planned[1].recipe.rl.penalty, MinMaxPenalty)
    assert [run.recipe.tiers.alphas for run in planned[:2]] == [(0, 0.4), (0.2,)]
    assert planned[3].folder(Path("out")) == Path("out/kimi/seed-2")


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (VARIANTS | {"variants": {"odd": {"penalty": {"kind": "none"}}}}, "rl.penalty.kind: give one of sigmoid"),
        (VARIANTS | {"variants": {"odd": {"stepz": 1}}}, "variant 'odd' of mini is not a usable recipe"),
        (VARIANTS | {"seedz": [1]}, "seedz: Extra inputs are not permitted"),
        ({"variants": {}}, "alphas: Field required"),
        ([], "is no usable sweep"),
    ],
)
def test_a_faulty_sweep_is_refused_by_its_key(tmp_path: Path, document: Any, message: str) -> None:
    recipe = parse_recipe(mini_recipe(), "mini")
    with pytest.raises(RecipeError) as caught:
        list(runs(recipe, load_sweep(write(tmp_path, document))))
    assert message in str(caught.value)


def samples(*correct: bool, tokens: int) -> list[Sample]:
    return [Sample(n, 0, "1", "q", "a", "r", tokens, False, right) for n, right in enumerate(correct)]


def test_a_row_is_the_mean_over_seeds_and_problems() -> None:
    # Seeds .5 and 1 of two problems: .75; tokens 10 and 30: 20, a quarter of 80.
    row = _row("plain", 0.4, (1, 2), [samples(True, False, tokens=10), samples(True, True, tokens=30)], 80)
    assert (row.accuracy.mean, row.tokens.mean, row.share) == (0.75, 20, 0.25)
    assert (row.accuracies, row.tokens_by_seed) == ((0.5, 1.0), (10, 30))
    # Seeds are drawn anew too: the interval reaches from one seed's tokens to the other's.
    assert (row.tokens.low, row.tokens.high) == (10, 30)
    assert next(line for line in markdown([row]) if "plain" in line).endswith("| 25% | 50.0 100.0 |")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_sweep_trains_measures_and_compares_and_goes_on_after_a_stop(trained: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, mini_recipe())
    variants = write(tmp_path, VARIANTS | {"seeds": [1]})
    arguments = [str(recipe), str(variants), "--out", str(tmp_path / "out"), "--base", str(trained), "--json"]
    result = CliRunner().invoke(sweep, arguments)
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    assert [(row["variant"], row["alpha"]) for row in rows] == [
        ("base", None),
        ("plain", 0),
        ("plain", 0.4),
        ("kimi", 0.2),
    ]
    assert (tmp_path / "out" / "sweep.png").read_bytes().startswith(b"\x89PNG")
    again = CliRunner().invoke(sweep, arguments)
    assert json.loads(again.stdout) == rows
    assert "done before" in again.stderr
