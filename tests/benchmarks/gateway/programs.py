"""The compiled parts, the stub engine and the load generator, and how to call them."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from benchmarks.gateway.processes import BenchmarkError, running

SOURCES = Path(__file__).parent
PARTS = {"stub": ("stub.c", "stub_answers.c", "schedule.c"), "load": ("load.c", "client.c", "answer.c")}
LOAD_LIMIT_SECONDS = 180


@dataclass(frozen=True)
class Programs:
    """Compiled programs in a folder, all run on one core."""

    folder: Path
    core: int

    @contextmanager
    def stub(self, models: Sequence[str]) -> Iterator[str]:
        """A stub engine that lists these models; yields its URL."""
        log = self.folder / "stub.log"
        log.write_bytes(b"")
        with running([str(self.folder / "stub"), *models], self.core, log) as process:
            while not log.read_bytes().endswith(b"\n"):
                if process.popen.poll() is not None:
                    raise BenchmarkError(f"The stub engine ended: {process.tail()}")
            yield f"http://127.0.0.1:{int(log.read_text())}"

    def load(self, mode: str, port: int, request: bytes, **options: float) -> dict[str, Any]:
        """Run the load generator to its end; its figures."""
        popen = self.start_load(mode, port, request, **options)
        return finished_load(popen)

    def start_load(self, mode: str, port: int, request: bytes, **options: float) -> subprocess.Popen[str]:
        file = self.folder / "request"
        file.write_bytes(request)
        named = [f"{name}={value:g}" for name, value in options.items()]
        command = [str(self.folder / "load"), mode, "127.0.0.1", str(port), str(file), *named]
        # This script has bound itself to the core where the load belongs.
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished_load(popen: subprocess.Popen[str]) -> dict[str, Any]:
    """The figures of a load generator that was started. Raises BenchmarkError with what it complained of."""
    try:
        out, error = popen.communicate(timeout=LOAD_LIMIT_SECONDS)
    except subprocess.TimeoutExpired as expired:
        popen.kill()
        popen.communicate()
        raise BenchmarkError(f"The load generator did not end in {LOAD_LIMIT_SECONDS} s.") from expired
    if popen.returncode:
        raise BenchmarkError(f"The load generator failed: {error.strip()}")
    figures: dict[str, Any] = json.loads(out)
    return figures


def compiled(folder: Path, core: int) -> Programs:
    """Compile both programs into the folder. Raises BenchmarkError when there is no C compiler."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise BenchmarkError("A C compiler is needed for the stub engine: apt-get install gcc libc6-dev, or set CC.")
    for program, sources in PARTS.items():
        files = [str(SOURCES / source) for source in sources]
        command = [compiler, "-O2", "-Wall", "-Wextra", "-o", str(folder / program), *files]
        built = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        if built.returncode:
            raise BenchmarkError(f"{' '.join(command)} failed:\n{built.stderr}")
    return Programs(folder, core)


def told_aborts(engine_url: str) -> dict[str, Any]:
    """What the stub saw: requests begun and completed, streams open now and at most, and aborts by name."""
    with urlopen(f"{engine_url}/aborts", timeout=10) as response:
        told: dict[str, Any] = json.load(response)
    return told
