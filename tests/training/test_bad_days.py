"""Bad days of a run: full disks, damaged checkpoints, numbers that are none, collapse, a dead engine.

Real runs of the command: one clear message each, nothing half-written, and what was whole stays whole.
"""

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from alphatier_models import directory_sha256, find_problems
from alphatier_training import checkpoints
from alphatier_training.tiny.base import save_state
from support.mini_training import (
    EFFORTS,
    half_written,
    kill_when,
    mini_recipe,
    start_training,
    train,
    wait_until,
    workers_of,
    write_recipe,
)

BASE = Path(__file__).parents[2] / "models" / "tiny" / "base"

PATIENCE = 400.0
"""Seconds that a run may take on a busy machine."""


def one_tier(**rl: Any) -> dict[str, Any]:
    """One tier over the shipped base, measured on few problems."""
    recipe = mini_recipe()
    recipe["base"] = {"kind": "pretrained", "model": str(BASE)}
    recipe["tiers"] = {"alphas": [0.4], "default": "alpha-0.4", "efforts": dict.fromkeys(EFFORTS, "alpha-0.4")}
    recipe["evaluation"]["problems"] = 20
    recipe["rl"] |= rl
    return recipe


def failure(folder: Path, recipe: dict[str, Any]) -> str:
    """What a run that fails prints, its lines joined: a clear message, and no process is left."""
    with start_training(write_recipe(folder, recipe), folder / "out") as process:
        return message(process, folder / "out")


def message(process: subprocess.Popen[str], out: Path) -> str:
    printed, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1, printed
    assert "Traceback" not in printed
    assert printed.count("Error:") == 1
    assert workers_of(out) == []
    assert half_written(out) == []
    return " ".join(printed.split())


