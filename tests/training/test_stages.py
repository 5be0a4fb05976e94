"""Which stages there are, which are chosen, and which run at once on what."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from alphatier_training.cli import train
from alphatier_training.errors import TrainingError
from alphatier_training.recipe import Recipe
from alphatier_training.recipe.reading import parse_recipe
from alphatier_training.run.folder import RunFolder
from alphatier_training.run.scheduling import Machine, narrowed, this_machine, units_of
from alphatier_training.train import Selection, check_needs, chosen_stages, line_of
from support.mini_training import mini_recipe, write_recipe

TIERS = ["alpha-0", "alpha-0.4"]
EVERY = ["base", *TIERS, "family", "samples-base", "samples-alpha-0", "samples-alpha-0.4", "report"]


def recipe_with(**compute: Any) -> Recipe:
    """The mini recipe with these settings of `compute`."""
    return parse_recipe(mini_recipe() | {"compute": compute}, "test")


def chosen(recipe: Recipe, **options: Any) -> list[str]:
    """The names of the stages that these options choose."""
    return [stage.name for stage in chosen_stages(recipe, Selection(**options))]


def units(recipe: Recipe, machine: Machine) -> list[list[str]]:
    """What each process of a whole run takes."""
    return [[stage.name for stage in unit] for unit in units_of(line_of(recipe), machine)]


@pytest.fixture
def recipe() -> Recipe:
    return recipe_with()


def test_nothing_waits_for_samples_and_every_stage_only_for_what_it_reads(recipe: Recipe) -> None:
    needs = {stage.name: stage.needs for stage in line_of(recipe)}
    assert list(needs) == EVERY
    assert needs["alpha-0.4"] == needs["samples-base"] == ("base",)
    assert needs["samples-alpha-0.4"] == ("alpha-0.4",)
    assert needs["base"] == ()
    assert needs["family"] == ("base", *TIERS)
    assert needs["report"] == tuple(EVERY[3:-1])


def test_data_sets_of_its_own_are_one_stage_more_before_the_tiers() -> None:
    document = mini_recipe() | {"problems": {"source": "data", "data": [{"name": "mine", "path": "mine.jsonl"}]}}
    document["base"] = {"kind": "pretrained", "model": "here"}
    document["evaluation"]["data"] = [{"name": "test", "path": "test.jsonl"}]
    recipe = parse_recipe(document, "test")
    (tier,) = (stage for stage in line_of(recipe) if stage.name == "alpha-0")
    assert tier.needs == ("base", "problems")
    assert chosen(recipe, tier="base") == ["base", "problems", "family", "samples-base", "report"]


def test_options_choose_among_the_stages(recipe: Recipe) -> None:
    assert chosen(recipe) == EVERY
    assert chosen(recipe, evaluate=False) == ["base", *TIERS, "family"]
    assert chosen(recipe, start="alpha-0.4") == EVERY[2:]
    assert chosen(recipe, only=("samples-base", "base")) == ["base", "samples-base"]
    assert chosen(recipe, tier="alpha-0.4") == ["base", "alpha-0.4", "family", "samples-alpha-0.4", "report"]
    assert chosen(recipe, tier="alpha-0.4", evaluate=False) == ["base", "alpha-0.4", "family"]


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (
            Selection(only=("alpha-9",)),
            "--only alpha-9: the recipe has no such one; it has base, alpha-0, alpha-0",
        ),
        (Selection(start="samples"), "--from samples: the recipe has no such one"),
        (Selection(tier="alpha-9"), "--tier alpha-9: the recipe has no such one; it has base, alpha-0, alpha-0.4"),
        (Selection(tier="base", start="base"), "--only, --from and --tier exclude each other"),
    ],
)
def test_stages_that_there_are_not_are_refused_with_those_that_there_are(
    recipe: Recipe, selection: Selection, message: str
) -> None:
    with pytest.raises(TrainingError, match=message):
        chosen_stages(recipe, selection)


def test_a_stage_that_cannot_be_run_yet_names_what_it_needs(recipe: Recipe, tmp_path: Path) -> None:
    folder, alone = RunFolder(tmp_path), chosen_stages(recipe, Selection(only=("samples-alpha-0",)))
    with pytest.raises(TrainingError, match="samples-alpha-0 needs alpha-0, which is not done"):
        check_needs(alone, folder)
    with pytest.raises(TrainingError, match="alpha-0 needs base, which is not done"):
        check_needs(chosen_stages(recipe, Selection(start="alpha-0")), folder)
    folder.mark_done("base", 0)
    check_needs(chosen_stages(recipe, Selection(start="alpha-0")), folder)
    folder.mark_done("alpha-0", 0)
    check_needs(alone, folder)
    check_needs(
        chosen_stages(recipe, Selection(only=("family", "report"))), folder
    )  # by whoever trains the last tier


def test_the_stages_are_listed_with_their_state(tmp_path: Path) -> None:
    RunFolder(tmp_path / "out").mark_done("base", 0)
    arguments = [str(write_recipe(tmp_path, mini_recipe())), "--out", str(tmp_path / "out"), "--list-stages"]
    result = CliRunner().invoke(train, [*arguments, "--json", "--tier", "alpha-0"])
    listed = json.loads(result.stdout)
    assert [one["stage"] for one in listed] == EVERY
    assert [one["stage"] for one in listed if one["done"]] == ["base"]
    assert [one["stage"] for one in listed if one["chosen"]] == [
        "base",
        "alpha-0",
        "family",
        "samples-alpha-0",
        "report",
    ]
    assert "samples-alpha-0    to do  alpha-0" in CliRunner().invoke(train, arguments).stdout


@pytest.mark.parametrize("option", ["--list-stages", "--dry-run"])
def test_what_is_only_said_loads_no_torch(tmp_path: Path, option: str) -> None:
    script = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from alphatier_training.cli import train\n"
        "result = CliRunner().invoke(train, sys.argv[1:])\n"
        "assert result.exit_code == 0, result.output\n"
        "print(sorted({'torch', 'trl', 'transformers', 'datasets', 'accelerate'} & sys.modules.keys()))"
    )
    command = [sys.executable, "-c", script, str(write_recipe(tmp_path, mini_recipe())), option]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_a_trial_run_chooses_its_stages_itself(tmp_path: Path) -> None:
    arguments = [str(write_recipe(tmp_path, mini_recipe())), "--out", str(tmp_path / "out"), "--smoke"]
    result = CliRunner().invoke(train, [*arguments, "--tier", "alpha-0"])
    assert result.exit_code == 1
    assert "--smoke chooses its stages itself; leave out --only, --from and --tier" in result.output


@pytest.mark.parametrize(
    ("set_to", "seen"),
    [
        ("0,1", ("0", "1")),
        ("3, 5", ("3", "5")),
        ("GPU-8932f937,MIG-4d3", ("GPU-8932f937", "MIG-4d3")),
        ("", ()),
        ("-1", ()),
        ("0,-1,2", ("0",)),  # CUDA stops at the first that is none
    ],
)
def test_the_gpus_are_those_that_are_made_visible(set_to: str, seen: tuple[str, ...]) -> None:
    assert this_machine("auto", {"CUDA_VISIBLE_DEVICES": set_to}).gpus == seen
    assert this_machine("cpu", {"CUDA_VISIBLE_DEVICES": set_to}).gpus == ()


def test_the_gpus_are_those_of_the_driver_where_none_are_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = tmp_path / "nvidia-smi"
    listing.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA H200 (UUID: GPU-1)\nGPU 1: NVIDIA H200 (UUID: GPU-2)'\n")
    listing.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert this_machine("auto", {}).gpus == ("0", "1")


def test_a_tier_takes_as_many_gpus_as_it_has_processes_and_everything_else_one() -> None:
    recipe = recipe_with(device="auto", processes=2)
    machine = narrowed(Machine(("0", "1", "2", "3"), 8), recipe)
    assert (machine.places, machine.threads, machine.tiers_at_once(recipe)) == (("0", "1", "2", "3"), 2, 2)
    assert units(recipe, machine) == [[stage] for stage in EVERY]
    assert [stage.processes for stage in line_of(recipe)] == [1, 2, 2, 1, 1, 1, 1, 1]


def test_more_processes_than_gpus_are_refused() -> None:
    with pytest.raises(TrainingError, match=r"a tier wants 4 GPUs, but 2 are visible \(0,1\)"):
        narrowed(Machine(("0", "1"), 8), recipe_with(device="auto", processes=4))


def test_a_server_has_one_trainer_at_a_time_and_its_gpus_to_itself() -> None:
    recipe = recipe_with(device="auto", processes=2, generation={"engine": "vllm_server"})
    assert narrowed(Machine(("0", "1", "2", "3"), 8), recipe).places == ("0", "1")


def test_on_a_cpu_a_process_takes_a_tier_and_its_samples(recipe: Recipe) -> None:
    machine = Machine((), 2)
    assert narrowed(machine, recipe).places == ("", "")
    assert units(recipe, narrowed(machine, recipe)) == [
        ["base"],
        ["alpha-0", "samples-alpha-0"],
        ["alpha-0.4", "samples-alpha-0.4"],
        ["family"],
        ["samples-base"],
        ["report"],
    ]
    assert units(recipe, narrowed(Machine((), 2, jobs=1), recipe)) == [EVERY]
    assert narrowed(machine, recipe_with(device="auto")).places == ("",)  # a real model is as large as it likes
