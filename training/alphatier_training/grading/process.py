"""One comparing process, seen from outside: start it, ask it, kill it when it is late.

What not: no retry and no choice among several; that is `pool.py`. What runs inside it is `worker.py`.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time

from alphatier_training.errors import GraderError

WALL_FACTOR = 5
"""On a busy machine a comparison may take so many times its processor time before it is killed from outside."""

START_SECONDS = 120.0
"""How long a process may take to import math-verify; about a second on a machine with nothing else to do."""


class Late(Exception):
    """The comparison ran past its limit."""


class Died(Exception):
    """The process ended during the comparison, e.g. because the system ran out of memory."""


class ComparingProcess:
    """A process that compares one pair after the other, each within `limit` seconds of processor time."""

    def __init__(self, limit: float) -> None:
        """Start the process and wait until it is ready; GraderError when it does not start."""
        self.limit = limit
        self._process = subprocess.Popen(
            [sys.executable, "-m", "alphatier_training.grading.worker", str(limit)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
        try:
            ready = self._read_line(START_SECONDS)
        except BaseException as error:
            self.kill()
            if isinstance(error, (Late, Died)):
                raise GraderError(
                    "the grader's process did not start. `echo | python -m alphatier_training.grading.worker 3` "
                    "says why; is `pip install 'alphatier[training]'` complete?"
                ) from error
            raise
        assert ready == "ready", ready

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def equal(self, given: str, right: str) -> bool:
        """What math-verify says; Late or Died when it says nothing, and then this process is of no more use."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps([given, right]).encode() + b"\n")
        except BrokenPipeError as error:
            raise Died from error
        try:
            return self._read_line(self.limit * WALL_FACTOR) == "true"
        except Died as error:
            if self._process.wait() == -signal.SIGPROF:
                raise Late from error
            raise

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()
        self._process.wait()
        self._close_pipes()

    def forget(self) -> None:
        """In a forked child: let go of the parent's process, so that it can see the parent's end."""
        self._process.returncode = 0  # not this process's child: nothing to wait for
        self._close_pipes()

    def _close_pipes(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _read_line(self, seconds: float) -> str:
        assert self._process.stdout is not None
        poll, descriptor = select.poll(), self._process.stdout.fileno()
        poll.register(descriptor, select.POLLIN)
        deadline, received = time.monotonic() + seconds, b""
        while not received.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not poll.poll(left * 1000):
                raise Late
            part = os.read(descriptor, 4096)
            if not part:
                raise Died
            received += part
        return received.decode().strip()
