"""Where limits are counted for several gateways: Redis, one script an admission.

A running request holds a lease that this process renews; leases of a gateway that died end by themselves within
LEASE_SECONDS. Every key in Redis expires. Ends of requests are sent in batches in the background, so that no
answer waits for them, and sent again when Redis was away. The clock is Redis' own.

One Redis server (or a primary behind one address); the three keys of an API key share a hash tag, but Redis
Cluster's redirections and Sentinel are not followed.
"""

import asyncio
import contextlib
import hashlib
import itertools
import secrets
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from importlib.resources import files
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.commands.core import AsyncScript
from redis.exceptions import RedisError

from alphatier_server.limits.arithmetic import Limits, Outcome, Rate
from alphatier_server.limits.memory import Reservation, StoreFailed

TIME_LIMIT_SECONDS = 0.25
"""Longest wait for Redis before an admission goes on without it."""
LEASE_SECONDS = 60.0
CONNECTIONS = 32
WAITING_ENDS = 100_000
"""Ends of requests kept while Redis is away; older ones are dropped, their leases end by themselves."""
_BATCH = 500


class RedisStore:
    """Counts in Redis at `url`; names there begin with `prefix`. Made inside a running event loop or before it."""

    def __init__(
        self,
        url: str,
        prefix: str = "alphatier",
        *,
        lease_seconds: float = LEASE_SECONDS,
        time_limit: float = TIME_LIMIT_SECONDS,
    ) -> None:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS,
            timeout=time_limit,
            socket_timeout=time_limit,
            socket_connect_timeout=time_limit,
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
        )
        self._redis: Redis = Redis.from_pool(pool)
        self._prefix = prefix
        self._lease_seconds = lease_seconds
        self._time_limit = time_limit
        self._gateway = secrets.token_hex(8)
        self._numbers = itertools.count()
        self._held: dict[str, Reservation] = {}
        self._ended: deque[tuple[Reservation, int]] = deque(maxlen=WAITING_ENDS)
        self._sending: asyncio.Task[None] | None = None
        self._one_writer = asyncio.Lock()
        self._renewed = 0.0
        self._take, self._settle, self._renew = (self._script(name) for name in ("take", "settle", "renew"))

    async def take(self, name: str, limits: Limits, *, streamed: bool, tokens: int) -> Reservation | Outcome:
        """See Store."""
        reservation = limits.reservation(tokens)
        place = Reservation(self, name, limits, streamed, reservation, _UNKNOWN)
        lease = place.tag = f"{self._gateway}-{next(self._numbers)}:{reservation}"
        arguments = ["", self._lease_seconds, lease, int(streamed), reservation, *_rate(limits.requests)]
        arguments += [*_rate(limits.tokens), _text(limits.concurrent_requests), _text(limits.concurrent_streams)]
        try:
            async with asyncio.timeout(self._time_limit):
                answer = await self._take(self._keys(name), arguments)
        except (RedisError, OSError, TimeoutError) as error:
            self._end(place, 0)  # whether the script ran is not known
            raise StoreFailed(f"{type(error).__name__}: {error}") from error
        except asyncio.CancelledError:
            self._end(place, 0)
            raise
        outcome = _outcome(answer)
        if outcome.refused is not None:
            return outcome
        place.outcome = outcome
        self._held[lease] = place
        return place

    def settle(self, place: Reservation, used: int) -> None:
        """See Ledger. Sent to Redis in the background."""
        self._held.pop(str(place.tag), None)
        self._end(place, used)

    def keep(self, names: Collection[str]) -> None:
        """Nothing to do: keys in Redis expire."""

    async def upkeep(self) -> None:
        """Send ends that could not be sent, and renew leases three times in their length."""
        if self._ended:
            self._start_sending()
        now = asyncio.get_running_loop().time()
        if self._held and now - self._renewed >= self._lease_seconds / 3:
            with contextlib.suppress(RedisError, OSError, TimeoutError):
                await self._renew_all()
                self._renewed = now

    async def close(self) -> None:
        """See Store."""
        if self._ended:
            self._start_sending()
        if self._sending is not None:
            await asyncio.wait([self._sending], timeout=4 * self._time_limit)
            self._sending.cancel()
        await self._redis.aclose()

    def _end(self, place: Reservation, used: int) -> None:
        self._ended.append((place, used))
        self._start_sending()

    def _start_sending(self) -> None:
        if self._sending is None or self._sending.done():
            self._sending = asyncio.get_running_loop().create_task(self._send())

    async def _send(self) -> None:
        """Send what has ended until nothing waits or Redis fails; what failed waits for the next call."""
        while self._ended:
            batch = [self._ended.popleft() for _ in range(min(len(self._ended), _BATCH))]
            try:
                async with self._one_writer:
                    await self._settle_all(batch)
            except (RedisError, OSError, TimeoutError):
                self._ended.extendleft(reversed(batch))
                return

    async def _settle_all(self, batch: Iterable[tuple[Reservation, int]]) -> None:
        async with self._redis.pipeline(transaction=False) as pipe:
            for place, used in batch:
                arguments: list[str | int | float] = ["", str(place.tag), place.reservation, used]
                arguments.append(_rate(place.limits.tokens)[0])
                await self._settle(self._keys(place.name), arguments, pipe)
            async with asyncio.timeout(4 * self._time_limit):
                await pipe.execute()

    async def _renew_all(self) -> None:
        async with self._one_writer:
            leases: dict[str, list[Any]] = {}
            for lease, place in self._held.items():
                leases.setdefault(place.name, []).extend((lease, int(place.streamed)))
            async with self._redis.pipeline(transaction=False) as pipe:
                for name, arguments in leases.items():
                    for start in range(0, len(arguments), _BATCH):
                        part = arguments[start : start + _BATCH]
                        await self._renew(self._keys(name), ["", self._lease_seconds, *part], pipe)
                async with asyncio.timeout(4 * self._time_limit):
                    await pipe.execute()

    def _keys(self, name: str) -> list[str]:
        tag = hashlib.blake2b(name.encode(), digest_size=8).hexdigest()
        return [f"{self._prefix}:{{{tag}}}:{what}" for what in ("buckets", "leases", "streams")]

    def _script(self, name: str) -> AsyncScript:
        text = files(__package__).joinpath(f"redis_{name}.lua").read_text(encoding="utf-8")
        return self._redis.register_script(text)


_UNKNOWN = Outcome(None, 0.0, 0.0, 0.0, 0)


def _rate(rate: Rate | None) -> tuple[float | str, int | str]:
    return ("", "") if rate is None else (rate.interval, rate.burst)


def _text(limit: int | None) -> int | str:
    return "" if limit is None else limit


def _outcome(answer: Sequence[str]) -> Outcome:
    refused, wait, requests_behind, tokens_behind, reserved = answer
    return Outcome(
        refused or None,  # type: ignore[arg-type]
        float(wait),
        float(requests_behind),
        float(tokens_behind),
        int(float(reserved)),
    )
