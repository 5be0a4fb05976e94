"""The processes of a soak: engines that are killed, frozen and started again, the gateway, and the clients."""

import contextlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import psutil

from benchmarks.soak.log_pipe import LogPipe

TESTS = Path(__file__).parents[2]
START_SECONDS = 30.0
PULSE_SECONDS = 0.2
BLOCKED_SECONDS = 0.5
"""A gateway that does not answer for so long is asked where it is; `census.where` has the answer."""

EXPECTED_ERRORS = ("an engine refuses the gateway's own key", "no file descriptor is left")


class Trouble(Exception):
    """The soak itself cannot go on; the message says why."""


def start(module: str, *arguments: str, **options: Any) -> "subprocess.Popen[str]":
    """Run one of this package's modules."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(TESTS), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]),
    }
    command = [sys.executable, "-m", f"benchmarks.soak.{module}", *arguments]
    return subprocess.Popen(command, env=environment, text=True, start_new_session=True, **options)


def stop(process: "subprocess.Popen[str]", how: signal.Signals, seconds: float) -> int:
    """Signal it and wait for its end; kill it when it takes too long."""
    if process.poll() is None:
        process.send_signal(how)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)
        raise Trouble(f"process {process.pid} did not end within {seconds:g} s of {how.name}") from None


class EngineProcess:
    """One fault engine on a port of its own, which stays its own while it is dead."""

    def __init__(self, name: str, log: IO[str]) -> None:
        self.name = name
        self._log = log
        self._reserved = socket.socket()
        # Bound but not listening: nobody else gets the port, and while the engine is dead a connection is refused.
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._reserved.bind(("127.0.0.1", 0))
        self.port: int = self._reserved.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        self.process = start("engine", "--port", str(self.port), "--name", self.name, stderr=self._log)

    def kill(self) -> None:
        """SIGKILL, which also ends a frozen process."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)

    def freeze(self, *, frozen: bool) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGSTOP if frozen else signal.SIGCONT)

    def close(self) -> None:
        self.kill()
        self._reserved.close()

    def figures(self) -> dict[str, Any]:
        """What the engine counted since it was last started."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                return fetch_json(f"{self.url}/soak")
            except OSError as error:  # it may just have been started again
                if time.monotonic() > deadline:
                    raise Trouble(f"{self.name} does not answer: {error}") from error
                time.sleep(0.05)


class Chaos:
    """Kills and freezes engines at random moments, never all at once. `step` is called often."""

    def __init__(self, engines: Sequence[EngineProcess], seed: int, pause: tuple[float, float] = (0.5, 3.0)) -> None:
        self._engines = engines
        self._dice = random.Random(seed)
        self._pause = pause
        self._next = time.monotonic() + pause[1]
        self._undo: list[tuple[float, EngineProcess, str]] = []
        self.kills = 0
        self.freezes = 0

    def step(self) -> None:
        """Do what is due."""
        current = time.monotonic()
        for entry in [entry for entry in self._undo if entry[0] <= current]:
            self._undo.remove(entry)
            self._mend(entry[1], entry[2])
        if current >= self._next and len(self._undo) < len(self._engines) - 1:
            self._next = current + self._dice.uniform(*self._pause)
            self._break(current)

    def end(self) -> None:
        """All engines run again."""
        for _, engine, what in self._undo:
            self._mend(engine, what)
        self._undo = []

    def _break(self, current: float) -> None:
        broken = {id(engine) for _, engine, _ in self._undo}
        engine = self._dice.choice([engine for engine in self._engines if id(engine) not in broken])
        what = self._dice.choice(("kill", "freeze"))
        if what == "kill":
            engine.kill()
            self.kills += 1
        else:
            engine.freeze(frozen=True)
            self.freezes += 1
        self._undo.append((current + self._dice.uniform(0.2, 2.0), engine, what))

    def _mend(self, engine: EngineProcess, what: str) -> None:
        if what == "kill":
            engine.start()
        else:
            engine.freeze(frozen=False)


class GatewayProcess:
    """The gateway under test, and what can be seen of it from outside."""

    def __init__(self, folder: Path, command: Sequence[str]) -> None:
        self.log = folder / "gateway.log"
        self.pipe = LogPipe(self.log)
        self._census = folder / "census.json"
        writer = self.pipe.writer
        self.process = start("gateway", str(self._census), *command, stderr=writer, stdout=writer)
        os.close(writer)
        self.pipe.start()
        self.url = self._wait_for(lambda: re.search(r"(?:at|running on) (http://[^\s\"]+)", self.log.read_text()))[1]
        self._wait_for(self._ready)
        self._psutil = psutil.Process(self.process.pid)

    def _wait_for(self, condition: Any) -> Any:
        deadline = time.monotonic() + START_SECONDS
        while not (found := condition()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise Trouble(f"the gateway did not start:\n{self.log.read_text()[-3000:]}")
            time.sleep(0.05)
        return found

    def _ready(self) -> bool:
        with contextlib.suppress(OSError):
            replicas = fetch_json(f"{self.url}/health/ready")["replicas"]
            return bool(replicas["up"] == replicas["all"])
        return False

    def metrics(self) -> str:
        """Its Prometheus metrics."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=10) as answer:
            return str(answer.read().decode())

    def resident(self) -> int:
        """Resident memory in bytes."""
        return int(self._psutil.memory_info().rss)

    def descriptors(self) -> int:
        """Open files and sockets."""
        return self._psutil.num_fds()

    def processor_seconds(self) -> float:
        times = self._psutil.cpu_times()
        return float(times.user + times.system)

    def waited(self) -> float:
        """Seconds that it could have run, but others had the processor (Linux, /proc/PID/schedstat)."""
        return int(Path(f"/proc/{self.process.pid}/schedstat").read_text().split()[1]) / 1e9

    def census(self) -> dict[str, int]:
        """Live objects by kind."""
        self._census.unlink(missing_ok=True)
        self.process.send_signal(signal.SIGUSR2)
        self._wait_for(self._census.exists)
        counts: dict[str, int] = json.loads(self._census.read_text())
        return counts

    def lines(self) -> Iterator[dict[str, Any]]:
        """Its log, without what is no JSON."""
        with self.log.open() as lines:
            yield from (json.loads(line) for line in lines if line.startswith("{"))

    def complaints(self) -> list[str]:
        """Lines of its log that speak of a fault of its own."""
        text = self.log.read_text().splitlines()
        return [line for line in text if _complains(line)]


