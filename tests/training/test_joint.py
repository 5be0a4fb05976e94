"""The tiers of all alphas in one run: each row's own adapter, weights of separate runs, and going on after a stop."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from alphatier_models import directory_sha256, load_family
from alphatier_training.errors import TrainingError
from alphatier_training.joint import adapter_name, make_joint
from alphatier_training.recipe.reading import parse_recipe
from support.mini_training import (
    assert_same_family,
    kill_when,
    mini_recipe,
    start_training,
    train,
    write_recipe,
)

TINY = Path(__file__).parents[2] / "models" / "tiny"
CONFIG = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
IDS = torch.arange(24).view(4, 6) % 16
ALPHAS = (0.0, 0.1, 0.4)
VLLM = {"device": "auto", "generation": {"engine": "vllm_colocate"}}


def joint_recipe(**rl: Any) -> dict[str, Any]:
    recipe = mini_recipe()
    return recipe | {
        "base": {"kind": "pretrained", "model": str(TINY / "base")},
        "rl": recipe["rl"] | {"joint": True, "temperature": 1.5, "loss": {"constant": 1}} | rl,
        "evaluation": {"problems": 20, "max_new_tokens": 48},
    }


def base() -> Any:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=16, **sizes)).eval()


def test_each_row_runs_with_its_alphas_adapter_and_trains_no_other() -> None:
    model = get_peft_model(base(), CONFIG)
    joint = make_joint(model, ALPHAS)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.3)
    joint.alphas = torch.tensor([0.4, 0.0, 0.1, 0.4])
    logits = model(input_ids=IDS).logits
    for row, alpha in enumerate((0.4, 0.0, 0.1, 0.4)):
        alone = get_peft_model(base(), CONFIG)
        set_peft_model_state_dict(alone, get_peft_model_state_dict(model, adapter_name=adapter_name(alpha)))
        torch.testing.assert_close(logits[row], alone(input_ids=IDS).logits[row], rtol=1e-5, atol=1e-5)
    logits[2].sum().backward()
    trained = {
        name.split(".")[-2] for name, part in model.named_parameters() if part.grad is not None and part.grad.any()
    }
    assert trained == {"alpha-0_1"}


# In a process of its own: importing TRL imports vLLM where it is installed, which changes its process.
RUNS = """
import sys, zlib
from collections import Counter
from dataclasses import replace
from pathlib import Path
import torch
from peft import get_peft_model_state_dict
from safetensors.torch import save_file
from alphatier_training.recipe.reading import load_recipe
from alphatier_training.run.base import fetch_base
from alphatier_training.run.folder import RunFolder
from alphatier_training.run.reporting import silent
from alphatier_training.tier import build_trainer
from alphatier_training.tiny.llama import FastLlama

out = Path(sys.argv[1])

def made_up(self, input_ids, attention_mask, generation_config, **_):
    "Responses that depend on the prompt and on which of its samples each is, and on nothing else in the batch."
    seen, responses = Counter(), []
    for ids in input_ids:
        prompt = tuple(ids[ids != generation_config.pad_token_id].tolist())
        seed = torch.Generator().manual_seed(zlib.crc32(repr((prompt, seen[prompt] % 4)).encode()))
        seen[prompt] += 1
        length = int(torch.randint(1, 20, (1,), generator=seed))
        tokens = torch.randint(8, 40, (length,), generator=seed).tolist()
        responses.append(torch.tensor([*tokens, generation_config.eos_token_id[0]]))
    padding = generation_config.pad_token_id
    return torch.cat([input_ids, torch.nn.utils.rnn.pad_sequence(responses, True, padding)], dim=1)

def even(responses, answers):
    return [len(response) % 2 == 0 for response in responses]

