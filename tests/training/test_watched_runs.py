"""What a run tells of itself: responses that are kept, KL beside the reward, held-out problems, steps that stay."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from alphatier_training.recipe.reading import parse_recipe
from alphatier_training.reward import leave_one_out_advantages
from alphatier_training.rl.keeping import Measured, RolloutFile, measure
from alphatier_training.run.folder import RunFolder
from support.mini_training import mini_recipe

RUN = """
import sys
from pathlib import Path
from alphatier_training.tier import train_tier
from alphatier_training.run.folder import RunFolder
from alphatier_training.run.reporting import silent

folder = RunFolder(Path(sys.argv[1]))
train_tier(folder.recipe(), folder, 0.4, silent)
"""

RL = {"rollouts_saved": 16, "kl": {"coefficient": 0.1}, "learning_rate": 0.01, "max_new_tokens": 96}
"""Every response is kept; the shipped base solves most problems."""


def trained(root: Path, **rl: Any) -> RunFolder:
    """Three rollouts over the shipped base, in a process of its own."""
    recipe = mini_recipe()
    recipe["rl"] |= RL | rl
    folder = RunFolder(root)
    root.mkdir()
    folder.base.symlink_to(Path("models/tiny/base").resolve())
    folder.work.mkdir()
    folder.recipe_file.write_text(parse_recipe(recipe, "test").canonical_json())
    return go_on(folder)


def go_on(folder: RunFolder) -> RunFolder:
    """The run, from its last checkpoint where there is one."""
    command = [sys.executable, "-W", "ignore", "-c", RUN, str(folder.root)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, env=os.environ.copy())
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run with everything on."""
    root = tmp_path_factory.mktemp("watched") / "run"
    return trained(root, keep_steps=True, heldout={"every": 1, "problems": 4})


def saved(folder: RunFolder) -> list[dict[str, Any]]:
    lines = (folder.work / "rollouts" / "alpha-0.4.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def curve(folder: RunFolder) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(folder.curve("alpha-0.4").read_text())
    return found


def test_the_responses_of_each_rollout_can_be_read_with_what_they_were_worth(watched: RunFolder) -> None:
    responses = saved(watched)
    assert [one["step"] for one in responses] == [1] * 16 + [2] * 16 + [3] * 16
    for one in responses:
        assert (one["reward"] > 0) is one["right"]
        assert one["tokens"] <= 96
        assert not one["right"] or rf"\boxed{{{one['answer']}}}" in one["response"]
    assert any(one["right"] for one in responses)
    assert len({one["prompt"] for one in responses}) == 12


def test_the_logged_reward_is_without_the_kl_whose_cost_is_logged_beside_it(watched: RunFolder) -> None:
    responses, entries = saved(watched), curve(watched)
    for entry in entries:
        rewards = [one["reward"] for one in responses if one["step"] == entry["step"]]
        assert entry["reward"] == pytest.approx(fmean(rewards), abs=1e-6)
        assert entry["kl"] >= 0  # k3 of the update, without TRL's k1 mixed in
    assert entries[0]["kl_cost"] == pytest.approx(0, abs=1e-6)  # the adapter begins as the base
    assert entries[2]["kl_cost"] != 0
    group = [one for one in responses if one["step"] == 1][:4]
    expected = leave_one_out_advantages([one["reward"] for one in group])
    assert [one["advantage"] for one in group] == pytest.approx(expected, abs=1e-5)


def test_held_out_problems_are_tried_after_each_rollout_and_rank_the_checkpoints(watched: RunFolder) -> None:
    entries = curve(watched)
    assert all(0 < entry["heldout_accuracy"] <= 1 for entry in entries)
    newest = json.loads((watched.checkpoints("alpha-0.4") / "checkpoint-3" / "measured.json").read_text())
    assert (newest["accuracy"], newest["tokens"]) == (entries[2]["heldout_accuracy"], entries[2]["heldout_tokens"])


def test_each_checkpoints_tier_stays_on_request(watched: RunFolder) -> None:
    steps = watched.work / "steps" / "alpha-0.4"
    assert sorted(step.name for step in steps.iterdir()) == ["step-1", "step-2", "step-3"]
    last, tier = (folder / "adapter_model.safetensors" for folder in (steps / "step-3", watched.tier("alpha-0.4")))
    assert last.read_bytes() == tier.read_bytes()
    assert (steps / "step-1" / "adapter_model.safetensors").read_bytes() != tier.read_bytes()


def test_watching_changes_nothing(watched: RunFolder, tmp_path: Path) -> None:
    plain = trained(tmp_path / "plain")
    assert saved(plain) == saved(watched)
    assert not (plain.work / "steps").exists()
    assert "heldout_accuracy" not in curve(plain)[0]


def test_a_run_goes_on_with_what_its_penalty_remembered(tmp_path: Path) -> None:
    penalty = {"kind": "leash", "target_tokens": 10, "rate": 0.5}
    whole = trained(tmp_path / "whole", penalty=penalty, checkpoints_kept=4, kl={"coefficient": 0})
    resumed = RunFolder(tmp_path / "resumed")
    shutil.copytree(whole.root, resumed.root, symlinks=True)
    for step in (2, 3):
        shutil.rmtree(resumed.checkpoints("alpha-0.4") / f"checkpoint-{step}")
    shutil.rmtree(resumed.tier("alpha-0.4"))
    go_on(resumed)
    tiers = [(folder.tier("alpha-0.4") / "adapter_model.safetensors").read_bytes() for folder in (whole, resumed)]
    assert tiers[0] == tiers[1]
    assert saved(resumed) == saved(whole)
    pressures = [
        json.loads((folder.checkpoints("alpha-0.4") / "checkpoint-3" / "trainer_state.json").read_text())
        for folder in (whole, resumed)
    ]
    assert pressures[0]["stateful_callbacks"]["penalty"] == pressures[1]["stateful_callbacks"]["penalty"]
    assert pressures[0]["stateful_callbacks"]["penalty"]["pressure"] > 1


def test_a_run_that_was_killed_takes_its_responses_again(tmp_path: Path) -> None:
    file = RolloutFile(tmp_path / "rollouts" / "alpha-0.jsonl", most=2)
    file.forget_after(0)
    for step in (1, 2, 3):
        file.append(step, {"response": [str(number) for number in range(5)]})
    with file.path.open("a") as stream:
        stream.write('{"step": 4, "resp')
    file.forget_after(2)
    assert [json.loads(line)["step"] for line in file.path.read_text().splitlines()] == [1, 1, 2, 2]


def test_no_responses_are_kept_where_none_are_asked_for(tmp_path: Path) -> None:
    file = RolloutFile(tmp_path / "alpha-0.jsonl", most=0)
    file.append(1, {"response": ["1"]})
    assert not file.path.exists()


def test_a_checkpoint_is_measured_by_the_last_held_out_figures_since_the_one_before() -> None:
    rollouts = [{"step": n, "accuracy": 0.1, "tokens": 10.0, "reward": 0.1} for n in range(1, 7)]
    heldout = [{"step": n, "eval_accuracy": n / 10, "eval_tokens": 5.0 * n, "eval_reward": 0.2} for n in (2, 4, 6)]
    assert measure([*rollouts, *heldout], step=6, since=3) == Measured(6, 0.6, 30, 0.2)
    assert measure([*rollouts, *heldout], step=5, since=4) == Measured(5, 0.1, 10, 0.1)
