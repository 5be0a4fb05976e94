"""What a new version of a tier does, counted beside the version that it may replace, and the rule that rolls it back.

A trial is known by its version's name and weights: other weights under the same name begin anew. Both sides are of
the same draw of requests, so what differs is the version's doing. Errors are what an engine did wrong; requests that
clients left, limits refused or engines called wrong are counted on no side.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from alphatier_models import Family
from alphatier_models.intervals import NORMAL, interval
from alphatier_server.metrics.definitions import Metrics
from alphatier_server.metrics.evidence import share
from alphatier_server.settings.canary import CanarySettings

Side = Literal["stable", "canary"]
SIDES: tuple[Side, Side] = "stable", "canary"

SUMS = "counted", "tokens", "tokens_squared", "seconds", "seconds_squared"

DOUBT = 4.0
"""Standard errors beyond which a version is worse. At a look a second, 2 would find something at last."""


class Arm:
    """One side of a trial: which version answers, and where its answers are counted."""

    def __init__(self, metrics: Metrics, family: Family, side: Side) -> None:
        assert family.canary is not None
        self.side = side
        self.tier = family.canary.tier
        """The tier that was chosen."""
        self.version = family.canary.version if side == "canary" else family.canary.tier
        """The tier that answers."""
        self.lines = f"x-alphatier-version: {self.version}\r\n".encode("latin-1")
        trial = (*_trial(family), side)
        self._requests = {name: metrics.canary_requests.labels(*trial, name) for name in ("ok", "cut_off", "error")}
        self._sums = {of: metrics.canary_sums.labels(*trial, of) for of in SUMS}
        self._compared = {name: metrics.canary_compared.labels(*trial, name) for name in ("agree", "differ", "none")}

    def failed(self) -> None:
        """An engine did not answer as it should."""
        self._requests["error"].inc()

    def answered(self, *, cut_off: bool, tokens: int | None, seconds: float) -> None:
        """A whole answer; `seconds` since an engine was asked for it."""
        self._requests["cut_off" if cut_off else "ok"].inc()
        sums = self._sums
        sums["seconds"].inc(seconds)
        sums["seconds_squared"].inc(seconds * seconds)
        if tokens is not None:
            sums["counted"].inc()
            sums["tokens"].inc(tokens)
            sums["tokens_squared"].inc(tokens * tokens)

    def compared(self, outcome: str) -> None:
        """Its answer was held against the reference tier's."""
        self._compared[outcome].inc()


@dataclass(frozen=True)
class Counts:
    """What was counted of one side."""

    outcomes: Mapping[str, float]
    sums: Mapping[str, float]
    compared: Mapping[str, float]

    @property
    def answers(self) -> float:
        """Whole ones."""
        return self.outcomes.get("ok", 0.0) + self.outcomes.get("cut_off", 0.0)

    @property
    def requests(self) -> float:
        """Errors included."""
        return self.answers + self.outcomes.get("error", 0.0)

    def mean(self, of: str) -> tuple[float, float, float]:
        """How many, their mean, and the variance of that mean, of tokens or seconds; 0, 0, 0 of none."""
        count = self.answers if of == "seconds" else self.sums.get("counted", 0.0)
        if not count:
            return 0.0, 0.0, 0.0
        mean = self.sums[of] / count
        return count, mean, max(0.0, self.sums[f"{of}_squared"] / count - mean**2) / count

    def document(self) -> dict[str, Any]:
        """The figures, each with its 95 % interval."""
        same = self.compared.get("agree", 0.0)
        return {
            "requests": int(self.requests),
            "errors": share(self.outcomes.get("error", 0.0), self.requests),
            "cut_off": share(self.outcomes.get("cut_off", 0.0), self.answers),
            "tokens": _mean(*self.mean("tokens")),
            "seconds": _mean(*self.mean("seconds")),
            "agreement": share(same, same + self.compared.get("differ", 0.0)),
        }


def counts(metrics: Metrics, family: Family) -> dict[Side, Counts]:
    """What was counted of both sides of the family's trial, in all processes."""
    read = [of.values() for of in (metrics.canary_requests, metrics.canary_sums, metrics.canary_compared)]
    trial = _trial(family)

    def of(side: Side) -> Counts:
        mine = (*trial, side)
        return Counts(*({labels[-1]: n for labels, n in each.items() if labels[:-1] == mine} for each in read))

    return {side: of(side) for side in SIDES}


def worse(sides: Mapping[Side, Counts], settings: CanarySettings) -> str | None:
    """In what the new version is worse beyond doubt; None where it is not, or too little is known.

    Shares by Newcombe's interval of a difference (Statistics in Medicine 17, 1998, method 10), tokens by the
    difference of two means, each at DOUBT standard errors.
    """
    old, new = sides["stable"], sides["canary"]
    if min(old.requests, new.requests) < settings.samples:
        return None
    for what, outcome, of in (("fails", "error", "requests"), ("is cut off", "cut_off", "answers")):
        one, other = (share(side.outcomes.get(outcome, 0.0), getattr(side, of), DOUBT) for side in (old, new))
        if one is None or other is None:
            continue
        more = other["mean"] - one["mean"]
        if more > math.hypot(other["mean"] - other["low"], one["high"] - one["mean"]):
            return f"it {what} more often, {other['mean']:.1%} of {getattr(new, of):.0f} against {one['mean']:.1%}"
    (_, one_mean, one_var), (count, other_mean, other_var) = old.mean("tokens"), new.mean("tokens")
    allowed = 1 + settings.more_tokens
    if count and other_mean - allowed * one_mean > DOUBT * math.sqrt(other_var + allowed**2 * one_var):
        return f"it takes more tokens, {other_mean:.1f} of {count:.0f} answers against {one_mean:.1f}"
    return None


def canary_report(metrics: Metrics, family: Family, settings: CanarySettings) -> dict[str, Any]:
    """Both sides, side by side."""
    assert family.canary is not None
    sides = counts(metrics, family)
    return {
        "family": family.name,
        **family.canary.model_dump(),
        **{side: sides[side].document() for side in SIDES},
        "worse": worse(sides, settings),
    }


def _trial(family: Family) -> tuple[str, str, str]:
    """Labels that tell it from any other trial."""
    assert family.canary is not None
    weights = family.tier(family.canary.version).identity or "base"
    return family.name, family.canary.tier, f"{family.canary.version}@{weights[:8]}"


def _mean(count: float, mean: float, variance: float) -> dict[str, float] | None:
    half = NORMAL * math.sqrt(variance)
    return interval(mean, mean - half, mean + half).model_dump() if count else None
