"""The fast paths of a tiny Llama against transformers' own, and what is saved against what was trained."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoTokenizer, GenerationConfig, LlamaConfig, LlamaForCausalLM

from alphatier_training.evaluation.samples import Plan
from alphatier_training.evaluation.sampling import complete
from alphatier_training.rl.policy import load_policy
from alphatier_training.tiny.llama import FastLlama

PAD, END = 0, 1


def random_model(kind: type[LlamaForCausalLM], seed: int = 0, kv_heads: int = 2) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=48,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=kv_heads,
        head_dim=16,
        intermediate_size=48,
        initializer_range=0.3,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=END,
        pad_token_id=PAD,
    )
    return kind(config).eval()


def left_padded(rows: int = 12, width: int = 10) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    lengths = torch.randint(2, width + 1, (rows, 1))
    mask = (torch.arange(width) >= width - lengths).long()
    return torch.randint(2, 48, (rows, width)) * mask, mask


def with_adapter(model: LlamaForCausalLM) -> LlamaForCausalLM:
    wrapped = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.2)
    return wrapped.eval()


def generated(model: LlamaForCausalLM, ids: torch.Tensor, mask: torch.Tensor, **settings: Any) -> list[list[int]]:
    config = GenerationConfig(**{"max_new_tokens": 40, "eos_token_id": END, "pad_token_id": PAD} | settings)
    rows: list[list[int]] = model.generate(input_ids=ids, attention_mask=mask, generation_config=config).tolist()
    return rows


@pytest.mark.parametrize("kv_heads", [2, 1])
@pytest.mark.parametrize("adapter", [False, True])
@pytest.mark.parametrize("many", [3, 6])
def test_greedy_sampling_equals_transformers_token_for_token(kv_heads: int, adapter: bool, many: int) -> None:
    models = [random_model(kind, kv_heads=kv_heads) for kind in (LlamaForCausalLM, FastLlama)]
    stock, fast = [with_adapter(model) for model in models] if adapter else models
    fast.load_state_dict(stock.state_dict())
    ids, mask = left_padded()
    endless = generated(stock, ids, mask, do_sample=False)
    ends = [row[ids.shape[1] + 3 * number + 2] for number, row in enumerate(endless[:many])]
    rows = generated(fast, ids, mask, do_sample=False, eos_token_id=ends)
    assert rows == generated(stock, ids, mask, do_sample=False, eos_token_id=ends)
    ended = [row[ids.shape[1] :].index(PAD) for row in rows if PAD in row[ids.shape[1] :]]
    assert len(set(ended)) > 1  # one after the other, so that the batch shrinks


@pytest.mark.parametrize("top_p", [1.0, 0.6])
def test_sampling_draws_from_the_models_distribution(top_p: float) -> None:
    model = random_model(FastLlama)
    ids, mask = torch.tensor([[5, 6, 7]]).repeat(20_000, 1), torch.ones(20_000, 3, dtype=torch.long)
    drawn = generated(model, ids, mask, max_new_tokens=1, do_sample=True, temperature=0.7, top_p=top_p)
    probabilities = (model(input_ids=ids[:1]).logits[0, -1] / 0.7).softmax(-1)
    likeliest, order = probabilities.sort(descending=True)
    nucleus = int((likeliest.cumsum(0) < top_p).sum()) + 1
    expected = torch.zeros(48).index_copy(0, order[:nucleus], likeliest[:nucleus] / likeliest[:nucleus].sum())
    # Half the summed differences of 48 shares from 20,000 draws is about sqrt(48 / 20,000) / 2.5 = 0.02.
    shares = torch.bincount(torch.tensor([row[-1] for row in drawn]), minlength=48) / 20_000
    assert (shares - expected).abs().sum() / 2 < 0.04


def test_leaving_padding_out_changes_no_hidden_state_and_no_gradient() -> None:
    stock, fast = random_model(LlamaForCausalLM), random_model(FastLlama)
    fast.load_state_dict(stock.state_dict())
    ids, mask = left_padded(rows=70)
    mask[::2, -1] = 0  # padding on the right too
    ours, theirs = (m(input_ids=ids, attention_mask=mask, use_cache=False).logits for m in (fast, stock))
    real = mask.bool()
    torch.testing.assert_close(ours[real], theirs[real], atol=1e-4, rtol=1e-4)
    for logits in (ours, theirs):
        logits[real].logsumexp(-1).sum().backward()
    gradients = zip(fast.named_parameters(), stock.named_parameters(), strict=True)
    for (name, one), (_, other) in gradients:
        torch.testing.assert_close(one.grad, other.grad, atol=1e-3, rtol=1e-3, msg=name)


def test_a_fast_llama_has_the_weights_of_a_stock_one(tmp_path: Path) -> None:
    stock = random_model(LlamaForCausalLM)
    stock.save_pretrained(tmp_path)
    fast = load_policy(tmp_path, "cpu")
    assert isinstance(fast, FastLlama)
    assert fast.lm_head.weight is fast.model.embed_tokens.weight
    for (name, one), (other_name, other) in zip(fast.state_dict().items(), stock.state_dict().items(), strict=True):
        assert name == other_name
        assert torch.equal(one, other)


@pytest.mark.parametrize(("models_own", "ending"), [(" = ", "<think>12 + 25 = "), (": units ", r"\boxed{40}")])
def test_a_response_ends_at_the_models_token_and_at_the_tokenizers(models_own: str, ending: str) -> None:
    folder = "models/tiny/base"
    tokenizer, model = AutoTokenizer.from_pretrained(folder, padding_side="left"), load_policy(folder, "cpu")
    model.generation_config.eos_token_id = tokenizer.convert_tokens_to_ids(models_own)
    plan = Plan("f", "t", "w", "d", (), 1, 1, 0.0, 1.0, 120, 7)
    question = [{"role": "user", "content": "12 + 25 + 3"}]
    ((text, _, truncated),) = complete(model, tokenizer, [question], plan)
    assert not truncated
    assert text.endswith(ending)
