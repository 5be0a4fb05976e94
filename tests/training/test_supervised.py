"""The base's training over two processes: they keep step, and none survives the first one's death."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from alphatier_models import directory_sha256
from alphatier_training.recipe.base import SupervisedBase
from alphatier_training.recipe.reading import parse_recipe
from alphatier_training.run.folder import RunFolder
from alphatier_training.tiny.base import rate_at
from support.mini_training import mini_recipe


def plan(**settings: Any) -> SupervisedBase:
    return SupervisedBase(kind="supervised", steps=100, warmup_steps=10, **settings)


def test_the_learning_rate_warms_up_and_ends_at_nothing() -> None:
    # Linear: 1 from step 10 to 50, then 2 * (1 - step / 100). Cosine: half-way between 10 and 100 it is 1/2.
    assert [rate_at(plan(schedule="linear"), step) for step in (0, 9, 50, 75, 100)] == [0.1, 1, 1, 0.5, 0]
    assert [rate_at(plan(schedule="cosine"), step) for step in (0, 9, 55, 100)] == pytest.approx([0.1, 1, 0.5, 0])


def start_base(folder: RunFolder) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "alphatier_training.run.worker", str(folder.root), "base"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def children_of(pid: int) -> list[int]:
    text = "".join(path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children"))
    return [int(child) for child in text.split()]


def is_alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and ") Z" not in stat.read_text()


@pytest.mark.slow
def test_a_kill_of_two_processes_leaves_none_and_changes_nothing(tmp_path: Path) -> None:
    recipe = mini_recipe()
    recipe["base"] |= {"processes": 2}
    whole, killed = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "killed")
    for folder in (whole, killed):
        folder.claim(parse_recipe(recipe, "mini"))
    with start_base(whole) as process:
        assert process.wait(120) == 0

    with start_base(killed) as process:
        while not list(killed.checkpoints("base").glob("checkpoint-*")):
            assert process.poll() is None
            time.sleep(0.01)
        helpers = children_of(process.pid)
        assert helpers
        process.kill()
    deadline = time.monotonic() + 20
    while any(is_alive(helper) for helper in helpers):
        assert time.monotonic() < deadline
        time.sleep(0.1)

    with start_base(killed) as process:
        assert process.wait(120) == 0
    assert directory_sha256(killed.base) == directory_sha256(whole.base)
