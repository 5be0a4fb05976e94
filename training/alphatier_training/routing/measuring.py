"""How well a router chooses, on problems that it was not trained on, with the goal beside each figure.

The baseline is the best mix of two fixed tiers at the same tokens, the ceiling an oracle that knows each problem's
tiers from one half of the samples and is measured on the other (`evaluation.headroom`). Intervals resample problems.

    gap closed     area between router and mix, over places from the fewest to the most tokens of a tier where the
                   oracle is `LEAST_GAP` above the mix or more, as a share of the area between oracle and mix
    never below    the least difference of router and mix at any place
    thorough       accuracy against the most accurate tier, paired, at the price that promised its accuracy less
                   half a point on the router's own sample, and the tokens there as a share of that tier's
    ECE            expected calibration error of all chances, in 15 equal bins
    p90            share of responses below, and at or below it, by level; a tier that always takes 6 tokens has
                   all of them at it
    pinball        loss of the p90 against that of one p90 for each tier, as a share
    same tier      prompts that get the same tier after a harmless rewording
    unlike         prompts that are unlike the training data, which get the default tier when they are served
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from alphatier_models import Interval
from alphatier_models.routing.router import Router, best
from alphatier_training.evaluation.headroom import DRAWS, oracle_curve, upper_hull
from alphatier_training.evaluation.intervals import interval
from alphatier_training.routing.choosing import choices
from alphatier_training.routing.knowing import Known

PLACES = 40
LEAST_GAP = 0.002
BINS = 15
LOSS_ALLOWED = 0.005
"""Of accuracy, against the most accurate tier."""

REWORDINGS = {
    "capitals": str.upper,
    "white space": lambda prompt: "  " + prompt.replace(" ", "  "),
    "please": lambda prompt: "Please: " + prompt,
    "thanks": lambda prompt: prompt + " Thanks!",
    "no last mark": lambda prompt: prompt.rstrip("?. "),
}
"""That change nothing of what is asked."""


@dataclass(frozen=True)
class Quality:
    """One router on one set of problems."""

    problems: int
    samples: int
    gap_closed: Interval | None
    """None where there is no gap."""
    below_mix: Interval
    """Accuracy of the router less the mix's, where that is least."""
    thorough_accuracy: Interval
    """Difference to the most accurate tier."""
    thorough_tokens: float
    """As a share of the most accurate tier's."""
    ece: float
    coverage: Mapping[str, tuple[float, float]]
    """By level: share of responses below the p90, and at or below it."""
    pinball: float
    """1 - loss / that of one p90 a tier."""
    same_tier: Mapping[str, float]
    unlike: float
    curve: tuple[tuple[float, float, float, float], ...]
    """Tokens, and the accuracy of mix, router and oracle there."""

    def document(self) -> dict[str, Any]:
        """For `--json` and router.json."""
        values = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: value.model_dump() if isinstance(value, Interval) else value for name, value in values}


def measure(router: Router, known: Known, seed: int = 0) -> Quality:
    """The router's quality on `known`, whose tiers must be the router's."""
    known = known.ordered([tier.name for tier in router.tiers])
    predictions = [router.predict(prompt) for prompt in known.prompts]
    found = np.array(
        [[one[1:5] for one in prediction.expectations] for prediction in predictions]
    )  # [problem, tier, 4]
    chance, tokens, _, p90 = np.moveaxis(found, 2, 0).transpose(0, 2, 1)
    places, curves, drawn = _curves(known, chance, tokens, np.random.default_rng(seed))
    closed = [_closed(*own) for own in drawn]
    least = [float((own[1] - own[0]).min()) for own in drawn]
    accuracy, share = _thorough(router, known, chance, tokens, np.random.default_rng(seed))
    return Quality(
        problems=len(known),
        samples=known.right.shape[2],
        gap_closed=None if np.isnan(closed[0]) else _interval(closed),
        below_mix=_interval(least),
        thorough_accuracy=accuracy,
        thorough_tokens=share,
        ece=_ece(chance, known.right.mean(axis=2)),
        coverage=_coverage(p90, known),
        pinball=_pinball(p90, known),
        same_tier=_same_tier(router, known),
        unlike=float(np.mean([one.unlike is not None for one in predictions])),
        curve=tuple(zip(*(map(float, own) for own in (places, *curves)), strict=True)),
    )


