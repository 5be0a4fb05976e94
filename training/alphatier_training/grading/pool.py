"""A few processes in which math-verify compares: bounded, replaced when they end, shared by all threads.

What: works from any thread and after a fork (the child starts processes of its own). A comparison past its limit is
wrong: the kernel ends its process (`worker.py`). One whose process died of something else is asked once more, as the
process may have been an innocent victim of a full memory. No process outlives the one that started it by more than a
comparison's limit.
What not: no judgement of its own, it is asked only what is not certain; no pool of the standard library, which is
broken as a whole when one of its processes ends.
"""

import atexit
import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

from alphatier_training.errors import TrainingError

REMEMBERED = 65_536
"""Comparisons whose outcome is kept, the least recently used dropped first (about 20 MB)."""

Pair = tuple[str, str]
Process = subprocess.Popen[bytes]


@dataclass(frozen=True)
class Statistics:
    """What the comparisons came to; a pair that its spelling decides, or that was asked before, is not among them."""

    compared: int = 0
    """Pairs handed to math-verify."""
    late: int = 0
    """… of which so many ran past the limit, and count as wrong."""
    restarted: int = 0
    """Processes that ended, because they were late or died; the next comparison starts another."""


class Pool:
    """At most `size` processes that compare, each started when it is first needed (about a second)."""

    def __init__(self, limit: float, size: int | None = None) -> None:
        """`limit` is in seconds of processor time, for each comparison; `size` None is two, or one on one core."""
        self._comparers = [_Comparer(limit) for _ in range(size or min(2, os.cpu_count() or 1))]
        self.equal = lru_cache(REMEMBERED)(self._equal)
        """Whether math-verify finds the first text equal to the second within the limit.

        Raises TrainingError: the process that compares cannot be started.
        """
        self._open()
        os.register_at_fork(after_in_child=self._after_fork)
        atexit.register(self.close)

    def are_equal(self, pairs: Sequence[Pair]) -> dict[Pair, bool]:
        """`equal` of each pair, spread over the processes."""
        if len(pairs) < 2 or len(self._comparers) == 1:
            return {pair: self.equal(*pair) for pair in pairs}
        with ThreadPoolExecutor(len(self._comparers), "grader") as threads:
            return dict(zip(pairs, threads.map(self.equal, *zip(*pairs, strict=True)), strict=True))

    def statistics(self) -> Statistics:
        """What this process's comparisons came to so far."""
        counts = ((one.compared, one.late, one.restarted) for one in self._comparers)
        return Statistics(*map(sum, zip(*counts, strict=True)))

    def pids(self) -> list[int]:
        """The numbers of the comparing processes that run."""
        return sorted(one.process.pid for one in self._comparers if one.process is not None)

    def close(self) -> None:
        """End the processes; the next comparison starts new ones."""
        for one in self._comparers:
            one.stop()

    def _equal(self, given: str, right: str) -> bool:
        comparer = self._idle.get()
        try:
            return comparer.equal(given, right)
        finally:
            self._idle.put(comparer)

    def _open(self) -> None:
        self._idle: queue.LifoQueue[_Comparer] = queue.LifoQueue()
        for comparer in self._comparers:
            self._idle.put(comparer)

    def _after_fork(self) -> None:
        for comparer in self._comparers:
            comparer.forget()
        self._open()


class _Comparer:
    """One comparing process after the other, used by one thread at a time."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self.process: Process | None = None
        self.compared = self.late = self.restarted = 0

    def equal(self, given: str, right: str) -> bool:
        """What math-verify says; False when it takes too long, or when two processes die of the question."""
        self.compared += 1
        for _ in range(2):
            process = self.process or self._start()
            try:
                if answer := _answer(process, json.dumps([given, right]).encode() + b"\n"):
                    return answer == b"true\n"
                ended = process.wait()
            except BaseException:  # also on Ctrl-C: a process that owes an answer would give it to the next question
                self.stop()
                raise
            self.stop()
            self.restarted += 1
            if ended in (-signal.SIGPROF, -signal.SIGALRM):
                self.late += 1
                return False
        return False

    def _start(self) -> Process:
        command = [sys.executable, "-m", "alphatier_training.grading.worker", str(self._limit)]
        pipe = subprocess.PIPE
        with contextlib.ExitStack() as unless_ready:
            process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, bufsize=0)
            unless_ready.callback(_kill, process)
            if _answer(process) != b"ready\n":
                raise TrainingError(
                    "the grader's process did not start. `echo | python -m alphatier_training.grading.worker 3` "
                    "says why; is `pip install 'alphatier[training]'` complete?"
                )
            unless_ready.pop_all()
        self.process = process
        return process

    def stop(self) -> None:
        """End the process at once."""
        process, self.process = self.process, None
        if process is not None:
            _kill(process)

    def forget(self) -> None:
        """In a forked child: let go of the parent's process, so that it can see the parent's end."""
        if self.process is not None:
            self.process.returncode = 0  # not this process's child: nothing to kill, nor to wait for
        self.stop()


def _kill(process: Process) -> None:
    with process:  # closes its pipes and waits for its end
        process.kill()


def _answer(process: Process, question: bytes = b"") -> bytes:
    """The next line of a process, empty when it ends before it is whole."""
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(question)
    line = process.stdout.readline()
    return line if line.endswith(b"\n") else b""
