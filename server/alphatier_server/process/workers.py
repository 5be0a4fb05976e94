"""Keeps N worker processes running: starts them, hears from them, starts again what dies.

A worker is a command that gets its number and two file descriptors (its link and its listening socket), and
its settings as JSON on standard input: nothing secret is in an argument or in the environment. Once it listens, it
says every second which replicas it is busy on. One that says nothing for SILENCE_SECONDS hangs, and is killed.

What the workers do and what they get to know is decided elsewhere (`worker`, `gateway_process`).
"""

import asyncio
import contextlib
import math
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import orjson
from pydantic import SecretStr

from alphatier_server.engines.control import Administer
from alphatier_server.errors import ServeError
from alphatier_server.process.link import Link
from alphatier_server.process.server import end_process_soon

WORKER = (sys.executable, "-P", "-m", "alphatier_server.process.worker")
"""`-P`: what lies in the working directory is no module of ours."""
SILENCE_SECONDS = 30.0
START_SECONDS = 60.0
"""How much longer the first word may take."""
STEADY_SECONDS = 10.0
"""A worker that lived so long did not fail at its start."""
FAILURES_IN_A_ROW = 5
LONGEST_PAUSE_SECONDS = 5.0
LATE_SECONDS = 5.0
"""How much longer than their drain limit the workers may take to end."""
REMIND_SECONDS = 60.0
"""How often it is said that a worker keeps dying."""


def pause_after(failures: int) -> float:
    """Seconds before a worker is started that has died so often in a row."""
    return 0.0 if failures == 1 else min(LONGEST_PAUSE_SECONDS, 0.25 * 2.0 ** min(failures, 16))


@dataclass
class _Worker:
    """One worker: its number, its listener, the process that it is now, and what that has said."""

    index: int
    listener: socket.socket
    process: asyncio.subprocess.Process | None = None
    link: Link | None = None
    snapshot: int = -1
    """The number of the last one that the process has taken over."""
    in_flight: dict[str, dict[str, int]] = field(default_factory=dict)
    """Replica -> the engine's model name -> requests in flight."""
    began: float = 0.0
    failures: int = 0
    """Deaths in a row, none of them after a steady life."""
    reminded: float = -math.inf

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.returncode is None

    @property
    def is_steady(self) -> bool:
        return time.monotonic() - self.began > STEADY_SECONDS

    @property
    def is_failing(self) -> bool:
        """Whether it dies again and again, and does not live steadily now."""
        return self.failures >= FAILURES_IN_A_ROW and not (self.link is not None and self.is_steady)

    def send(self, message: dict[str, Any]) -> None:
        if self.link is not None:
            self.link.send(message)

    def kill(self) -> None:
        if self.process is not None and self.runs:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()

    def busy(self, name: str, model: str | None, newest: int) -> int:
        """Requests that it has open; one at least as long as it may not know the `newest` snapshot."""
        if self.link is None:
            return 0
        models = self.in_flight.get(name, {})
        known = sum(models.values()) if model is None else models.get(model, 0)
        return known if self.snapshot >= newest else max(1, known)


