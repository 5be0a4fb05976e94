"""transformers' Llama, made faster on a CPU in two places that leave its results as they are.

`generate()` is `sampler.sample`, and padded batches are run without their padding. The weights are a stock Llama's,
and so is what is saved of them.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import LlamaForCausalLM, LlamaModel
from transformers.modeling_outputs import BaseModelOutputWithPast

from alphatier_training.tiny.sampler import sample

ROWS_TOGETHER = 32
"""Rows of like length that go through the model together."""


class UnpaddedLlamaModel(LlamaModel):  # type: ignore[misc]  # transformers has no types for mypy
    """A Llama's backbone that spends nothing on padding.

    In a rollout one long response makes every row long: 256 responses of 40 tokens in the mean are
    padded to 256. Rows are sorted by length, and each run without its padding, on either side.
    Positions then count from a row's first token, which rotary embeddings cannot tell from before.
    """

    def forward(
        self, input_ids: Tensor | None = None, attention_mask: Tensor | None = None, **kwargs: Any
    ) -> BaseModelOutputWithPast:
        """As the stock backbone; hidden states of padding are 0."""
        cached = kwargs.get("use_cache") or kwargs.get("past_key_values") is not None
        if input_ids is None or attention_mask is None or cached or attention_mask.dim() != 2:
            return super().forward(input_ids=input_ids, attention_mask=attention_mask, **kwargs)
        hidden = self._in_runs(input_ids, attention_mask.bool())
        return BaseModelOutputWithPast(last_hidden_state=hidden)

    def _in_runs(self, input_ids: Tensor, real: Tensor) -> Tensor:
        lengths = real.sum(dim=1)
        order = lengths.argsort()
        parts, places = [], []
        for rows in torch.split(order, ROWS_TOGETHER):
            kept = real[rows]
            compact = torch.arange(int(lengths[rows].max()), device=real.device) < lengths[rows].unsqueeze(1)
            ids = input_ids.new_zeros(compact.shape).masked_scatter(compact, input_ids[rows][kept])
            # Padding is on the right now, where a causal model never looks: no mask is needed.
            parts.append(super().forward(input_ids=ids, use_cache=False).last_hidden_state[compact])
            places.append((rows.unsqueeze(1) * real.shape[1] + torch.arange(real.shape[1], device=real.device))[kept])
        flat = torch.cat(parts)
        hidden = flat.new_zeros(real.numel(), flat.shape[1]).index_copy(0, torch.cat(places), flat)
        return hidden.view(*real.shape, -1)


class FastLlama(LlamaForCausalLM):  # type: ignore[misc]  # transformers has no types for mypy
    """A Llama whose sampling drops finished rows and writes its cache in place."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.model = UnpaddedLlamaModel(config)
        self.post_init()

    def generate(self, input_ids: Tensor, attention_mask: Tensor, generation_config: Any, **_unused: Any) -> Tensor:
        """Sample completions of left-padded prompts, with the contract of transformers' `generate`."""
        ends = generation_config.eos_token_id
        if isinstance(ends, list) and len(ends) != 1:  # the fast sampler ends at one token
            stock: Tensor = super().generate(
                inputs=input_ids, attention_mask=attention_mask, generation_config=generation_config
            )
            return stock
        return sample(
            self,
            input_ids,
            attention_mask,
            max_new_tokens=generation_config.max_new_tokens,
            temperature=generation_config.temperature if generation_config.do_sample else 0.0,
            top_p=generation_config.top_p,
            eos_token_id=ends[0] if isinstance(ends, list) else ends,
            pad_token_id=generation_config.pad_token_id,
        )
