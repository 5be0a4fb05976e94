"""What is measured: a router's command for an address. Here the gateway itself; the others are in peers.py."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.gateway.processes import BenchmarkError

GATEWAY = "alphatier"
AUTO = "alphatier, auto"
"""The same gateway, which chooses the tier by the prompt."""
PLAIN = "plain uvicorn"
"""The same application without the accelerator, as any ASGI server runs it."""
OTHER_PYTHON = "alphatier, other Python"
DIRECT = "direct"
REPOSITORY = Path(__file__).resolve().parents[3]
FAMILY = REPOSITORY / "models" / "tiny"
# What the stub lists: vLLM's names for the shipped family. The first is asked for: smg serves only that one.
TIERS = ("alpha-0.8", "alpha-0.4", "alpha-0.35", "alpha-0.3", "alpha-0.15", "alpha-0", "base")
FAMILY_MODEL = "tiny"
AUTO_MODEL = "tiny:auto"
MODELS = tuple(f"tiny:{tier}" for tier in TIERS)
LIMITS = {
    "requests-per-minute": 10**9,
    "tokens-per-minute": 10**12,
    "concurrent-requests": 10**6,
    "concurrent-streams": 10**6,
}


@dataclass(frozen=True)
class Address:
    """Where a router is to listen, the engine behind it, the clients' key, and a folder for its files."""

    port: int
    engine: str
    key: str
    folder: Path


@dataclass(frozen=True)
class Target:
    """A router: how to start it at an address."""

    name: str
    version: str
    command: Callable[[Address], Sequence[str]]
    environment: dict[str, str] = field(default_factory=dict)
    asked_for: str = MODELS[0]
    """The model: a tier's, or for a gateway the family's, beside an effort, or the family's `auto`."""


@dataclass(frozen=True)
class Gateways:
    """This project's router with all that it can do switched on, in two ways, and the key that it knows."""

    targets: tuple[Target, ...]
    key: str


def gateways(folder: Path, *, other_python: Path | None = None, keyed: bool = True, auto: bool = False) -> Gateways:
    """`alphatier serve`, and plain uvicorn: keys and limits from a file, metrics, a log line a request in a file.

    `alphatier serve` under `other_python` as well, which must have the project; `auto`: asked for that as well; not
    `keyed`: everybody may ask.
    """
    program = Path(sys.executable).parent / "alphatier"
    if not program.exists():
        raise BenchmarkError(f"{program} is not there: install the project into this Python (make install).")
    file = folder / "keys.toml"
    key = _new_key(program, file)
    keys = file if keyed else None
    version = _version()
    served = Target(GATEWAY, version, lambda at: _serve([str(program)], keys, at), asked_for=FAMILY_MODEL)
    config = folder / "plain.toml"
    plain = Target(
        PLAIN,
        version,
        lambda at: _uvicorn(config, keys, at),
        {"ALPHATIER_CONFIG": str(config)},
        asked_for=FAMILY_MODEL,
    )
    if auto:
        served_by_auto = replace(served, name=AUTO, asked_for=AUTO_MODEL)
        return Gateways((served, served_by_auto, plain), key)
    if other_python is None:
        return Gateways((served, plain), key)
    module = [str(other_python), "-m", "alphatier_models.cli"]
    other = Target(
        OTHER_PYTHON, f"{version} on {other_python}", lambda at: _serve(module, keys, at), asked_for=FAMILY_MODEL
    )
    return Gateways((served, other, plain), key)


def _serve(program: Sequence[str], keys: Path | None, at: Address) -> list[str]:
    options = ["--family", str(FAMILY), "--engine", at.engine, "--port", str(at.port)]
    options += ["--keys", str(keys)] if keys else []
    return [*program, "serve", *options, "--drain-delay", "0"]  # ends sooner; no figure depends on it


def _uvicorn(config: Path, keys: Path | None, at: Address) -> list[str]:
    """The server as its own documentation starts it for speed; the gateway writes a line a request itself."""
    engine = f'[[engines]]\nurl = "{at.engine}"\n'
    access = f'[access]\nkeys_file = "{keys}"\n' if keys else ""
    config.write_text(f'families = ["{FAMILY}"]\n{access}{engine}', encoding="utf-8")
    options = ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
    factory = ["--factory", "alphatier_server:create_app", "--host", "127.0.0.1", "--port", str(at.port)]
    return [sys.executable, "-m", "uvicorn", *factory, *options]


def _new_key(program: Path, file: Path) -> str:
    """A key with every kind of limit that there is, none so low that the load would meet it."""
    limits = [f"--{name}={value}" for name, value in LIMITS.items()]
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