def limit_file_size(process: int, size: int) -> None:
    """Let a process, and those that it starts from now on, write no file beyond `size` bytes: a disk that is full."""
    resource.prlimit(process, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_full_disk_is_one_message_and_the_same_command_ends_well_later(trained: Path, tmp_path: Path) -> None:
    recipe, out = write_recipe(tmp_path, mini_recipe()), tmp_path / "out"
    with start_training(recipe, out) as process:
        limit_file_size(process.pid, 100_000)  # logs and recipes fit, checkpoints do not
        printed = message(process, out)
    assert "base: cannot write" in printed
    assert "run the same command again" in printed
    assert not (out / "base").exists()

    with start_training(recipe, out) as process:
        wait_until((out / "work" / "done" / "base.json").exists, process)
        limit_file_size(workers_of(out)[0], 100_000)
        printed = message(process, out)
    assert "cannot write" in printed
    assert not list(out.glob("alpha-*"))
    assert directory_sha256(out / "base") == directory_sha256(trained / "base")

    train(recipe, out, seconds=PATIENCE)
    assert find_problems(out) == []
    for part in ("alpha-0", "alpha-0.4"):
        assert directory_sha256(out / part) == directory_sha256(trained / part)


def test_an_evaluation_that_a_full_disk_stops_is_one_message(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "alphatier_models.cli", "evaluate", str(BASE.parent), "--tier", "base"]
    options = ["--problems", "100", "--device", "cpu", "--out", str(tmp_path / "out")]
    process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    limit_file_size(process.pid, 4096)
    with process:
        printed = message(process, tmp_path / "out")
    assert "cannot write" in printed
    assert "File too large" in printed
    assert "run the same command again" in printed


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_damaged_checkpoint_of_the_base_is_set_aside_and_changes_nothing(trained: Path, tmp_path: Path) -> None:
    recipe, out = write_recipe(tmp_path, mini_recipe()), tmp_path / "out"
    work = out / "work" / "checkpoints" / "base"
    kill_when(lambda: len(list(work.glob("checkpoint-*"))) > 1, start_training(recipe, out))
    last = checkpoints.in_order(work)[-1]
    damage(last / "state.pt")
    printed = kill_when((out / "work" / "done" / "base.json").exists, start_training(recipe, out))
    assert f"it is set aside as damaged-{last.name}, and what was before it is used" in " ".join(printed.split())
    assert directory_sha256(out / "base") == directory_sha256(trained / "base")


def damage(file: Path) -> None:
    """Zero some bytes in the middle, as a power cut does; the size stays."""
    content = bytearray(file.read_bytes())
    middle = len(content) // 2
    assert any(content[middle : middle + 64])
    content[middle : middle + 64] = bytes(64)
    file.write_bytes(content)


def test_a_checkpoint_of_the_base_that_cannot_be_read_gives_way_to_the_one_before(tmp_path: Path) -> None:
    told: list[str] = []
    assert checkpoints.newest(tmp_path, told.append) is None
    for content in (lambda whole: whole[: len(whole) // 2], lambda whole: b"", lambda whole: b"no checkpoint"):
        for step in (1, 2, 3):
            save_state(tmp_path, step, {"model": {"weights": torch.full((1000,), float(step))}})
        last = tmp_path / "checkpoint-3"
        assert checkpoints.newest(tmp_path, told.append) == last
        (last / "state.pt").write_bytes(content((last / "state.pt").read_bytes()))
        assert checkpoints.newest(tmp_path, told.append) == tmp_path / "checkpoint-2"
    damage(tmp_path / "checkpoint-2" / "state.pt")
    assert checkpoints.newest(tmp_path, told.append) is None
    assert len(told) == 4
    assert "state.pt is not what was written" in told[-1]
    assert {path.name for path in tmp_path.iterdir()} == {"damaged-checkpoint-2", "damaged-checkpoint-3"}


def test_a_base_that_diverges_stops_at_that_step_and_leaves_no_base(tmp_path: Path) -> None:
    recipe = mini_recipe()
    recipe["base"]["phases"][0]["learning_rate"] = 1e40  # beyond float32: infinite after the first step
    printed = failure(tmp_path, recipe)
    assert "base: the loss is nan and the gradient's norm nan at step 2: the training has diverged" in printed
    assert "Lower the learning_rate" in printed
    assert not (tmp_path / "out" / "base").exists()


def test_a_tier_that_diverges_keeps_its_checkpoints_and_becomes_no_tier(tmp_path: Path) -> None:
    # With two rollouts of warm-up the first has rate 0; half of 1e39 is beyond float32.
    printed = failure(tmp_path, one_tier(learning_rate=1e39, warmup_steps=2))
    out = tmp_path / "out"
    assert "alpha-0.4: the weights are not finite at step 2: the run has diverged" in printed
    assert "Lower rl.learning_rate" in printed
    assert (
        checkpoints.newest(out / "work" / "checkpoints" / "alpha-0.4")
        == out / "work/checkpoints/alpha-0.4/checkpoint-1"
    )
    assert not list(out.glob("alpha-*"))


def test_a_model_that_gives_no_probabilities_any_more_has_diverged(tmp_path: Path) -> None:
    printed = failure(tmp_path, one_tier(learning_rate=1e30))  # finite, but no logits come of such weights
    assert "alpha-0.4: the model's probabilities are not finite: the run has diverged" in printed
    assert not list((tmp_path / "out").glob("alpha-*"))


def never_right(window: int) -> dict[str, Any]:
    """Responses are cut off before they can be right, so that the floor is passed after `window` rollouts."""
    return one_tier(max_new_tokens=4, alarm={"window": window, "accuracy_floor": 0.5})


def test_a_collapsed_run_gives_its_best_checkpoint_and_everything_says_so(tmp_path: Path) -> None:
    out = tmp_path / "out"
    printed = train(write_recipe(tmp_path, never_right(2)), out, seconds=PATIENCE)
    reason = (
        "stopped by the alarm: accuracy is 0%, below the floor of 50% (mean of 2 rollouts). The tier is checkpoint-1"
    )
    assert f"alpha-0.4: {reason}" in " ".join(printed.split())
    curve = json.loads((out / "work" / "curves" / "alpha-0.4.json").read_text())
    assert [entry["step"] for entry in curve] == [1, 2]
    assert reason in curve[-1]["stopped"]
    assert f"alpha-0.4: {reason}" in (out / "report" / "report.md").read_text()
    assert find_problems(out) == []


def test_a_collapse_before_the_first_checkpoint_is_one_clear_message(tmp_path: Path) -> None:
    printed = failure(tmp_path, never_right(1))
    assert "alpha-0.4: collapsed at rollout 1, before its first checkpoint: accuracy is 0%" in printed
    assert "see rl.alarm" in printed
    assert not list((tmp_path / "out").glob("alpha-*"))


# TRL's own client of a vLLM server, spoken to by a server that takes the request and dies.
DYING_ENGINE = """
import socket, sys, threading
from pathlib import Path

import requests
from trl.generation.vllm_client import VLLMClient

from alphatier_training.errors import TrainingError
from alphatier_training.tier import build_trainer
from alphatier_training.run.folder import RunFolder
from alphatier_training.run.reporting import silent

folder, work = RunFolder(Path(sys.argv[1])), Path(sys.argv[2])
folder.checkpoints = lambda stage: work / stage
trainer = build_trainer(folder.recipe(), folder, 0.4, silent)

listener = socket.create_server(("127.0.0.1", 0))

def die():
    connection, _ = listener.accept()
    connection.recv(1)
    listener.close()
    connection.close()

threading.Thread(target=die, daemon=True).start()
client = object.__new__(VLLMClient)  # whose constructor wants vLLM installed, and a GPU to send weights from
client.session, client.model = requests.Session(), "base"
client.base_url = trainer.args.vllm_server_base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
trainer.args.use_vllm, trainer.args.vllm_mode = True, "server"
trainer._generate_single_turn = lambda prompt_ids, *rest: client.generate(prompt_ids)
try:
    trainer.train()
except TrainingError as error:
    print(client.base_url in str(error), str(error))
"""


def test_an_engine_that_dies_in_a_rollout_is_named_with_the_way_to_go_on(trained: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", DYING_ENGINE, str(trained), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    printed = done.stdout.splitlines()[-1]
    assert printed.startswith("True the engine at http://127.0.0.1:")
    assert "Connection" in printed
    assert "start it again" in printed
    assert "run the same command again to go on from the last checkpoint" in printed
