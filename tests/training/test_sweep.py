"""`alphatier sweep`: what is run, what is refused, and the table."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from scipy import stats

from alphatier_training.commands import sweep
from alphatier_training.errors import TrainingError
from alphatier_training.evaluation.samples import Sample
from alphatier_training.recipe.reading import load_recipe, parse_recipe
from alphatier_training.sweep import load_sweep, runs
from alphatier_training.variants import against, grid, rows_of, table, verdict
from alphatier_training.wholes import Grid
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
    assert planned[1].recipe.rl.penalty.kind == "min_max"
    assert [run.recipe.tiers.alphas for run in planned[:2]] == [(0, 0.4), (0.2,)]
    assert planned[3].folder(Path("out")) == Path("out/kimi/seed-2")


@pytest.mark.parametrize("file", sorted(Path("training/recipes/sweeps").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_shipped_sweep_has_three_seeds_of_every_variant(file: Path) -> None:
    planned = list(runs(load_recipe(Path("training/recipes/tiny-tiers.yaml")), load_sweep(file)))
    assert len(planned) == 3 * len({run.variant for run in planned})


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
    with pytest.raises(TrainingError) as caught:
        list(runs(recipe, load_sweep(write(tmp_path, document))))
    assert message in str(caught.value)


def grid_of(right: Any, tokens: Any) -> Grid:
    """Accuracies and tokens [seeds, problems]; a single number of tokens is every response's."""
    shape = np.shape(right)
    return Grid(np.array(right, dtype=float), np.broadcast_to(np.array(tokens, dtype=float), shape))


def test_a_row_is_the_mean_over_seeds_and_problems() -> None:
    # Seeds .5 and 1 of two problems: .75; tokens 10 and 30: 20, a quarter of 80.
    samples = [
        [Sample(n, 0, "1", "q", "a", "r", tokens, False, right) for n, right in enumerate(group)]
        for tokens, group in ((10, (True, False)), (30, (True, True)))
    ]
    base = grid_of([[1, 1]], 80)
    row = rows_of({("base", None): base, ("plain", 0.4): grid(samples)}, (1, 2))[1]
    assert (row.accuracy.mean, row.tokens.mean, row.share) == (0.75, 20, 0.25)
    assert (row.accuracies, row.tokens_by_seed) == ((0.5, 1.0), (10, 30))
    # Two seeds, 20 tokens apart, and no problem differs: 10 times Student's 12.706 for one degree of freedom.
    assert row.tokens.high == pytest.approx(20 + 127.06, abs=0.01)
    assert table([row]).markdown().endswith("| 25% | 50.0 100.0 | 10.0 30.0 |")


def test_all_right_with_every_seed_leaves_doubt() -> None:
    # Wilson's of as many problems: 30 / 33.84.
    row = rows_of({("base", None): grid_of(np.ones((3, 30)), 10)}, (1, 2, 3))[0]
    assert (row.accuracy.low, row.accuracy.high) == pytest.approx((0.8865, 1), abs=1e-3)


SHORT, LONG = grid_of([[1, 1, 0, 0], [1, 1, 0, 0]], 10), grid_of(np.ones((2, 4)), 30)
"""Two points of a curve: 50 % at 10 tokens, 100 % at 30."""


def test_a_variant_is_held_against_the_curve_at_its_own_tokens() -> None:
    # 7 of 8 at 15 tokens; the curve has .5 + .5 x 5 / 20 = 62.5 % there: 25 points above it.
    variant = grid_of([[1, 1, 1, 1], [1, 1, 1, 0]], 15)
    found = against(variant, [LONG, SHORT])
    assert (found.difference.mean, found.beyond) == (0.25, "")
    # Cell by cell: right - .025 tokens, less 3/4 and 1/4 of the neighbours': the problems' means are 0, 0, .75, .25,
    # the seeds' .375 and .125; see `crossed`; and 1 / 4^2 for what nothing tells.
    problems, seeds, rest = 0.125 / 4, 0.03125 / 2, 0.125 / 8
    variance = problems + seeds - rest
    error, freedom = math.sqrt(variance + 1 / 16), variance**2 / (problems**2 / 3 + seeds**2 + rest**2 / 3)
    assert found.difference.high == pytest.approx(0.25 + stats.t.ppf(0.975, freedom) * error, abs=1e-5)
    assert found.p_value == pytest.approx(2 * stats.t.sf(0.25 / error, freedom))


def test_a_variant_on_the_curve_is_not_above_it() -> None:
    half = grid_of([[1, 1, 1, 0], [1, 1, 1, 0]], 20)  # 75 %, half way
    found = against(half, [SHORT, LONG])
    assert found.difference.mean == 0
    assert found.p_value == 1
    assert found.difference.low < 0 < found.difference.high
    # As many right answers in more tokens are below it.
    assert against(grid_of(half.right, 25), [SHORT, LONG]).difference.mean == pytest.approx(-0.125)


