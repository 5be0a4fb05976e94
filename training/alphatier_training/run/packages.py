"""Whether the installed packages are there, and fit this one and each other, as their own metadata says."""

import os
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from alphatier_training.recipe import Recipe

TRL_VLLM = Requirement("vllm>=0.22,<0.32")
"""What TRL 1.16 supports (`trl.import_utils.is_vllm_available`)."""

_TRAINERS = ("accelerate", "peft", "torch", "transformers", "trl")


def package_faults(recipe: Recipe) -> Iterator[str]:
    """What is missing or does not fit, a line each with the remedy."""
    colocated = recipe.compute.generation.engine == "vllm_colocate"
    sharded = recipe.compute.strategy.startswith("zero")
    wanted = sorted({*_TRAINERS, *(["deepspeed"] if sharded else []), *(["vllm"] if colocated else [])})
    for name in wanted:
        if _installed(name) is None:
            yield f"packages: {name} is not installed: pip install '{TRL_VLLM if name == 'vllm' else name}'"
    asked = [("TRL 1.16", TRL_VLLM)] if colocated else []
    asked += [(f"{by} {_installed(by)}", one) for by in ("alphatier", *wanted) for one in _requirements(by)]
    for by, requirement in asked:
        there = _installed(requirement.name)
        if there is None or canonicalize_name(requirement.name) not in wanted:
            continue
        if not requirement.specifier.contains(there, prereleases=True):
            fit = f"{requirement.name}{requirement.specifier}"
            yield f"packages: {requirement.name} {there} does not fit {by}, which wants {fit}: pip install '{fit}'"
    if recipe.compute.offload_optimiser and not (shutil.which("nvcc") or "CUDA_HOME" in os.environ):
        yield (
            "packages: DeepSpeed compiles its optimiser for main memory with nvcc, which is not on PATH: install the "
            "CUDA toolkit or set CUDA_HOME, or set compute.offload_optimiser to false"
        )


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _requirements(name: str) -> list[Requirement]:
    """What a package asks for here; of this one's extras those of training."""
    found = map(Requirement, (requires(name) if _installed(name) else None) or [])
    extra = {"extra": "training" if name == "alphatier" else ""}
    return [one for one in found if one.marker is None or one.marker.evaluate(extra)]
