"""TRL's trainer with this reward: its advantages are the leave-one-out ones of the paper's rewards, exactly."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from alphatier_training.method.reward import leave_one_out_advantages, length_penalised_rewards

# In a process of its own: importing TRL imports vLLM where it is installed, which changes its process.
STEP = """
import json, sys
from dataclasses import replace
from pathlib import Path
from alphatier_training.run.folder import RunFolder
from alphatier_training.run.reporting import silent
from alphatier_training.rl.tier import build_trainer

folder, work = RunFolder(Path(sys.argv[1])), Path(sys.argv[2])
folder.checkpoints = lambda stage: work / stage
recipe = folder.recipe()

def remember(response, answer):  # the hardly trained model is never right, so call even lengths right
    return len(response) % 2 == 0

def one_run(alpha):
    trainer = build_trainer(recipe, folder, alpha, silent)
    reward, seen = replace(trainer.reward_funcs[0], grade=remember), {}

    def record(prompts, completions, completion_ids, **columns):
        ended = [ids[-1] in reward.end_token_ids for ids in completion_ids]
        seen["correct"] = [end and remember(c[-1]["content"], "") for end, c in zip(ended, completions)]
        seen["lengths"] = [len(ids) for ids in completion_ids]
        seen["rewards"] = reward(prompts=prompts, completions=completions, completion_ids=completion_ids, **columns)
        return seen["rewards"]

    def remember_advantages(rollout, compute=trainer._advantages):
        tokens = compute(rollout)
        seen["advantages"] = tokens[:, 0].tolist()
        return tokens

    trainer.reward_funcs[0], trainer._advantages = record, remember_advantages
    trainer.args.save_strategy = "no"
    trainer.train()
    return seen | {"trl": list(trainer._logs["advantages"]), "group": recipe.rl.samples_per_prompt}

print(json.dumps({alpha: one_run(float(alpha)) for alpha in ("0", "0.4")}))
"""


def test_trls_advantages_are_the_pure_functions_ones(trained: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", STEP, str(trained), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    for alpha, seen in json.loads(done.stdout.splitlines()[-1]).items():
        rewards, advantages = expected(seen["correct"], seen["lengths"], float(alpha), seen["group"])
        assert any(rewards)
        assert seen["rewards"] == rewards
        assert seen["advantages"] == pytest.approx(advantages, abs=1e-6)  # float32
        assert seen["trl"] == pytest.approx(advantages, abs=1e-6)
        if alpha == "0":
            assert rewards == [float(right) for right in seen["correct"]]


def expected(correct: list[bool], lengths: list[int], alpha: float, size: int) -> tuple[list[float], list[float]]:
    """Rewards and advantages of a rollout, group by group."""
    rewards: list[float] = []
    advantages: list[float] = []
    for start in range(0, len(lengths), size):
        group = slice(start, start + size)
        own = length_penalised_rewards(correct[group], lengths[group], alpha)
        rewards += own
        advantages += leave_one_out_advantages(own)
    return rewards, advantages
