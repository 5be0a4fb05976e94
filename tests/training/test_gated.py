"""A gated adapter: what each row's alpha does to the result and to the gradients, and its export."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from alphatier_models.errors import GatedError
from alphatier_models.gated import export
from alphatier_training.errors import TrainingError
from alphatier_training.gated import Dial, make_gated
from alphatier_training.tiny.llama import FastLlama

CONFIG = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
IDS = torch.arange(24).view(4, 6) % 16


def base() -> Any:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=16, **sizes)).eval()


@pytest.fixture
def gated() -> tuple[Any, Dial]:
    """A gated model whose every weight is something, in training."""
    model = get_peft_model(base(), CONFIG)
    dial = make_gated(model, largest=0.8, shared_below=0.05)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.3)
    return model, dial


def run(model: Any, dial: Dial, *alphas: float) -> Tensor:
    dial.alphas = torch.tensor(alphas)
    logits: Tensor = model(input_ids=IDS[: len(alphas)]).logits
    return logits


def save(model: Any, folder: Path) -> Path:
    folder.mkdir()
    save_file(get_peft_model_state_dict(model), folder / "adapter_model.safetensors")
    CONFIG.save_pretrained(folder)
    (folder / "gate.json").write_text(json.dumps({"largest": 0.8}))
    return folder


@pytest.mark.parametrize("alpha", [0.0, 0.05, 0.37, 0.8])
def test_its_export_at_an_alpha_is_an_ordinary_adapter_with_the_same_logits(
    gated: tuple[Any, Dial], tmp_path: Path, alpha: float
) -> None:
    target = tmp_path / "made"
    target.mkdir()
    export(save(gated[0], tmp_path / "gated"), alpha, target)
    ordinary = PeftModel.from_pretrained(base(), target)
    with torch.no_grad():
        torch.testing.assert_close(ordinary(input_ids=IDS).logits, run(*gated, *[alpha] * 4), rtol=1e-5, atol=1e-5)


def test_rows_of_several_alphas_are_each_at_their_own(gated: tuple[Any, Dial]) -> None:
    with torch.no_grad():
        together = run(*gated, 0.0, 0.02, 0.4, 0.8)
        for row, alpha in enumerate((0.0, 0.02, 0.4, 0.8)):
            torch.testing.assert_close(together[row], run(*gated, *[alpha] * 4)[row], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(together[0], run(*gated, *[0.8] * 4)[0], atol=1e-2)


def gradients(model: Any, dial: Dial, rows: slice, *alphas: float) -> dict[str, Tensor]:
    model.zero_grad()
    run(model, dial, *alphas)[rows].sum().backward()  # type: ignore[no-untyped-call]
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


def test_only_rows_near_alpha_0_train_the_shared_half_and_only_the_others_the_turned_one(
    gated: tuple[Any, Dial],
) -> None:
    shared = [name for name in gradients(*gated, slice(None), 0.0, 0.4) if "lora_A" in name]
    by_far_rows = gradients(*gated, slice(1, 2), 0.0, 0.4)
    by_alpha_0 = gradients(*gated, slice(0, 1), 0.0, 0.4)
    for name in shared:
        halves = [torch.split(gradient, 4) for gradient in (by_far_rows[name], by_alpha_0[name])]
        assert [[bool(half.any()) for half in pair] for pair in halves] == [[False, True], [True, False]]


def test_layers_below_get_the_gradient_that_passes_the_shared_half(gated: tuple[Any, Dial]) -> None:
    model, dial = gated
    closed = gradients(model, dial, slice(None), 0.4, 0.4)
    dial.shared_below = 1.0
    opened = gradients(model, dial, slice(None), 0.4, 0.4)
    assert all(torch.allclose(closed[name], opened[name], atol=1e-5) for name in closed if "lora_gate" in name)


def test_the_small_llama_that_sorts_and_drops_rows_keeps_each_at_its_alpha(gated: tuple[Any, Dial]) -> None:
    model, dial = gated
    fast = get_peft_model(FastLlama(model.get_base_model().config).eval(), CONFIG)
    fast_dial = make_gated(fast, largest=0.8, shared_below=0.05)
    fast.load_state_dict(model.state_dict())
    alphas = torch.tensor([0.0, 0.8, 0.4, 0.02])
    mask = torch.arange(6) >= torch.tensor([3, 0, 2, 1]).unsqueeze(1)  # padded on the left, out of order
    settings = GenerationConfig(max_new_tokens=12, do_sample=False, eos_token_id=[3, 5, 7], pad_token_id=0)
    dial.alphas = fast_dial.alphas = alphas
    with torch.no_grad():
        stock = model(
            input_ids=IDS, attention_mask=mask.long(), position_ids=(mask.cumsum(1) - 1).clamp(min=0)
        ).logits
        torch.testing.assert_close(fast(input_ids=IDS, attention_mask=mask.long()).logits[mask], stock[mask])
        together = fast.generate(input_ids=IDS, attention_mask=mask.long(), generation_config=settings)
        ended = set()
        for row, alpha in enumerate(alphas):
            fast_dial.alphas = alpha.view(1)
            own = fast.generate(input_ids=IDS[[row]], attention_mask=mask[[row]].long(), generation_config=settings)
            assert together[row, : own.shape[1]].tolist() == own[0].tolist()
            ended.add(own.shape[1])
    assert len(ended) > 1  # rows were dropped on the way


def test_a_batch_whose_rows_are_not_those_of_the_dial_is_an_error(gated: tuple[Any, Dial]) -> None:
    gated[1].alphas = torch.zeros(3)
    with pytest.raises(TrainingError, match="3 alphas for 4 rows"):
        gated[0](input_ids=IDS)


def test_an_odd_rank_and_an_alpha_outside_are_told(gated: tuple[Any, Dial], tmp_path: Path) -> None:
    odd = get_peft_model(base(), LoraConfig(r=5, target_modules="all-linear"))
    with pytest.raises(TrainingError, match="even rank"):
        make_gated(odd, largest=0.8, shared_below=0.05)
    with pytest.raises(GatedError, match=r"outside 0 to 0\.8"):
        export(save(gated[0], tmp_path / "gated"), 0.9, tmp_path)


def test_an_ordinary_adapter_with_a_gate_json_is_no_gated_one(gated: tuple[Any, Dial], tmp_path: Path) -> None:
    folder, ordinary = save(gated[0], tmp_path / "gated"), tmp_path / "ordinary"
    ordinary.mkdir()
    export(folder, 0.3, ordinary)
    (folder / "gate.json").rename(ordinary / "gate.json")
    target = tmp_path / "made"
    target.mkdir()
    with pytest.raises(GatedError, match=f"{ordinary} is no gated adapter: .*lora_gate.*Restore it from training"):
        export(ordinary, 0.3, target)
    assert list(target.iterdir()) == []
