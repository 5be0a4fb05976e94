"""A network between a gateway and its Redis that a test makes slow, cuts, or lets arrive in another order."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class RedisProxy:
    """Listens on a Unix socket and passes everything on to Redis' own."""

    path: Path
    redis: Path
    delay: float = 0.0
    """Seconds that each piece takes, there and back."""
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a piece is being held."""
    _open: asyncio.Event = field(default_factory=asyncio.Event)
    _holding: bytes | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    def hold(self, marker: bytes) -> None:
        """The next connection that says `marker` stands still from there until `let_go`; all others pass."""
        self._holding = marker
        self.arrived.clear()
        self._open.clear()

    def let_go(self) -> None:
        """What was held arrives, even though who sent it has gone."""
        self._open.set()

    def cut(self) -> None:
        """Every connection breaks."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def settled(self) -> None:
        """Everything that was held has been taken by Redis."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_unix_connection(str(self.redis))
        self._writers |= {writer, forth}
        ways = [asyncio.create_task(self._pass(reader, forth, True)), asyncio.create_task(self._pass(back, writer))]
        await asyncio.wait(ways)
        for each in (writer, forth):
            each.close()
            self._writers.discard(each)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asks: bool = False) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                if self.delay:
                    await asyncio.sleep(self.delay)
                if asks and self._holding is not None and self._holding in data:
                    self._holding = None
                    self.arrived.set()
                    await self._open.wait()
                writer.write(data)
                await writer.drain()
        if not asks:
            return
        with suppress(OSError):
            writer.write_eof()


@asynccontextmanager
async def redis_proxy(path: Path, redis: Path) -> AsyncIterator[RedisProxy]:
    proxy = RedisProxy(path, redis)
    server = await asyncio.start_unix_server(proxy.connected, str(path))
    try:
        yield proxy
    finally:
        proxy.let_go()
        server.close()
        proxy.cut()
