"""The commands of a run, and `alphatier train --dry-run` as a person sees it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from alphatier_training.cli import train
from alphatier_training.errors import LaunchError, RecipeError
from alphatier_training.planning.launch import Meeting, meeting_of, steps, tier_commands, worker_command
from alphatier_training.recipe import Recipe
from alphatier_training.recipe.reading import load_recipe, parse_recipe
from support.mini_training import mini_recipe

RECIPES = Path(__file__).parents[2] / "training" / "recipes"
ALL = sorted(RECIPES.glob("*.yaml"))


def recipe_with(**compute: Any) -> Recipe:
    """The mini recipe with these settings of `compute`."""
    return parse_recipe(mini_recipe() | {"compute": compute}, "test")


def command(recipe: Recipe, meeting: Meeting | None = None) -> str:
    """How a tier's RL is started."""
    return " ".join(worker_command(recipe, Path("OUT"), ["alpha-0.4"], meeting)[1:])


def accepted(recipe: Recipe, meeting: Meeting | None = None) -> Any:
    """What accelerate's own parser makes of the command."""
    from accelerate.commands.launch import launch_command_parser  # type: ignore[import-untyped]

    words = worker_command(recipe, Path("OUT"), ["alpha-0.4"], meeting)
    assert words[1:3] == ["-m", "accelerate.commands.launch"]
    return launch_command_parser().parse_args(words[3:])


def test_one_process_is_started_without_a_launcher() -> None:
    assert command(recipe_with()) == "-m alphatier_training.run.worker OUT alpha-0.4"


def test_other_stages_than_a_tiers_training_are_one_process() -> None:
    words = worker_command(recipe_with(processes=2), Path("OUT"), ["base", "samples-base"], None)
    assert words[1:] == ["-m", "alphatier_training.run.worker", "OUT", "base", "samples-base"]


def test_processes_of_one_node_meet_at_any_free_port() -> None:
    found = accepted(recipe_with(processes=2))
    assert (found.num_processes, found.num_machines, found.main_process_port, found.multi_gpu) == (2, 1, 0, True)
    assert (found.module, found.training_script) == (True, "alphatier_training.run.worker")
    assert found.training_script_args == ["OUT", "alpha-0.4"]


def test_nodes_meet_at_the_address_of_the_first() -> None:
    found = accepted(recipe_with(processes=2, nodes=2), Meeting("10.0.0.1", 29511, node=1))
    assert (found.num_processes, found.num_machines, found.machine_rank) == (4, 2, 1)
    assert (found.main_process_ip, found.main_process_port) == ("10.0.0.1", 29511)


@pytest.mark.parametrize(("strategy", "stage"), [("zero2", 2), ("zero3", 3)])
def test_deepspeeds_stage_and_offload_are_the_recipes(strategy: str, stage: int) -> None:
    found = accepted(recipe_with(device="auto", processes=2, strategy=strategy, offload_optimiser=True))
    assert (found.use_deepspeed, found.zero_stage, found.offload_optimizer_device) == (True, stage, "cpu")
    assert (found.mixed_precision, found.multi_gpu) == ("bf16", False)


def test_fsdp_is_set_up_as_trl_sets_it_up() -> None:
    found = accepted(recipe_with(device="auto", processes=2, strategy="fsdp"))
    assert (found.use_fsdp, found.fsdp_version, found.fsdp_state_dict_type) == (True, "2", "FULL_STATE_DICT")


def test_an_address_may_name_a_port() -> None:
    assert Meeting.parse("node0", 1) == Meeting("node0", 29500, 1)
    assert Meeting.parse("node0:7", 0) == Meeting("node0", 7, 0)
    for wrong in (":7", "node0:", "node0:x"):
        with pytest.raises(LaunchError, match="give HOST or HOST:PORT"):
            Meeting.parse(wrong, 0)


def test_a_run_on_one_node_has_no_meeting() -> None:
    assert meeting_of(recipe_with(), None, 0) is None


def test_offloading_and_sharing_that_cannot_work_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"offload_optimiser: needs strategy zero2 or zero3"):
        recipe_with(device="auto", processes=2, offload_optimiser=True)
    with pytest.raises(RecipeError, match=r"tensor_parallel: 2 GPUs .* do not divide 3 processes"):
        recipe_with(device="auto", processes=3, generation={"engine": "vllm_colocate", "tensor_parallel": 2})