def test_seeds_that_move_along_the_curve_do_not_differ_from_it() -> None:
    # The curve's two ends, one with each seed. Less .025 a token, seeds and problems have means of 0 each, and what
    # is left is the doubt of one problem of four; the wrong slope, or none, would make it seeds that differ.
    found = against(grid_of([SHORT.right[0], LONG.right[0]], [[10] * 4, [30] * 4]), [SHORT, LONG])
    assert (found.difference.mean, found.difference.high) == pytest.approx((0, 1.96 / 4), abs=1e-4)


@pytest.mark.parametrize(("tokens", "end", "where"), [(5, SHORT, "shorter"), (40, LONG, "longer")])
def test_beyond_the_ends_of_the_curve_the_nearer_end_counts(tokens: int, end: Grid, where: str) -> None:
    found = against(grid_of([[1, 1, 1, 0], [1, 1, 1, 0]], tokens), [SHORT, LONG])
    assert found.beyond == where
    assert found.difference.mean == pytest.approx(0.75 - end.right.mean())


def test_a_point_of_the_curve_is_not_beyond_it() -> None:
    assert not against(SHORT, [SHORT, LONG]).beyond
    assert not against(LONG, [SHORT, LONG]).beyond


@pytest.mark.parametrize("seeds_differ", [0.0, 0.02])
def test_chance_alone_is_seldom_beyond_doubt(seeds_differ: float) -> None:
    # Three seeds, 300 problems, a variant on the curve, 200 times: at most one in twenty, and rather less.
    rng = np.random.default_rng(0)
    ease = np.append(np.ones(150), rng.beta(8, 2, 150))
    false = 0
    for _ in range(200):
        grids = []
        for share, tokens in ((0.90, 10), (0.96, 30), (0.93, 20)):
            chance = np.clip(share * ease + rng.normal(0, seeds_differ, (3, 1)), 0, 1)
            grids.append(Grid((rng.random((3, 300)) < chance).astype(float), rng.poisson(tokens, (3, 300)) * 1.0))
        false += against(grids[2], grids[:2]).p_value < 0.05
    assert false <= 10


def test_all_tests_of_a_table_are_corrected_together_and_told_in_words() -> None:
    worst, best = np.zeros((3, 100)), np.ones((3, 100))
    worst[:, :50] = 1
    most = np.array([[1] * 85 + [0] * 15] * 3)
    grids: dict[tuple[str, float | None], Grid] = {
        ("base", None): grid_of(best[:1], 40),
        ("paper", 0.4): grid_of(worst, 10),
        ("paper", 0.2): grid_of(best, 30),
        ("new", 0.2): grid_of(most, 20),
        ("old", 0.2): grid_of(worst, 20),
        ("same", 0.2): grid_of(worst, 10),
        ("more", 0.2): grid_of(np.ones((3, 100)), 90),
        ("less", 0.2): grid_of(np.zeros((3, 100)), 5),
    }
    found = rows_of(grids, (1, 2, 3), "paper")
    alone = against(grids["new", 0.2], [grids["paper", 0.4], grids["paper", 0.2]]).p_value
    # Longer than the curve's long end and no worse, shorter than its short end and worse: neither is above or below.
    by_name = {row.name(): row.above for row in found}
    assert by_name["base"] is by_name["paper at 0.4"] is None
    assert (above := by_name["new at 0.2"]) is not None
    # 85 % where the curve has 75 %, the third least of the five p-values: three times what it is alone.
    assert above.p_value == pytest.approx(3 * alone)
    assert 0.001 < alone < 0.02
    assert verdict(found, "paper").endswith("against the curve of paper: above it new at 0.2; below it old at 0.2.")
    shown = table(found, "paper").markdown()
    assert "points above the curve at its tokens" in shown
    assert "over 5 tests" in shown


def test_variants_that_change_only_alphas_are_one_curve(tmp_path: Path) -> None:
    variants: dict[str, Any] = {"odd": {"steps": 3}, "paper": {}, "paper-more": {"alphas": [0.1, 0.2]}}
    plan = load_sweep(write(tmp_path, VARIANTS | {"variants": variants}))
    assert plan.curve() == ("paper", "paper-more")
    assert plan.curve(["odd"]) == ("odd",)
    with pytest.raises(TrainingError, match="there is no such variant; there are odd, paper, paper-more"):
        plan.curve(["none"])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_sweep_trains_measures_and_compares_and_goes_on_after_a_stop(trained: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, mini_recipe())
    more = VARIANTS["variants"] | {"plain-more": {"alphas": [0.1]}}
    variants = write(tmp_path, VARIANTS | {"seeds": [1], "variants": more})
    arguments = [str(recipe), str(variants), "--out", str(tmp_path / "out"), "--base", str(trained), "--json"]
    result = CliRunner().invoke(sweep, arguments)
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["rows"]
    assert [(row["variant"], row["alpha"]) for row in rows] == [
        ("base", None),
        ("plain", 0),
        ("plain", 0.4),
        ("kimi", 0.2),
        ("plain", 0.1),
    ]
    assert rows[3]["above"]["p_value"] <= 1
    assert rows[1]["above"] is rows[4]["above"] is None
    assert (tmp_path / "out" / "sweep.png").read_bytes().startswith(b"\x89PNG")
    again = CliRunner().invoke(sweep, arguments)
    assert json.loads(again.stdout)["rows"] == rows
    assert "done before" in again.stderr
