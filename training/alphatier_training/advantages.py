"""From the rewards of whole groups to the advantages of tokens, as pure functions of tensors.

    none        reward - mean of the group's other rewards, the same for every token       (paper)
    group_std   (reward - mean) / std of the group: with rewards spread over [1 - alpha, 1] the shortest
                correct response gets about sqrt(3), whatever alpha is                     (GRPO)
    whiten      `none`, then shifted and scaled over all tokens of the rollout             (authors' code)

Shapes: G groups of n samples, B = G * n responses, T tokens with padding.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Treatment = Literal["none", "whiten", "group_std"]

STD_EPSILON = 1e-4
"""Added to a group's standard deviation, as in TRL and verl."""

SumOverProcesses = Callable[[Tensor], Tensor]


def response_advantages(rewards: Tensor, treatment: Treatment) -> Tensor:
    """The advantage of each response [G, n] from the rewards [G, n] of its whole group."""
    if treatment == "group_std":
        exact = rewards.double()  # in float32 the mean of equal rewards may be off by a bit, and so is their std
        centred = exact - exact.mean(dim=1, keepdim=True)
        return (centred / (exact.std(dim=1, correction=0, keepdim=True) + STD_EPSILON)).to(rewards.dtype)
    others = (rewards.sum(dim=1, keepdim=True) - rewards) / (rewards.shape[1] - 1)
    return rewards - others


def over_tokens(advantages: Tensor, mask: Tensor, penalties: Tensor | None = None) -> Tensor:
    """The advantage of each token [B, T]: its response's [B], less the penalties [B, T] from it to the end.

    With penalties of coefficient * KL this is the return-to-go of the authors' code (gamma 1).
    """
    tokens = advantages.unsqueeze(1) * mask
    if penalties is None:
        return tokens
    to_go = (penalties * mask).flip(1).cumsum(1).flip(1)
    return tokens - to_go * mask


def whiten(advantages: Tensor, mask: Tensor, total: SumOverProcesses = lambda tensor: tensor) -> Tensor:
    """Advantages [B, T] with mean 0 and standard deviation 1 over all real tokens, long responses weighing more.

    Args:
        advantages: One a token.
        mask: 1 for real tokens.
        total: Sums a tensor over all processes.
    """
    stats = total(torch.stack([(advantages * mask).sum(), mask.sum().to(advantages)]))
    mean, count = stats[0] / stats[1], stats[1]
    variance = total((((advantages - mean) ** 2) * mask).sum()) / count
    return (advantages - mean) * variance.clamp(min=1e-8).rsqrt() * mask
