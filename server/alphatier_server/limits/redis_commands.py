"""What is said to Redis about limits: one script to take, one to settle, one to renew.

A reservation's `tag` is its `Lease`. One Redis server (or a primary behind one address); the keys of an API key
share a hash tag, but Redis Cluster's redirections and Sentinel are not followed.
"""

import asyncio
import hashlib
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, NamedTuple

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.client import Pipeline
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.commands.core import AsyncScript
from redis.exceptions import RedisError

from alphatier_server.limits.arithmetic import Outcome, Rate
from alphatier_server.limits.memory import Reservation

FAILURES = (RedisError, OSError, TimeoutError)
"""What the commands raise. Whether Redis has run them, or ever will, is then not known."""
CONNECTIONS = 32
LAYOUT = 2
"""In the names of keys, so that gateways of two releases never read each other's records."""
_BATCH = 500


@dataclass(slots=True)
class Lease:
    """What Redis knows a running call by."""

    identity: str
    late: bool = False
    """Whether a command that enters it may reach Redis after its end: a closed connection's bytes still arrive."""


class End(NamedTuple):
    """A call that has ended."""

    call: Reservation
    used: int
    number: int
    """Grows from one end of this process to the next; Redis books the tokens of each number once."""
    at: float
    """Seconds of the event loop's clock."""


class RedisCommands:
    """The scripts at `url`. `patience` is the longest wait for one answer of Redis, in seconds."""

    def __init__(
        self, url: str, prefix: str, *, lease_seconds: float, connection_seconds: float, patience: float
    ) -> None:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS,
            timeout=connection_seconds,
            socket_timeout=patience,
            socket_connect_timeout=patience,
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
        )
        self._redis: Redis = Redis.from_pool(pool)
        self._prefix = f"{prefix}:{LAYOUT}"
        self._gateway = secrets.token_hex(8)
        self._lease_seconds = lease_seconds
        self._patience = patience
        self._take, self._settle, self._renew = (self._script(name) for name in ("take", "settle", "renew"))

    def lease(self, number: int, call: Reservation) -> Lease:
        """A new lease for the call; the scripts read its two last numbers."""
        return Lease(f"{self._gateway}-{number}:{call.requests}:{call.reservation}")

    async def take(self, call: Reservation, now: float | None = None) -> Outcome:
        """Enter the call's lease, or say what forbids it. `now` instead of Redis' own clock is for tests."""
        limits = call.limits
        arguments: list[Any] = [_text(now), self._lease_seconds, lease_of(call).identity, int(call.streamed)]
        arguments += [call.requests, call.reservation, *_rate(limits.requests), *_rate(limits.tokens)]
        arguments += [_text(limits.concurrent_requests), _text(limits.concurrent_streams)]
        async with asyncio.timeout(2 * self._patience):
            return _outcome(await self._take(self._keys(call.name), arguments))

    async def settle(self, ends: Sequence[End], now: float | None = None) -> list[End]:
        """Take the leases out and book the tokens; the ends that Redis refused, each by itself, are returned."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for end in ends:
                call, lease = end.call, lease_of(end.call)
                arguments: list[Any] = [_text(now), lease.identity, call.requests, call.reservation, end.used]
                arguments += [_rate(call.limits.tokens)[0], end.number, int(lease.late)]
                await self._settle(self._keys(call.name), arguments, pipe)
            answers = await self._execute(pipe)
        return [end for end, answer in zip(ends, answers, strict=True) if isinstance(answer, Exception)]

    async def renew(self, calls: Iterable[Reservation]) -> None:
        """Keep the leases of running calls."""
        leases: dict[str, list[Any]] = {}
        for call in calls:
            leases.setdefault(call.name, []).extend((lease_of(call).identity, int(call.streamed)))
        async with self._redis.pipeline(transaction=False) as pipe:
            for name, arguments in leases.items():
                for start in range(0, len(arguments), _BATCH):
                    part = arguments[start : start + _BATCH]
                    await self._renew(self._keys(name), ["", self._lease_seconds, *part], pipe)
            for answer in await self._execute(pipe):
                if isinstance(answer, Exception):
                    raise answer

    async def close(self) -> None:
        """Let go of the connections."""
        await self._redis.aclose()

    async def _execute(self, pipe: Pipeline) -> list[Any]:
        async with asyncio.timeout(2 * self._patience):
            return await pipe.execute(raise_on_error=False)

    def _keys(self, name: str) -> list[str]:
        tag = hashlib.blake2b(name.encode(), digest_size=8).hexdigest()
        whats = ("usage", "leases", "streams", "ended:", f"booked:{self._gateway}")
        return [f"{self._prefix}:{{{tag}}}:{what}" for what in whats]

    def _script(self, name: str) -> AsyncScript:
        text = files(__package__).joinpath(f"redis_{name}.lua").read_text(encoding="utf-8")
        return self._redis.register_script(text)


def lease_of(call: Reservation) -> Lease:
    """The lease of a reservation that was made here."""
    lease = call.tag
    assert isinstance(lease, Lease)
    return lease


def _rate(rate: Rate | None) -> tuple[float | str, int | str]:
    return ("", "") if rate is None else (rate.interval, rate.burst)


def _text(number: float | None) -> float | str:
    return "" if number is None else number


def _outcome(answer: Sequence[str]) -> Outcome:
    refused, wait, requests_behind, tokens_behind, reserved = answer
    return Outcome(
        refused or None,  # type: ignore[arg-type]
        float(wait),
        float(requests_behind),
        float(tokens_behind),
        int(float(reserved)),
    )
