"""The environment of a vLLM that runs on the CPU: modest defaults, and what a bare machine lacks."""

import os
import shutil
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path


def cpu_environment(
    engines: int, variables: Mapping[str, str] = os.environ, prefix: Path = Path(sys.prefix)
) -> dict[str, str]:
    """What to add to an operator's `variables` for one of so many engines on this machine; what is set stays."""
    defaults = {"VLLM_CPU_KVCACHE_SPACE": "1"}
    if engines > 1:
        defaults["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
    if not _can_compile(variables):
        defaults["TORCH_COMPILE_DISABLE"] = "1"
    added = {name: value for name, value in defaults.items() if name not in variables}
    return added | _library_path(variables, prefix / "lib" / "alphatier-engine")


def _can_compile(variables: Mapping[str, str]) -> bool:
    """Whether torch.compile finds a C++ compiler and Python's headers.

    In eager mode too vLLM compiles what a request with logprobs needs, and without them the engine dies of it.
    """
    headers = Path(sysconfig.get_path("include"), "Python.h")
    return headers.is_file() and shutil.which(variables.get("CXX", "g++"), path=variables.get("PATH")) is not None


def _library_path(variables: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Libraries of the system that the set-up found missing and put into .venv (docker/libnuma.py)."""
    if not folder.is_dir():
        return {}
    asked = variables.get("LD_LIBRARY_PATH")
    return {"LD_LIBRARY_PATH": os.pathsep.join([asked, str(folder)] if asked else [str(folder)])}
