"""One prompt's group of responses, what a penalty is, and how much of alpha a group feels."""

from abc import ABC
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

Memory = dict[str, float]
"""What a penalty knows of earlier rollouts; the trainer's checkpoints hold it."""


@dataclass(frozen=True)
class Group:
    """The responses to one prompt."""

    correct: Sequence[bool]
    """Whether each is right; False for a truncated one."""
    lengths: Sequence[int]
    """The tokens of each."""
    alpha: float
    """The length penalty in force, 0 <= alpha < 1."""
    longest: int = 0
    """The most tokens a response can have, for penalties that need a scale."""
    problem: str = ""
    """The same for the same prompt, in any rollout."""
    target: int = 0
    """The tokens that the prompt asks for; 0 where it asks for none."""

    @property
    def right(self) -> list[int]:
        """The tokens of the right responses."""
        return [length for right, length in zip(self.correct, self.lengths, strict=True) if right]

    @property
    def solved(self) -> float:
        """The share of right responses."""
        return sum(self.correct) / len(self.correct)

    def pay(self, right: Callable[[int], float], wrong: Callable[[int], float] = lambda _: 0.0) -> list[float]:
        """The reward of each response from its tokens."""
        pairs = zip(self.correct, self.lengths, strict=True)
        return [right(length) if correct else wrong(length) for correct, length in pairs]

    def charge(self, cost: Callable[[int], float]) -> list[float]:
        """The same where right and wrong responses bear a cost alike."""
        return self.pay(lambda length: 1.0 - cost(length), lambda length: 0.0 - cost(length))


class Parameters(BaseModel):
    """What a recipe gives, and nothing else."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class LengthPenalty(Parameters, ABC):
    """The parameters of a penalty, and the rewards that follow; each has one of `rewards` and `rollout`."""

    remembers: ClassVar[bool] = False
    """Whether `rollout` needs the groups of all processes."""

    def rewards(self, group: Group) -> list[float]:
        """The reward of each response of a group; where it depends on earlier rollouts, in a first one."""
        return self.rollout([group], {})[0]

    def rollout(self, groups: Sequence[Group], memory: Memory) -> list[list[float]]:
        """The rewards of a rollout's groups; `memory` is what earlier rollouts left, and is brought up to date."""
        return [self.rewards(group) for group in groups]

    def asked(self, prompt: int, seed: int) -> tuple[int, str]:
        """The target that prompt number `prompt` of a run asks for, tokens, and in which words; (0, "") for none."""
        return 0, ""


class Gate(Parameters):
    """How much of the penalty a group gets, by the share of its responses that are right.

    >>> Gate(kind="threshold").pressure(0.4, [True, False, False], rollout=99, warmup=0)
    0.0
    >>> Gate().pressure(0.4, [True, False], rollout=4, warmup=10)
    0.2
    """

    kind: Literal["always", "threshold", "proportional"] = Field(
        "always",
        description="always (paper); threshold: where the solve rate is reached (GRPO-lambda, arXiv 2505.18086); "
        "proportional: alpha * solve rate",
    )
    solve_rate: Annotated[float, Field(ge=0, le=1)] = Field(
        0.5, description="the share of right responses that `threshold` asks for"
    )

    def pressure(self, alpha: float, correct: Sequence[bool], *, rollout: int, warmup: int) -> float:
        """The alpha in force for a group of a tier, in rollout number `rollout` from 0.

        It grows linearly from alpha / warmup over `warmup` rollouts (Kimi k1.5 warms up too).
        """
        ramped = alpha * min(1.0, (rollout + 1) / warmup) if warmup else alpha
        solved = sum(correct) / len(correct)
        if self.kind == "threshold":
            return ramped if solved >= self.solve_rate else 0.0
        return ramped * solved if self.kind == "proportional" else ramped
