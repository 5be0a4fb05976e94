"""SIGKILL at random points of a run, as of a power cut or where memory ran out: nothing of the result changes."""

import os
import random
import signal
import subprocess
from pathlib import Path

import pytest

from alphatier_models import find_problems
from support.mini_training import (
    assert_same_family,
    half_written,
    mini_recipe,
    start_training,
    train,
    workers_of,
    write_recipe,
)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_ten_kills_at_random_points_end_in_the_very_same_family(trained: Path, tmp_path: Path) -> None:
    recipe, out, dice = write_recipe(tmp_path, mini_recipe()), tmp_path / "out", random.Random(7)
    for number in range(10):
        kill_after(dice.uniform(1, 40), start_training(recipe, out), out, only_worker=number in (3, 7))
        assert not (out / "family.json").exists() or find_problems(out) == []
    train(recipe, out, seconds=400)
    assert half_written(out) == []
    assert workers_of(out) == []
    for tier in ("alpha-0", "alpha-0.4"):
        assert logged_steps(out / "work" / "tensorboard" / tier) == [1, 2, 3]
    assert_same_family(out, trained)


def logged_steps(folder: Path) -> list[int]:
    """The rollouts that TensorBoard shows, however often the run was begun."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return [event.step for event in events.Scalars("train/tokens")]


def kill_after(seconds: float, process: subprocess.Popen[str], out: Path, *, only_worker: bool) -> None:
    """SIGKILL to the command, or to its worker, of which the command then tells."""
    with process:
        try:
            process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            workers = workers_of(out)
            if only_worker and workers:
                os.kill(workers[0], signal.SIGKILL)
                printed, _ = process.communicate(timeout=60)
                assert "was killed (SIGKILL)" in printed
            process.kill()
