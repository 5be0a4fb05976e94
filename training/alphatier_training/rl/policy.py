"""Models: loading a tier of a family or the policy that TRL trains, and running it without padding."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils.logging import disable_progress_bar

from alphatier_training.builtin import fast_llama


def load_policy(folder: str | Path, device: str, *, dtype: torch.dtype | None = None, place: bool = True) -> Any:
    """The model at `folder`, of a class that is fast on a CPU where it is a Llama without biases, else the stock one.

    Args:
        folder: A folder or a hub id.
        device: `cpu` or `cuda`.
        dtype: Of the weights; None for float32 on a CPU and the model's own elsewhere.
        place: False to leave it in main memory, for a trainer that places it itself.
    """
    disable_progress_bar()
    config = AutoConfig.from_pretrained(folder)
    fast = fast_llama(config) if device == "cpu" else None
    if fast:
        torch.set_num_threads(1)  # a tiny model gains nothing from more, and rounding stays the same everywhere
    model = (fast or AutoModelForCausalLM).from_pretrained(
        folder, dtype=dtype or (torch.float32 if device == "cpu" else "auto")
    )
    return model.to(device) if place else model


def end_token_ids(model: Any, tokenizer: Any) -> list[int]:
    """The tokens that end a response: the generation settings' and the tokenizer's, as TRL and vLLM take both."""
    return sorted({*_as_list(model.generation_config.eos_token_id), *_as_list(tokenizer.eos_token_id)})


def without_padding(
    compute: Callable[..., Any], ids: Tensor, attention: Tensor, kept: int, batch_size: int | None = None, **more: Any
) -> list[Any]:
    """Log-probabilities and entropies [B, kept], without the columns in which a micro batch has only padding.

    A rollout is padded to its longest response, and most micro batches have none as long.

    Args:
        compute: TRL's, of ids and attention [b, L] and the tokens that are kept.
        ids: Prompts and responses [B, L].
        attention: Which are real.
        kept: The last tokens, of which to compute it.
        batch_size: Rows of a micro batch; None for all.
        more: To `compute`.
    """
    parts, size = [], batch_size or len(ids)
    for first in range(0, len(ids), size):
        rows = slice(first, first + size)
        real = attention[rows].any(dim=0).nonzero()
        start, end = int(real[0]), int(real[-1]) + 1
        after = ids.shape[1] - end
        found = compute(ids[rows, start:end], attention[rows, start:end], kept - after, **more)
        parts.append([None if one is None or one.dim() == 0 else pad(one, (0, after)) for one in found])
    return [None if column[0] is None else torch.cat(column) for column in zip(*parts, strict=True)]


def device_of(choice: str) -> str:
    """`cpu`, or for `auto` the GPU where there is one."""
    return "cuda" if choice == "auto" and torch.cuda.is_available() else "cpu"


def _as_list(token_ids: int | Sequence[int] | None) -> list[int]:
    if token_ids is None:
        return []
    return [token_ids] if isinstance(token_ids, int) else list(token_ids)
