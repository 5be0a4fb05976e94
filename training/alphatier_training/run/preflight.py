"""What can be known before a run to be wrong with it: every fault at once, a line each with its remedy.

What: GPUs, packages, disk, the base on the hub, data sets and their columns, the engine of the rollouts.
What not: nothing is written but the hub's own cache, and what is done is not looked at again.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from alphatier_training.errors import DataError, LaunchError, PreflightError
from alphatier_training.recipe import BASE_TIER, Recipe
from alphatier_training.recipe.base import PretrainedBase
from alphatier_training.recipe.problems import DataProblems, DataSet
from alphatier_training.run.disk import DiskPlan, disk_faults, disk_plan, shapes_of
from alphatier_training.run.folder import RunFolder
from alphatier_training.run.hub import hub_answers, hub_faults
from alphatier_training.run.launch import is_shared, server_command
from alphatier_training.run.machine import Machine
from alphatier_training.run.packages import TRL_VLLM, package_faults
from alphatier_training.run.scheduling import Room, room_of

SECONDS = 10.0
"""How long the hub or an engine may take for an answer."""

USED = 0.25
"""The share of a GPU's memory that may be in use already."""

ON_ANYTHING = ("in_process", "replicate")
"""Rollouts and strategy that a CPU does too."""

NO_HUB = (
    "hub: it cannot be reached: check the connection, or set HF_HUB_OFFLINE=1 to take what its cache holds, or give "
    "folders in base.model and `path`"
)

_PROBE = (
    "import json, torch\n"
    "memory = [torch.cuda.mem_get_info(at) for at in range(torch.cuda.device_count())]\n"
    "print(json.dumps([torch.__version__, memory]))"
)


@dataclass(frozen=True)
class Findings:
    """What was found."""

    faults: tuple[str, ...]
    disk: DiskPlan | None = None
    """What the checkpoints take; None where the base's weights are not known."""


def preflight(
    recipe: Recipe, out: Path, machine: Machine, stages: Sequence[str], jobs: int | None = None
) -> Findings:
    """Look at everything that `stages`, those that are not done, need; and go on after a fault."""
    folder, tiers = RunFolder(out), [stage for stage in stages if is_shared([stage])]
    away = _is_on_hub(recipe, folder) and not hub_answers()
    shapes = shapes_of(recipe, folder) if tiers and not away else None
    room, faults = _room(recipe, machine, jobs)
    disk = disk_plan(recipe, folder, shapes, tiers, room.tiers_at_once(recipe) if room else 1) if shapes else None
    faults += [*(_torch_faults(room.places) if room and room.on_gpus() else []), *package_faults(recipe)]
    faults += [*([NO_HUB] if away else []), *hub_faults(recipe, folder, away=away)]
    faults += [*_data_faults(recipe, away=away), *(_engine_faults(recipe, out) if tiers else [])]
    return Findings((*faults, *(disk_faults(disk, out) if disk else [])), disk)


def check(recipe: Recipe, out: Path, machine: Machine, stages: Sequence[str], jobs: int | None = None) -> None:
    """PreflightError with every fault, where there is one."""
    if faults := preflight(recipe, out, machine, stages, jobs).faults:
        listing = "\n".join(f"  - {fault}" for fault in faults)
        raise PreflightError(f"{recipe.name} cannot run here, and nothing was begun:\n{listing}")


def _room(recipe: Recipe, machine: Machine, jobs: int | None) -> tuple[Room | None, list[str]]:
    """Where processes run; a line where the recipe needs more."""
    compute = recipe.compute
    if compute.device == "auto" and not machine.gpus and (compute.generation.engine, compute.strategy) != ON_ANYTHING:
        wanted = f"strategy {compute.strategy}, rollouts {compute.generation.engine}"
        fault = f"compute.device: no GPU is visible, and the recipe needs one ({wanted}): see `nvidia-smi`, and "
        return None, [f"{fault}CUDA_VISIBLE_DEVICES"]
    try:
        return room_of(recipe, machine, jobs), []
    except LaunchError as error:
        return None, [str(error)]


def _torch_faults(places: Sequence[str]) -> Iterator[str]:
    """GPUs that torch cannot use, or that are in use."""
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ",".join(places)}
    done = subprocess.run(
        [sys.executable, "-c", _PROBE], capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode:
        yield f"compute.device: torch cannot use the GPUs: {done.stderr.strip().splitlines()[-1:]}. See `nvidia-smi`"
        return
    version, memory = json.loads(done.stdout.splitlines()[-1])
    if len(memory) < len(places):
        yield (
            f"compute.device: torch {version} sees {len(memory)} of the {len(places)} GPUs {','.join(places)}: "
            "install a build of torch for their driver (https://pytorch.org), or correct CUDA_VISIBLE_DEVICES"
        )
    for place, (free, size) in zip(places, memory, strict=False):
        if free < (1 - USED) * size:
            yield (
                f"compute.device: {(size - free) / 1e9:.0f} of the {size / 1e9:.0f} GB of GPU {place} are in use: "
                "end what uses it, or leave the GPU out of CUDA_VISIBLE_DEVICES"
            )


def _data_sets(recipe: Recipe) -> list[DataSet]:
    chosen = recipe.problems
    trained = (*chosen.data, *chosen.contamination.against) if isinstance(chosen, DataProblems) else ()
    return [*trained, *recipe.evaluation.data]


def _is_on_hub(recipe: Recipe, folder: RunFolder) -> bool:
    """Whether something that is still needed is on the hub."""
    base = isinstance(recipe.base, PretrainedBase) and recipe.base.is_on_hub() and not folder.is_done(BASE_TIER)
    return base or any(data.hub is not None for data in _data_sets(recipe))


def _data_faults(recipe: Recipe, *, away: bool) -> Iterator[str]:
    """Data sets on the hub that are not pinned; any that cannot be read, or lack a column or an answer."""
    from alphatier_training.data.reading import read_problems

    for data in _data_sets(recipe):
        if data.hub is not None and data.revision is None:
            yield (
                f"{data.name}: {data.hub} is not pinned, so that its rows may change: add `revision:` and a commit "
                f"of https://huggingface.co/datasets/{data.hub}/commits"
            )
        if away and data.hub is not None:
            continue
        try:
            read_problems(data)
        except DataError as error:
            yield str(error)


def _engine_faults(recipe: Recipe, out: Path) -> Iterator[str]:
    """A `vllm serve` that is not there, of another version, or with another model."""
    generation = recipe.compute.generation
    if generation.engine != "vllm_server":
        return
    command = server_command(recipe, out)
    try:
        version = _get(generation.server, "version")["version"]
        models = [model["id"] for model in _get(generation.server, "v1/models")["data"]]
    except (URLError, OSError, ValueError, KeyError) as error:
        reason = getattr(error, "reason", error)
        yield f"generation.server: no vLLM answers at {generation.server} ({reason}): start it with\n      {command}"
        return
    if not TRL_VLLM.specifier.contains(version.partition("+")[0], prereleases=True):
        yield (
            f"generation.server: vLLM {version} is at {generation.server}, but TRL 1.16 wants {TRL_VLLM}: install it "
            f"there, and start it with\n      {command}"
        )
    if isinstance(recipe.base, PretrainedBase) and recipe.base.model not in models:
        yield (
            f"generation.server: {generation.server} serves {', '.join(models)}, not {recipe.base.model}: start it "
            f"with\n      {command}"
        )


def _get(server: str, path: str) -> Any:
    with urlopen(f"{server.rstrip('/')}/{path}", timeout=SECONDS) as answer:
        return json.load(answer)
