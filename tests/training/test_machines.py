"""One family over several GPUs and several machines: real processes, the GPUs a stand-in that torch cannot see."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from alphatier_models import find_problems, load_family, save_family
from alphatier_training.errors import TrainingError
from alphatier_training.recipe.reading import parse_recipe
from alphatier_training.run.folder import RunFolder
from alphatier_training.run.scheduling import Machine
from alphatier_training.train import Selection, train_family
from support.mini_training import assert_same_family, mini_recipe, start_training, write_recipe

BASE = Path(__file__).parents[2] / "models" / "tiny" / "base"


def small_recipe() -> dict[str, Any]:
    """Two tiers over the shipped base, measured on few problems."""
    recipe = mini_recipe()
    recipe["base"] = {"kind": "pretrained", "model": str(BASE)}
    recipe["evaluation"]["problems"] = 20
    recipe["rl"]["steps"] = 2
    return recipe


def test_each_tier_has_gpus_of_its_own_and_a_family_gets_its_figures_later(tmp_path: Path) -> None:
    recipe = parse_recipe(small_recipe() | {"compute": {"device": "auto"}}, "test")
    said, out = io.StringIO(), tmp_path / "out"
    machine, console = Machine(("5", "7"), 2), Console(file=said)
    assert train_family(recipe, out, machine, console, Selection(evaluate=False)) == []
    lines = said.getvalue().splitlines()
    assert "base: starting on GPU 5" in lines
    assert {"alpha-0: starting on GPU 5", "alpha-0.4: starting on GPU 7"} <= set(lines)
    assert not [line for line in lines if "samples" in line]
    family = load_family(out)
    assert [tier.evaluations for tier in family.tiers] == [(), (), ()]
    assert not (out / "report").exists()

    save_family(family.model_copy(update={"default_tier": "alpha-0.4"}), out)
    assert train_family(recipe, out, machine, console) == []
    family = load_family(out)
    assert [len(tier.evaluations) for tier in family.tiers] == [1, 1, 1]
    assert family.default_tier == "alpha-0.4"
    assert find_problems(out) == []
    assert (out / "report" / "report.html").is_file()


def test_a_tier_that_fails_does_not_take_the_one_beside_it_along(tmp_path: Path) -> None:
    changed = small_recipe() | {"compute": {"device": "auto"}}
    changed["rl"]["steps"] = 20  # so that it runs still when the one beside it, which fails at its start, does
    recipe = parse_recipe(changed, "test")
    said, folder, machine = io.StringIO(), RunFolder(tmp_path / "out"), Machine(("5", "7"), 2)
    folder.checkpoints("alpha-0").parent.mkdir(parents=True)
    folder.checkpoints("alpha-0").write_text("a file where a folder is to be")
    with pytest.raises(TrainingError, match=r"alpha-0: the process ended with status 1"):
        train_family(
            recipe, folder.root, machine, Console(file=said), Selection(only=("base", "alpha-0", "alpha-0.4"))
        )
    assert folder.is_done("alpha-0.4")
    assert not folder.is_done("alpha-0")
    assert "What runs beside it goes on to its end; nothing else is started." in said.getvalue()


def test_machines_that_each_run_a_tier_make_the_family_of_one_that_runs_all(trained: Path, tmp_path: Path) -> None:
    recipe, out = write_recipe(tmp_path, mini_recipe()), tmp_path / "out"
    runs = [start_training(recipe, out, options=["--tier", tier]) for tier in ("alpha-0", "alpha-0.4", "base")]
    printed = [run.communicate(timeout=280)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0], printed
    assert sum("The family is in" in text for text in printed) >= 1
    assert [line for text in printed for line in text.splitlines()].count("base: done") == 1  # the others wait for it
    assert_same_family(out, trained)


def test_a_stage_that_is_chosen_too_early_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    recipe, out = write_recipe(tmp_path, mini_recipe()), tmp_path / "out"
    with start_training(recipe, out, options=["--from", "samples-base"]) as process:
        printed, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "samples-base needs base, which is not done. Run it first (--only base)" in " ".join(printed.split())
    assert not out.exists()


def test_two_rollouts_of_the_real_thing_tell_its_pace_and_leave_nothing(tmp_path: Path) -> None:
    recipe, out = small_recipe(), tmp_path / "out"
    recipe["rl"]["steps"] = 7200
    with start_training(write_recipe(tmp_path, recipe), out, options=["--smoke", "--json"]) as process:
        printed, _ = process.communicate(timeout=200)
    assert process.returncode == 0, printed
    pace = json.loads(printed[printed.index("{\n") :])
    assert (pace["tier"], pace["resumed"], pace["tiers_at_once"]) == ("alpha-0.4", True, 1)
    # 7,200 rollouts are 2 h for each second of one; two tiers, one after the other.
    assert pace["hours_a_tier"] == pytest.approx(2 * pace["rollout_seconds"], abs=2e-3)
    assert pace["hours"] == pytest.approx(2 * pace["hours_a_tier"], abs=2e-4)
    assert 0 < pace["generation_seconds"] < pace["rollout_seconds"]
    assert pace["memory_bytes"] > 1e8
    assert pace["checkpoint_bytes"] > 1e5
    assert [path.name for path in tmp_path.iterdir()] == ["mini.yaml"]
