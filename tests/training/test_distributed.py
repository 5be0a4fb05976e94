"""Several processes a tier: the same rewards, advantages and weights as one, and no group of samples split over two.

Real processes that talk over gloo, started with the launcher's own command. The rollouts are given, so that one
process and two see the same responses: three rollouts of 4 prompts x 4 samples.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alphatier_models import find_problems, load_family
from alphatier_training.errors import TrainingError
from alphatier_training.recipe import Recipe
from alphatier_training.recipe.reading import parse_recipe
from alphatier_training.reward import leave_one_out_advantages, length_penalised_rewards
from alphatier_training.run.folder import RunFolder
from alphatier_training.run.scheduling import WORKER, worker_command
from support.mini_training import EFFORTS, mini_recipe, train, write_recipe

ALPHA, SAMPLES, PROMPTS, ROLLOUTS = 0.4, 4, 4, 3

PATIENCE = 560.0
"""Seconds that a whole run may take on a busy machine."""

RUN = '''
import json, random, sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from alphatier_training.rl.rollout_reward import LengthPenalisedReward
from alphatier_training.tier import build_trainer
from alphatier_training.trainer import EfficiencyTrainer
from alphatier_training.run import ranks
from alphatier_training.run.folder import RunFolder
from alphatier_training.run.reporting import silent

family, work, groups = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
folder = RunFolder(family)
folder.checkpoints = lambda stage: work / stage
recipe = folder.recipe()
recipe = recipe.model_copy(update={"compute": recipe.compute.model_copy(update={"processes": ranks.size()})})
seen = []

class Given(EfficiencyTrainer):
    """Its responses depend on the prompt and on which sample of it they are, on nothing else."""

    def _generate_single_turn(self, prompt_ids, images, multimodal_fields):
        number, responses = Counter(), []
        for ids in map(tuple, prompt_ids):
            dice = random.Random(repr((ids, number[ids])))
            number[ids] += 1
            length = dice.randint(3, 40)
            ended = [self.eos_token_ids[0]] if dice.random() < 0.8 else []
            responses.append([dice.randrange(7, 38) for _ in range(length)] + ended)
        return responses

    def _get_train_sampler(self, dataset=None):
        whole = list(super()._get_train_sampler(dataset))
        return whole if groups == "whole" else whole[2:] + whole[:2]

    def _advantages(self, rollout):
        tokens = super()._advantages(rollout)
        for entry, advantage in zip(seen[-len(tokens):], tokens[:, 0].tolist()):
            entry["advantage"] = advantage
        return tokens

class Recording(LengthPenalisedReward):
    def __call__(self, prompts, completions, completion_ids, **columns):
        rewards = super().__call__(prompts, completions, completion_ids, **columns)
        for prompt, response, ids, reward in zip(prompts, completions, completion_ids, rewards):
            ended = ids[-1] in self.end_token_ids
            seen.append({
                "prompt": prompt[0]["content"],
                "response": ids,
                "correct": ended and even([response[0]["content"]], [""])[0],
                "reward": reward,
            })
        return rewards

    if groups == "unchecked":
        def _groups(self, prompts):
            return (slice(start, start + 4) for start in range(0, len(prompts), 4))

def even(responses, answers):  # the hardly trained model is never right
    return [len(response) % 2 == 0 for response in responses]

import alphatier_training.tier as tier
tier.EfficiencyTrainer, tier.LengthPenalisedReward, tier.are_correct = Given, Recording, even
trainer = build_trainer(recipe, folder, 0.4, silent)
trainer.args.save_strategy = "no"
before = [weight.detach().clone() for weight in trainer.model.parameters() if weight.requires_grad]
trainer.train()
if ranks.is_main():
    after = [weight.detach() for weight in trainer.model.parameters() if weight.requires_grad]
    moved = torch.cat([(new - old).flatten() for new, old in zip(after, before)])
    np.save(work / "moved.npy", moved.numpy())
(work / f"seen-{trainer.accelerator.process_index}.json").write_text(json.dumps(seen))
ranks.barrier()
ranks.leave()
'''


def shared_recipe(processes: int, **compute: Any) -> dict[str, Any]:
    """The mini recipe, a tier shared by several processes."""
    return mini_recipe() | {"compute": {"processes": processes} | compute}


def one_tier(processes: int, **compute: Any) -> dict[str, Any]:
    """The same with one tier, measured on few problems."""
    recipe = shared_recipe(processes, **compute)
    recipe["tiers"] = {"alphas": [ALPHA], "default": "alpha-0.4", "efforts": dict.fromkeys(EFFORTS, "alpha-0.4")}
    recipe["evaluation"]["problems"] = 20
    return recipe


def run(family: Path, work: Path, processes: int, groups: str = "whole") -> subprocess.CompletedProcess[str]:
    """One tier's RL on given responses, in as many processes."""
    work.mkdir()
    script = work / "run.py"
    script.write_text(RUN, encoding="utf-8")
    recipe: Recipe = parse_recipe(shared_recipe(processes), "test")
    launcher = worker_command(recipe, family, ["alpha-0.4"], processes)
    launcher = launcher[: launcher.index(WORKER) - 1]  # all before `-m WORKER`
    command = [*launcher, str(script), str(family), str(work), groups]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, env=environment)


