"""What counts of answers say, with 95 % intervals. They are of all processes, since the gateway was started.

Each answer is taken for an independent one. Turns of one conversation are not quite, so where most traffic is long
conversations the intervals are somewhat too narrow.
"""

import math
from collections.abc import Mapping
from typing import Any

from alphatier_models.intervals import NORMAL, interval, wilson
from alphatier_server.metrics.definitions import Metrics


def shadow_report(metrics: Metrics) -> list[dict[str, Any]]:
    """For each tier whose answers were held against the reference tier's, how often they agree and what they save."""
    answers, tokens = metrics.shadow_answers.values(), metrics.shadow_tokens.values()
    products, skipped = metrics.shadow_token_products.values(), metrics.shadow_skipped.values()
    spent = metrics.shadow_spent_tokens.values()
    report = []
    for family, tier, reference in sorted({labels[:3] for labels in answers}):
        pair = family, tier, reference
        outcomes = {name: int(answers.get((*pair, name), 0)) for name in ("agree", "differ", "none")}
        sums = {of: tokens.get((*pair, of), 0.0) for of in ("answer", "reference")}
        squares = {of: value for (*labels, of), value in products.items() if tuple(labels) == pair}
        count = sum(outcomes.values())
        report.append(
            {
                "family": family,
                "tier": tier,
                "reference": reference,
                "answers": count,
                "outcomes": outcomes,
                "agreement": share(outcomes["agree"], outcomes["agree"] + outcomes["differ"]),
                "mean_tokens": {of: round(value / count, 2) for of, value in sums.items()},
                "saving": saving(count, sums["answer"], sums["reference"], squares),
                "skipped": {
                    reason: int(value) for (*labels, reason), value in skipped.items() if labels == [family, tier]
                },
                "spent_tokens": int(spent.get((family, reference), 0)),
            }
        )
    return report


def share(part: float, whole: float, z: float = NORMAL) -> dict[str, float] | None:
    """A share with Wilson's interval; None of nothing."""
    return wilson(part / whole, whole, z).model_dump() if whole else None


def saving(count: int, mine: float, theirs: float, products: Mapping[str, float]) -> dict[str, float] | None:
    """1 - mine / theirs, of the sums of two kinds of tokens over `count` pairs; None where that says nothing.

    Interval by the linearised ratio R of two means: variance = Σ (x - R y)² / (n (n - 1) mean(y)²), from the sums of
    x x, x y and y y (Cochran, Sampling Techniques, 1977, section 6.3).
    """
    if count < 2 or theirs <= 0:
        return None
    ratio = mine / theirs
    xx, xy, yy = (products.get(of, 0.0) for of in ("answer_answer", "answer_reference", "reference_reference"))
    residual = max(0.0, xx - 2 * ratio * xy + ratio**2 * yy)
    half = NORMAL * math.sqrt(residual / (count * (count - 1))) / (theirs / count)
    return interval(1 - ratio, 1 - ratio - half, 1 - ratio + half).model_dump()
