"""Keeps N worker processes running: starts them, hears from them, starts again what dies.

A worker is a command that gets its number and two file descriptors (its link and its listening socket), and
its settings as JSON on standard input: nothing secret is in an argument or in the environment. Once it listens, it
says every second which replicas it is busy on. One that says nothing for SILENCE_SECONDS hangs, and is killed.

What the workers do and what they get to know is not decided here.
"""

import asyncio
import contextlib
import math
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import orjson

from alphatier_server.process.console import ServeError
from alphatier_server.process.link import Link

WORKER = (sys.executable, "-P", "-m", "alphatier_server.process.worker")
"""`-P`: what lies in the working directory is no module of ours."""
SILENCE_SECONDS = 30.0
START_SECONDS = 60.0
STEADY_SECONDS = 10.0
"""A worker that lived so long did not fail at its start."""
FAILURES_IN_A_ROW = 5
LONGEST_PAUSE_SECONDS = 5.0
REMIND_SECONDS = 60.0
"""How often it is said that a worker keeps dying."""

Busy = dict[str, dict[str, int]]
"""Replica -> the engine's model name -> requests in flight."""
Answer = Callable[[str, dict[str, Any]], Awaitable[tuple[int, Any]]]
"""An action's name and arguments -> an HTTP status and a JSON document."""


def pause_after(failures: int) -> float:
    """Seconds before a worker is started that has died so often in a row."""
    return 0.0 if failures == 1 else min(LONGEST_PAUSE_SECONDS, 0.25 * 2.0 ** min(failures, 16))


class Worker:
    """One worker: its number, its listener, and the process that is it now."""

    def __init__(self, index: int, listener: socket.socket) -> None:
        self.index = index
        self.listener = listener
        self.process: asyncio.subprocess.Process | None = None
        self.link: Link | None = None
        self.heard = 0.0
        self.heard_of = -1
        """The number of the last snapshot that the worker has taken over."""
        self.busy: Busy = {}
        self.began = time.monotonic()
        self.failures = 0
        """Deaths in a row, none of them after a steady life."""
        self.reminded = -math.inf

    @property
    def is_failing(self) -> bool:
        """Whether it dies again and again, and does not live steadily now."""
        steady = self.link is not None and time.monotonic() - self.began > STEADY_SECONDS
        return self.failures >= FAILURES_IN_A_ROW and not steady

    def send(self, message: dict[str, Any]) -> None:
        """Send it, if there is a process."""
        if self.link is not None:
            self.link.send(message)

    def kill(self) -> None:
        """End the process without asking it."""
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()

    def take(self, message: dict[str, Any]) -> None:
        """Note what the worker says."""
        self.heard = time.monotonic()
        if "busy" in message:
            self.busy = message["busy"]
            self.heard_of = message["snapshot"]


