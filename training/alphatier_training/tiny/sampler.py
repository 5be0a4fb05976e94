"""Batched sampling from a small Llama on a CPU, several times faster than ``generate()``.

Differences from ``transformers``' loop, none of which changes the distribution sampled from:

* rows that have ended are dropped from the batch instead of being decoded as padding;
* keys and values are written into preallocated blocks instead of being concatenated;
* LoRA deltas are folded into copies of the weights once per call, and the q/k/v and the gate/up
  projections are one matrix product each, so that Python overhead per token is small.

Check (``tests/training/test_models.py``): greedy decoding (``temperature=0``) of left-padded
prompts of unequal length equals ``LlamaForCausalLM.generate(do_sample=False)`` token for token, for
a plain model and for one wrapped by PEFT with a non-zero LoRA adapter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaForCausalLM

_BLOCK = 64
"""Cache positions allocated at a time."""

_DROP_BELOW = 0.85
"""Ended rows are dropped once the live share of the batch is below this."""


@dataclass(frozen=True)
class _Layer:
    """Weights of one decoder layer, fused: qkv [(heads + 2 kv_heads) * d, hidden], gate_up [2 * ffn, hidden]."""

    input_norm: Tensor
    qkv: Tensor
    output: Tensor
    mlp_norm: Tensor
    gate_up: Tensor
    down: Tensor


@dataclass(frozen=True)
class _Weights:
    """Everything one forward pass needs, detached from the module tree."""

    embedding: Tensor
    layers: tuple[_Layer, ...]
    norm: Tensor
    head: Tensor
    heads: int
    kv_heads: int
    head_size: int
    eps: float


class _Cache:
    """Keys and values of all layers for the live rows: [2, layers, rows, kv_heads, capacity, head_size]."""

    def __init__(self, weights: _Weights, rows: int, length: int) -> None:
        shape = (2, len(weights.layers), rows, weights.kv_heads, length + _BLOCK, weights.head_size)
        self.store = torch.zeros(shape, dtype=weights.embedding.dtype, device=weights.embedding.device)
        self.length = 0

    def reserve(self, count: int) -> None:
        """Make room for ``count`` more positions."""
        missing = self.length + count - self.store.shape[4]
        if missing > 0:
            self.store = functional.pad(self.store, (0, 0, 0, max(missing, _BLOCK)))

    def keep(self, rows: Tensor) -> None:
        """Keep only the given rows, in that order."""
        self.store = self.store[:, :, rows]

    def put(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store new positions of one layer and return all keys and values up to them."""
        end = self.length + key.shape[2]
        self.store[0, layer, :, :, self.length : end] = key
        self.store[1, layer, :, :, self.length : end] = value
        return self.store[0, layer, :, :, :end], self.store[1, layer, :, :, :end]


def _effective(module: nn.Module) -> Tensor:
    """Weight of a linear layer with the active LoRA deltas added.

    Raises:
        ValueError: the layer has a bias, which the fused forward pass leaves out.
    """
    base = getattr(module, "base_layer", module)
    if getattr(base, "bias", None) is not None:
        raise ValueError("sample() supports Llama models without biases")
    weight = cast(Tensor, base.weight).detach()
    if base is module or module.disable_adapters or module.merged:
        return weight
    active = [
        name for name in cast("list[str]", module.active_adapters) if name in cast(nn.ModuleDict, module.lora_A)
    ]
    for name in active:
        delta: Tensor = module.get_delta_weight(name)  # type: ignore[operator]  # a peft LoraLayer
        weight = weight + delta.detach()
    return weight


def _unwrap(model: nn.Module) -> LlamaForCausalLM:
    """The Llama inside a PEFT model or another wrapper.

    Raises:
        TypeError: there is none.
    """
    for module in model.modules():
        if isinstance(module, LlamaForCausalLM):
            return module
    raise TypeError(f"sample() needs a LlamaForCausalLM, got {type(model).__name__}")


def _gather(llama: LlamaForCausalLM) -> _Weights:
    """Collect and fuse the weights of a Llama."""
    config = llama.config
    layers = tuple(
        _Layer(
            input_norm=layer.input_layernorm.weight.detach(),
            qkv=torch.cat([_effective(getattr(layer.self_attn, f"{name}_proj")) for name in "qkv"]),
            output=_effective(layer.self_attn.o_proj),
            mlp_norm=layer.post_attention_layernorm.weight.detach(),
            gate_up=torch.cat([_effective(layer.mlp.gate_proj), _effective(layer.mlp.up_proj)]),
            down=_effective(layer.mlp.down_proj),
        )
        for layer in llama.model.layers
    )
    return _Weights(
        embedding=llama.model.embed_tokens.weight.detach(),
        layers=layers,
        norm=llama.model.norm.weight.detach(),
        head=_effective(llama.lm_head),
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_size=config.head_dim,
        eps=config.rms_norm_eps,
    )


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding in Llama's half-split layout; cos and sin are [rows, 1, length, head_size]."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


