"""Canary: a share of a tier's requests is answered by a new version of it, which is another tier of the family.

The tier is chosen as ever, by whatever rule, a name in the request too. Which version of it answers is drawn by the
conversation (else by the request's id), the same in every process, so that a conversation keeps its version. One that
no engine serves gets nothing.
"""

from collections.abc import Mapping
from typing import Any

from alphatier_models import Family
from alphatier_server.gateway.decide import Decision
from alphatier_server.metrics.canary import Arm
from alphatier_server.metrics.definitions import Metrics
from alphatier_server.replicas.affinity import conversation_key, hash64
from alphatier_server.replicas.pool import Pool


class Canaries:
    """Draws which version answers."""

    def __init__(self, pool: Pool, metrics: Metrics) -> None:
        self._pool = pool
        self._metrics = metrics
        self._arms: dict[str, tuple[Family, Arm, Arm]] = {}
        """By family, as long as it stays as it is."""

    def drawn(self, decision: Decision, body: Mapping[str, Any], request_id: str) -> Decision:
        """The decision, with the version of its tier that answers where a new one is tried."""
        family = decision.family
        canary = family.canary
        if canary is None or decision.tier.name != canary.tier:
            return decision
        _, stable, new = self._of(family)
        key = conversation_key(f"{family.name}:{canary.version}", body)
        if key is None:
            key = hash64(request_id.encode())
        if key >= canary.share * 2**64 or not self._pool.serves(family.name, canary.version):
            return decision._replace(arm=stable)
        return decision._replace(tier=family.tier(canary.version), arm=new)

    def _of(self, family: Family) -> tuple[Family, Arm, Arm]:
        known = self._arms.get(family.name)
        if known is None or known[0] is not family:
            arms = Arm(self._metrics, family, "stable"), Arm(self._metrics, family, "canary")
            known = self._arms[family.name] = family, *arms
        return known
