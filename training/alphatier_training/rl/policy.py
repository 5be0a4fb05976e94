"""Loading models: a tier of a family, or the policy that TRL trains."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
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


def device_of(choice: str) -> str:
    """`cpu`, or for `auto` the GPU where there is one."""
    return "cuda" if choice == "auto" and torch.cuda.is_available() else "cpu"


def _as_list(token_ids: int | Sequence[int] | None) -> list[int]:
    if token_ids is None:
        return []
    return [token_ids] if isinstance(token_ids, int) else list(token_ids)
