"""The paper's reward, and the advantage made of it, as pure functions of one prompt's group.

    reward = correct * (1 - alpha * sigmoid((length - mean) / (std + 1e-7)))

with the mean and the population standard deviation of the lengths of the group's correct responses
(arXiv 2502.04463, section 3). No torch here; `rl.rollout_reward` gives them the shape that TRL calls.

>>> [round(reward, 4) for reward in length_penalised_rewards([True, False, True], [256, 128, 512], alpha=0.2)]
[0.9462, 0.0, 0.8538]
>>> leave_one_out_advantages([1.0, 0.0, 0.5])
[0.75, -0.75, 0.0]
"""

import math
from collections.abc import Sequence

STD_EPSILON = 1e-7
"""Added to the standard deviation, in tokens (the authors' code, reward_server/math_server.py)."""


def length_penalised_rewards(
    correct: Sequence[bool], lengths: Sequence[int], alpha: float, std_floor: float = 0.0
) -> list[float]:
    """The rewards of the responses to one prompt.

    A wrong response gets 0, a correct one between 1 - alpha (very long) and 1 (very short), so every
    correct response beats every wrong one. With one correct response, or with equal lengths, the
    standardised length is 0 and the reward is 1 - alpha / 2.

    Args:
        correct: For each response, whether its answer is right; False for a truncated response.
        lengths: For each response, its tokens, the end token included.
        alpha: The length penalty, 0 <= alpha < 1; 0 is plain accuracy.
        std_floor: The least standard deviation, in tokens. With 0 (the paper) two correct responses always
            get sigmoid(-1) and sigmoid(1), whether they differ by one token or by thousands.

    Raises:
        ValueError: the two sequences differ in length, or alpha is outside [0, 1).
    """
    if len(correct) != len(lengths):
        raise ValueError(
            f"{len(correct)} gradings but {len(lengths)} lengths; give one of each for every response of the group"
        )
    if not 0 <= alpha < 1:
        raise ValueError(f"alpha is {alpha}; give 0 <= alpha < 1 (at 1 a correct response could get no reward)")
    passed = [length for length, right in zip(lengths, correct, strict=True) if right]
    if not passed:
        return [0.0] * len(lengths)
    mean = math.fsum(passed) / len(passed)
    std = math.sqrt(math.fsum((length - mean) ** 2 for length in passed) / len(passed))
    return [
        1.0 - alpha * _sigmoid((length - mean) / (max(std, std_floor) + STD_EPSILON)) if right else 0.0
        for length, right in zip(lengths, correct, strict=True)
    ]


def leave_one_out_advantages(rewards: Sequence[float]) -> list[float]:
    """Each reward minus the mean of the group's other rewards (RLOO, arXiv 2402.14740), not normalised.

    Raises:
        ValueError: there are fewer than two rewards.
    """
    if len(rewards) < 2:
        raise ValueError(f"{len(rewards)} rewards leave nothing to compare with; sample each prompt at least twice")
    total, others = math.fsum(rewards), len(rewards) - 1
    return [reward - (total - reward) / others for reward in rewards]


def _sigmoid(z: float) -> float:
    return 1.0 / (1.0 + math.exp(-z))