def test_the_server_takes_the_gpus_after_the_trainers_and_trls_options() -> None:
    recipe = load_recipe(RECIPES / "r1-distill-qwen-1.5b.yaml")
    server, run = steps(recipe, Path("r.yaml"), Path("OUT"))
    assert server.command.startswith("CUDA_VISIBLE_DEVICES=2,3 VLLM_SERVER_DEV_MODE=1 vllm serve deepseek-ai/")
    assert "--port 8001 --tensor-parallel-size 2 --max-model-len 32512" in server.command
    assert """--weight-transfer-config '{"backend": "nccl"}'""" in server.command
    assert run.command == "alphatier train r.yaml --out OUT"


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
    ours = steps(load_recipe(RECIPES / "r1-distill-qwen-1.5b.yaml"), Path("r.yaml"), Path("OUT"))[0].command
    for option in ("--weight-transfer-config", "--logprobs-mode", "--max-logprobs"):
        value = words[words.index(option) + 1]
        assert f"{option} {value}" in ours.replace("'", "")


def test_every_node_has_a_command() -> None:
    first, second = steps(recipe_with(nodes=2), Path("r.yaml"), Path("OUT"))
    assert first.command == "alphatier train r.yaml --out OUT --main-address NODE0"
    assert second.command == "alphatier train r.yaml --out OUT --main-address NODE0 --node 1"
    started = tier_commands(recipe_with(nodes=2), Path("OUT"), "alpha-0")
    assert [" --machine_rank 0 " in started[0], " --machine_rank 1 " in started[1]] == [True, True]
    assert all(line.startswith("accelerate launch --num_processes 2 --num_machines 2") for line in started)


@pytest.mark.parametrize("file", ALL, ids=lambda file: file.stem)
def test_every_recipe_can_be_planned(file: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(train, [str(file), "--dry-run", "--json", "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    plan = json.loads(result.stdout)
    assert parse_recipe(plan["recipe"], "the printed one") == load_recipe(file)
    assert plan["estimate"]["measured"] is False
    assert plan["estimate"]["fits"] in (True, None)
    assert plan["estimate"]["hours"] > 0
    assert not (tmp_path / "out").exists()


def test_a_person_sees_recipe_work_memory_time_and_commands() -> None:
    arguments = [str(RECIPES / "r1-distill-qwen-1.5b-lora.yaml"), "--dry-run", "--gpu", "a100"]
    result = CliRunner(env={"COLUMNS": "160"}).invoke(train, arguments)
    assert result.exit_code == 0, result.output
    for said in (
        "advantage: none",  # a default filled in
        "32 prompts x 8 samples",
        "36.9 M x 8 bytes: Adam's averages",
        "fits 80 GB",
        "an estimate",
        "Assumed, not measured",
        "alphatier train",
        "TRL 1.16 supports vLLM 0.22 to 0.31",
    ):
        assert said in result.output


def test_what_does_not_fit_is_said() -> None:
    result = CliRunner(env={"COLUMNS": "160"}).invoke(
        train, [str(RECIPES / "r1-distill-qwen-7b.yaml"), "--dry-run", "--json", "--gpu", "a100"]
    )
    assert json.loads(result.stdout)["estimate"]["fits"] is True
    document = load_recipe(RECIPES / "r1-distill-qwen-7b.yaml").model_dump(mode="json")
    document["compute"] |= {"strategy": "replicate", "offload_optimiser": False}
    alone = parse_recipe(document, "test")
    from alphatier_training.planning.dry_run import dry_run

    found = dry_run(alone, Path("r.yaml"), Path("OUT"))
    # 7.6 B weights, gradients, averages and the base in float32: 20 bytes each, 152 GB on 80
    assert found["estimate"]["fits"] is False
    assert "would not fit" in found["warnings"][0]


def test_a_dry_run_loads_no_torch() -> None:
    script = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from alphatier_training.cli import train\n"
        "for extra in ([], ['--json']):\n"
        f"    result = CliRunner().invoke(train, [{str(RECIPES / 'tiny.yaml')!r}, '--dry-run', *extra])\n"
        "    assert result.exit_code == 0, result.output\n"
        "print(sorted({'torch', 'trl', 'transformers', 'datasets', 'accelerate'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True, env=os.environ
    )
    assert done.stdout.strip() == "[]"
