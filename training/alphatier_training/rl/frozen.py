"""The weights under an adapter, unchanged while an engine is given the two as one.

TRL merges the adapter into the weights in place, hands them to vLLM, and takes it out again. In floating point W + d
- d is not W: in bfloat16 the base would drift by a good part of what the adapter learns, and the adapter be trained
over weights that nobody serves.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def unchanged_base(model: nn.Module) -> Iterator[None]:
    """Give the weights under PEFT's adapters their bits back when the block ends.

    The copy is in main memory and of this process's part only; weights that DeepSpeed holds in shards (ZeRO-3) have
    no part here, and it drops changes of gathered weights by itself.
    """
    weights = [part for name, part in model.named_parameters() if ".base_layer." in name]
    kept = [part.detach().to("cpu", copy=True) for part in weights]
    try:
        yield
    finally:
        with torch.no_grad():
            for part, before in zip(weights, kept, strict=True):
                part.copy_(before)
