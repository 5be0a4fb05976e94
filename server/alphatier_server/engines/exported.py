"""Which tiers of a gated adapter are served beside those of family.json: the most used.

A use is a decision for the tier, as the metrics of all processes count it; what was before the last change counts
half, so that what was popular once does not stay for ever. Requests that wait for a tier, or run on it, are in flight
for it.
"""

from alphatier_models import Family, Tier
from alphatier_server.metrics.definitions import Metrics

_Key = tuple[str, ...]


class Exported:
    """For one process: the one that the engines belong to."""

    def __init__(self, keep: int, metrics: Metrics) -> None:
        self._keep = keep
        self._metrics = metrics
        self._counted: dict[_Key, float] = {}
        self._uses: dict[_Key, float] = {}

    def beside(self, family: Family) -> list[Tier] | None:
        """Those that stay when one more comes; None where there is no room, as requests use all of them."""
        exported = [tier for tier in family.tiers if family.is_exported(tier)]
        surplus = len(exported) + 1 - self._keep
        if surplus <= 0:
            return exported
        in_flight = self._metrics.in_flight.values()
        idle = [tier for tier in exported if in_flight.get((family.name, tier.name), 0.0) <= 0]
        if len(idle) < surplus:
            return None
        self._count()
        idle.sort(key=lambda tier: self._uses.get((family.name, tier.name), 0.0))
        return [tier for tier in exported if tier not in idle[:surplus]]

    def _count(self) -> None:
        """Halve what was counted before, and add what came since."""
        counted: dict[_Key, float] = {}
        for (family, tier, _reason), number in self._metrics.decisions.values().items():
            counted[family, tier] = counted.get((family, tier), 0.0) + number
        for key, number in counted.items():
            self._uses[key] = self._uses.get(key, 0.0) / 2 + number - self._counted.get(key, 0.0)
        self._counted = counted


def with_exported(new: Family, old: Family) -> Family:
    """The family as it is now, with the tiers that were exported of the same gated adapter before."""
    if new.gated is None or new.gated != old.gated:
        return new
    alphas = {tier.alpha for tier in new.tiers}
    staying = [tier for tier in old.tiers if old.is_exported(tier) and tier.alpha not in alphas]
    return new.model_copy(update={"tiers": (*new.tiers, *staying)})
