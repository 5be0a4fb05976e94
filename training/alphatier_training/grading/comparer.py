"""Maths equality by math-verify with a hard time limit: a worker process that is killed when it is late.

Works from any thread and after a fork. The worker starts when it is first needed (about a second).
"""

import atexit
import json
import os
import select
import subprocess
import sys
import threading
import time

START_SECONDS = 60.0
"""How long the worker may take to import math-verify."""


class Comparer:
    """Asks one worker process, restarting it after a comparison that ran past `limit` seconds."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0
        atexit.register(self.close)

    def equal(self, given: str, right: str) -> bool:
        """Whether math-verify finds `given` equal to `right` within the limit; False when it does not."""
        with self._lock:
            process = self._started()
            answer = _ask(process, json.dumps([given, right]), self.limit) if process else None
            if answer is None:
                self._stop()
            return answer == "true"

    def close(self) -> None:
        """Stop the worker; the next comparison starts a new one."""
        with self._lock:
            self._stop()

    def _started(self) -> subprocess.Popen[bytes] | None:
        if self._owner != os.getpid():  # a fork inherits the pipes but must not share them
            self._process, self._owner = None, os.getpid()
        if self._process is None:
            command = [sys.executable, "-m", "alphatier_training.grading.worker"]
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
            )
            if _read_line(self._process, START_SECONDS) != "ready":
                self._stop()
                raise RuntimeError(
                    "the grader's process did not start; see what `echo | python -m "
                    "alphatier_training.grading.worker` says (is `pip install alphatier[training]` complete?)"
                )
        return self._process

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None or self._owner != os.getpid():
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def _ask(process: subprocess.Popen[bytes], request: str, limit: float) -> str | None:
    """The worker's answer, or None when it is late or gone."""
    assert process.stdin is not None
    try:
        process.stdin.write(request.encode() + b"\n")
    except BrokenPipeError:
        return None
    return _read_line(process, limit)


def _read_line(process: subprocess.Popen[bytes], limit: float) -> str | None:
    assert process.stdout is not None
    deadline, received = time.monotonic() + limit, b""
    while not received.endswith(b"\n"):
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([process.stdout], [], [], left)[0]:
            return None
        part = os.read(process.stdout.fileno(), 4096)
        if not part:
            return None
        received += part
    return received.decode().strip()
