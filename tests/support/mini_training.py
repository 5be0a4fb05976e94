"""A recipe small enough for a test, and the command that trains it."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


def mini_recipe() -> dict[str, Any]:
    """Two tiers, a few steps of each stage; seconds on one core."""
    return {
        "name": "mini",
        "base": {"kind": "supervised", "steps": 64, "batch_size": 8, "processes": 1, "checkpoint_every": 16},
        "rl": {
            "steps": 3,
            "prompts_per_rollout": 4,
            "samples_per_prompt": 4,
            "max_new_tokens": 48,
            "checkpoint_every": 1,
        },
        "tiers": {"alphas": [0, 0.4], "default": "alpha-0", "efforts": dict.fromkeys(EFFORTS, "alpha-0")},
        "evaluation": {"problems": 600, "max_new_tokens": 48},
    }


def write_recipe(folder: Path, recipe: dict[str, Any]) -> Path:
    """The recipe as a YAML file in `folder`."""
    path = folder / "mini.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return path


def start_training(recipe: Path, out: Path, jobs: int = 1) -> subprocess.Popen[str]:
    """`alphatier train`, as a person would start it, its output piped."""
    command = [sys.executable, "-m", "alphatier_models.cli", "train", str(recipe), "--out", str(out)]
    return subprocess.Popen(
        [*command, "--jobs", str(jobs)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"NO_COLOR": "1"},
    )


def train(recipe: Path, out: Path, jobs: int = 1) -> str:
    """Train to the end and give what was printed."""
    with start_training(recipe, out, jobs) as process:
        printed, _ = process.communicate(timeout=240)
    assert process.returncode == 0, printed
    return printed
