"""The penalties other than the paper's, and the choice between all of them: rewards of one prompt's group.

Each is a pure function of which responses are right, of their lengths and of alpha; at alpha 0 all of
them are plain accuracy. The paper's own is `reward.length_penalised_rewards`.

>>> min_max_rewards([True, True, False], [10, 30, 20], alpha=0.2)
[1.1, 0.9, 0.0]
>>> shortest_rewards([True, True, False], [10, 40, 5], alpha=0.2)
[1.0, 0.85, 0.0]
"""

from collections.abc import Sequence

from alphatier_training.recipe.rl import (
    LinearPenalty,
    MinMaxPenalty,
    Penalty,
    ShortestPenalty,
    SigmoidPenalty,
    TargetPenalty,
)
from alphatier_training.reward import length_penalised_rewards


def group_rewards(
    penalty: Penalty, correct: Sequence[bool], lengths: Sequence[int], alpha: float, longest: int
) -> list[float]:
    """The rewards of the responses to one prompt under `penalty`.

    Args:
        penalty: The recipe's choice.
        correct: For each response, whether its answer is right; False for a truncated response.
        lengths: For each response, its tokens.
        alpha: The length penalty in force, 0 <= alpha < 1.
        longest: The most tokens a response can have, for penalties that need a scale.
    """
    match penalty:
        case SigmoidPenalty():
            return length_penalised_rewards(correct, lengths, alpha, penalty.std_floor)
        case LinearPenalty():
            return linear_rewards(correct, lengths, alpha, penalty.scale_tokens or longest)
        case MinMaxPenalty():
            return min_max_rewards(correct, lengths, alpha)
        case TargetPenalty():
            return target_rewards(correct, lengths, alpha, penalty.target_tokens, only_longer=penalty.only_longer)
        case ShortestPenalty():
            return shortest_rewards(correct, lengths, alpha)


def linear_rewards(correct: Sequence[bool], lengths: Sequence[int], alpha: float, scale: int) -> list[float]:
    """correct * (1 - alpha * min(1, length / scale)), lengths and scale in tokens."""
    return [
        1.0 - alpha * min(1.0, length / scale) if right else 0.0
        for right, length in zip(correct, lengths, strict=True)
    ]


def min_max_rewards(correct: Sequence[bool], lengths: Sequence[int], alpha: float) -> list[float]:
    """Kimi k1.5's length reward, weighed by alpha (arXiv 2501.12599, section 2.3.3).

    correct + alpha * l with l = 0.5 - (length - min) / (max - min) over the whole group, and min(0, l)
    for a wrong response: a wrong one gains nothing by being short. With equal lengths l is 0.
    """
    shortest, longest = min(lengths), max(lengths)
    if shortest == longest:
        return [float(right) for right in correct]
    terms = [0.5 - (length - shortest) / (longest - shortest) for length in lengths]
    return [
        1.0 + alpha * term if right else alpha * min(0.0, term) for right, term in zip(correct, terms, strict=True)
    ]


def target_rewards(
    correct: Sequence[bool], lengths: Sequence[int], alpha: float, target: int, *, only_longer: bool
) -> list[float]:
    """A length to hit, or not to exceed (after L1, arXiv 2503.04697, whose own alpha is this one / target).

    To hit: correct - alpha * |length - target| / target, for wrong responses too (L1-Exact). Not to
    exceed: correct * max(0, 1 - alpha * excess / target) (after L1-Max). Here the target is the
    family's and not in the prompt, as a tier is chosen by the request and not by its text.
    """
    if only_longer:
        excesses = [max(0, length - target) / target for length in lengths]
        return [max(0.0, 1.0 - alpha * e) if right else 0.0 for right, e in zip(correct, excesses, strict=True)]
    misses = [abs(length - target) / target for length in lengths]
    return [float(right) - alpha * miss for right, miss in zip(correct, misses, strict=True)]


def shortest_rewards(correct: Sequence[bool], lengths: Sequence[int], alpha: float) -> list[float]:
    """correct * (1 - alpha * (1 - shortest / length)), with the group's shortest correct response.

    The target is ShorterBetter's (arXiv 2504.21370), the shape the paper's: the shortest correct response
    gets 1, one without end 1 - alpha.
    """
    passed = [length for right, length in zip(correct, lengths, strict=True) if right]
    if not passed:
        return [0.0] * len(lengths)
    shortest = min(passed)
    return [
        1.0 - alpha * (1.0 - shortest / length) if right else 0.0
        for right, length in zip(correct, lengths, strict=True)
    ]
