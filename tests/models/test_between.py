"""Figures of alphas that nobody measured, between those of the measured ones."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from alphatier_models import Evaluation, Family, Interval, save_family
from alphatier_models.between import figures_at
from alphatier_models.cli import main
from support.families import evaluation, gated_family, small_family


@pytest.fixture
def family(tmp_path: Path) -> Family:
    """Alpha 0 (`careful`) has 97 % and 80 tokens, alpha 0.4 (`terse`) 96 % and 40, each give or take 1."""
    return gated_family(tmp_path / "toy")


def test_a_measured_alpha_has_its_own_figures(family: Family) -> None:
    found = figures_at(family, 0.4)
    assert found is not None
    assert not found.interpolated
    assert (found.tiers, found.tokens) == (("terse",), family.tier("terse").evaluations[0].tokens)
    assert str(found) == "40.0 (39.0-41.0) tokens, 96.0 (95.0-97.0) % right, measured as terse"


def test_between_two_alphas_means_are_on_a_line_and_intervals_cover_both(family: Family) -> None:
    found = figures_at(family, 0.1)
    assert found is not None
    assert found.interpolated
    assert found.tokens == Interval(mean=70, low=39, high=81)
    assert (found.accuracy.low, found.accuracy.high) == (0.95, 0.98)
    assert found.accuracy.mean == pytest.approx(0.9675)
    assert str(found) == (
        "about 70.0 (39.0-81.0) tokens, 96.8 (95.0-98.0) % right, between careful and terse: not measured"
    )


def test_the_nearest_measured_neighbours_count(family: Family) -> None:
    careful, terse = family.tier("careful"), family.tier("terse")
    nearer = terse.model_copy(update={"name": "a", "alpha": 0.2, "evaluations": (evaluation(0.965, 50),)})
    unmeasured = nearer.model_copy(update={"name": "b", "alpha": 0.15, "evaluations": ()})
    found = figures_at(family.model_copy(update={"tiers": (terse, unmeasured, nearer, careful)}), 0.1)
    assert found is not None
    assert (found.tiers, found.tokens.mean) == (("careful", "a"), 65)


def test_beyond_the_measured_alphas_nothing_is_known(family: Family) -> None:
    assert figures_at(family, 0.5) is None


def test_tiers_of_single_runs_have_nothing_between_them(tmp_path: Path) -> None:
    family = small_family(tmp_path / "toy")
    assert figures_at(family, 0.1) is None
    assert figures_at(family, 0.0) is not None


def changed(**fields: Any) -> Callable[[Evaluation], Evaluation]:
    return lambda one: one.model_copy(update=fields)


@pytest.mark.parametrize(
    "change",
    [
        changed(problems_sha256="0" * 64),
        changed(prompt="{question}!"),
        lambda one: one.model_copy(update={"sampling": one.sampling.model_copy(update={"max_tokens": 9})}),
        changed(dataset="other"),
    ],
)
def test_neighbours_that_were_not_measured_alike_tell_nothing(
    family: Family, change: Callable[[Evaluation], Evaluation]
) -> None:
    base, careful, terse = family.tiers
    other = terse.model_copy(update={"evaluations": tuple(map(change, terse.evaluations))})
    assert figures_at(family.model_copy(update={"tiers": (base, careful, other)}), 0.1) is None


def command(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["family", *map(str, arguments)])


SAID = "about 60.0 (39.0-81.0) tokens, 96.5 (95.0-98.0) % right, between careful and terse: not measured, on chains"


def test_show_tells_of_an_alpha_between(family: Family, tmp_path: Path) -> None:
    assert command("show", tmp_path / "toy", "--alpha", 0.2).stdout == f"alpha 0.2: {SAID}\n"
    told = json.loads(command("show", tmp_path / "toy", "--alpha", 0.2, "--json").stdout)
    assert (told["interpolated"], told["tokens"]) == (True, {"mean": 60.0, "low": 39.0, "high": 81.0})
    assert told["tiers"] == ["careful", "terse"]
    assert "alphas 0 to 0.8 besides" in " ".join(command("show", tmp_path / "toy").stdout.split())


def test_show_says_why_nothing_is_known(family: Family, tmp_path: Path) -> None:
    beyond = command("show", tmp_path / "toy", "--alpha", 0.7)
    assert beyond.exit_code == 1
    assert "only 0 to 0.4 lie between measured tiers" in beyond.output
    small_family(tmp_path / "single")
    assert "trained one by one" in command("show", tmp_path / "single", "--alpha", 0.2).output


def test_an_export_carries_what_to_expect_of_it(family: Family, tmp_path: Path) -> None:
    made = command("export", tmp_path / "toy", tmp_path / "out", "--alpha", 0.2)
    assert made.output == f"wrote {tmp_path / 'out'}: {SAID}\n"
    assert SAID in (tmp_path / "out" / "README.md").read_text()
    told = json.loads(command("export", tmp_path / "toy", tmp_path / "json", "--alpha", 0.2, "--json").stdout)
    assert told["figures"]["interpolated"] is True
    beyond = command("export", tmp_path / "toy", tmp_path / "beyond", "--alpha", 0.8)
    assert "not measured; only 0 to 0.4 lie between measured tiers" in beyond.output


def test_an_export_of_a_family_that_was_never_measured_says_so(family: Family, tmp_path: Path) -> None:
    bare = [tier.model_copy(update={"evaluations": ()}) for tier in family.tiers]
    save_family(family.model_copy(update={"tiers": tuple(bare)}), tmp_path / "toy")
    assert (
        "not measured; no tier is measured"
        in command("export", tmp_path / "toy", tmp_path / "out", "--alpha", 0.2).output
    )
