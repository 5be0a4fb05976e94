"""transformers' Llama, made faster on a CPU in two places that leave its results as they are.

`generate()` drops the rows that have ended instead of decoding them as padding, and padded batches are run without
their padding. The weights are a stock Llama's, and so is what is saved of them.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import DynamicCache, LlamaForCausalLM, LlamaModel
from transformers.modeling_outputs import BaseModelOutputWithPast

ROWS_TOGETHER = 32
"""Rows of like length that go through the model together."""

DROP_BELOW = 0.85
"""Ended rows are dropped once the live share of the batch is below this."""


class UnpaddedLlamaModel(LlamaModel):  # type: ignore[misc]  # transformers has no types for mypy
    """A Llama's backbone that spends nothing on padding.

    In a rollout one long response makes every row long: 256 responses of 40 tokens in the mean are
    padded to 256. Rows are sorted by length, and each run without its padding, on either side.
    Positions then count from a row's first token, which rotary embeddings cannot tell from before.
    """

    on_rows: Callable[[Tensor], AbstractContextManager[None]] = staticmethod(lambda rows: nullcontext())
    """Told which rows of the batch run together, for layers that treat each its own way."""

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
            with self.on_rows(rows):
                parts.append(super().forward(input_ids=ids, use_cache=False).last_hidden_state[compact])
            places.append((rows.unsqueeze(1) * real.shape[1] + torch.arange(real.shape[1], device=real.device))[kept])
        flat = torch.cat(parts)
        hidden = flat.new_zeros(real.numel(), flat.shape[1]).index_copy(0, torch.cat(places), flat)
        return hidden.view(*real.shape, -1)


class FastLlama(LlamaForCausalLM):  # type: ignore[misc]  # transformers has no types for mypy
    """A Llama that spends nothing on padding, nor on finished rows."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.model = UnpaddedLlamaModel(config)
        self.post_init()

    @torch.no_grad()
    def generate(self, input_ids: Tensor, attention_mask: Tensor, generation_config: Any, **_unused: Any) -> Tensor:
        """Sample one completion of each left-padded prompt, with the contract of transformers' `generate`.

        Returns:
            Prompts and completions [batch, prompt + new], where new is the longest completion's length.
        """
        settings = generation_config
        ends = torch.tensor(settings.eos_token_id, device=input_ids.device)
        width = input_ids.shape[1]
        output = functional.pad(input_ids, (0, settings.max_new_tokens), value=settings.pad_token_id)
        rows = torch.arange(len(input_ids), device=input_ids.device)
        alive = torch.ones_like(rows, dtype=torch.bool)
        cache, ids, mask = DynamicCache(config=self.config), input_ids, attention_mask
        positions = (mask.cumsum(dim=-1) - 1).clamp(min=0)
        for place in range(width, output.shape[1]):
            with self.model.on_rows(rows):
                logits = self(
                    input_ids=ids,
                    attention_mask=mask,
                    position_ids=positions,
                    past_key_values=cache,
                    use_cache=True,
                    logits_to_keep=1,
                ).logits[:, -1]
            token = _choose(logits, settings).masked_fill(~alive, settings.pad_token_id)
            output[rows, place] = token
            alive = alive & ~torch.isin(token, ends)
            living = int(alive.sum())
            if living == 0:
                return output[:, : place + 1]
            positions = positions[:, -1:] + 1
            if living < DROP_BELOW * len(rows):
                rows, token, positions, mask = (part[alive] for part in (rows, token, positions, mask))
                cache.batch_select_indices(alive.nonzero().squeeze(1))
                alive = alive[alive]
            ids, mask = token.unsqueeze(1), functional.pad(mask, (0, 1), value=1)
        return output


def _choose(logits: Tensor, settings: Any) -> Tensor:
    """Next token ids [rows]: greedy, or nucleus sampling after temperature."""
    if not settings.do_sample:
        return logits.argmax(dim=-1)
    probabilities = (logits.float() / settings.temperature).softmax(dim=-1)
    if settings.top_p == 1:
        return torch.multinomial(probabilities, 1).squeeze(1)
    ordered, order = probabilities.sort(dim=-1, descending=True)
    ordered.masked_fill_(ordered.cumsum(dim=-1) - ordered >= settings.top_p, 0.0)
    picked: Tensor = order.gather(1, torch.multinomial(ordered, 1))
    return picked.squeeze(1)
