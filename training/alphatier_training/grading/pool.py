"""A few comparing processes: bounded, replaced when they are late or die, shared by all threads.

What: works from any thread and after a fork (the child starts processes of its own); a comparison whose
process died is asked once more, as the process may have been an innocent victim of a full memory; a late
one is wrong. No process outlives the one that started it by more than a comparison's limit.
What not: no judgement of its own; `answers.py` asks only what is not certain.
"""

import atexit
import contextlib
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from alphatier_training.grading.process import ComparingProcess, Died, Late

REMEMBERED = 65_536
"""Comparisons whose outcome is kept, the least recently used dropped first (about 20 MB)."""

Pair = tuple[str, str]


@dataclass(frozen=True)
class Statistics:
    """What the comparisons came to: how many pairs math-verify was asked, and what went wrong.

    A pair that could be judged by its spelling, or was asked before, is not among them.
    """

    compared: int = 0
    """Pairs handed to math-verify."""
    late: int = 0
    """… of which so many ran past the limit, and count as wrong."""
    restarted: int = 0
    """Processes that were replaced, because they were late or died."""


class Pool:
    """At most `size` processes that compare, started when first needed (about a second each)."""

    def __init__(self, limit: float, size: int | None = None) -> None:
        """`limit` is in seconds of processor time, for each comparison; `size` None is two, or one on one core."""
        self.limit = limit
        self.size = size or min(2, os.cpu_count() or 1)
        self._remembered: OrderedDict[Pair, bool] = OrderedDict()
        self._statistics = Statistics()
        self._fresh()
        _pools.add(self)

    def _fresh(self) -> None:
        self._lock = threading.Lock()
        self._turns = threading.BoundedSemaphore(self.size)
        self._idle: list[ComparingProcess] = []
        self._processes: set[ComparingProcess] = set()

    def equal(self, given: str, right: str) -> bool:
        """Whether math-verify finds `given` equal to `right` within the limit."""
        return self.are_equal([(given, right)])[given, right]

    def are_equal(self, pairs: Sequence[Pair]) -> dict[Pair, bool]:
        """`equal` of each pair, spread over the processes."""
        with self._lock:
            known = {pair: self._remembered[pair] for pair in pairs if pair in self._remembered}
            for pair in known:
                self._remembered.move_to_end(pair)
        unknown = list(dict.fromkeys(pair for pair in pairs if pair not in known))
        known.update(zip(unknown, self._ask_all(unknown), strict=True))
        return known

    def statistics(self) -> Statistics:
        """What happened so far in this process."""
        with self._lock:
            return self._statistics

    def pids(self) -> list[int]:
        """The numbers of the comparing processes that run."""
        with self._lock:
            return sorted(process.pid for process in self._processes)

    def close(self) -> None:
        """End the processes; the next comparison starts new ones."""
        with self._lock:
            processes, self._processes, self._idle = self._processes, set(), []
        for process in processes:
            process.kill()

    def _ask_all(self, pairs: Sequence[Pair]) -> list[bool]:
        if len(pairs) < 2 or self.size == 1:
            return [self._ask(pair) for pair in pairs]
        with ThreadPoolExecutor(min(self.size, len(pairs)), "grader") as threads:
            return list(threads.map(self._ask, pairs))

    def _ask(self, pair: Pair) -> bool:
        verdict = self._ask_twice(pair)
        with self._lock:
            self._remembered[pair] = verdict
            while len(self._remembered) > REMEMBERED:
                self._remembered.popitem(last=False)
        return verdict

    def _ask_twice(self, pair: Pair) -> bool:
        self._count(compared=1)
        for _ in range(2):
            try:
                with self._turns:
                    return self._ask_a_process(pair)
            except Late:
                self._count(late=1, restarted=1)
                return False
            except Died:
                self._count(restarted=1)
        return False

    def _ask_a_process(self, pair: Pair) -> bool:
        process, answered = self._take(), False
        try:
            verdict = process.equal(*pair)
            answered = True
        finally:
            if answered:
                self._give_back(process)
            else:  # also on Ctrl-C: a process that owes an answer would give it to the next question
                self._drop(process)
        return verdict

    def _take(self) -> ComparingProcess:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        process = ComparingProcess(self.limit)
        with self._lock:
            self._processes.add(process)
        return process

    def _give_back(self, process: ComparingProcess) -> None:
        with self._lock:
            if process in self._processes:
                self._idle.append(process)

    def _drop(self, process: ComparingProcess) -> None:
        with self._lock:
            self._processes.discard(process)
        process.kill()

    def _count(self, compared: int = 0, late: int = 0, restarted: int = 0) -> None:
        with self._lock:
            now = self._statistics
            self._statistics = replace(
                now,
                compared=now.compared + compared,
                late=now.late + late,
                restarted=now.restarted + restarted,
            )

    def _after_fork(self) -> None:
        inherited = self._processes
        self._fresh()
        for process in inherited:
            process.forget()


_pools: "weakref.WeakSet[Pool]" = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for pool in list(_pools):
        pool._after_fork()


def _at_exit() -> None:
    for pool in list(_pools):
        with contextlib.suppress(OSError):
            pool.close()


os.register_at_fork(after_in_child=_after_fork_in_child)
atexit.register(_at_exit)
