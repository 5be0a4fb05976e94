"""Whether a tier's accuracy is shown to be enough: floors held against intervals, and what more measuring would do.

What: pure functions that say in words why a tier falls short. What not: no choice between tiers that are good enough.
"""

from collections.abc import Sequence
from math import ceil

from alphatier_training.choice.proposal import Finding, Wish
from alphatier_training.evaluation.figures import spread


def shortfall(findings: Sequence[Finding], wish: Wish, against: str) -> str:
    """Why the tier's accuracy is not enough, or not shown to be; empty when it is shown."""
    for finding in findings:
        where = f" on {finding.dataset}" if len(findings) > 1 else ""
        if why := _below_floor(finding, wish.accuracy_floor) or _too_far(finding, wish.within, against):
            return why + where
    return ""


def _below_floor(finding: Finding, floor: float | None) -> str:
    accuracy = finding.accuracy
    if floor is None or accuracy.low >= floor:
        return ""
    found = f"accuracy {spread(accuracy, 100)} %"
    if accuracy.high < floor:
        return f"{found} is below the floor of {100 * floor:g} %"
    advice = _advice(accuracy.mean, accuracy.low, floor)
    return f"not shown: {found} has the floor of {100 * floor:g} % inside its interval{advice}"


def _too_far(finding: Finding, within: float | None, against: str) -> str:
    if within is None or finding.difference is None:
        return ""
    interval, limit = finding.difference.interval, -within / 100
    if interval.low >= limit:
        return ""
    found = f"{spread(interval, 100)} points from {against}"
    if interval.high < limit:
        return f"{found}: more than {within:g} below"
    return f"not shown: {found} may be more than {within:g} below{_advice(interval.mean, interval.low, limit)}"


def _advice(mean: float, low: float, limit: float) -> str:
    """How much more measuring would settle it if the mean stays: intervals shrink with the root of the number."""
    if mean <= limit:
        return ""
    return f"; about {ceil(10 * ((mean - low) / (mean - limit)) ** 2) / 10:g} times as many problems could show it"