def _complains(line: str) -> bool:
    if not line.startswith("{"):
        return "Traceback" in line or "Error" in line
    fields = json.loads(line)
    expected = any(fields.get("message", "").startswith(words) for words in EXPECTED_ERRORS)
    return "traceback" in fields or (fields["level"] in ("error", "critical") and not expected)


class Pulse(threading.Thread):
    """Asks the gateway again and again whether it lives; how long it took at worst shows what blocks its loop."""

    def __init__(self, gateway: GatewayProcess) -> None:
        super().__init__(daemon=True)
        self._gateway = gateway
        self._over = threading.Event()
        self.slowest = 0.0
        """Seconds."""
        self.longest_block = 0.0
        """Seconds, without what the process waited for a processor that others had."""

    def run(self) -> None:
        with contextlib.suppress(OSError):
            fetch_json(f"{self._gateway.url}/health/live")  # the first page of a process loads what makes pages
        while not self._over.wait(PULSE_SECONDS):
            ask_where = threading.Timer(BLOCKED_SECONDS, self._gateway.process.send_signal, [signal.SIGUSR1])
            ask_where.start()
            started, waited = time.monotonic(), self._gateway.waited()
            with contextlib.suppress(OSError):
                fetch_json(f"{self._gateway.url}/health/live")
            ask_where.cancel()
            took = time.monotonic() - started
            self.slowest = max(self.slowest, took)
            self.longest_block = max(self.longest_block, took - (self._gateway.waited() - waited))

    def end(self) -> None:
        self._over.set()
        self.join(20)


def fetch_json(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url, timeout=10) as answer:
        document: dict[str, Any] = json.load(answer)
        return document
