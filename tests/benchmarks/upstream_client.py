"""The gateway's own client for engines beside aiohttp's: the same requests, from this process to the stub engine.

    python tests/benchmarks/upstream_client.py            # needs aiohttp: pip install aiohttp

CPU time of this process in microseconds, an answer or a chunk (median over rounds, who begins alternates), and the
ratio. Both run on uvloop and hand on bytes: nothing is parsed beyond HTTP. 64 requests are always open.
"""

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import uvloop

sys.path.insert(0, str(Path(__file__).parents[1]))

from alphatier_server.upstream import UpstreamClient, UpstreamLimits
from benchmarks.gateway import asked
from benchmarks.gateway.processes import Cores
from benchmarks.gateway.programs import compiled

MODEL = "tiny:base"
PATH = "/v1/chat/completions"
CHUNKS = 128
OPEN = 64
Send = Callable[[bytes], Awaitable[int]]
"""Sends a body and reads the whole answer; the number of its bytes."""
ROWS = {
    "a whole answer": (asked.chat(MODEL, ""), 4000, 1),
    "a chunk each 5 ms": (asked.stream(MODEL, "", pause_ms=5, chunks=CHUNKS), 128, CHUNKS),
    "a chunk as soon as can be": (asked.stream(MODEL, "", pause_ms=0, chunks=CHUNKS), 256, CHUNKS),
}
"""What is asked, how often, and into how many parts the cost is divided."""


def own(engine: str) -> tuple[Send, Callable[[], Awaitable[None]]]:
    """The gateway's client."""
    client = UpstreamClient(UpstreamLimits())

    async def send(body: bytes) -> int:
        answer = await client.post(engine, PATH, body, b"x-request-id: 1\r\n")
        size = len(answer.body or b"")

        def take(piece: bytes) -> bool:
            nonlocal size
            size += len(piece)
            return False

        if answer.body is None:
            await answer.connection.relay(take)
        answer.connection.release()
        return size

    async def close() -> None:
        client.close()

    return send, close


def others(engine: str) -> tuple[Send, Callable[[], Awaitable[None]]]:
    """aiohttp's, without what a gateway does not need: cookies, limits, decompression."""
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=600),
        auto_decompress=False,
    )
    url, headers = engine + PATH, {"content-type": "application/json", "x-request-id": "1"}

    async def send(body: bytes) -> int:
        async with session.post(url, data=body, headers=headers) as answer:
            if answer.content_type != "text/event-stream":
                return len(await answer.read())
            size = 0
            async for piece in answer.content.iter_any():
                size += len(piece)
            return size

    return send, session.close


async def cost(send: Send, body: bytes, times: int) -> tuple[float, int]:
    """CPU seconds of so many requests, some always open, and the bytes of all answers."""
    left, size = iter(range(times)), 0

    async def client() -> None:
        nonlocal size
        for _ in left:
            got = await send(body)
            size += got

    started = time.process_time()
    await asyncio.gather(*(client() for _ in range(OPEN)))
    return time.process_time() - started, size


async def measure(engine: str, rounds: int) -> None:
    """Print a line for each row."""
    clients = {"own": own(engine), "aiohttp": others(engine)}
    print(f"{'CPU µs of':28} {'own':>8} {'aiohttp':>8} {'ratio':>6}")
    for row, (request, times, parts) in ROWS.items():
        body = request.partition(b"\r\n\r\n")[2]
        figures: dict[str, list[float]] = {name: [] for name in clients}
        for turn in range(-1, rounds):  # the first one only warms up
            names = list(clients) if turn % 2 else list(reversed(clients))
            sizes = []
            for name in names:
                seconds, size = await cost(clients[name][0], body, times)
                sizes.append(size)
                if turn >= 0:
                    figures[name].append(seconds / times / parts * 1e6)
            assert max(sizes) < 1.01 * min(sizes), f"somebody got less: {sizes}"  # the stub varies its words
        mine, its = figures["own"], figures["aiohttp"]
        ratio = statistics.median(b / a for a, b in zip(mine, its, strict=True))
        print(f"{row:28} {statistics.median(mine):8.1f} {statistics.median(its):8.1f} {ratio:5.2f}x")
    for _, close in clients.values():
        await close()


def main() -> None:
    """Compile the stub, start it on a core of its own, and measure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cores", default="1,0", help="of this process, of the stub")
    options = parser.parse_args()
    cores = Cores.parse(options.cores)
    with tempfile.TemporaryDirectory() as folder:
        programs = compiled(Path(folder), cores.others)
        with programs.stub([MODEL]) as engine:
            os.sched_setaffinity(0, {cores.router})
            uvloop.run(measure(engine, options.rounds))


if __name__ == "__main__":
    main()
