"""Run long commands one after another with a progress line each; their output goes to a log file.

On a terminal the line is rewritten in place; elsewhere (CI, a pipe) a plain line is printed now and then.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

QUIET_SECONDS = 15.0
TAIL_LINES = 12
TAIL_WIDTH = 240
NOT_FOUND = "No matching distribution found"

# What a failed command's log says -> what to do about it; the first that is found is shown.
REMEDIES = (
    (
        ("libnuma.so.1 is not to be had",),
        "vLLM on the CPU needs this library. Install it (Debian, Ubuntu: apt-get install libnuma1; Fedora: "
        "dnf install numactl-libs), or take the light engine: ALPHATIER_ENGINE=transformers make ...",
    ),
    (
        ("No space left on device",),
        "The disk is full. Free some space (the set-up names how much), then run it again.",
    ),
    (
        ("ensurepip is not available", "No module named pip", "No module named ensurepip", "No module named venv"),
        "This Python cannot make a virtual environment with pip. On Debian or Ubuntu: "
        "apt-get install python3-venv. Elsewhere install Python 3.11 to 3.13 with pip.",
    ),
    (
        ("CERTIFICATE_VERIFY_FAILED",),
        "The package index's certificate is not trusted here. Behind a proxy, tell pip its certificate: "
        "pip config set global.cert /path/to/bundle.pem",
    ),
    (
        (
            "Temporary failure in name resolution",
            "NewConnectionError",
            "nodename nor servname",
            "Name or service not known",
            "Network is unreachable",
            "ConnectTimeoutError",
            "ReadTimeoutError",
            "ProxyError",
            "IncompleteRead",
            "Connection refused",
            "Connection broken",
            "RemoteDisconnected",
            "ConnectionResetError",
            "Tunnel connection failed",
        ),
        "The package index cannot be reached. Check the network and pip's settings (pip config list), then run "
        "it again: what was downloaded is kept.",
    ),
    (
        (NOT_FOUND,),
        "The package index has no wheel of that version for this Python and machine. Try another Python "
        "(make ... PYTHON=python3.11), or, for a gateway in front of engines that run elsewhere: pip install -e .",
    ),
    (
        ("which is not installed", "but you have", "the lock has"),
        "The lock and pyproject.toml do not fit together. Who changed pyproject.toml runs `make lock` as well.",
    ),
    (("Permission denied",), "A file or folder may not be written here. Check who owns this checkout and its .venv."),
)


class StepFailed(Exception):
    """A step's command failed; carries what to tell the person."""

    def __init__(self, title: str, log: str, remedy: str = "") -> None:
        super().__init__(title)
        self.title = title
        lines = [line for line in log.splitlines() if line.strip() and not line.startswith("WARNING: Location")]
        self.tail = [line[:TAIL_WIDTH] for line in lines[-TAIL_LINES:]]
        self.remedy = remedy or _remedy(log)
        self.log = log


def _remedy(log: str) -> str:
    for signs, remedy in REMEDIES:
        if any(sign in log for sign in signs):
            return remedy
    return "Read the log, then run it again."


class Steps:
    """Numbered steps with a progress line; `total` is how many there will be."""

    def __init__(self, total: int, log: Path, environment: dict[str, str]) -> None:
        self.total = total
        self.number = 0
        self.log = log
        self.environment = environment
        self.live = sys.stdout.isatty() and "CI" not in os.environ and os.environ.get("TERM") != "dumb"

    def run(
        self, title: str, *commands: list[str], detail: Callable[[str], str] = lambda _: "", not_found: str = ""
    ) -> None:
        """Run a step; the commands after the first are tried when pip does not find a package.

        `detail` describes progress from a command's output so far; `not_found` is the remedy when pip
        found the package nowhere.
        """
        self.number += 1
        started = time.monotonic()
        self._show(title, "", 0.0)
        for command in commands:
            output, code = self._execute(command, lambda text: self._show(title, detail(text), _since(started)))
            if code == 0:
                return self._done(title, _since(started))
            if NOT_FOUND not in output:
                break
        self._end_line()
        raise StepFailed(title, output, _killed(code) or (not_found if NOT_FOUND in output else ""))

    def _execute(self, command: list[str], tell: Callable[[str], None]) -> tuple[str, int]:
        with self.log.open("ab") as log:
            log.write(f"\n$ {' '.join(command)}\n".encode())
            log.flush()
            start = log.tell()
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=self.environment
            )
            try:
                self._follow(process, start, tell)
            finally:
                _stop(process)
        return self._output(start), process.returncode

    def _follow(self, process: subprocess.Popen[bytes], start: int, tell: Callable[[str], None]) -> None:
        told = time.monotonic()
        while process.poll() is None:
            time.sleep(0.1)
            if self.live or _since(told) >= QUIET_SECONDS:
                told = time.monotonic()
                tell(self._output(start))

    def _output(self, start: int) -> str:
        with self.log.open("rb") as log:
            log.seek(start)
            return log.read().decode(errors="replace")

    def _show(self, title: str, detail: str, seconds: float) -> None:
        line = f"  [{self.number}/{self.total}] {title}" + (f" · {detail}" if detail else "")
        if self.live:
            width = shutil.get_terminal_size().columns - 1
            print(f"\r\x1b[2K{f'{line} · {seconds:.0f} s'[:width]}", end="", flush=True)
        else:
            print(f"{line} · {seconds:.0f} s" if seconds else f"{line} ...", flush=True)

    def _done(self, title: str, seconds: float) -> None:
        clear = "\r\x1b[2K" if self.live else ""
        print(f"{clear}  [{self.number}/{self.total}] {title} · done in {seconds:.0f} s", flush=True)

    def _end_line(self) -> None:
        if self.live:
            print(flush=True)


def _since(moment: float) -> float:
    return time.monotonic() - moment


def _killed(code: int) -> str:
    return "The command was killed, most likely for want of memory." if code in (-9, 137) else ""


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
