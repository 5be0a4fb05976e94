"""Which tiers of a gated adapter are served beside those of family.json: the most used.

A use is a request for the tier, as the metrics of all processes count it. One that is not loaded takes the place of
another where it is used more than twice as much: so alphas that are asked for once or twice, however many, never take
the place of what is used again and again, and two of equal use do not take each other's in turn.
"""

import asyncio

from alphatier_models import Family, Tier
from alphatier_server.metrics.definitions import Metrics

HALVED_SECONDS = 60.0
"""In each such time the uses before it count half as much as before."""


class Exported:
    """For one process: the one that the engines belong to."""

    def __init__(self, keep: int, metrics: Metrics) -> None:
        self._keep = keep
        self._metrics = metrics
        self._forgotten: dict[tuple[str, ...], float] = {}

    def beside(self, family: Family, tier: Tier, coming: int = 0) -> list[Tier] | None:
        """Those that stay when `tier` comes; None where there is no room for it.

        `coming` others of the family have places. One that a request uses or waits for does not go.
        """
        exported = [tier for tier in family.tiers if family.is_exported(tier)]
        if len(exported) + coming < self._keep:
            return exported
        in_flight, uses = self._metrics.in_flight.values(), self._uses()
        used = {one.name: uses.get((family.name, one.name), 0.0) for one in (*exported, tier)}
        idle = [one for one in exported if in_flight.get((family.name, one.name), 0.0) <= 0]
        least = min(idle, key=lambda one: used[one.name], default=None)
        if least is None or coming >= self._keep or used[tier.name] <= 2 * used[least.name]:
            return None
        return [one for one in exported if one is not least]

    async def forget(self) -> None:
        """Let what was popular once become less so; runs until it is cancelled."""
        while True:
            await asyncio.sleep(HALVED_SECONDS)
            self.halve()

    def halve(self) -> None:
        """Let the uses so far count half."""
        for tier, uses in self._uses().items():
            self._forgotten[tier] = self._forgotten.get(tier, 0.0) + uses / 2

    def _uses(self) -> dict[tuple[str, ...], float]:
        counted = self._metrics.alpha_requests.values()
        return {tier: number - self._forgotten.get(tier, 0.0) for tier, number in counted.items()}


def with_exported(new: Family, old: Family) -> Family:
    """The family as it is now, with the tiers that were exported of the same gated adapter before."""
    if new.gated is None or new.gated != old.gated:
        return new
    alphas = {tier.alpha for tier in new.tiers}
    staying = [tier for tier in old.tiers if old.is_exported(tier) and tier.alpha not in alphas]
    return new.model_copy(update={"tiers": (*new.tiers, *staying)})
