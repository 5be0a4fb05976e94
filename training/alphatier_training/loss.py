"""From advantages to the loss: PPO's clipped objective, how tokens are added up, and the KL to the base.

Shapes: B responses, T tokens with padding; `mask` [B, T] is 1 for real tokens. On-policy (old = current)
every setting has the gradient of -advantage * log-probability, added up as `aggregation` says.
"""

from typing import Literal

import torch
from torch import Tensor

from alphatier_training.recipe.rl import Reinforcement

Estimator = Literal["k1", "k2", "k3"]


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


def kl_estimate(logps: Tensor, reference: Tensor, estimator: Estimator) -> Tensor:
    """An estimate of KL(policy || base) for each sampled token [B, T] (J. Schulman, "Approximating KL divergence").

    k1 is unbiased and can be negative; k2 has low variance and a bias; k3 has neither and is never negative.
    """
    difference = logps - reference
    if estimator == "k1":
        return difference
    return difference**2 / 2 if estimator == "k2" else torch.exp(-difference) - 1 + difference