class Workers:
    """All workers of one gateway."""

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        settings: Callable[[int], dict[str, Any]],
        snapshot: Callable[[], dict[str, Any]],
        *,
        announce: Callable[[str], None],
        on_death: Callable[[int], None] = lambda index: None,
        answer: Answer | None = None,
        command: Sequence[str] = WORKER,
        silence: float = SILENCE_SECONDS,
        pause: Callable[[int], float] = pause_after,
    ) -> None:
        """`settings` are what worker `index` starts with; `snapshot` is what all of them must know now.

        `answer` does what a worker asks for (`worker.ParentLink.ask`). `pause` are the seconds before a start, by
        the deaths in a row before it.
        """
        self._workers = [Worker(index, listener) for index, listener in enumerate(listeners)]
        self._settings = settings
        self._snapshot = snapshot
        self._announce = announce
        self._on_death = on_death
        self._answer = answer
        self._answering: set[asyncio.Task[None]] = set()
        self._command = command
        self._silence = silence
        self._pause = pause
        self._number = 0
        self._ending = False

    @property
    def processes(self) -> list[int]:
        """The ids of the processes that run."""
        found = [worker.process for worker in self._workers]
        return [process.pid for process in found if process is not None and process.returncode is None]

    async def run(self) -> None:
        """Keep all of them running until they have ended by `drain`. Raises ServeError when all keep dying."""
        try:
            async with asyncio.TaskGroup() as group:
                for worker in self._workers:
                    group.create_task(self._keep(worker))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        finally:
            self.cut_off()

    def broadcast_snapshot(self) -> None:
        """The snapshot has changed: send it to all."""
        self._number += 1
        message = self._numbered_snapshot()
        for worker in self._workers:
            worker.send(message)

    def send(self, message: dict[str, Any]) -> None:
        """Send the same to all."""
        for worker in self._workers:
            worker.send(message)

    def busy(self, name: str, model: str | None = None) -> int:
        """Requests that workers have open on a replica, or on one of its models.

        A worker that may not have taken over the newest snapshot counts as busy: it may still begin one.
        """
        return sum(self._busy(worker, name, model) for worker in self._workers if worker.link is not None)

    def drain(self, delay: float) -> None:
        """Let the workers drain and end; none is started again. The caller closes its listeners after `delay`."""
        self._ending = True
        self.send({"drain": delay})

    def cut_off(self) -> None:
        """End all of them at once."""
        self._ending = True
        for worker in self._workers:
            worker.kill()

    def _is_ending(self) -> bool:
        return self._ending

    def _busy(self, worker: Worker, name: str, model: str | None) -> int:
        models = worker.busy.get(name, {})
        known = sum(models.values()) if model is None else models.get(model, 0)
        return known if worker.heard_of >= self._number else max(1, known)

    def _numbered_snapshot(self) -> dict[str, Any]:
        return {"snapshot": self._number, **self._snapshot()}

    async def _keep(self, worker: Worker) -> None:
        while not self._is_ending():
            worker.began = time.monotonic()
            status = await self._run_once(worker)
            if self._is_ending():
                return
            steady = time.monotonic() - worker.began > STEADY_SECONDS
            worker.failures = 1 if steady else worker.failures + 1
            if all(each.is_failing for each in self._workers):
                raise ServeError(
                    f"All workers keep ending: worker {worker.index} {worker.failures} times in a row, the last time "
                    f"with {_shown(status)}. Its messages are above; run with --workers 1 to see the fault by itself."
                )
            pause = self._pause(worker.failures)
            self._announce_death(worker, status, pause)
            await asyncio.sleep(pause)

    def _announce_death(self, worker: Worker, status: int, pause: float) -> None:
        again = f"starting it again {f'in {pause:g} s' if pause else 'now'}"
        if not worker.is_failing:
            worker.reminded = -math.inf
            self._announce(f"worker {worker.index} ended with {_shown(status)}; {again}")
        elif time.monotonic() - worker.reminded > REMIND_SECONDS:
            worker.reminded = time.monotonic()
            times = f"{worker.failures} times in a row, the last time with {_shown(status)}"
            self._announce(f"worker {worker.index} ended {times}; the others go on; {again}, and so on")

    async def _run_once(self, worker: Worker) -> int:
        """One process from start to end. Returns its exit status."""
        process, link = await self._start(worker)
        hearing = asyncio.create_task(self._hear(worker, link))
        try:
            return await process.wait()
        finally:
            worker.link = None
            worker.busy = {}
            worker.kill()
            await process.wait()
            hearing.cancel()
            link.close()
            self._on_death(worker.index)

    async def _start(self, worker: Worker) -> tuple[asyncio.subprocess.Process, Link]:
        ours, theirs = socket.socketpair()
        with theirs:
            link = await Link.open(ours)
            try:
                process = await self._spawn(worker, theirs)
            except BaseException:
                link.close()
                raise
        worker.process, worker.link = process, link
        worker.heard = time.monotonic() + START_SECONDS
        worker.heard_of = -1
        assert process.stdin is not None
        process.stdin.write(orjson.dumps({**self._settings(worker.index), "first": self._numbered_snapshot()}))
        process.stdin.close()
        if self._ending:
            worker.kill()
        return process, link

    async def _spawn(self, worker: Worker, link: socket.socket) -> asyncio.subprocess.Process:
        files = (link.fileno(), worker.listener.fileno())
        return await asyncio.create_subprocess_exec(
            *self._command,
            *map(str, (worker.index, *files)),
            stdin=asyncio.subprocess.PIPE,
            pass_fds=files,
            start_new_session=True,  # Ctrl-C is the parent's to handle
        )

    async def _hear(self, worker: Worker, link: Link) -> None:
        watch = asyncio.create_task(self._watch(worker))
        try:
            async for message in link.messages():
                worker.take(message)
                if "ask" in message and self._answer is not None:
                    task = asyncio.create_task(self._reply(worker, message, self._answer))
                    self._answering.add(task)
                    task.add_done_callback(self._answering.discard)
        finally:
            watch.cancel()

    async def _reply(self, worker: Worker, message: dict[str, Any], answer: Answer) -> None:
        status, document = await answer(message["action"], message["arguments"])
        worker.send({"answer": message["ask"], "status": status, "document": document})

    async def _watch(self, worker: Worker) -> None:
        while time.monotonic() - worker.heard < self._silence:  # noqa: ASYNC110 - silence is no event
            await asyncio.sleep(self._silence / 10)
        self._announce(f"worker {worker.index} has said nothing for {self._silence:g} s; killing it")
        worker.kill()


def _shown(status: int) -> str:
    if status < 0:
        return f"signal {signal.Signals(-status).name}" if -status in set(signal.Signals) else f"signal {-status}"
    return f"status {status}"
