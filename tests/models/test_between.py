"""Figures of alphas that nobody measured, between those of the measured ones."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alphatier_models import Evaluation, Family, Interval
from alphatier_models.between import figures_at
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
