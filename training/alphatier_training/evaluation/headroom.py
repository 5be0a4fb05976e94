"""What choosing a tier by problem could gain: an oracle against the best mix of two fixed tiers at the same tokens.

The oracle knows how each tier does on each problem from one half of the problem's samples, and is measured on the
other half, both ways round: measured on what it chose by, it would be paid for lucky samples. At a price of tokens it
takes the tier with the most accuracy less price times tokens. The mix asks two tiers, each a share of the requests,
whatever the problem: the upper hull of the tiers' points.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from alphatier_models import Interval
from alphatier_training.evaluation.intervals import interval
from alphatier_training.evaluation.samples import Sample, same_questions

PRICES = (0.0, *np.geomspace(1e-4, 1, 60))
"""Accuracy a token."""

DRAWS = 400
"""Of problems, for the intervals."""


class Headroom(NamedTuple):
    """At so many tokens a problem, at most."""

    tokens: float
    mix: float
    """Accuracy of the best mix of two fixed tiers."""
    oracle: float
    gain: Interval
    """The oracle's less the mix's, with its 95 % interval over problems."""


def headroom(tiers: Mapping[str, Sequence[Sample]], seed: int = 0) -> list[Headroom]:
    """The headroom at the tokens of each tier.

    Empty for one tier, for tiers that were not asked the same problems, and for one sample a problem.
    """
    every = list(tiers.values())
    samples = _a_problem(every[0]) if every else 0
    if len(every) < 2 or samples < 2 or not all(same_questions(every[0], other) for other in every[1:]):
        return []
    right, tokens = (
        np.array([[float(getattr(one, field)) for one in own] for own in every]).reshape(len(every), -1, samples)
        for field in ("correct", "tokens")
    )
    problems, rng = right.shape[1], np.random.default_rng(seed)
    chosen = oracle_curve(right, tokens)
    weights = np.vstack([np.ones(problems), rng.multinomial(problems, [1 / problems] * problems, DRAWS)]) / problems
    fixed = right.mean(axis=2), tokens.mean(axis=2)
    places = np.sort(fixed[1].mean(axis=1))
    drawn = np.array([_gains(places, row, fixed, chosen) for row in weights])  # [draw, place, mix and oracle]
    mix, oracle = drawn[0].T
    gains = drawn[1:, :, 1] - drawn[1:, :, 0]
    return [
        Headroom(
            float(place),
            float(mix[number]),
            float(oracle[number]),
            interval(oracle[number] - mix[number], *np.quantile(gains[:, number], (0.025, 0.975))),
        )
        for number, place in enumerate(places)
    ]


def _a_problem(samples: Sequence[Sample]) -> int:
    """Samples a problem; 0 where problems have different numbers of them."""
    problems = len({one.problem for one in samples})
    return len(samples) // problems if problems and len(samples) % problems == 0 else 0


def oracle_curve(right: Any, tokens: Any) -> tuple[Any, Any]:
    """Accuracy and tokens [price, problem] of the oracle's choices; both from [tier, problem, sample]."""
    half = right.shape[2] // 2
    found = []
    for known, measured in ((slice(None, half), slice(half, None)), (slice(half, None), slice(None, half))):
        worth = [right[:, :, known].mean(axis=2) - price * tokens[:, :, known].mean(axis=2) for price in PRICES]
        tier = np.array(worth).argmax(axis=1)  # [price, problem]
        problem = np.arange(right.shape[1])
        found.append([part[:, :, measured].mean(axis=2)[tier, problem] for part in (right, tokens)])
    accuracy, spent = np.mean(found, axis=0)
    return accuracy, spent


def _gains(places: Any, weights: Any, fixed: tuple[Any, Any], chosen: tuple[Any, Any]) -> Any:
    """Accuracy of mix and oracle [place, 2] for problems that weigh so much."""
    curves = [(spent @ weights, accuracy @ weights) for accuracy, spent in (fixed, chosen)]
    return np.array([upper_hull(*curve, places) for curve in curves]).T


def upper_hull(tokens: Any, accuracy: Any, places: Any) -> Any:
    """The upper hull of points, read at `places` or at its own end before: what mixing any two of them can give."""
    places = places.clip(tokens.min(), tokens.max())
    between = (tokens[None, :, None] <= places[:, None, None]) & (tokens[None, None, :] >= places[:, None, None])
    width = tokens[None, None, :] - tokens[None, :, None]
    part = np.where(width > 0, (places[:, None, None] - tokens[None, :, None]) / np.where(width > 0, width, 1), 0)
    mixed = accuracy[None, :, None] * (1 - part) + accuracy[None, None, :] * part
    alone = np.where(tokens <= places[:, None], accuracy, -np.inf).max(axis=1)  # a cheaper one may be the best
    return np.maximum(np.where(between, mixed, -np.inf).max(axis=(1, 2)), alone)
