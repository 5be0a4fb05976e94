"""Users who ask one request after the other until all numbers are used up."""

import asyncio
import dataclasses
from pathlib import Path
from urllib.parse import urlsplit

import orjson

from benchmarks.soak.client.connection import ClientConnection
from benchmarks.soak.plan import plan

CONNECT_SECONDS = 10.0
TELL_SECONDS = 0.1
TURNED_AWAY = 100
"""So often a client asks again whose new connection was closed without a word."""
TURNED_AWAY_SECONDS = 0.05
OVERRUN_SECONDS = 10.0
"""So long after its own deadline a request counts as stuck: the gateway, the client and the machine are busy."""


class Crowd:
    """Some users who ask one request after the other until all numbers are used up."""

    def __init__(self, url: str, seed: int, numbers: range, out: Path, patience: float, extra: bytes) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._address = (parts.hostname, parts.port)
        self._seed = seed
        self._numbers = iter(numbers)
        self._out = out
        self._patience = patience
        self._extra = extra
        self.finished = 0

    async def run(self, users: int) -> None:
        """Ask everything."""
        with self._out.open("wb") as out:
            self._write = out.write
            telling = asyncio.create_task(self._tell())
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(users):
                        group.create_task(self._user())
            finally:
                telling.cancel()
                print(self.finished, flush=True)

    async def _user(self) -> None:
        connection: ClientConnection | None = None
        for number in self._numbers:
            planned = plan(self._seed, number)
            limit = (
                self._patience
                if planned.deadline is None
                else min(self._patience, planned.deadline + OVERRUN_SECONDS)
            )
            turned_away = 0
            while True:
                fresh = connection is None or not connection.reusable
                if fresh:
                    connection = await self._connect()
                assert connection is not None
                seen = await connection.ask(planned, limit, self._extra)
                if seen.result != "cut" or seen.status or turned_away == TURNED_AWAY:
                    break
                # A kept connection that the gateway closed before it saw the request: ask on a new one. A new one
                # ends like that where the gateway has no descriptor for it.
                connection = None
                if fresh:
                    turned_away += 1
                    await asyncio.sleep(TURNED_AWAY_SECONDS)
            seen.fresh, seen.turned_away = fresh, turned_away
            self._write(orjson.dumps(dataclasses.asdict(seen)) + b"\n")
            self.finished += 1
        if connection is not None:
            connection.transport.close()

    async def _connect(self) -> ClientConnection:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(CONNECT_SECONDS):
            _, connection = await loop.create_connection(ClientConnection, *self._address)
        return connection

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(TELL_SECONDS)
            print(self.finished, flush=True)
