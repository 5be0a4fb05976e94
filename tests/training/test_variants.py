"""Runs compared over seeds: each variant's tiers as one family, and the command that takes runs that exist."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from alphatier_training.evaluation.figures import hypervolume
from alphatier_training.evaluation.samples import Sample, SampleFile
from alphatier_training.evaluation.tasks import recipe_tasks
from alphatier_training.recipe import BASE_TIER, tier_name
from alphatier_training.recipe.reading import parse_recipe
from alphatier_training.run.assembly import plans_of
from alphatier_training.run.base import load_reference
from alphatier_training.run.folder import RunFolder
from alphatier_training.variants import grid, main
from alphatier_training.wholes import Grid, areas, table, wholes
from support.mini_training import mini_recipe

PROBLEMS = 40


def grid_of(right: float, tokens: float, seeds: int = 2) -> Grid:
    """So large a share of the problems right, all in as many tokens, with every seed."""
    row = (np.arange(PROBLEMS) < right * PROBLEMS).astype(float)
    return Grid(np.tile(row, (seeds, 1)), np.full((seeds, PROBLEMS), float(tokens)))


BASE, SHORT, LONG = grid_of(1, 40, seeds=1), grid_of(0.5, 10), grid_of(1, 30)


def test_the_hypervolume_of_each_seed_is_what_its_tiers_dominate() -> None:
    # 1 - 30 / 40 is saved at 100 %, and half of the rest up to 1 - 10 / 40 at 50 %.
    assert areas(BASE, [SHORT, LONG]).mean(axis=1) == pytest.approx([0.5, 0.5])
    better = Grid(np.stack([SHORT.right[0], np.ones(PROBLEMS)]), SHORT.tokens)
    assert areas(BASE, [better, LONG]).mean(axis=1) == pytest.approx([0.5, 0.75])


def samples(seed: int, right: float, tokens: int) -> list[Sample]:
    rng = np.random.default_rng(seed)
    return [
        Sample(n, 0, "1", f"q{n}", "a", "r", int(rng.poisson(tokens)), False, bool(rng.random() < right))
        for n in range(400)
    ]


def test_its_interval_is_that_of_a_bootstrap_over_problems() -> None:
    tiers = {"base": samples(1, 0.95, 60), "a": samples(2, 0.9, 40), "b": samples(3, 0.7, 10)}
    by_bootstrap = hypervolume(tiers, "base")
    one = wholes(grid([tiers["base"]]), {"v": {0.1: grid([tiers["a"]]), 0.4: grid([tiers["b"]])}}, {})[0].hypervolume
    assert by_bootstrap is not None
    assert one.mean == pytest.approx(by_bootstrap.mean, abs=1e-6)
    assert one.high - one.low == pytest.approx(by_bootstrap.high - by_bootstrap.low, rel=0.15)


def test_variants_are_held_against_the_curve_on_the_alphas_that_both_have() -> None:
    worse = {0.1: LONG, 0.2: grid_of(1, 29), 0.4: grid_of(0.25, 10)}
    found = {one.variant: one for one in wholes(BASE, {"c": {0.1: LONG, 0.4: SHORT}, "v": worse}, {}, "c")}
    assert found["c"].above is None
    assert (above := found["v"].above) is not None
    assert above.mean == pytest.approx(-0.125)  # a quarter less of half the square; 0.2 is only its own
    assert above.high < 0
    assert found["v"].p_value is not None
    assert found["v"].p_value < 0.01
    assert "points above c" in table(list(found.values()), "c").markdown()


def test_steps_from_alpha_to_alpha_are_shown_to_fall_or_rise_or_neither() -> None:
    rng = np.random.default_rng(0)
    noisy = Grid(SHORT.right, SHORT.tokens + rng.normal(0, 1, SHORT.tokens.shape))
    tiers = {0.1: LONG, 0.2: SHORT, 0.3: noisy, 0.4: LONG, 0.8: SHORT}
    one = wholes(BASE, {"v": tiers}, {"v": [12.4, 13]})[0]
    assert (one.falls, one.level, one.rises) == (2, 1, (0.4,))
    assert table([one]).markdown().endswith("| 2 / 1 / 1 (at 0.4) | 12 13 |")


def finished_run(folder: Path, alphas: tuple[float, ...] = (0.1, 0.4), problems: int = PROBLEMS) -> Path:
    """A run that answered each problem in 40, or with alphas 30 and 10 tokens, as it would lie there."""
    recipe = mini_recipe() | {"evaluation": {"problems": problems}}
    recipe["tiers"] = recipe["tiers"] | {"alphas": list(alphas), "default": "base"}
    recipe["tiers"]["efforts"] = dict.fromkeys(recipe["tiers"]["efforts"], "base")
    plan, run = parse_recipe(recipe, "mini"), RunFolder(folder)
    run.claim(plan)
    tiers = dict(zip((BASE_TIER, *map(tier_name, alphas)), (40, 30, 10), strict=False))
    for tier in tiers:
        run.tier(tier).mkdir()
        (run.tier(tier) / "config.json").write_text(tier)
        run.mark_done(tier, 5)
    base, tasks = load_reference(run).as_base(), recipe_tasks(plan)
    for tier, tokens in tiers.items():
        taken = [
            Sample(n, 0, one.level, one.question, one.answer, one.answer, tokens, False, n % 2 == 0 or tokens > 10)
            for n, one in enumerate(tasks[0].problems)
        ]
        SampleFile(plans_of(plan, run, base, tier, tasks)[0], run.samples).append(taken)
    return folder


def command(*arguments: object) -> Result:
    return CliRunner().invoke(main, list(map(str, arguments)))


def test_runs_that_exist_are_compared(tmp_path: Path) -> None:
    runs = [f"{name}={finished_run(tmp_path / f'{name}{seed}')}" for name in "ab" for seed in (1, 2)]
    done = command(*runs, "--out", tmp_path / "out", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert [(row["variant"], row["alpha"], row["tokens"]["mean"]) for row in found["rows"]] == [
        ("base", None, 40),
        *(("a", 0.1, 30), ("a", 0.4, 10)),
        *(("b", 0.1, 30), ("b", 0.4, 10)),
    ]
    assert [family["hypervolume"]["mean"] for family in found["families"]] == [0.5, 0.5]
    assert [family["seconds"] for family in found["families"]] == [[10, 10], [10, 10]]
    assert found["families"][1]["above"] == {"mean": 0, "low": 0, "high": 0}
    assert "**Variants as families.**" in (tmp_path / "out" / "compare.md").read_text()
    assert (tmp_path / "out" / "compare.png").read_bytes().startswith(b"\x89PNG")


def test_runs_that_cannot_be_compared_are_told(tmp_path: Path) -> None:
    one = finished_run(tmp_path / "one")
    out = ("--out", tmp_path / "out")
    assert "write VARIANT=FOLDER" in command(one, *out).output
    assert "is no run of `alphatier train`" in command(f"a={tmp_path}", *out).output
    assert "there are 2 of a, 1 of b" in command(f"a={one}", f"a={one}", f"b={one}", *out).output
    assert "there is no such variant; there are a" in command(f"a={one}", "--curve", "c", *out).output
    for file in (one / "work" / "samples").glob("base*"):
        file.rename(tmp_path / file.name)
    assert "no run has responses of the base" in command(f"a={one}", *out).output
    again = finished_run(tmp_path / "again")
    assert command(f"a={one}", f"b={again}", *out).exit_code == 0
    one, other = again, finished_run(tmp_path / "other", problems=30)
    assert "Measure every run on the same problems" in command(f"a={one}", f"b={other}", *out).output