def seen(work: Path) -> list[dict[str, Any]]:
    """Every response of the run, of all processes, in an order that does not depend on which had it."""
    entries = [entry for file in work.glob("seen-*.json") for entry in json.loads(file.read_text())]
    return sorted(entries, key=lambda entry: (entry["prompt"], entry["response"]))


@pytest.fixture(scope="module")
def one_process(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that the others are compared with."""
    work = tmp_path_factory.mktemp("one") / "work"
    done = run(trained, work, 1)
    assert done.returncode == 0, done.stderr
    return work


def test_two_processes_give_the_rewards_advantages_and_weights_of_one(
    trained: Path, one_process: Path, tmp_path: Path
) -> None:
    done = run(trained, tmp_path / "two", 2)
    assert done.returncode == 0, done.stderr
    alone, shared = seen(one_process), seen(tmp_path / "two")
    assert len(alone) == len(shared) == ROLLOUTS * PROMPTS * SAMPLES
    assert [len(json.loads((tmp_path / "two" / f"seen-{rank}.json").read_text())) for rank in (0, 1)] == [24, 24]
    assert any(entry["reward"] not in (0, 1) for entry in alone)
    for left, right in zip(alone, shared, strict=True):
        assert (left["prompt"], left["response"]) == (right["prompt"], right["response"])
        assert left["reward"] == right["reward"]
        assert left["advantage"] == pytest.approx(right["advantage"], abs=1e-6)  # float32
    moved, moved_too = (np.load(work / "moved.npy") for work in (one_process, tmp_path / "two"))
    assert np.linalg.norm(moved - moved_too) < 1e-3 * np.linalg.norm(moved)


def test_rewards_and_advantages_are_those_of_whole_groups(one_process: Path) -> None:
    entries = json.loads((one_process / "seen-0.json").read_text())
    for start in range(0, len(entries), SAMPLES):
        group = entries[start : start + SAMPLES]
        assert len({entry["prompt"] for entry in group}) == 1
        lengths = [len(entry["response"]) for entry in group]
        rewards = length_penalised_rewards([entry["correct"] for entry in group], lengths, ALPHA)
        assert [entry["reward"] for entry in group] == rewards
        advantages = leave_one_out_advantages(rewards)
        assert [entry["advantage"] for entry in group] == pytest.approx(advantages, abs=1e-6)


def test_a_group_that_is_split_over_processes_stops_the_run(trained: Path, tmp_path: Path) -> None:
    done = run(trained, tmp_path / "split", 2, groups="split")
    assert done.returncode != 0
    assert "TrainingError" in done.stderr
    assert "should answer one prompt, but answer several" in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_without_that_check_a_split_group_would_get_other_rewards(
    trained: Path, one_process: Path, tmp_path: Path
) -> None:
    """So the comparison above does fail when a group is split."""
    done = run(trained, tmp_path / "unchecked", 2, groups="unchecked")
    assert done.returncode == 0, done.stderr
    whole = {(entry["prompt"], *entry["response"]): entry["reward"] for entry in seen(one_process)}
    split = {(entry["prompt"], *entry["response"]): entry["reward"] for entry in seen(tmp_path / "unchecked")}
    assert whole.keys() & split.keys()
    assert any(whole[key] != split[key] for key in whole.keys() & split.keys())


def test_a_recipe_that_would_split_groups_is_refused_before_anything_runs() -> None:
    """3 prompts x 4 samples are 6 responses for each of 2 processes: a group and a half."""
    recipe = shared_recipe(2)
    recipe["rl"]["prompts_per_rollout"] = 3
    with pytest.raises(TrainingError, match="3 prompts a rollout do not divide by 2 processes"):
        parse_recipe(recipe, "test")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_processes_train_a_family(tmp_path: Path) -> None:
    printed = train(write_recipe(tmp_path, one_tier(2)), tmp_path / "mini", seconds=PATIENCE)
    assert "alpha-0.4: done" in printed
    assert find_problems(tmp_path / "mini") == []
    assert [tier.name for tier in load_family(tmp_path / "mini").tiers] == ["base", "alpha-0.4"]
    curve = json.loads(RunFolder(tmp_path / "mini").curve("alpha-0.4").read_text())
    assert len(curve) == ROLLOUTS
