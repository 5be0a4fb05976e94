"""Blends against the tiers that were trained: figures with 95 % intervals. Pure but for `responses_of`.

The reference at the blend's own mean tokens is the straight line between the two nearest reference tiers. That line
costs nothing to have: sending a share of the requests to one tier and the rest to the other lies on it. A blend is
worth its name only above it.

Intervals: a bootstrap over problems (the same for every tier and seed, so all comparisons are paired) and over seeds.
With three seeds the seeds' part of it is coarse.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alphatier_models import Interval
from alphatier_training.evaluation.intervals import RESAMPLES, per_problem
from alphatier_training.evaluation.samples import SampleFile, read_plan

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Responses:
    """One tier of one run on the problems: means over each problem's responses, by problem."""

    correct: Floats
    tokens: Floats


@dataclass(frozen=True)
class Point:
    """One tier's figures over all seeds."""

    tier: str
    share: float | None
    """Where it lies on its curve; None for a tier that was trained."""
    tokens: Interval
    accuracy: Interval
    seeds: tuple[tuple[float, float], ...]
    """Tokens and accuracy of each seed."""
    over_front: Interval | None = None
    """Accuracy minus the trained tiers' at as many tokens; None below the tersest tier's tokens."""
    over_ends: Interval | None = None
    """Accuracy minus that of requests split between the two ends of its curve; None beyond them."""


@dataclass(frozen=True)
class Smoothness:
    """How evenly the tokens fall from one end of a curve (share 0) to the other (share 1)."""

    rises: int
    """Steps, over all seeds, at which tokens rise instead."""
    steps: int
    largest_step: float
    """The largest fall between neighbours as a multiple of an even one; means over seeds."""
    off_line: float
    """The largest distance from the line between the ends, as a share of the whole fall; means over seeds."""


@dataclass(frozen=True)
class Curve:
    """The blends of one kind, by share."""

    points: tuple[Point, ...]
    smoothness: Smoothness
    mean_over_front: Interval
    """Over the points strictly between the ends."""
    mean_over_ends: Interval


@dataclass(frozen=True)
class Result:
    """All figures of a study."""

    trained: tuple[Point, ...]
    curves: Mapping[str, Curve]


def responses_of(path: Path) -> Responses:
    """What `alphatier evaluate` kept in `path`."""
    samples = SampleFile(read_plan(path), path.parent).read()
    correct, tokens = (per_problem(samples, field) for field in ("correct", "tokens"))
    problems = sorted(correct)
    return Responses(*(np.array([means[problem] for problem in problems]) for means in (correct, tokens)))


