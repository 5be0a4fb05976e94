"""Processes bound to cores, their CPU time and memory. Knows nothing of what they serve."""

import http.client
import os
import resource
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

POLL_SECONDS = 0.002


class BenchmarkError(Exception):
    """The benchmark cannot go on; the text names the remedy."""


@dataclass(frozen=True)
class Cores:
    """Where things run: the router alone on one core; stub, load and this script on another."""

    router: int
    others: int

    @classmethod
    def parse(cls, text: str) -> "Cores":
        """From "ROUTER,OTHERS". Raises BenchmarkError when this machine lacks one of them."""
        names = text.split(",")
        if len(names) != 2 or not all(name.strip().isdigit() for name in names):
            raise BenchmarkError(f"--cores takes two core numbers such as 1,0, not {text!r}.")
        router, others = (int(name) for name in names)
        missing = {router, others} - os.sched_getaffinity(0)
        if missing or router == others:
            raise BenchmarkError(
                f"--cores {text}: two different ones of {sorted(os.sched_getaffinity(0))} are needed; "
                "on one core the load would be measured, not the router."
            )
        return cls(router, others)


@dataclass
class Process:
    """A running command, and the log it writes."""

    popen: subprocess.Popen[bytes]
    log: Path
    started: float

    def tree(self) -> list[psutil.Process]:
        root = psutil.Process(self.popen.pid)
        return [root, *root.children(recursive=True)]

    def cpu_seconds(self) -> float:
        """CPU time of the process and its children so far, all threads, in nanosecond steps.

        The clock of another process is the one that clock_getcpuclockid(3) names: ~pid shifted left by 3,
        with 2 for "scheduler's count, whole process" (linux/include/uapi and glibc's implementation).
        """
        return sum(time.clock_gettime((~process.pid << 3) | 2) for process in self.tree())

    def resident_mb(self) -> float:
        """Resident memory of the process and its children in MB (10^6 bytes); shared pages count in each."""
        return float(sum(process.memory_info().rss for process in self.tree()) / 1e6)

    def tail(self) -> str:
        """The last lines of its log."""
        return self.log.read_text(errors="replace").strip()[-800:]


@contextmanager
def running(
    command: Sequence[str], core: int, log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Process]:
    """The command on one core until the block ends: then SIGTERM, and SIGKILL after 5 s, to its whole group."""
    with log.open("ab") as stream:
        process = Process(_start(command, core, stream.fileno(), environment), log, time.monotonic())
    try:
        yield process
    finally:
        _end(process)


def _start(
    command: Sequence[str], core: int, output: int, environment: Mapping[str, str] | None
) -> subprocess.Popen[bytes]:
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})  # what is started inherits it
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise BenchmarkError(f"{command[0]} cannot be started: {error}.") from error
    finally:
        os.sched_setaffinity(0, mine)


def _end(process: Process) -> None:
    tree = process.tree() if process.popen.poll() is None else []
    process.popen.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.popen.wait(5)
    for left in tree:
        with suppress(psutil.NoSuchProcess):
            left.kill()
    process.popen.wait(5)
    psutil.wait_procs(tree, timeout=5)


def wait_for_answer(process: Process, port: int, request: bytes, seconds: float) -> float:
    """Repeat the request until it is answered with 200; the seconds since the process was started."""
    deadline = process.started + seconds
    last = "no connection"
    while time.monotonic() < deadline:
        if process.popen.poll() is not None:
            raise BenchmarkError(f"{process.popen.args!r} ended:\n{process.tail()}")
        status = _status(port, request)
        if status == 200:
            return time.monotonic() - process.started
        last = f"status {status}" if status else last
        time.sleep(POLL_SECONDS)
    raise BenchmarkError(f"{process.popen.args!r} gave no good answer in {seconds:g} s ({last}):\n{process.tail()}")


def _status(port: int, request: bytes) -> int:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(request)
            response = http.client.HTTPResponse(connection)
            response.begin()
            response.read()
            return response.status
    except (OSError, http.client.HTTPException):
        return 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def allow_open_files(wanted: int) -> None:
    """Raise the limit of open files for what is started from here. Raises BenchmarkError when it may not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise BenchmarkError(
            f"{wanted} open files are needed and {hard} allowed: ask for fewer --streams, or raise the hard limit "
            "(ulimit -Hn, limits.conf, or docker run --ulimit nofile=...)."
        )
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
