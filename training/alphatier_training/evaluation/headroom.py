"""What choosing a tier by problem could gain: an oracle against the best mix of two fixed tiers at the same tokens.

The oracle knows how each tier does on each problem from one half of the problem's samples, and is measured on the
other half, both ways round: measured on what it chose by, it would be paid for lucky samples. It believes the mean of
a half only as far as the tier's problems differ (`believed`), so that luck does not mislead it. At a price of tokens
it takes the tier with the most accuracy less price times tokens. The mix asks two tiers, each a share of the
requests, whatever the problem: the upper hull of the tiers' points.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from alphatier_models import Interval
from alphatier_training.evaluation.intervals import percentiles, resampled
from alphatier_training.evaluation.samples import Sample, same_questions

PRICES = (0.0, *np.geomspace(1e-4, 1, 60))
"""Accuracy a token."""


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
    fixed = right.mean(axis=2), tokens.mean(axis=2)
    places = np.sort(fixed[1].mean(axis=1))
    mix, oracle = curves([fixed, oracle_curve(right, tokens)], places, seed)
    gains = oracle - mix
    return [
        Headroom(
            float(place),
            float(mix[0, at]),
            float(oracle[0, at]),
            percentiles(gains[0, at], gains[1:, at], right.shape[1]),
        )
        for at, place in enumerate(places)
    ]


def _a_problem(samples: Sequence[Sample]) -> int:
    """Samples a problem; 0 where problems have different numbers of them."""
    problems = len({one.problem for one in samples})
    return len(samples) // problems if problems and len(samples) % problems == 0 else 0


def curves(policies: Sequence[tuple[Any, Any]], places: Any, seed: int) -> Any:
    """The upper hulls [policy, draw, place] of policies' accuracy and tokens, each [choice, problem].

    The first draw is of the problems as they are; the others resample them, all policies alike.
    """
    columns = np.concatenate([own for policy in policies for own in policy])
    drawn = np.column_stack([columns.mean(axis=1), resampled(columns, (), np.random.default_rng(seed))])
    sizes = [len(accuracy) for accuracy, _ in policies for _ in range(2)]
    parts = np.split(drawn, np.cumsum(sizes)[:-1])  # accuracy and tokens of each policy in turn, [choice, draw]
    clouds = (zip(cost.T, gain.T, strict=True) for gain, cost in zip(parts[::2], parts[1::2], strict=True))
    return np.array([[upper_hull(*draw, places) for draw in cloud] for cloud in clouds])


def oracle_curve(right: Any, tokens: Any) -> tuple[Any, Any]:
    """Accuracy and tokens [price, problem] of the oracle's choices; both from [tier, problem, sample]."""
    half, problem = right.shape[2] // 2, np.arange(right.shape[1])
    found = []
    for known, measured in ((slice(None, half), slice(half, None)), (slice(half, None), slice(None, half))):
        gain, cost = (np.array([believed(tier, known) for tier in own]) for own in (right, tokens))
        tier = np.array([(gain - price * cost).argmax(axis=0) for price in PRICES])  # [price, problem]
        found.append([part[:, :, measured].mean(axis=2)[tier, problem] for part in (right, tokens)])
    accuracy, spent = np.mean(found, axis=0)
    return accuracy, spent


def believed(values: Any, known: slice) -> Any:
    """What to expect of each problem [problem] by its known samples, of one tier's [problem, sample].

    Linear empirical Bayes (Buehlmann, ASTIN Bulletin 4, 1967; of right and wrong: a beta prior's, by moments): the
    mean of all problems, and of each one's distance to it the share between / (between + within / known samples),
    from the variances between problems and within them.
    """
    samples, means = values.shape[1], values[:, known].mean(axis=1)
    within = values.var(axis=1, ddof=1).mean()
    between = max(0.0, values.mean(axis=1).var() - within / samples)
    doubt = within / values[:, known].shape[1]
    return means.mean() + (means - means.mean()) * (between / (between + doubt) if between else 0.0)


def upper_hull(tokens: Any, accuracy: Any, places: Any) -> Any:
    """The upper hull of points, read at `places` or at its own end: what mixing any two of them can give."""
    hull: list[tuple[float, float]] = []
    for x, y in sorted(zip(tokens.tolist(), accuracy.tolist(), strict=True), key=lambda point: (point[0], -point[1])):
        if hull and y <= hull[-1][1]:
            continue  # dearer and no better
        while len(hull) > 1 and _below(hull[-2], hull[-1], (x, y)):
            hull.pop()
        hull.append((x, y))
    ends = np.array(hull).T
    return np.interp(places, ends[0], ends[1])


def _below(left: tuple[float, float], middle: tuple[float, float], right: tuple[float, float]) -> bool:
    """Whether the middle point lies on or below the line between the others."""
    return (middle[1] - left[1]) * (right[0] - left[0]) <= (right[1] - left[1]) * (middle[0] - left[0])
