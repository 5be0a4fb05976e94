"""What is measured: a router's command for a place. Here the gateway itself; the others are in peers.py."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.gateway.processes import BenchmarkError

GATEWAY = "alphatier"
DIRECT = "direct"
REPOSITORY = Path(__file__).resolve().parents[3]
FAMILY = REPOSITORY / "models" / "tiny"
# What the stub lists: vLLM's names for the shipped family. The first is asked for: smg serves only that one.
TIERS = ("alpha-0.4", "alpha-0.2", "alpha-0.1", "alpha-0.05", "alpha-0", "base")
MODELS = tuple(f"tiny:{tier}" for tier in TIERS)
LIMITS = {
    "requests-per-minute": 10**9,
    "tokens-per-minute": 10**12,
    "concurrent-requests": 10**6,
    "concurrent-streams": 10**6,
}


@dataclass(frozen=True)
class Place:
    """Where a router is to listen, the engine behind it, the clients' key, and a folder for its files."""

    port: int
    engine: str
    key: str
    folder: Path


@dataclass(frozen=True)
class Target:
    """A router: how to start it at a place."""

    name: str
    version: str
    command: Callable[[Place], Sequence[str]]
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Gateway:
    """This project's router with all that it can do switched on, the key that it knows, and what was left out."""

    target: Target
    key: str
    notes: tuple[str, ...]


def gateway(folder: Path) -> Gateway:
    """The `alphatier` of this Python: keys and limits from a file, metrics, a log line a request into a file."""
    program = Path(sys.executable).parent / "alphatier"
    if not program.exists():
        raise BenchmarkError(f"{program} is not there: install the project into this Python (make install).")
    options = _options(program, "serve")
    if options is None:
        raise BenchmarkError(f"{program} serve --help fails; the gateway does not start.")
    keys = folder / "keys.toml"
    key = _new_key(program, keys) if "--keys" in options else None
    notes = () if key else ("alphatier: this version has no API keys; measured without keys and limits",)
    fixed = [str(program), "serve", "--family", str(FAMILY), *(["--keys", str(keys)] if key else [])]
    fixed += ["--drain-delay", "0"] if "--drain-delay" in options else []  # ends sooner; no figure depends on it
    target = Target(GATEWAY, _version(), lambda place: [*fixed, "--engine", place.engine, "--port", str(place.port)])
    return Gateway(target, key or "sk-no-keys-in-this-version", notes)


def _options(program: Path, *command: str) -> set[str] | None:
    told = subprocess.run([program, *command, "--help"], capture_output=True, text=True, timeout=60, check=False)
    return None if told.returncode else set(re.findall(r"--[a-z-]+", told.stdout))


def _new_key(program: Path, file: Path) -> str:
    """A key with every kind of limit that there is, none so low that the load would meet it."""
    known = _options(program, "keys", "new")
    if known is None:
        raise BenchmarkError("alphatier serve has --keys, but `alphatier keys new --help` fails.")
    limits = [f"--{name}={value}" for name, value in LIMITS.items() if f"--{name}" in known]
    command = [str(program), "keys", "new", "benchmark", "--file", str(file), *limits]
    made = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    words: list[str] = re.findall(r"[A-Za-z0-9_-]{32,}", made.stdout)
    if made.returncode or not words:
        raise BenchmarkError(f"`alphatier keys new` printed no key: {made.stdout}{made.stderr}")
    return max(words, key=len)


def _version() -> str:
    command = ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except OSError:
        return "unknown"
    return told.stdout.strip() or os.fspath(REPOSITORY)
