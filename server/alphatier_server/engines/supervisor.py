"""Keeps one engine running: start, wait until it answers, notice its end, start again with backoff."""

import asyncio
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import aiohttp

from alphatier_server.engines.plan import EngineError, EngineSpec
from alphatier_server.metrics import Metrics
from alphatier_server.pool import Pool, Replica

START_LIMIT_SECONDS = 1800.0
"""A 70B model from a slow disk needs minutes; past this, something hangs."""
STARTS_WITHOUT_SUCCESS = 3
LONGEST_BACKOFF_SECONDS = 30.0
STOP_SECONDS = 20.0
_POLL_SECONDS = 0.25

Report = Callable[[str], None]


class ManagedEngine:
    """One engine under supervision. `run` works until it is cancelled, then leaves no process behind."""

    def __init__(self, spec: EngineSpec, pool: Pool, metrics: Metrics, logs: Path, report: Report) -> None:
        self._spec = spec
        self._pool = pool
        self._metrics = metrics
        self._log_file = logs / f"{spec.name}.log"
        self._report = report

    async def run(self) -> None:
        """Start the engine and restart it whenever it ends.

        Raises EngineError when it ends several times in a row before it could answer once.
        """
        failures = 0
        while True:
            if await self._run_once():
                failures = 0
            else:
                failures += 1
            if failures >= STARTS_WITHOUT_SUCCESS:
                raise EngineError(self._failure())
            self._metrics.engine_restarts.labels(self._spec.name).inc()
            pause = min(LONGEST_BACKOFF_SECONDS, 2.0**failures - 1.0)
            again = f"in {pause:g} s" if pause else "now"
            self._report(f"engine {self._spec.name} ended; starting it again {again} (log: {self._log_file})")
            await asyncio.sleep(pause)

    async def _run_once(self) -> bool:
        """One life of the engine. Returns whether it ever could answer."""
        port = _free_port()
        replica = self._replica(port)
        started = time.monotonic()
        self._report(f"engine {self._spec.name} is loading (log: {self._log_file})")
        process = await self._start(port)
        self._pool.put(replica)
        ended = asyncio.ensure_future(process.wait())
        ready = asyncio.ensure_future(self._wait_until_ready(replica.url))
        try:
            await asyncio.wait({ended, ready}, return_when=asyncio.FIRST_COMPLETED, timeout=START_LIMIT_SECONDS)
            if not ready.done():
                return False
            if (fault := ready.exception()) is not None:
                self._report(str(fault))
                return False
            self._pool.set_up(replica, True)
            self._report(f"engine {self._spec.name} is ready after {time.monotonic() - started:.0f} s")
            await ended
            return True
        finally:
            self._pool.set_up(replica, False)
            ready.cancel()
            await _stop(process)

    def _replica(self, port: int) -> Replica:
        is_vllm = self._spec.kind == "vllm"
        return Replica(
            name=self._spec.name,
            url=f"http://127.0.0.1:{port}",
            family=self._spec.family,
            models=self._spec.models,
            continuous_usage=is_vllm,
            adds_metrics=is_vllm,
        )

    async def _start(self, port: int) -> asyncio.subprocess.Process:
        self._log_file.parent.mkdir(parents=True, exist_ok=True)
        guard = [sys.executable, "-m", "alphatier_server.engines.guard"]
        with self._log_file.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *guard,
                *self._spec.command(port),
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={**os.environ, **self._spec.environment},
                start_new_session=True,  # Ctrl-C is the gateway's to handle
            )

    async def _wait_until_ready(self, url: str) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            while not await _healthy(session, url):  # noqa: ASYNC110 - another process's state, nothing to wait on
                await asyncio.sleep(_POLL_SECONDS)
            for model in self._spec.preload:
                await self._preload(session, url, model)

    async def _preload(self, session: aiohttp.ClientSession, url: str, model: str) -> None:
        """Have the engine load a model now. It tells of failure in an event of its answer, not by status."""
        limit = aiohttp.ClientTimeout(total=START_LIMIT_SECONDS)
        async with session.post(f"{url}/load_model", json={"model": model}, timeout=limit) as response:
            told = await response.text()
        if response.status >= 400 or '"status": "error"' in told:
            raise EngineError(f"engine {self._spec.name} cannot load {model}: {told.strip()[-500:]}")

    def _failure(self) -> str:
        tail = _tail(self._log_file, lines=15)
        return (
            f"Engine {self._spec.name} ended {STARTS_WITHOUT_SUCCESS} times before it could answer. "
            f"The end of {self._log_file}:\n{tail}"
        )


async def _healthy(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(f"{url}/health") as response:
            return response.status == 200
    except (aiohttp.ClientError, TimeoutError, OSError):
        return False


async def _stop(process: asyncio.subprocess.Process) -> None:
    """End the guard, which ends the engine. Also when this task is being cancelled."""
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(asyncio.shield(process.wait()), STOP_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _tail(file: Path, lines: int) -> str:
    text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else "(empty)"
    return "\n".join(f"    {line}" for line in text.splitlines()[-lines:])
