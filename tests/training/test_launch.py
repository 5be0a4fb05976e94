"""The commands that a run starts, or asks a person to start."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from alphatier_training.errors import TrainingError
from alphatier_training.recipe import Recipe
from alphatier_training.recipe.base import PretrainedBase
from alphatier_training.recipe.reading import load_recipe, parse_recipe
from alphatier_training.run.scheduling import server_command, worker_command
from support.mini_training import mini_recipe

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "training" / "recipes"


def recipe_with(**compute: Any) -> Recipe:
    """The mini recipe with these settings of `compute`."""
    return parse_recipe(mini_recipe() | {"compute": compute}, "test")


def command(recipe: Recipe) -> str:
    """How a tier's RL is started."""
    return " ".join(worker_command(recipe, Path("OUT"), ["alpha-0.4"], recipe.compute.processes)[1:])


def accepted(recipe: Recipe) -> Any:
    """What accelerate itself makes of the command."""
    from accelerate.commands.launch import (  # type: ignore[import-untyped]
        _validate_launch_command,
        launch_command_parser,
    )

    words = worker_command(recipe, Path("OUT"), ["alpha-0.4"], recipe.compute.processes)
    assert words[1:3] == ["-m", "accelerate.commands.launch"]
    return _validate_launch_command(launch_command_parser().parse_args(words[3:]))[0]  # with its configuration file


def test_one_process_is_started_without_a_launcher() -> None:
    assert command(recipe_with()) == "-m alphatier_training.run.worker OUT alpha-0.4"


def test_a_process_takes_several_stages_one_after_the_other() -> None:
    words = worker_command(recipe_with(processes=2), Path("OUT"), ["base", "samples-base"])
    assert words[1:] == ["-m", "alphatier_training.run.worker", "OUT", "base", "samples-base"]


def test_processes_meet_at_any_free_port() -> None:
    found = accepted(recipe_with(processes=2))
    assert (found.num_processes, found.num_machines, found.main_process_port, found.multi_gpu) == (2, 1, 0, True)
    assert (found.module, found.training_script) == (True, "alphatier_training.run.worker")
    assert found.training_script_args == ["OUT", "alpha-0.4"]


@pytest.mark.parametrize(("strategy", "stage"), [("zero2", 2), ("zero3", 3)])
def test_deepspeeds_stage_and_offload_are_the_recipes(strategy: str, stage: int) -> None:
    found = accepted(recipe_with(device="auto", processes=2, strategy=strategy, offload_optimiser=True))
    assert (found.use_deepspeed, found.zero_stage, found.offload_optimizer_device) == (True, stage, "cpu")
    assert (found.mixed_precision, found.multi_gpu) == ("bf16", False)


def test_fsdp_is_set_up_as_trl_sets_it_up() -> None:
    found = accepted(recipe_with(device="auto", processes=2, strategy="fsdp"))
    assert (found.use_fsdp, found.fsdp_version, found.fsdp_state_dict_type) == (True, 2, "FULL_STATE_DICT")


def test_offloading_and_sharing_that_cannot_work_are_refused() -> None:
    with pytest.raises(TrainingError, match=r"offload_optimiser: needs strategy zero2 or zero3"):
        recipe_with(device="auto", processes=2, offload_optimiser=True)
    with pytest.raises(TrainingError, match=r"tensor_parallel: 2 GPUs .* do not divide 3 processes"):
        recipe_with(device="auto", processes=3, generation={"engine": "vllm_colocate", "tensor_parallel": 2})


def served() -> Recipe:
    """The paper's recipe with its rollouts on a server of two GPUs, besides the trainer's two."""
    document = load_recipe(RECIPES / "r1-distill-qwen-1.5b.yaml").model_dump(mode="json")
    document["compute"] |= {"processes": 2, "generation": {"engine": "vllm_server", "tensor_parallel": 2}}
    return parse_recipe(document, "test")


def test_the_server_takes_the_gpus_after_the_trainers_and_trls_options() -> None:
    server = server_command(served(), Path("OUT"))
    assert server.startswith("CUDA_VISIBLE_DEVICES=2,3 VLLM_SERVER_DEV_MODE=1 vllm serve deepseek-ai/")
    assert "--port 8001 --revision ad9f0ae0864d7fbcd1cd905e3c6c5b069cc8b562 --tensor-parallel-size 2" in server
    assert "--max-model-len 32512" in server
    assert """--weight-transfer-config '{"backend": "nccl"}'""" in server


def test_the_servers_options_are_those_that_trl_itself_gives_it() -> None:
    """`trl vllm-serve` runs vLLM's server with these; what TRL's client needs is there."""
    script = (
        "from trl.scripts.vllm_serve import ScriptArguments, build_command\n"
        "print('\\n'.join(build_command(ScriptArguments(model='m'))))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, timeout=120, check=True
    )
    words = done.stdout.splitlines()
    ours = server_command(served(), Path("OUT"))
    for option in ("--weight-transfer-config", "--logprobs-mode", "--max-logprobs"):
        value = words[words.index(option) + 1]
        assert f"{option} {value}" in ours.replace("'", "")


@pytest.mark.parametrize("file", sorted(RECIPES.glob("*.yaml")), ids=lambda file: file.stem)
def test_a_shipped_recipe_is_pinned_and_its_command_is_one_that_accelerate_takes(file: Path) -> None:
    recipe = load_recipe(file)
    if recipe.compute.processes > 1:
        assert accepted(recipe).num_processes == recipe.compute.processes
    sets = (*getattr(recipe.problems, "data", ()), *recipe.evaluation.data)
    on_hub = [data.revision for data in sets if data.hub]
    if isinstance(recipe.base, PretrainedBase) and not (ROOT / recipe.base.model).is_dir():
        on_hub.append(recipe.base.revision)
    assert all(re.fullmatch("[0-9a-f]{40}", str(revision)) for revision in on_hub)
