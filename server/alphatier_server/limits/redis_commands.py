"""What is said to Redis about limits: one script to take, one to settle, one to renew.

One Redis server (or a primary behind one address); the keys of an API key
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

from alphatier_server.limits.arithmetic import Call, Outcome, Rate

FAILURES = (RedisError, OSError, TimeoutError)
"""What the commands raise. Whether Redis has run them, or ever will, is then not known."""
CONNECTIONS = 32
LAYOUT = 2
"""In the names of keys, so that gateways of two releases never read each other's records."""
_BATCH = 500


@dataclass(slots=True, eq=False)
class Lease:
    """A running call, and what Redis knows it by."""

    call: Call
    identity: str
    late: bool = False
    """Whether a command that enters it may reach Redis after its end: a closed connection's bytes still arrive."""


class End(NamedTuple):
    """A call that has ended."""

    lease: Lease
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

    def lease(self, number: int, call: Call) -> Lease:
        """A new lease for the call; the scripts read its two last numbers."""
        return Lease(call, f"{self._gateway}-{number}:{call.requests}:{call.tokens}")

    async def take(self, lease: Lease, now: float | None = None) -> Outcome:
        """Enter the lease, or say what forbids it. `now` instead of Redis' own clock is for tests."""
        key, limits, streamed, tokens, requests = lease.call
        arguments: list[Any] = [_text(now), self._lease_seconds, lease.identity, int(streamed), requests, tokens]
        arguments += [*_rate(limits.requests), *_rate(limits.tokens)]
        arguments += [_text(limits.concurrent_requests), _text(limits.concurrent_streams)]
        async with asyncio.timeout(2 * self._patience):
            return _outcome(await self._take(self._keys(key), arguments))

    async def settle(self, ends: Sequence[End], now: float | None = None) -> list[End]:
        """Take the leases out and book the tokens; the ends that Redis refused, each by itself, are returned."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for end in ends:
                call, lease = end.lease.call, end.lease
                arguments: list[Any] = [_text(now), lease.identity, call.requests, call.tokens, end.used]
                arguments += [_rate(call.limits.tokens)[0], end.number, int(lease.late)]
                await self._settle(self._keys(call.key), arguments, pipe)
            answers = await self._execute(pipe)
        return [end for end, answer in zip(ends, answers, strict=True) if isinstance(answer, Exception)]

    async def renew(self, leases: Iterable[Lease]) -> None:
        """Keep the leases of running calls."""
        by_key: dict[str, list[Any]] = {}
        for lease in leases:
            by_key.setdefault(lease.call.key, []).extend((lease.identity, int(lease.call.streamed)))
        async with self._redis.pipeline(transaction=False) as pipe:
            for name, arguments in by_key.items():
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


def _rate(rate: Rate | None) -> tuple[float | str, int | str]:
    return ("", "") if rate is None else (rate.interval, rate.burst)


def _text(number: float | None) -> float | str:
    return "" if number is None else number


def _outcome(answer: Sequence[str]) -> Outcome:
    refused, *seconds, reserved = answer
    return Outcome(refused or None, *map(float, seconds), int(float(reserved)))  # type: ignore[arg-type, call-arg]