class Study:
    """The responses of all tiers and runs, resampled once, so that every figure has the same resamples.

    Resample 0 is the data as it is.

    Args:
        trained: The tiers that were trained and the base, in the family's order.
        runs: For each run (RL seed) the responses of each tier.
    """

    def __init__(self, trained: Sequence[str], runs: Mapping[str, Mapping[str, Responses]]) -> None:
        self._trained = list(trained)
        self._tiers = list(next(iter(runs.values())))
        self._correct = np.array([[run[tier].correct for tier in self._tiers] for run in runs.values()])
        self._tokens = np.array([[run[tier].tokens for tier in self._tiers] for run in runs.values()])

    def result(self, base: str, curves: Mapping[str, Mapping[float, str]]) -> Result:
        """The figures; `curves` names the tier at each share of each curve, `base` the one with no training."""
        front = [self._index(tier) for tier in self._trained if tier != base]
        over_front = self._over(front)
        trained = tuple(self._point(tier) for tier in self._trained)
        tersest = min(point.tokens.mean for point in trained)
        return Result(trained, {name: self._curve(curve, over_front, tersest) for name, curve in curves.items()})

    def _curve(self, curve: Mapping[float, str], over_front: Floats, tersest: float) -> Curve:
        over_ends = self._over([self._index(curve[0.0]), self._index(curve[1.0])])
        inner = [self._index(tier) for share, tier in curve.items() if 0 < share < 1]
        points = []
        for share, tier in curve.items():
            k = self._index(tier)
            point = self._point(tier, share)
            within = point.tokens.mean >= tersest
            front = self._interval(over_front[:, k]) if within else None
            points.append(
                Point(
                    tier,
                    share,
                    point.tokens,
                    point.accuracy,
                    point.seeds,
                    front,
                    self._interval(over_ends[:, k]) if share <= 1 else None,
                )
            )
        return Curve(
            tuple(points),
            _smoothness([point for point in points if point.share is not None and point.share <= 1]),
            self._interval(over_front[:, inner].mean(axis=1)),
            self._interval(over_ends[:, inner].mean(axis=1)),
        )

    def _point(self, tier: str, share: float | None = None) -> Point:
        k = self._index(tier)
        tokens, accuracy = self._means
        seeds = tuple((float(t), float(a)) for t, a in zip(tokens[:, k, 0], accuracy[:, k, 0], strict=True))
        return Point(tier, share, self._interval(tokens[:, k]), self._interval(accuracy[:, k]), seeds)

    def _over(self, reference: Sequence[int]) -> Floats:
        """Accuracy of every tier minus the reference's at its tokens, by seed, tier and resample."""
        tokens, accuracy = self._means
        over = np.empty_like(accuracy)
        for seed, resample in np.ndindex(tokens.shape[0], tokens.shape[2]):
            at, right = tokens[seed, :, resample], accuracy[seed, :, resample]
            order = sorted(reference, key=lambda k: at[k])
            over[seed, :, resample] = right - np.interp(at, at[order], right[order])
        return over

    @cached_property
    def _means(self) -> tuple[Floats, Floats]:
        """Tokens and accuracy by seed, tier and resample of the problems."""
        problems = self._tokens.shape[2]
        draws = np.random.default_rng(0).multinomial(problems, np.full(problems, 1 / problems), RESAMPLES)
        weights = np.vstack([np.ones(problems), draws]).T / problems
        return self._tokens @ weights, self._correct @ weights

    @cached_property
    def _seeds(self) -> NDArray[np.int64]:
        """Which seeds each resample has."""
        seeds = self._tokens.shape[0]
        draws = np.random.default_rng(1).integers(seeds, size=(RESAMPLES, seeds))
        return np.vstack([np.arange(seeds), draws])

    def _interval(self, values: Floats) -> Interval:
        """Mean over seeds with its 95 % interval, of values by seed and resample."""
        means = np.take_along_axis(values.T, self._seeds, axis=1).mean(axis=1)
        low, high = np.percentile(means[1:], [2.5, 97.5])
        mean = float(means[0])
        return Interval(mean=mean, low=min(float(low), mean), high=max(float(high), mean))

    def _index(self, tier: str) -> int:
        return self._tiers.index(tier)


def _smoothness(points: Sequence[Point]) -> Smoothness:
    by_seed = np.array([[tokens for tokens, _ in point.seeds] for point in points])
    means, shares = by_seed.mean(axis=1), np.array([point.share for point in points], dtype=float)
    fall = means[0] - means[-1]
    falls = -np.diff(means) / fall / np.diff(shares)
    line = means[0] - fall * shares
    rises = np.diff(by_seed, axis=0) > 0
    return Smoothness(int(rises.sum()), int(rises.size), float(falls.max()), float(np.abs(means - line).max() / fall))


def table(result: Result) -> str:
    """All figures as Markdown."""
    lines = [*_HEAD, *(_row("trained", point) for point in result.trained)]
    for name, curve in result.curves.items():
        lines += [_row(name, point) for point in curve.points]
    lines += ["", "| blends | over the front | over the ends | rising steps | largest step | off the line |"]
    lines += ["|---|---|---|---|---|---|", *(_summary(name, curve) for name, curve in result.curves.items())]
    return "\n".join(lines) + "\n"


_HEAD = (
    "| blend | share | tokens | accuracy % | over the front, points | over the ends, points |",
    "|---|---|---|---|---|---|",
)


def _row(name: str, point: Point) -> str:
    share = point.tier if point.share is None else f"{point.share:g}"
    cells = [name, share, _spread(point.tokens, 1, "{:.1f}"), _spread(point.accuracy, 100, "{:.2f}")]
    return _line([*cells, *(_spread(over, 100, "{:+.2f}") for over in (point.over_front, point.over_ends))])


def _summary(name: str, curve: Curve) -> str:
    even = curve.smoothness
    overs = [_spread(over, 100, "{:+.2f}") for over in (curve.mean_over_front, curve.mean_over_ends)]
    return _line([name, *overs, f"{even.rises} of {even.steps}", f"{even.largest_step:.1f}x", f"{even.off_line:.0%}"])


def _line(cells: Iterable[Any]) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _spread(interval: Interval | None, scale: float, form: str) -> str:
    if interval is None:
        return "-"
    mean, low, high = (form.format(scale * value) for value in (interval.mean, interval.low, interval.high))
    return f"{mean} ({low} to {high})"
