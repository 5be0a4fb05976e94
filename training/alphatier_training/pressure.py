"""How much of alpha a group feels: its warm-up over the run, and its gate by the group's solve rate.

>>> pressure(0.4, Gate(kind="threshold", solve_rate=0.5), [True, False, False], rollout=99, warmup=0)
0.0
>>> pressure(0.4, Gate(kind="always"), [True, False], rollout=4, warmup=10)
0.2
"""

from collections.abc import Sequence

from alphatier_training.recipe.rl import Gate


def pressure(alpha: float, gate: Gate, correct: Sequence[bool], *, rollout: int, warmup: int) -> float:
    """The alpha in force for one group.

    Args:
        alpha: The tier's.
        gate: always; at a solve rate of at least `gate.solve_rate` (GRPO-lambda, arXiv 2505.18086); or in
            proportion to the solve rate (ALP, arXiv 2506.05256).
        correct: Which responses of the group are right.
        rollout: Number of the rollout, from 0.
        warmup: Rollouts over which alpha grows linearly from alpha / warmup (Kimi k1.5 warms up too).
    """
    ramped = alpha * min(1.0, (rollout + 1) / warmup) if warmup else alpha
    solved = sum(correct) / len(correct)
    if gate.kind == "threshold":
        return ramped if solved >= gate.solve_rate else 0.0
    return ramped * solved if gate.kind == "proportional" else ramped