def _curves(known: Known, chance: Any, tokens: Any, rng: Any) -> tuple[Any, Any, list[Any]]:
    """Places, accuracies [mix, router, oracle] there, and those of resampled problems, the first as they are."""
    right, spent = known.right.mean(axis=2), known.tokens.mean(axis=2)
    problems = np.arange(len(known))
    routed = [own[choices(chance, tokens), problems] for own in (right, spent)]
    curves = [(right, spent), routed, oracle_curve(known.right, known.tokens)]
    ends = spent.mean(axis=1)
    places = np.linspace(ends.min(), ends[right.mean(axis=1).argmax()], PLACES)
    counts = rng.multinomial(len(known), [1 / len(known)] * len(known), DRAWS)
    weights = np.vstack([np.ones(len(known)), counts]) / len(known)
    drawn = [[upper_hull(cost @ row, gain @ row, places) for gain, cost in curves] for row in weights]
    return places, drawn[0], drawn


def _closed(mix: Any, router: Any, oracle: Any) -> float:
    there = oracle - mix >= LEAST_GAP
    return float((router - mix)[there].sum() / (oracle - mix)[there].sum()) if there.any() else float("nan")


def _thorough(router: Router, known: Known, chance: Any, tokens: Any, rng: Any) -> tuple[Interval, float]:
    right, spent = known.right.mean(axis=2), known.tokens.mean(axis=2)
    at = int(right.mean(axis=1).argmax())
    price = router.price_for(accuracy_share=1 - LOSS_ALLOWED / router.thorough.accuracy)
    chosen, problems = choices(chance, tokens, [price])[0], np.arange(len(known))
    difference = right[chosen, problems] - right[at]
    draws = rng.integers(len(known), size=(DRAWS, len(known)))
    drawn = [float(difference.mean()), *difference[draws].mean(axis=1)]
    return _interval(drawn), float(spent[chosen, problems].mean() / spent[at].mean())


def _ece(chance: Any, share: Any) -> float:
    bins = np.minimum((chance * BINS).astype(int), BINS - 1)
    parts = [(chance[bins == number], share[bins == number]) for number in range(BINS)]
    return float(sum(abs(one.mean() - other.mean()) * one.size for one, other in parts if one.size) / chance.size)


def _coverage(p90: Any, known: Known) -> dict[str, tuple[float, float]]:
    levels = np.array(known.levels)
    found = {}
    for level in sorted(set(known.levels)):
        own, limit = known.tokens[:, levels == level], p90[:, levels == level, None]
        found[level] = float((own < limit - 0.5).mean()), float((own <= limit + 0.5).mean())
    return found


def _pinball(p90: Any, known: Known) -> float:
    fixed = np.quantile(known.tokens.reshape(len(known.tiers), -1), 0.9, axis=1)[:, None, None]
    losses = [
        np.maximum(0.9 * above, -0.1 * above).mean()
        for above in (known.tokens - p90[..., None], known.tokens - fixed)
    ]
    return float(1 - losses[0] / losses[1]) if losses[1] else 0.0


def _same_tier(router: Router, known: Known) -> dict[str, float]:
    price = router.price_for(accuracy_share=1 - LOSS_ALLOWED / router.thorough.accuracy)

    def tiers(change: Any) -> Any:
        return np.array([best(router.predict(change(one)).expectations, price).tier for one in known.prompts])

    before = tiers(str)
    return {name: float((tiers(change) == before).mean()) for name, change in REWORDINGS.items()}


def _interval(drawn: Any) -> Interval:
    """Of a bootstrap whose first value is the figure itself."""
    low, high = np.nanquantile(drawn[1:], (0.025, 0.975))
    return interval(float(drawn[0]), float(low), float(high))
