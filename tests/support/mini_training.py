"""A recipe small enough for a test, and the command that trains it."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from alphatier_models import directory_sha256, find_problems

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


def mini_recipe() -> dict[str, Any]:
    """Two tiers, a few steps of each stage; seconds on one core."""
    return {
        "name": "mini",
        "base": {
            "kind": "supervised",
            "phases": [{"steps": 64, "learning_rate": 0.003}],
            "batch_size": 8,
            "processes": 1,
            "checkpoint_every": 16,
        },
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


def start_training(recipe: Path, out: Path, jobs: int = 1, options: Sequence[str] = ()) -> subprocess.Popen[str]:
    """`alphatier train`, as a person would start it, its output piped."""
    command = [sys.executable, "-m", "alphatier_models.cli", "train", str(recipe), "--out", str(out)]
    return subprocess.Popen(
        [*command, "--jobs", str(jobs), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"NO_COLOR": "1"},
    )


def train(recipe: Path, out: Path, jobs: int = 1, seconds: float = 240) -> str:
    """Train to the end and give what was printed."""
    with start_training(recipe, out, jobs) as process:
        printed, _ = process.communicate(timeout=seconds)
    assert process.returncode == 0, printed
    return printed


def kill_when(reached: Callable[[], bool], process: subprocess.Popen[str]) -> str:
    """Kill the command with SIGKILL, as a power cut would, once `reached`; its workers must end by themselves."""
    wait_until(reached, process)
    process.kill()
    return process.communicate(timeout=60)[0]


def wait_until(reached: Callable[[], bool], process: subprocess.Popen[str], patience: float = 240) -> None:
    """Watch the files of a run until one says so."""
    deadline = time.monotonic() + patience
    while not reached():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def workers_of(out: Path) -> list[int]:
    """The worker processes that still work in `out`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if str(out) in command and "run.worker" in command:
            found.append(int(entry.name))
    return found


def assert_same_family(out: Path, other: Path) -> None:
    """Two runs of the mini recipe made the very same sound family: weights, figures and all."""
    assert find_problems(out) == []
    for part in ("base", "alpha-0", "alpha-0.4"):
        assert directory_sha256(out / part) == directory_sha256(other / part)
    assert (out / "family.json").read_bytes() == (other / "family.json").read_bytes()


def half_written(out: Path) -> list[str]:
    """Temporary files and folders, and checkpoints that were never finished."""
    hidden = [path for path in out.rglob(".*") if path.name != ".gitignore"]
    unfinished = [path for path in out.rglob("checkpoint-*") if not (path / "complete.json").is_file()]
    return [str(path.relative_to(out)) for path in (*hidden, *unfinished)]
