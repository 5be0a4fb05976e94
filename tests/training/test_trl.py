"""TRL's trainer with this reward: its advantages are the leave-one-out ones of the paper's rewards, exactly."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from alphatier_training.recipe.reading import parse_recipe
from alphatier_training.reward import leave_one_out_advantages, length_penalised_rewards
from alphatier_training.run.folder import RunFolder
from support.mini_training import mini_recipe

# In a process of its own: importing TRL imports vLLM where it is installed, which changes its process.
STEP = """
import json, sys
from dataclasses import replace
from pathlib import Path
from alphatier_training.run.folder import RunFolder
from alphatier_training.run.reporting import silent
from alphatier_training.tier import build_trainer

folder, work = RunFolder(Path(sys.argv[1])), Path(sys.argv[2])
folder.checkpoints = lambda stage: work / stage
recipe = folder.recipe()

def remember(responses, answers):  # the hardly trained model is never right, so call even lengths right
    return [len(response) % 2 == 0 for response in responses]

def one_run(alpha):
    trainer = build_trainer(recipe, folder, alpha, silent)
    reward, seen = replace(trainer.reward_funcs[0], grade=remember), {}

    def record(prompts, completions, completion_ids, **columns):
        ended = [ids[-1] in reward.end_token_ids for ids in completion_ids]
        right = remember([completion[-1]["content"] for completion in completions], answers=None)
        seen["correct"] = [end and good for end, good in zip(ended, right)]
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
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    for alpha, seen in json.loads(done.stdout.splitlines()[-1]).items():
        rewards, advantages = expected(seen["correct"], seen["lengths"], float(alpha), seen["group"])
        assert any(rewards)
        assert seen["rewards"] == rewards
        assert seen["advantages"] == pytest.approx(advantages, abs=1e-6)  # float32
        assert seen["trl"] == pytest.approx(advantages, abs=1e-6)
        if alpha == "0":
            assert rewards == [float(right) for right in seen["correct"]]


TRIMMED = """
import json, sys
from pathlib import Path
import torch
from transformers import AutoModelForCausalLM
from trl import RLOOTrainer
import alphatier_training.tier as tier
from alphatier_training.run.folder import RunFolder
from alphatier_training.run.reporting import silent

folder, work = RunFolder(Path(sys.argv[1])), Path(sys.argv[2])
folder.checkpoints = lambda stage: work / stage
def load_policy(base, device, **_):  # FastLlama sees no padding
    model = AutoModelForCausalLM.from_pretrained(base)
    model.generation_config.eos_token_id = 9  # another than the tokenizer's
    return model
tier.load_policy = load_policy
trainer = tier.build_trainer(folder.recipe(), folder, 0.4, silent)
forwards = []
def remember_shape(module, args, kwargs):
    forwards.append(tuple(kwargs["input_ids"].shape))
trainer.model.register_forward_pre_hook(remember_shape, with_kwargs=True)
ids = torch.randint(7, 30, (6, 20), generator=torch.Generator().manual_seed(0))
mask = torch.ones(6, 20, dtype=torch.long)
for row, (before, after) in enumerate([(2, 9), (1, 10), (0, 12), (3, 4), (2, 5), (4, 3)]):  # of 8 and of 12
    mask[row, :before] = 0
    mask[row, 20 - after:] = 0
with torch.no_grad():
    asked = (trainer.model, ids, mask, 12, 2)
    own = trainer._get_per_token_logps_and_entropies(*asked, compute_entropy=True)
    seen = list(forwards)
    trls = RLOOTrainer._get_per_token_logps_and_entropies(trainer, *asked, compute_entropy=True)
kept = mask[:, -12:]
gaps = [float(((one - other) * kept).abs().max()) for one, other in zip(own[:2], trls[:2])]
ends = [sorted(trainer.eos_token_ids), sorted(trainer.reward_funcs[0].end_token_ids)]
print(json.dumps({"ends": ends, "gaps": gaps, "shapes": [list(one.shape) for one in own[:2]], "forwards": seen}))
"""


