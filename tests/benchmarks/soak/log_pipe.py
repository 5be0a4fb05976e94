"""The gateway's standard error: a pipe that is read into a file, is stuck for a while, and then a full disk."""

import os
import signal
import subprocess
import threading
from pathlib import Path

STUCK = ((0.12, 0.27),)
FULL = ((0.32, 0.42), (0.85, 0.88))
"""Shares of the soak's requests, from and to. The stuck pipe comes early, so that the memory that waiting lines take
is there before it is judged."""
TOGGLE_FULL = signal.SIGRTMIN
"""Tells `benchmarks.soak.gateway` to write its log to /dev/full, or to the pipe again."""


class LogPipe(threading.Thread):
    """Reads the pipe into a file until the other end is closed."""

    def __init__(self, file: Path) -> None:
        super().__init__(daemon=True)
        self._reader, self.writer = os.pipe()
        self._file = file.open("wb")
        self._flows = threading.Event()
        self._flows.set()

    def run(self) -> None:
        """Read on."""
        with self._file:
            while self._flows.wait() and (data := os.read(self._reader, 65536)):
                self._file.write(data)
                self._file.flush()
        os.close(self._reader)

    def stick(self, *, stuck: bool) -> None:
        """Read nothing more for a while."""
        if stuck:
            self._flows.clear()
        else:
            self._flows.set()


class LogFaults:
    """Breaks the log where the soak has come so far."""

    def __init__(self, pipe: LogPipe, process: "subprocess.Popen[str]") -> None:
        self._pipe = pipe
        self._process = process
        self._full = False

    def step(self, share: float) -> None:
        """Do what is due when this share of the requests is done."""
        self._pipe.stick(stuck=_within(share, STUCK))
        if self._full != _within(share, FULL):
            self._full = not self._full
            self._process.send_signal(TOGGLE_FULL)

    def end(self) -> None:
        """The log is read again."""
        self.step(1.0)


def _within(share: float, spans: tuple[tuple[float, float], ...]) -> bool:
    return any(start <= share < end for start, end in spans)
