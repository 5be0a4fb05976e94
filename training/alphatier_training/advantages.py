"""From the rewards of whole groups to the advantages of tokens, as pure functions of tensors.

    none        reward - mean of the group's other rewards, the same for every token       (paper)
    group_std   (reward - mean) / std of the group: with rewards spread over [1 - alpha, 1] the shortest
                correct response gets about sqrt(3), whatever alpha is                     (GRPO)
    batch_std   `none`, then shifted and scaled over all responses of the rollout          (DLER, arXiv 2510.15110)
    whiten      `none`, then shifted and scaled over all tokens of the rollout             (authors' code)

Beside them, from recipe to advantage: `length_baseline`, `right_below_zero`, `degenerate_groups`, `selection`.
Shapes: G groups of n samples, B = G * n responses, T tokens with padding.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from alphatier_training.recipe.rl import Reinforcement, Selection

STD_EPSILON = 1e-4
"""Added to a standard deviation of rewards or advantages, as in TRL and verl."""

SumOverProcesses = Callable[[Tensor], Tensor]


def response_advantages(rewards: Tensor, correct: Tensor, lengths: Tensor, method: Reinforcement) -> Tensor:
    """The advantage of each response [G, n] of a rollout, from all of its groups.

    Responses that are left out have 0, and no part in any mean; the others weigh as if they were the whole rollout.

    Args:
        rewards: Of each response [G, n].
        correct: Whether it is right [G, n], 0 or 1.
        lengths: Its tokens [G, n].
        method: The switches.
    """
    correct = correct.to(rewards)
    kept = torch.ones_like(rewards)
    if method.selection:
        kept = selected(rewards, lengths, method.selection)
    if method.degenerate_groups == "drop":
        right = (correct * kept).sum(dim=1, keepdim=True)
        kept = kept * ((right > 0) & (right < kept.sum(dim=1, keepdim=True)))
    if method.advantage == "group_std":
        found = _standardised(rewards, kept, dim=1)
    elif method.length_baseline == "right":
        found = _less_the_others(correct, kept) + correct * _less_the_others(rewards - correct, kept * correct)
    else:
        found = _less_the_others(rewards, kept)
    if method.advantage == "batch_std":
        found = _standardised(found.view(1, -1), kept.view(1, -1), dim=1).view_as(found)
    if not method.right_below_zero:
        found = torch.where(correct > 0, found.clamp(min=0), found)
    return found * kept * (kept.numel() / kept.sum().clamp(min=1))


def selected(rewards: Tensor, lengths: Tensor, selection: Selection) -> Tensor:
    """1 for the responses of each group [G, n] that are trained on, else 0 (GFPO, arXiv 2508.09726).

    shortest: those of the fewest tokens, right or wrong; efficient: of the most reward a token. Ties go to the first.
    """
    score = -lengths.to(rewards) if selection.by == "shortest" else rewards / lengths.clamp(min=1)
    best = score.sort(dim=1, descending=True, stable=True).indices[:, : selection.keep]
    return torch.zeros_like(rewards).scatter(1, best, 1.0)


def _less_the_others(values: Tensor, kept: Tensor) -> Tensor:
    """Each of the kept values [G, n] minus the mean of the group's other kept ones; 0 where there is no other."""
    count = kept.sum(dim=1, keepdim=True)
    others = ((values * kept).sum(dim=1, keepdim=True) - values) / (count - 1).clamp(min=1)
    return (values - others) * (count > 1)


def _standardised(values: Tensor, kept: Tensor, dim: int) -> Tensor:
    """The z-score of each value among the kept ones along `dim`, with the population's standard deviation."""
    exact, count = values.double(), kept.sum(dim=dim, keepdim=True).clamp(min=1)
    # In float32 the mean of equal rewards may be off by a bit, and so is their std.
    centred = exact - (exact * kept).sum(dim=dim, keepdim=True) / count
    std = ((centred**2 * kept).sum(dim=dim, keepdim=True) / count).sqrt()
    return (centred / (std + STD_EPSILON)).to(values.dtype)


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