def _forward(weights: _Weights, ids: Tensor, cos: Tensor, sin: Tensor, mask: Tensor, cache: _Cache) -> Tensor:
    """Logits [rows, vocabulary] after the last of ``ids`` [rows, length]; extends the cache.

    ``mask`` is [rows, 1, length, cached + length], true where attention is allowed.
    """
    rows, length = ids.shape
    cache.reserve(length)
    split = [weights.heads, weights.kv_heads, weights.kv_heads]
    hidden = functional.embedding(ids, weights.embedding)
    width = (hidden.shape[-1],)
    for index, layer in enumerate(weights.layers):
        normed = functional.rms_norm(hidden, width, layer.input_norm, weights.eps)
        fused = functional.linear(normed, layer.qkv).view(rows, length, sum(split), weights.head_size).transpose(1, 2)
        query, key, value = torch.split(fused, split, dim=1)
        keys, values = cache.put(index, _rotate(key, cos, sin), value)
        mixed = functional.scaled_dot_product_attention(
            _rotate(query, cos, sin), keys, values, attn_mask=mask, enable_gqa=weights.heads != weights.kv_heads
        )
        hidden = hidden + functional.linear(mixed.transpose(1, 2).reshape(rows, length, -1), layer.output)
        normed = functional.rms_norm(hidden, width, layer.mlp_norm, weights.eps)
        gate, up = functional.linear(normed, layer.gate_up).chunk(2, dim=-1)
        hidden = hidden + functional.linear(functional.silu(gate) * up, layer.down)
    cache.length += length
    return functional.linear(functional.rms_norm(hidden[:, -1], width, weights.norm, weights.eps), weights.head)


def _choose(logits: Tensor, temperature: float, top_p: float, generator: torch.Generator | None) -> Tensor:
    """Next token ids [rows]: greedy at temperature 0, else nucleus sampling after temperature."""
    if temperature == 0:
        return logits.argmax(dim=-1)
    probabilities = (logits.float() / temperature).softmax(dim=-1)
    if top_p < 1:
        ordered, order = probabilities.sort(dim=-1, descending=True)
        before = ordered.cumsum(dim=-1) - ordered
        ordered = ordered.masked_fill(before >= top_p, 0.0)
        picked = torch.multinomial(ordered, 1, generator=generator)
        return order.gather(1, picked).squeeze(1)
    return torch.multinomial(probabilities, 1, generator=generator).squeeze(1)


@torch.no_grad()
def sample(
    model: nn.Module,
    input_ids: Tensor,
    attention_mask: Tensor,
    *,
    max_new_tokens: int,
    temperature: float,
    top_p: float,
    eos_token_id: int,
    pad_token_id: int,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Sample one completion for each prompt, with the contract of ``generate(do_sample=True)``.

    Args:
        model: A ``LlamaForCausalLM``, or one inside PEFT (LoRA, no bias) or another wrapper.
        input_ids: Prompts [batch, prompt], padded on the left.
        attention_mask: 1 for prompt tokens, 0 for padding; same shape.
        max_new_tokens: Most tokens to add to a prompt.
        temperature: Softmax temperature; 0 decodes greedily.
        top_p: Nucleus kept, 1 keeps all.
        eos_token_id: Token that ends a completion; it is part of it.
        pad_token_id: Fills rows after their end.
        generator: Source of randomness; torch's global one if none.

    Returns:
        Prompts and completions [batch, prompt + new], where new is the longest completion's length.
    """
    weights = _gather(_unwrap(model))
    batch, prompt = input_ids.shape
    positions = (attention_mask.long().cumsum(dim=-1) - 1).clamp(min=0)
    span = torch.arange(prompt + max_new_tokens, device=input_ids.device).unsqueeze(0)
    all_cos, all_sin = _unwrap(model).model.rotary_emb(weights.embedding, span)
    all_cos, all_sin = all_cos[0], all_sin[0]

    visible = torch.ones(batch, prompt + max_new_tokens, dtype=torch.bool, device=input_ids.device)
    visible[:, :prompt] = attention_mask.bool()
    causal = torch.ones(prompt, prompt, dtype=torch.bool, device=input_ids.device).tril()
    # A padding position attends to itself, so that no row of the softmax is empty.
    mask = (causal & visible[:, None, None, :prompt]) | torch.eye(prompt, dtype=torch.bool, device=input_ids.device)

    output = input_ids.new_full((batch, prompt + max_new_tokens), pad_token_id)
    output[:, :prompt] = input_ids
    rows = torch.arange(batch, device=input_ids.device)
    alive = torch.ones(batch, dtype=torch.bool, device=input_ids.device)
    cache = _Cache(weights, batch, prompt)
    ids, position = input_ids, positions
    for step in range(max_new_tokens):
        cos, sin = all_cos[position].unsqueeze(1), all_sin[position].unsqueeze(1)
        logits = _forward(weights, ids, cos, sin, mask, cache)
        token = _choose(logits, temperature, top_p, generator).masked_fill(~alive, pad_token_id)
        output[rows, prompt + step] = token
        alive = alive & (token != eos_token_id)
        living = int(alive.sum())
        if living == 0:
            return output[:, : prompt + step + 1]
        last = position[:, -1:]
        if living < _DROP_BELOW * len(rows):
            kept = alive.nonzero().squeeze(1)
            rows, token, last, visible, alive = rows[kept], token[kept], last[kept], visible[kept], alive[kept]
            cache.keep(kept)
        ids, position = token.unsqueeze(1), last + 1
        mask = visible[:, None, None, : prompt + step + 1]
    return output
