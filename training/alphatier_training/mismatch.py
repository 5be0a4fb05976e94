"""An engine's probabilities are not quite the trainer's: weights that correct for it, and how large the gap is.

Rollouts are drawn from the engine's q and trained as the trainer's p. Weighed by p / q they are on-policy again:

    sequence_mask    p / q of the whole response for all its tokens; 0 where it is above the bound (TRL's GRPO
                     default)
    token_truncate   each token's own p / q, at most the bound (TIS): less noise over long responses, with a bias
                     left, as the tokens around it were drawn from q too

Shapes: B responses, T tokens with padding; `mask` [B, T] is 1 for real tokens. Log-probabilities are of the sampled
tokens at the sampling temperature, without gradient.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

Correction = Literal["none", "sequence_mask", "token_truncate"]

LARGEST_RATIO = 3.0
"""The bound of p / q (C_max of TRL's GRPO)."""


def mismatch_weights(
    trainer: Tensor, engine: Tensor, mask: Tensor, correction: Correction, largest: float = LARGEST_RATIO
) -> Tensor:
    """The weight of each token's advantage [B, T], from log-probabilities of trainer and engine.

    Args:
        trainer: log p [B, T].
        engine: log q [B, T].
        mask: Real tokens.
        correction: Which weights.
        largest: The bound of the ratio.
    """
    gap = (trainer - engine) * mask
    if correction == "none":
        return torch.ones_like(gap)
    if correction == "token_truncate":
        return gap.exp().clamp(max=largest)
    ratio = gap.sum(dim=1, keepdim=True).exp()
    return ratio.masked_fill(ratio > largest, 0.0).expand_as(gap)


class Mismatch(NamedTuple):
    """How far the engine is from the trainer."""

    kl: Tensor
    """KL(engine || trainer) a token, by the estimate that is never negative (k3)."""
    difference: Tensor
    """Mean of |log p - log q| a token."""
    masked: Tensor
    """The share of responses whose ratio is above the bound: what sequence_mask leaves out."""


def mismatch(trainer: Tensor, engine: Tensor, mask: Tensor, largest: float = LARGEST_RATIO) -> Mismatch:
    """What to log of a rollout; arguments as of `mismatch_weights`."""
    gap = (trainer - engine) * mask
    tokens = mask.sum().clamp(min=1)
    above = gap.sum(dim=1).exp() > largest
    return Mismatch((gap.exp() - 1 - gap).sum() / tokens, gap.abs().sum() / tokens, above.float().mean())
