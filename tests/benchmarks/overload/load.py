"""Clients: keys that ask at random moments, whatever the answers, and a prober of /health/live. Times in seconds."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import aiohttp

BODY = {"model": "toy:terse", "messages": [{"role": "user", "content": "2 + 2?"}]}
PROBE_SECONDS = 0.02


@dataclass
class Seen:
    """What the clients saw of the requests that were asked while it counted."""

    seconds: float
    offered: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    """Whole answers that came while it counted, by key."""
    shed: Counter[int] = field(default_factory=Counter)
    """Refusals by status."""
    other: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    refusals: list[float] = field(default_factory=list)
    """How long the refused ones had waited."""
    probes: list[float] = field(default_factory=list)


class Load:
    """Asks `url` at `rates` (requests a second by key) for `warm` seconds, then for `counted` that count."""

    def __init__(self, url: str, rates: Mapping[str, float], warm: float, counted: float, seed: int) -> None:
        self._url = url
        self._rates = rates
        self._warm = warm
        self._counted = counted
        self._draw = random.Random(seed)
        self._running: set[asyncio.Task[None]] = set()
        self.seen = Seen(counted)

    async def run(self) -> Seen:
        """All of it."""
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=60)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            self._from = time.perf_counter() + self._warm
            self._until = self._from + self._counted
            probing = asyncio.create_task(self._probe(session))
            await self._ask_all(session)
            probing.cancel()
            await asyncio.gather(probing, *self._running, return_exceptions=True)
        return self.seen

    def _counts(self, moment: float) -> bool:
        return self._from <= moment < self._until

    async def _ask_all(self, session: aiohttp.ClientSession) -> None:
        total, keys = sum(self._rates.values()), list(self._rates)
        weights, at = list(self._rates.values()), time.perf_counter()
        while (at := at + self._draw.expovariate(total)) < self._until:
            await asyncio.sleep(max(0.0, at - time.perf_counter()))
            (key,) = self._draw.choices(keys, weights)
            task = asyncio.create_task(self._ask(session, key))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _ask(self, session: aiohttp.ClientSession, key: str) -> None:
        began, seen = time.perf_counter(), self.seen
        counts = self._counts(began)
        seen.offered[key] += counts
        headers = {"authorization": f"Bearer {key}"}
        try:
            async with session.post(f"{self._url}/v1/chat/completions", json=BODY, headers=headers) as answer:
                await answer.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            seen.other[type(error).__name__] += counts
            return
        ended = time.perf_counter()
        if answer.status == 200:
            seen.answered[key] += self._counts(ended)
            if counts:
                seen.latencies.append(ended - began)
        elif answer.status in (429, 503):
            seen.shed[answer.status] += counts
            if counts:
                seen.refusals.append(ended - began)
        else:
            seen.other[str(answer.status)] += counts

    async def _probe(self, session: aiohttp.ClientSession) -> None:
        while True:
            began = time.perf_counter()
            async with session.get(f"{self._url}/health/live") as answer:
                await answer.read()
            if self._counts(began):
                self.seen.probes.append(time.perf_counter() - began)
            await asyncio.sleep(PROBE_SECONDS)