@dataclass
class Workers:
    """All workers of one gateway."""

    listeners: Sequence[socket.socket]
    settings: dict[str, Any]
    """What each worker starts with."""
    snapshot: Callable[[], dict[str, Any]]
    """What all of them must know now."""
    _: KW_ONLY
    announce: Callable[[str], None]
    on_death: Callable[[int], None]
    administer: Administer
    """Does what a worker asks for (`worker.Parent.ask`)."""
    drain_limit: float = 0.0
    """How long requests may run after the workers were told to end; 0 for any time."""
    command: Sequence[str] = WORKER
    silence: float = SILENCE_SECONDS
    pause: Callable[[int], float] = pause_after
    """The seconds before a start, by the deaths in a row before it."""

    def __post_init__(self) -> None:
        self._workers = [_Worker(index, listener) for index, listener in enumerate(self.listeners)]
        self._answering: set[asyncio.Task[None]] = set()
        self._number = 0
        self._ending = asyncio.Event()
        self._told_to_end = False
        self.cut_off = False
        """Whether requests that ran were cut off."""

    @property
    def processes(self) -> list[int]:
        """The ids of the processes that run."""
        return [worker.process.pid for worker in self._workers if worker.process is not None and worker.runs]

    async def answer(self) -> None:
        """Keep all of them running until they have ended by `end`. Raises ServeError when all keep dying."""
        try:
            async with asyncio.TaskGroup() as group:
                for worker in self._workers:
                    group.create_task(self._keep(worker))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        finally:
            self.kill()
            self._close_listeners()

    def end(self, delay: float) -> None:
        """Let them drain and end, listening on for `delay` seconds; none is started again. Told twice, kill them."""
        if self._told_to_end:
            self.cut_off = True
            self.kill()
            end_process_soon()
            return
        self._told_to_end = True
        self._ending.set()
        self.send({"drain": delay})
        loop = asyncio.get_running_loop()
        loop.call_later(delay, self._close_listeners)
        if self.drain_limit:
            loop.call_later(delay + self.drain_limit + LATE_SECONDS, self.kill)

    def kill(self) -> None:
        """End all of them at once; none is started again."""
        self._ending.set()
        for worker in self._workers:
            worker.kill()

    def reload_certificate(self) -> None:
        self.send({"reload": True})

    def broadcast_snapshot(self) -> None:
        self._number += 1
        self.send(self._numbered_snapshot())

    def send(self, message: dict[str, Any]) -> None:
        for worker in self._workers:
            worker.send(message)

    def busy(self, name: str, model: str | None = None) -> int:
        """Requests that workers have open on a replica, or on one of its models.

        A worker that may not have taken over the newest snapshot counts as busy: it may still begin one.
        """
        return sum(worker.busy(name, model, self._number) for worker in self._workers)

    def _close_listeners(self) -> None:
        for listener in self.listeners:
            listener.close()

    def _numbered_snapshot(self) -> dict[str, Any]:
        return {"snapshot": self._number, **self.snapshot()}

    async def _keep(self, worker: _Worker) -> None:
        while not self._ending.is_set():
            worker.began = time.monotonic()
            status = _shown(await self._run_once(worker))
            if self._ending.is_set():
                return
            worker.failures = 1 if worker.is_steady else worker.failures + 1
            if all(each.is_failing for each in self._workers):
                raise ServeError(
                    f"All workers keep ending: worker {worker.index} {worker.failures} times in a row, the last time "
                    f"with {status}. Its messages are above; run with --workers 1 to see the fault by itself."
                )
            pause = self.pause(worker.failures)
            self._announce_death(worker, status, pause)
            await asyncio.sleep(pause)

    def _announce_death(self, worker: _Worker, status: str, pause: float) -> None:
        again = f"starting it again {f'in {pause:g} s' if pause else 'now'}"
        if not worker.is_failing:
            worker.reminded = -math.inf
            self.announce(f"worker {worker.index} ended with {status}; {again}")
        elif time.monotonic() - worker.reminded > REMIND_SECONDS:
            worker.reminded = time.monotonic()
            times = f"{worker.failures} times in a row, the last time with {status}"
            self.announce(f"worker {worker.index} ended {times}; the others go on; {again}, and so on")

    async def _run_once(self, worker: _Worker) -> int:
        """One process from start to end. Returns its exit status."""
        process, link = await self._start(worker)
        hearing = asyncio.create_task(self._hear(worker, link))
        try:
            return await process.wait()
        finally:
            worker.link = None
            worker.kill()
            await process.wait()
            hearing.cancel()
            link.close()
            self.on_death(worker.index)

    async def _start(self, worker: _Worker) -> tuple[asyncio.subprocess.Process, Link]:
        ours, theirs = socket.socketpair()
        with theirs:
            link = await Link.open(ours)
            files = (theirs.fileno(), worker.listener.fileno())
            try:
                process = await asyncio.create_subprocess_exec(
                    *self.command,
                    *map(str, (worker.index, *files)),
                    stdin=asyncio.subprocess.PIPE,
                    pass_fds=files,
                    start_new_session=True,  # Ctrl-C is the parent's to handle
                )
            except BaseException:
                link.close()
                raise
        worker.process, worker.link, worker.snapshot, worker.in_flight = process, link, -1, {}
        assert process.stdin is not None
        settings = {**self.settings, "first": self._numbered_snapshot()}
        process.stdin.write(orjson.dumps(settings, default=_plain))
        process.stdin.close()
        if self._ending.is_set():
            worker.kill()
        return process, link

    async def _hear(self, worker: _Worker, link: Link) -> None:
        try:
            async with asyncio.timeout(START_SECONDS + self.silence) as limit:
                async for message in link.messages():
                    limit.reschedule(asyncio.get_running_loop().time() + self.silence)
                    if "busy" in message:
                        worker.in_flight, worker.snapshot = message["busy"], message["snapshot"]
                    if "ask" in message:
                        task = asyncio.create_task(self._reply(worker, message))
                        self._answering.add(task)
                        task.add_done_callback(self._answering.discard)
        except TimeoutError:
            self.announce(f"worker {worker.index} has said nothing for {self.silence:g} s; killing it")
            worker.kill()

    async def _reply(self, worker: _Worker, message: dict[str, Any]) -> None:
        status, document = await self.administer(message["action"], message["arguments"])
        worker.send({"answer": message["ask"], "status": status, "document": document})


def _plain(value: Any) -> str:
    """Settings as JSON values, secrets included: for a pipe to a worker, and nowhere else."""
    return str(value.get_secret_value()) if isinstance(value, SecretStr) else str(value)


def _shown(status: int) -> str:
    if status < 0:
        return f"signal {signal.Signals(-status).name}" if -status in set(signal.Signals) else f"signal {-status}"
    return f"status {status}"
