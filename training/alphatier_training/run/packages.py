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
    wanted = {*_TRAINERS, *(["deepspeed"] if _deepspeed(recipe) else []), *(["vllm"] if _colocated(recipe) else [])}
    for name in sorted(wanted - {name for name in wanted if _installed(name)}):
        yield f"packages: {name} is not installed: pip install '{TRL_VLLM if name == 'vllm' else name}'"
    if _colocated(recipe):
        yield from _unmet(TRL_VLLM, "TRL 1.16")
    for name in ("alphatier", *sorted(wanted)):
        for requirement in _requirements(name):
            if canonicalize_name(requirement.name) in wanted:
                yield from _unmet(requirement, f"{name} {_installed(name)}")
    if recipe.compute.offload_optimiser and not (shutil.which("nvcc") or "CUDA_HOME" in os.environ):
        yield (
            "packages: DeepSpeed compiles its optimiser for main memory with nvcc, which is not on PATH: install the "
            "CUDA toolkit or set CUDA_HOME, or set compute.offload_optimiser to false"
        )


def _unmet(requirement: Requirement, by: str) -> Iterator[str]:
    there = _installed(requirement.name)
    if there is not None and not requirement.specifier.contains(there, prereleases=True):
        wanted = f"{requirement.name}{requirement.specifier}"
        yield f"packages: {requirement.name} {there} does not fit {by}, which wants {wanted}: pip install '{wanted}'"


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _requirements(name: str) -> list[Requirement]:
    """What a package asks for here; of this one's extras those of training."""
    try:
        found = map(Requirement, requires(name) or [])
    except PackageNotFoundError:
        return []
    extra = {"extra": "training" if name == "alphatier" else ""}
    return [one for one in found if one.marker is None or one.marker.evaluate(extra)]


def _deepspeed(recipe: Recipe) -> bool:
    return recipe.compute.strategy.startswith("zero")


def _colocated(recipe: Recipe) -> bool:
    return recipe.compute.generation.engine == "vllm_colocate"
