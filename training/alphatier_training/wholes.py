"""A variant's tiers taken together as one family, over seeds: hypervolume, whether tokens fall with alpha, RL's time.

    hypervolume   see `evaluation.figures`; its error over seeds and problems is the jackknife's: what each problem
                  adds with each seed, as if the hypervolume were a mean of that (`intervals.crossed`)
    steps         from one alpha to the next: shown to have fewer tokens, shown to have more, or neither

What: figures from grids [seeds, problems]. What not: which runs they are of (`sweep`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from alphatier_models import Interval
from alphatier_training.evaluation.figures import dominated
from alphatier_training.evaluation.intervals import crossed, holm, spread
from alphatier_training.evaluation.tables import Table, p_text


class Grid(NamedTuple):
    """What one variant made of the problems at one alpha [seeds, problems], means over a problem's responses."""

    right: Any
    tokens: Any

    def place(self) -> tuple[float, float]:
        """Mean tokens and accuracy."""
        return float(np.mean(self.tokens)), float(np.mean(self.right))


Tiers = Mapping[float, Grid]
"""One variant's, by alpha."""


@dataclass(frozen=True)
class Whole:
    """One variant as a family; `sweep.json` has the fields by their names."""

    variant: str
    hypervolume: Interval
    """Of all its tiers and the base, a share."""
    hypervolumes: tuple[Interval, ...]
    """Of each seed, the interval over problems."""
    above: Interval | None
    """Less the curve's, of the alphas that both have; None for the curve itself, and without one."""
    p_value: float | None
    """Of that difference, two-sided, by Holm's correction over all variants."""
    falls: int
    """Steps from alpha to alpha in which tokens are shown to fall."""
    level: int
    """Steps in which nothing is shown."""
    rises: tuple[float, ...]
    """The alphas at which tokens are shown to have risen."""
    seconds: tuple[float, ...]
    """That the RL of all tiers took with each seed, one stage after the other; empty where that is not known."""


def wholes(
    base: Grid, variants: Mapping[str, Tiers], seconds: Mapping[str, Sequence[float]], curve: str | None = None
) -> list[Whole]:
    """Each variant of two alphas or more as a family; `curve` is the one that the others are held against."""
    families = {name: tiers for name, tiers in variants.items() if len(tiers) > 1}
    tested = {
        name: found
        for name, tiers in families.items()
        if curve in families and name != curve and (found := _difference(base, tiers, families[curve])) is not None
    }
    p_values = dict(zip(tested, holm([found.p_value() for found in tested.values()]), strict=True))
    rows = []
    for name, tiers in families.items():
        values = areas(base, list(tiers.values()))
        steps = {after: _step(tiers[before], tiers[after]) for before, after in pairwise(sorted(tiers))}
        rows.append(
            Whole(
                variant=name,
                hypervolume=crossed(values).interval(),
                hypervolumes=tuple(crossed(row[None]).interval() for row in values),
                above=tested[name].interval() if name in tested else None,
                p_value=p_values.get(name),
                falls=sum(step.high < 0 for step in steps.values()),
                level=sum(step.low <= 0 <= step.high for step in steps.values()),
                rises=tuple(alpha for alpha, step in steps.items() if step.low > 0),
                seconds=tuple(seconds.get(name, ())),
            )
        )
    return rows


def areas(base: Grid, tiers: Sequence[Grid]) -> Any:
    """The hypervolume as jackknife values [seeds, problems], whose mean over problems is each seed's hypervolume.

    A problem's value is the hypervolume and how much of it goes, n - 1 times over, when the problem is left out.
    """
    shape = np.broadcast_shapes(*(one.right.shape for one in tiers))
    right, tokens = (
        np.stack([np.broadcast_to(getattr(one, field), shape) for one in (base, *tiers)])
        for field in ("right", "tokens")
    )
    others = shape[1] - 1
    whole = _area(right.mean(axis=2, keepdims=True), tokens.mean(axis=2, keepdims=True))
    without = _area(*((one.sum(axis=2, keepdims=True) - one) / others for one in (right, tokens)))
    return whole + others * (without.mean(axis=1, keepdims=True) - without)


def table(found: Sequence[Whole], curve: str | None = None) -> Table:
    """All variants as text."""
    headers = ["variant", "hypervolume %", "of each seed", "tokens fall / level / rise", "RL, s"]
    caption = "95 % intervals over seeds and problems; steps from alpha to alpha, beyond doubt or level"
    if curve:
        headers[2:2] = [f"points above {curve}", "p"]
        caption += (
            f"; the difference is of the alphas that both have, p by Holm's correction over {len(found) - 1} tests"
        )
    lines = []
    for one in found:
        tests = [spread(one.above, 100, 2), p_text(one.p_value)] if curve else []
        seeds = " ".join(f"{100 * each.mean:.1f}" for each in one.hypervolumes)
        rises = f"{len(one.rises)}" + (f" (at {', '.join(f'{alpha:g}' for alpha in one.rises)})" if one.rises else "")
        steps = f"{one.falls} / {one.level} / {rises}"
        took = " ".join(f"{each:.0f}" for each in one.seconds) or "-"
        lines.append([one.variant, spread(one.hypervolume, 100, 2), *tests, seeds, steps, took])
    return Table("Variants as families", caption, headers, lines)


def _area(right: Any, tokens: Any) -> Any:
    """Of means [tiers, …], the base's first."""
    return dominated(right, tokens / tokens[0])


def _difference(base: Grid, tiers: Tiers, curve: Tiers) -> Any:
    """The hypervolume less the curve's, of the alphas that both have; None where these are fewer than two."""
    both = sorted(tiers.keys() & curve.keys())
    if len(both) < 2:
        return None
    return crossed(areas(base, [tiers[one] for one in both]) - areas(base, [curve[one] for one in both]))


def _step(before: Grid, after: Grid) -> Interval:
    """Tokens after less tokens before."""
    return crossed(after.tokens - before.tokens).interval()
