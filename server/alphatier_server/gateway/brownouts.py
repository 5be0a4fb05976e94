"""The brownouts of the families that are served: counts what is let in, looks at it again and again, and shows it."""

import asyncio
import time
from collections.abc import Callable, Mapping

from alphatier_models import Family, Tier
from alphatier_server.gateway.brownout import Brownout, Limits, Part
from alphatier_server.gateway.decide import Decision
from alphatier_server.gateway.expect import measured, of_tier
from alphatier_server.keys.ring import Caller
from alphatier_server.metrics.definitions import Metrics
from alphatier_server.settings.brownout import BrownoutSettings

TICK_SECONDS = 0.1


class Brownouts:
    """For one process. `frozen` are the levels that an administrator holds, by family."""

    def __init__(
        self,
        settings: BrownoutSettings,
        metrics: Metrics,
        frozen: Mapping[str, float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._frozen = frozen
        self._clock = clock
        self._browned: dict[str, _Browned] = {}

    def level(self, family: str) -> float:
        """How far the family's open choices slide now."""
        held = self._frozen.get(family, self._settings.freeze)
        if held is not None:
            self._metrics.brownout_level.labels(family).set(held)
            return held
        known = self._browned.get(family)
        return 0.0 if known is None else known.brownout.level

    def begin(self, decision: Decision, caller: Caller, requests: int) -> Part | None:
        """So many requests were let in; None where that is not of interest."""
        seconds, family = self._settings.seconds, decision.family
        if seconds is None:
            return None
        known = self._browned.get(family.name)
        if known is None:
            known = self._browned[family.name] = _Browned(seconds, self._settings, self._metrics, family.name)
        tokens = known.tokens(family, decision.tier)
        if tokens is None:
            return None
        own = least = tokens
        if decision.open is not None and caller.brownout:
            if (why := decision.why) is not None and why.rule == "brownout":
                own = next(one.tokens for one in why.candidates if one.tier == why.otherwise)
            least = min(own, known.least)
        if not known.watched:
            known.watched = True
            self._watch(known)
        return known.brownout.work.begin(self._clock(), requests * tokens, requests * own, requests * least)

    def _watch(self, known: "_Browned") -> None:
        """Look, now and as long as there is something to see."""
        level = known.brownout.look(self._clock())
        known.show(self.level(known.name))
        known.watched = level > 0 or not known.brownout.work.idle
        if known.watched:
            asyncio.get_running_loop().call_later(TICK_SECONDS, self._watch, known)


class _Browned:
    """One family's level, its metrics, and the tokens that its tiers are expected to take."""

    def __init__(self, seconds: float, settings: BrownoutSettings, metrics: Metrics, family: str) -> None:
        begin, full = settings.begin * seconds, settings.full * seconds
        self.brownout = Brownout(Limits(begin, full, settings.back_seconds, settings.dwell_seconds))
        self.name = family
        self.watched = False
        self.least = 0.0
        """Of the tersest tier."""
        self._family: Family | None = None
        self._tokens: dict[str, float] = {}
        self._level = metrics.brownout_level.labels(family)
        self._seconds = metrics.brownout_seconds.labels(family)
        self._reversals = metrics.brownout_reversals.labels(family)
        self._shown = 0

    def tokens(self, family: Family, tier: Tier) -> float | None:
        """What an answer of the tier takes on average, as measured; None where nothing is known."""
        if self._family is not family:
            self._family = family
            self._tokens = {one.tier: one.tokens for one in measured(family)}
            self.least = min(self._tokens.values(), default=0.0)
        if tier.name in self._tokens:
            return self._tokens[tier.name]
        known = of_tier(family, tier)  # an alpha that no tier has
        return None if known is None else known.tokens

    def show(self, level: float) -> None:
        """In the metrics; `level` may be one that is held."""
        self._level.set(level)
        self._seconds.set(self.brownout.seconds)
        self._reversals.inc(self.brownout.reversals - self._shown)
        self._shown = self.brownout.reversals
