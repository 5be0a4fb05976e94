"""Between a key's limits and the queue: an alpha that was asked for is there, or the nearest tier takes its place.

Only tiers that come from a family's gated adapter are waited for; all others are there or are not. Where adapters are
made, loaded and unloaded is `engines`, perhaps in another process.
"""

import asyncio
import logging
import time
from collections.abc import Mapping

from alphatier_models import Family
from alphatier_server.engines.control import Administer
from alphatier_server.gateway.decide import Decision
from alphatier_server.gateway.dial import nearest
from alphatier_server.keys.ring import Caller
from alphatier_server.metrics.definitions import Metrics
from alphatier_server.replicas.pool import Pool
from alphatier_server.settings.alphas import AlphaSettings

AGAIN_SECONDS = 5.0
"""What could not be loaded is not tried again sooner."""
NO_ROOM_SECONDS = 1.0
"""Nor is room asked for again sooner."""

log = logging.getLogger("alphatier")

_Tier = tuple[str, str]


class Alphas:
    """For one event loop, not for threads."""

    def __init__(
        self,
        families: Mapping[str, Family],
        pool: Pool,
        administer: Administer | None,
        settings: AlphaSettings,
        metrics: Metrics,
    ) -> None:
        self._families = families
        self._pool = pool
        self._administer = administer
        self._settings = settings
        self._metrics = metrics
        self._loads: dict[_Tier, asyncio.Task[bool]] = {}
        self._not_before: dict[_Tier, float] = {}
        """Tier -> moment (`time.monotonic`) of the next attempt."""

    async def ready(self, decision: Decision, caller: Caller, longest: float) -> Decision:
        """The decision once its tier can answer, or `in_place` of it after `wait_seconds` or `longest` (seconds).

        The adapter goes on being loaded when its client leaves, or does not wait: the next one will find it.
        """
        if not decision.family.is_exported(decision.tier):
            return decision
        tier = decision.family.name, decision.tier.name
        self._metrics.alpha_requests.labels(*tier).inc()
        if not self._pool.serves(*tier) and (load := self._load(tier, decision)) is not None:
            await asyncio.wait({load}, timeout=min(longest, self._settings.wait_seconds))
        return self.in_place(decision, caller)

    def in_place(self, decision: Decision, caller: Caller) -> Decision:
        """The decision where its tier can answer now; else the nearest alpha that can and that the key allows."""
        family = self._families.get(decision.family.name, decision.family)
        if not decision.family.is_exported(decision.tier) or self._pool.serves(family.name, decision.tier.name):
            return decision
        assert decision.tier.alpha is not None
        there = {
            tier.alpha: tier
            for tier in family.tiers
            if tier.alpha is not None
            and caller.may_use(family.name, tier.name)
            and self._pool.serves(family.name, tier.name)
        }
        if not there:
            return decision
        self._metrics.alpha_fallbacks.labels(family.name, decision.tier.name).inc()
        return Decision(family, there[nearest(there, decision.tier.alpha)], "fallback")

    def _load(self, tier: _Tier, decision: Decision) -> asyncio.Task[bool] | None:
        """The one attempt for all who wait; None where the last one has just failed."""
        if self._administer is None or time.monotonic() < self._not_before.get(tier, 0.0):
            return None
        if tier not in self._loads:
            arguments: dict[str, object] = {"name": decision.family.name, "alpha": decision.tier.alpha}
            self._loads[tier] = asyncio.create_task(self._loaded(tier, self._administer, arguments))
        return self._loads[tier]

    async def _loaded(self, tier: _Tier, administer: Administer, arguments: dict[str, object]) -> bool:
        pause = AGAIN_SECONDS
        try:
            status, document = await administer("load_alpha", arguments)
            if status == 200:
                pause = NO_ROOM_SECONDS
            else:
                log.warning("%s:%s is not served: %s", *tier, document)
        except Exception:  # the edge of a task: who waits gets the nearest tier
            log.exception("%s:%s could not be loaded", *tier)
        finally:
            del self._loads[tier]
        if there := self._pool.serves(*tier):
            self._not_before.pop(tier, None)
        else:
            self._not_before[tier] = time.monotonic() + pause
        return there
