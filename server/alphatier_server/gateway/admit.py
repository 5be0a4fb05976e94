"""The second step: who asks, whether they may, and when there is room for it."""

from alphatier_server.dialects.dialect import Dialect
from alphatier_server.dialects.json_object import JsonObject
from alphatier_server.gateway.decide import Decision
from alphatier_server.gateway.request import Head
from alphatier_server.keys.access import Access, Admission, Caller
from alphatier_server.limits.estimate import estimate


class Admitter:
    """Lets requests in, by key and limits."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def caller(self, head: Head) -> Caller:
        """Who sends this head; its body need not be there yet. Raises Unauthorized or InvalidRequest."""
        return self._access.caller(*head.credentials())

    async def admit(
        self, caller: Caller, decision: Decision, body: JsonObject, dialect: Dialect, *, streamed: bool
    ) -> Admission:
        """Take a place within the caller's limits. Raises Forbidden, RateLimited or LimitsUnavailable."""
        self._access.allow(caller, decision.family.name, decision.tier.name)
        requests, tokens = estimate(len(body.raw), body.values, decision.tier)
        if not dialect.generates:
            tokens = 0
        return await self._access.admit(caller, streamed=streamed, tokens=tokens, requests=requests)
