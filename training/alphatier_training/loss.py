"""From advantages to the loss: PPO's clipped objective, how tokens are added up, the KL to the base, an engine's gap.

An engine's probabilities are not quite the trainer's: rollouts are drawn from its q and trained as the trainer's p.
Weighed by p / q they are on-policy again:

    sequence_mask    p / q of the whole response for all its tokens; 0 where it is above the bound (TRL's GRPO
                     default)
    token_truncate   each token's own p / q, at most the bound (TIS): less noise over long responses, with a bias
                     left, as the tokens around it were drawn from q too

Shapes: B responses, T tokens with padding; `mask` [B, T] is 1 for real tokens. On-policy (old = current)
every setting has the gradient of -advantage * log-probability, added up as `aggregation` says.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from alphatier_training.recipe.rl import Reinforcement

Correction = Literal["none", "sequence_mask", "token_truncate"]

LARGEST_RATIO = 3.0
"""The bound of p / q (C_max of TRL's GRPO)."""


def policy_loss(
    logps: Tensor, old: Tensor, advantages: Tensor, mask: Tensor, method: Reinforcement
) -> tuple[Tensor, Tensor]:
    """The loss, and the share of ratios that were clipped.

    Args:
        logps: Log-probabilities of the sampled tokens [B, T], with gradient.
        old: The same when they were sampled, without.
        advantages: One a token [B, T]; with `ratio: sequence` the same for all tokens of a response.
        mask: Real tokens.
        method: What is clipped, and how tokens are added up.
    """
    settings = method.loss
    log_ratio = (logps - old) * mask
    counted = mask
    if settings.ratio == "sequence":
        log_ratio, advantages, counted = log_ratio.sum(dim=1, keepdim=True), advantages[:, :1], mask[:, :1]
    ratio = log_ratio.exp()
    clipped = ratio.clamp(1 - settings.clip_range, 1 + (settings.clip_range_high or settings.clip_range))
    worse = torch.minimum(ratio * advantages, clipped * advantages) * counted
    binding = (clipped * advantages < ratio * advantages) * counted
    return -aggregate(worse, mask, method), binding.sum() / counted.sum()


def aggregate(values: Tensor, mask: Tensor, method: Reinforcement) -> Tensor:
    """One number of values [B, T] or [B, 1]: each response's sum over a divisor, then the mean of responses.

    token_sum divides every response by the same constant, so that a long response counts for all its
    tokens; sequence_mean (authors' code) by its own length, which favours short right answers and long
    wrong ones (the paper's authors see responses shorten with it at alpha 0).
    """
    sums = values.sum(dim=1)
    if method.loss.aggregation == "sequence_mean":
        return (sums / mask.sum(dim=1).clamp(min=1)).mean()
    return (sums / method.loss_constant).mean()


def kl_estimate(logps: Tensor, reference: Tensor, estimator: Literal["k1", "k2", "k3"]) -> Tensor:
    """An estimate of KL(policy || base) for each sampled token [B, T] (J. Schulman, "Approximating KL divergence").

    k1 is unbiased and can be negative; k2 has low variance and a bias; k3 has neither and is never negative.
    """
    difference = logps - reference
    if estimator == "k1":
        return difference
    return difference**2 / 2 if estimator == "k2" else torch.exp(-difference) - 1 + difference


def mismatch_weights(
    trainer: Tensor, engine: Tensor, mask: Tensor, correction: Correction, largest: float = LARGEST_RATIO
) -> Tensor:
    """The weight of each token's advantage [B, T], from log p and log q [B, T] of the sampled tokens.

    Both are at the sampling temperature, and without gradient; `largest` is the bound of the ratio.
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