def test_a_micro_batch_is_run_without_the_columns_that_are_only_padding(trained: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", TRIMMED, str(trained), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["gaps"] == pytest.approx([0, 0], abs=1e-5)
    assert found["shapes"] == [[6, 12], [6, 12]]
    assert found["ends"][0] == found["ends"][1]  # where TRL stops is what the reward takes for an end
    assert len(found["ends"][0]) == 2
    # Of 20 columns: rows 0 and 1 leave 1 before and 9 after, rows 2 and 3 leave 0 and 4, rows 4 and 5 leave 2 and 3.
    assert found["forwards"] == [[2, 10], [2, 16], [2, 15]]


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


SYNCED = """
import json, sys
from pathlib import Path
import torch
import trl.trainer.rloo_trainer as rloo
import alphatier_training.tier as tier
from alphatier_training.run.folder import RunFolder
from alphatier_training.run.reporting import silent

class MergesInPlace:
    # An engine that is given the weights as TRL 1.16 gives them to vLLM.
    def __init__(self, model, **settings):
        self.model, self.syncs = model, 0
    def sync_weights(self):
        self.model.merge_adapter()
        self.model.unmerge_adapter()
        self.syncs += 1
    def generate(self, prompts, **settings):
        assert self.logprobs == 0  # asked for those of the sampled tokens
        ids = [[7 + number % 30, 1] for number in range(len(prompts))]
        # First tokens are likely for it (e^-1) and hardly possible (e^-40) in turn; of the second it says nothing.
        return None, ids, [[[-1.0 if row % 2 else -40.0], [None]] for row in range(len(ids))], None

rloo.VLLMGeneration, rloo.is_vllm_available = MergesInPlace, lambda: True
folder, work = RunFolder(Path(sys.argv[1])), Path(sys.argv[2])
folder.checkpoints = lambda stage: work / stage
recipe = folder.recipe()
generation = recipe.compute.generation.model_copy(update={"engine": "vllm_colocate"})
recipe = recipe.model_copy(update={"compute": recipe.compute.model_copy(update={"generation": generation})})
tier.are_correct = lambda responses, answers: [number % 2 == 0 for number in range(len(responses))]
trainer = tier.build_trainer(recipe, folder, 0.4, silent)
trainer.args.save_strategy = "no"
def base():
    weights = trainer.model.named_parameters()
    return {name: weight.detach().clone() for name, weight in weights if not weight.requires_grad}
before, seen = base(), []
def weigh(rollout, engine, compute=trainer._weights):
    weights = compute(rollout, engine)
    seen.append([rollout["old_per_token_logps"].tolist(), weights.tolist()])
    return weights
trainer._weights = weigh
trainer.train()
gap = [entry["mismatch_difference"] for entry in trainer.state.log_history if "mismatch_difference" in entry]
changed = [name for name, weight in base().items() if not torch.equal(weight, before[name])]
MergesInPlace.sync_weights(trainer.vllm_generation)
unguarded = [name for name, weight in base().items() if not torch.equal(weight, before[name])]
syncs = trainer.vllm_generation.syncs - 1
print(json.dumps({"seen": seen, "gap": gap, "syncs": syncs, "changed": changed, "unguarded": len(unguarded)}))
"""


def test_an_engine_changes_no_bit_of_the_base_and_is_weighed_by_its_probabilities(
    trained: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-W", "ignore", "-c", SYNCED, str(trained), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["syncs"] >= 3  # one a rollout
    for (trainer, weights), gap in zip(found["seen"], found["gap"], strict=True):
        # p / q of the first token; the engine told nothing of the second, which then counts as the trainer's.
        gaps = [row[0] - (-1 if number % 2 else -40) for number, row in enumerate(trainer)]
        expected = [
            math.exp(one) if number % 2 else 0 for number, one in enumerate(gaps)
        ]  # e^(40 - a few) is above 3
        assert [row[0] for row in weights] == pytest.approx(expected, rel=1e-4)
        assert gap == pytest.approx(sum(map(abs, gaps)) / (2 * len(gaps)), rel=1e-4)
    assert found["changed"] == []
    assert found["unguarded"] > 0  # without the guard, the same merge does change them


GRADIENTS = """
import json, random, sys
from collections import Counter
from pathlib import Path
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer
import alphatier_training.tier as tier
from alphatier_training.rl.rollout_reward import LengthPenalisedReward
from alphatier_training.run.folder import RunFolder
from alphatier_training.run.reporting import silent

folder, gradients = RunFolder(Path(sys.argv[1])), {}
recipe = folder.recipe()

def right(responses, answers):
    return [sum(map(ord, response)) % 3 > 0 for response in responses]

class Given:
    # The same responses for all: a few likely tokens and an end, depending on the prompt and on the sample's number.
    def _generate_single_turn(self, prompt_ids, *_, **__):
        number, responses = Counter(), []
        for ids in map(tuple, prompt_ids):
            dice = random.Random(repr((ids, number[ids])))
            number[ids] += 1
            responses.append([dice.randrange(7, 38) for _ in range(dice.randint(3, 40))] + [self.eos_token_ids[0]])
        return (responses, None) if isinstance(self, GRPOTrainer) else responses

class Remembers(TrainerCallback):
    def __init__(self, name):
        self.name = name
    def on_pre_optimizer_step(self, args, state, control, model, **_):
        gradients[self.name] = torch.cat([part.grad.flatten() for part in model.parameters()])

class Ours(Given, tier.EfficiencyTrainer):
    pass

class Rloo(Given, RLOOTrainer):
    pass

class Grpo(Given, GRPOTrainer):
    pass

tier.EfficiencyTrainer, tier.are_correct = Ours, right
ours = tier.build_trainer(recipe, folder, 0.4, silent)
shared = {
    name: getattr(ours.args, name)
    for name in (
        "per_device_train_batch_size", "gradient_accumulation_steps", "steps_per_generation", "num_generations",
        "max_completion_length", "temperature", "top_p", "top_k", "shuffle_dataset", "learning_rate", "seed",
        "max_grad_norm", "use_cpu", "gradient_checkpointing", "disable_tqdm", "report_to",
    )
} | {"beta": 0.0, "max_steps": 1, "bf16": False, "save_strategy": "no", "output_dir": sys.argv[1] + "/out"}

def trls(trainer, config, **settings):
    return trainer(
        model=AutoModelForCausalLM.from_pretrained(folder.base),
        reward_funcs=ours.reward_funcs[0],
        args=config(**shared, **settings),
        train_dataset=ours.train_dataset,
        processing_class=AutoTokenizer.from_pretrained(folder.base, padding_side="left"),
    )

trainers = {
    "ours": ours,
    "rloo": trls(Rloo, RLOOConfig, normalize_advantages=False),
    "grpo": trls(Grpo, GRPOConfig, scale_rewards="none", loss_type="dr_grpo"),
}
for name, trainer in trainers.items():
    trainer.args.save_strategy = "no"
    trainer.add_callback(Remembers(name))
    trainer.train()
norm = gradients["rloo"].norm()
scale = {"ours": recipe.rl.max_new_tokens, "grpo": recipe.rl.max_new_tokens * 4 / 3, "unscaled": 1}
gradients["unscaled"] = gradients["grpo"] * recipe.rl.max_new_tokens
gaps = {name: float((gradients[name] * by - gradients["rloo"]).norm() / norm) for name, by in scale.items()}
print(json.dumps({"norm": float(norm), "gaps": gaps}))
"""


def test_rloo_and_grpo_have_the_same_gradient_but_for_a_factor(tmp_path: Path) -> None:
    recipe = mini_recipe()
    recipe["rl"] |= {"steps": 1, "lora": None, "gradient_clip": 1e9}
    (tmp_path / "base").symlink_to(Path("models/tiny/base").resolve())
    folder = RunFolder(tmp_path)
    folder.work.mkdir()
    folder.recipe_file.write_text(parse_recipe(recipe, "test").canonical_json())
    command = [sys.executable, "-W", "ignore", "-c", GRADIENTS, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["norm"] > 0.1
    # RLOO sums tokens; ours and dr_grpo divide by the longest response. Leave-one-out: n / (n - 1) = 4 / 3.
    assert found["gaps"]["ours"] < 1e-4
    assert found["gaps"]["grpo"] < 1e-4
    assert found["gaps"]["unscaled"] == pytest.approx(1 / 4, rel=1e-3)
