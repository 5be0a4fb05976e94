"""Access: who calls, which tiers they may use, how much. Made from settings by `build_access`."""

import asyncio
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from alphatier_server.errors import (
    Forbidden,
    InvalidRequest,
    KeyFileError,
    LimitsUnavailable,
    RateLimited,
    StoreFailed,
    Unauthorized,
)
from alphatier_server.keys.ring import Caller
from alphatier_server.keys.source import KeySource
from alphatier_server.limits.arithmetic import UNLIMITED, Limits, Outcome, rate_headers
from alphatier_server.limits.fallback import FallbackStore
from alphatier_server.limits.shared import SharedStore
from alphatier_server.limits.store import FREE, Admission, MemoryStore, Reservation, Store
from alphatier_server.settings.access import AccessSettings

WATCH_SECONDS = 1.0
ANYONE = Caller()


class Access:
    """Access control by the keys of `source`, whose limits are counted in `store`.

    Without a store it is open: everybody may generate. Without a source nobody may administer.
    """

    def __init__(
        self, source: KeySource | None = None, store: Store | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self._source = source or KeySource(None, {})
        self._store = store
        self._clock = clock

    def caller(self, authorization: str | None, api_key: str | None) -> Caller:
        """Who sends these headers (`Authorization: Bearer KEY`; Anthropic's `x-api-key: KEY`).

        Raises Unauthorized.
        """
        if self._store is None:
            return ANYONE
        return self._source.ring.find(authorization, api_key, self._clock())

    def admin(self, authorization: str | None, api_key: str | None) -> str | None:
        """The name of the administrator whose key these headers carry; None where it is none. Never raises."""
        try:
            caller = self._source.ring.find(authorization, api_key, self._clock())
        except Unauthorized:
            return None
        return caller.name if caller.admin else None

    def allow(self, caller: Caller, family: str, tier: str) -> None:
        """Raises Forbidden when the caller may not use the tier."""
        if not caller.may_use(family, tier):
            raise Forbidden(
                f"This API key may not use {family}:{tier}; it may use {', '.join(sorted(caller.tiers or ()))}.",
                code="tier_not_allowed",
                param="model",
            )

    async def admit(self, caller: Caller, *, streamed: bool, tokens: int, requests: int = 1) -> Admission:
        """Let a call in within the caller's limits. `tokens` and `requests` are what `limits.estimate` says of it.

        Raises RateLimited; InvalidRequest for a batch that no state of the limits would let in; LimitsUnavailable
        where a shared store is gone and the operator chose to refuse. A cancelled call holds nothing; await this
        directly, not as a task.
        """
        limits = caller.limits
        if limits is UNLIMITED:
            return FREE
        assert self._store is not None
        assert caller.name is not None
        if requests > 1:
            _refuse_too_large(limits, requests)
        try:
            call = limits.call(caller.name, streamed=streamed, tokens=tokens, requests=requests)
            answer = await self._store.take(call)
        except StoreFailed as error:
            raise LimitsUnavailable(f"Limits cannot be checked now: {error}", retry_after=1) from error
        if isinstance(answer, Reservation):
            return answer
        raise _rate_limited(limits, answer, tokens, requests)

    async def watch(self) -> None:
        """Follow changes of the keys and keep the store of limits in order; runs until it is cancelled."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            await self._source.refresh()
            if self._store is not None:
                await self._store.upkeep()

    async def close(self) -> None:
        """Send what is not sent yet, within a limit of time; after the last admission was closed."""
        if self._store is not None:
            await self._store.close()


def build_access(
    settings: AccessSettings,
    *,
    environment: Mapping[str, str] = os.environ,
    shared: tuple[Path, int] | None = None,
    redis_failed: Callable[[], None] = lambda: None,
) -> Access:
    """The access control that the settings ask for.

    `shared` is the file that SharedStore.create made and this process's column in it, where several workers serve;
    Redis, where configured, counts for them all. `redis_failed` is called whenever Redis did not answer.
    Raises KeyFileError.
    """
    seen = environment if settings.environment else {}
    source = KeySource(settings.keys_file, seen, settings.limits)
    if settings.keys_file is None and not seen.get("ALPHATIER_API_KEYS", "").strip():  # but perhaps administrators
        if settings.limits.model_dump(exclude_none=True):
            raise KeyFileError("Limits need API keys: set keys_file or ALPHATIER_API_KEYS.")
        return Access(source)
    local: Store = MemoryStore() if shared is None else SharedStore(*shared)
    url = settings.redis_url.get_secret_value() if settings.redis_url else environment.get("ALPHATIER_REDIS_URL")
    if not url:
        return Access(source, local)
    redis = _redis_store(url, settings.redis_prefix)
    return Access(source, FallbackStore(redis, settings.redis_failure, redis_failed, local=local))


def _redis_store(url: str, prefix: str) -> Store:
    try:
        from alphatier_server.limits.redis_store import RedisStore
    except ImportError as error:
        raise KeyFileError("Limits in Redis need its client: pip install 'alphatier[redis]'.") from error
    try:
        return RedisStore(url, prefix)
    except ValueError:  # its words may quote the URL, which holds a password
        raise KeyFileError("redis_url is no URL of a Redis: redis://, rediss:// or unix://.") from None


def _refuse_too_large(limits: Limits, requests: int) -> None:
    most = limits.most_requests()
    if most is not None and requests > most:
        raise InvalidRequest(
            f"A batch of {requests} prompts counts as {requests} requests, and the limits of this API key never let "
            f"in more than {most} at once; send smaller batches.",
            code="batch_too_large",
            param="prompt",
        )


_WORDS = {
    "requests_per_minute": "{0.requests.per_minute} requests a minute",
    "tokens_per_minute": "{0.tokens.per_minute} tokens a minute",
    "concurrent_requests": "{0.concurrent_requests} requests at once",
    "concurrent_streams": "{0.concurrent_streams} streams at once",
}


def _rate_limited(limits: Limits, outcome: Outcome, tokens: int, requests: int) -> RateLimited:
    assert outcome.refused is not None
    wait = max(outcome.wait, 0.001)
    words = _WORDS[outcome.refused].format(limits)
    asked = f" (this request is estimated at {tokens})" if outcome.refused == "tokens_per_minute" else ""
    if requests > 1 and outcome.refused in ("requests_per_minute", "concurrent_requests"):
        asked = f" (this batch counts as {requests})"
    headers = rate_headers(limits, outcome) | {"retry-after-ms": str(math.ceil(wait * 1000))}
    error = RateLimited(
        f"Rate limit reached for this API key: {words}{asked}. Try again in {wait:.3g} s.",
        code="rate_limit_exceeded",
        retry_after=math.ceil(wait),
        headers=headers,
    )
    error.limit = outcome.refused
    return error
