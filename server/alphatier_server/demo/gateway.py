"""The demo's gateway: `alphatier serve` in a process of its own, and how it is waited for."""

import contextlib
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from alphatier_models.guard import GUARD

STOP_SECONDS = 30.0
PLAIN_EVERY_SECONDS = 10.0

# The gateway runs here: a proxy from the environment must not come between.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class DemoError(Exception):
    """The demo cannot go on; the message says why."""


class Gateway:
    """`alphatier serve` in a process of its own, on a free port, ended with everything under it."""

    def __init__(self, arguments: list[str], folder: Path) -> None:
        self.log = folder / "serve.log"
        # The guard ends the gateway if this process is gone, even by SIGKILL; its own session keeps Ctrl-C ours.
        serve = [sys.executable, "-m", "alphatier_models.cli", "serve", "--port=0", f"--engine-logs={folder}"]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [*GUARD, *serve, *arguments],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def ready(self) -> str | None:
        """Where it is, once it can answer. Raises DemoError when it has ended."""
        if self._process.poll() is not None:
            raise DemoError(f"`alphatier serve` ended with status {self._process.returncode}")
        said = re.search(r"https?://[\w.:\[\]]+", self.log.read_text(errors="replace"))
        return said[0] if said and get(f"{said[0]}/health/ready") is not None else None

    def stop(self) -> None:
        """End it and wait until it is gone."""
        assert self._process.stdin is not None
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdin.close()

    def last_lines(self, count: int = 15) -> Iterator[str]:
        for log in sorted(self.log.parent.glob("*.log")):
            yield f"{log}:"
            yield from (f"    {line[:300]}" for line in log.read_text(errors="replace").splitlines()[-count:])


def wait_until_ready(gateway: Gateway, console: Console, limit: float) -> str:
    """Wait for the engine, with the time that passes on display. Returns where the gateway is. Raises DemoError."""
    started = told = time.monotonic()
    with console.status("") as status:
        while (url := gateway.ready()) is None:
            seconds = time.monotonic() - started
            if seconds > limit:
                raise DemoError(f"no engine answered within {limit:.0f} s")
            status.update(f"the engine is loading · {seconds:.0f} s")
            if not console.is_terminal and time.monotonic() - told >= PLAIN_EVERY_SECONDS:
                told = time.monotonic()
                console.print(f"the engine is loading · {seconds:.0f} s")
            time.sleep(0.2)
    console.print(f"The engine is ready after {time.monotonic() - started:.0f} s, behind {url}/v1")
    return url


def get(url: str) -> str | None:
    """The body of an answer with status 200; None where there is no such answer."""
    with contextlib.suppress(urllib.error.URLError, OSError), _OPENER.open(url, timeout=5) as response:
        return str(response.read().decode())
    return None
