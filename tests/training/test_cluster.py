"""training/cluster/: the scripts hand out the recipe's tiers, each by its index; run without a cluster."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from alphatier_training.recipe import tier_name
from alphatier_training.recipe.reading import load_recipe

TRAINING = Path(__file__).parents[2] / "training"
RECIPE = TRAINING / "recipes" / "r1-distill-qwen-1.5b.yaml"
SLURM = TRAINING / "cluster" / "slurm-array.sh"


@pytest.fixture
def commands(tmp_path: Path) -> dict[str, str]:
    """An environment whose `alphatier` lists stages as the real one, and says what else it is asked to do."""
    real = f'{sys.executable} -m alphatier_models.cli "$@"'
    stand_in = tmp_path / "alphatier"
    stand_in.write_text(f'#!/bin/bash\nif [[ "$*" == *--list-stages* ]]; then {real}; else echo "run: $*"; fi\n')
    stand_in.chmod(0o755)
    return os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "RECIPE": str(RECIPE), "OUT": "out"}


def slurm(environment: dict[str, str], **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", str(SLURM)], capture_output=True, text=True, env=environment | more, timeout=60)


@pytest.mark.parametrize(("index", "tier"), [("0", "base"), ("1", "alpha-0"), ("5", "alpha-0.4")])
def test_a_task_of_the_slurm_array_runs_the_tier_of_its_index(
    commands: dict[str, str], index: str, tier: str
) -> None:
    done = slurm(commands, SLURM_ARRAY_TASK_ID=index)
    assert done.stdout == f"run: train {RECIPE} --out out --tier {tier}\n"


def test_a_task_without_a_tier_or_a_recipe_says_what_to_submit(commands: dict[str, str]) -> None:
    done = slurm(commands, SLURM_ARRAY_TASK_ID="6")
    assert (done.returncode, done.stderr) == (1, "Task 6 has no tier: the recipe has 6, so --array=0-5.\n")
    done = slurm(commands | {"RECIPE": ""}, SLURM_ARRAY_TASK_ID="0")
    assert done.returncode != 0
    assert "RECIPE=recipe.yaml OUT=/shared/run sbatch" in done.stderr


def test_the_kubernetes_job_has_a_pod_for_each_tier_and_the_gpus_of_one(
    commands: dict[str, str], tmp_path: Path
) -> None:
    job: dict[str, Any] = yaml.safe_load((TRAINING / "cluster" / "kubernetes-job.yaml").read_text())
    recipe, spec = load_recipe(RECIPE), job["spec"]
    tiers = ["base", *map(tier_name, recipe.tiers.alphas)]
    assert (job["kind"], spec["completionMode"]) == ("Job", "Indexed")
    assert spec["completions"] == spec["parallelism"] == len(tiers)
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == recipe.compute.processes
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    script = container["args"][0].replace("/recipe/recipe.yaml", str(RECIPE))
    for index, tier in enumerate(tiers):
        environment = commands | {"JOB_COMPLETION_INDEX": str(index)}
        done = subprocess.run(
            [*container["command"], script], capture_output=True, text=True, env=environment, timeout=60, check=True
        )
        assert done.stdout == f"run: train {RECIPE} --out /shared/run --tier {tier}\n"