FastLlama.generate = made_up
for name, alpha in (("joint", None), ("separate", 0.0), ("separate", 0.4)):
    recipe, folder = load_recipe(out / f"{name}.yaml"), RunFolder(out / f"{name}-{alpha}")
    fetch_base(recipe.base, folder)
    trainer = build_trainer(recipe, folder, alpha, silent)
    trainer.reward_funcs[0] = replace(trainer.reward_funcs[0], grade=even)
    trainer.args.save_strategy = "no"
    trainer.model.double()
    trainer.train()
    norms = [entry["grad_norm"] for entry in trainer.state.log_history if "grad_norm" in entry]
    for adapter in trainer.model.peft_config:
        weights = get_peft_model_state_dict(trainer.model, adapter_name=adapter)
        weights["norms"] = torch.tensor(norms)
        save_file(weights, out / f"{name}-{adapter if alpha is None else alpha}.safetensors")
"""


def test_the_tiers_are_those_of_separate_runs_to_rounding_where_the_responses_are(tmp_path: Path) -> None:
    for name in ("joint", "separate"):
        own = {"joint": name == "joint", "micro_batch": 8, "gradient_clip": 0.01, "advantage": "batch_std"}
        (tmp_path / f"{name}.yaml").write_text(json.dumps(joint_recipe(**own, steps=3)))
    command = [sys.executable, "-W", "ignore", "-c", RUNS, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    joint = {alpha: load_file(tmp_path / f"joint-{adapter_name(alpha)}.safetensors") for alpha in (0.0, 0.4)}
    norms = joint[0.0].pop("norms"), joint[0.4].pop("norms")
    separate = {alpha: load_file(tmp_path / f"separate-{alpha}.safetensors") for alpha in joint}
    largest = torch.maximum(separate[0.0].pop("norms"), separate[0.4].pop("norms"))
    assert largest.min() > 0.01  # every gradient was clipped
    torch.testing.assert_close(norms[0], largest, rtol=1e-4, atol=0)
    for alpha, alone in separate.items():
        assert joint[alpha].keys() == alone.keys()
        for name, weight in alone.items():
            assert weight.dtype == torch.float64
            torch.testing.assert_close(joint[alpha][name], weight, rtol=1e-6, atol=1e-9)
    assert not all(torch.equal(weight, joint[0.4][name]) for name, weight in joint[0.0].items())


@pytest.mark.timeout(600)
def test_a_killed_run_goes_on_to_the_same_tiers_each_with_an_adapter_of_its_own(tmp_path: Path) -> None:
    recipe, killed = write_recipe(tmp_path, joint_recipe()), tmp_path / "killed"
    train(recipe, tmp_path / "whole")
    begun = start_training(recipe, killed)
    kill_when(lambda: any((killed / "work" / "checkpoints" / "joint").glob("*/complete.json")), begun)
    train(recipe, killed)
    assert_same_family(killed, tmp_path / "whole")
    assert [tier.name for tier in load_family(killed).tiers] == ["base", "alpha-0", "alpha-0.4"]
    assert directory_sha256(killed / "alpha-0") != directory_sha256(killed / "alpha-0.4")


def test_a_recipe_without_it_has_the_checksum_that_it_had() -> None:
    assert '"joint": true' in parse_recipe(joint_recipe(), "recipe").canonical_json()
    assert '"joint"' not in parse_recipe(joint_recipe(joint=False), "recipe").canonical_json()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rl": {"lora": None}}, "joint: the tiers are adapters"),
        ({"rl": {"gated": {}}}, "joint: the tiers are adapters"),
        ({"rl": {"updates_per_rollout": 2}}, "joint: needs updates_per_rollout 1"),
        ({"rl": {"kl": {"coefficient": 0.1}}}, "joint: needs updates_per_rollout 1"),
        ({"rl": {"advantage": "whiten"}}, "other than whiten"),
        ({"rl": {"penalty": {"kind": "hapo"}}}, "remembers nothing"),
        ({"compute": {"device": "auto", "strategy": "fsdp"}}, "set compute.strategy to replicate"),
        ({"compute": VLLM}, "rl.joint: vLLM has one adapter a rollout; set compute.generation.engine to in_process"),
        ({"compute": VLLM, "rl": {"joint": False, "gated": {}}}, "rl.gated: vLLM has one adapter a rollout"),
    ],
)
def test_what_does_not_fit_together_is_said(change: dict[str, Any], said: str) -> None:
    recipe = joint_recipe(**change.pop("rl", {})) | change
    with pytest.raises(TrainingError, match=said):
        parse_recipe(recipe, "recipe")
