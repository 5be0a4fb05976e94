"""Penalties that know what earlier rollouts were like. What they know is in the trainer's checkpoints."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from statistics import fmean
from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from alphatier_training.penalties.group import Group, LengthPenalty, Memory


class _Remembering(LengthPenalty):
    """A penalty whose groups are judged by a memory."""

    remembers: ClassVar[bool] = True

    def rewards(self, group: Group) -> list[float]:
        """Those of a first rollout of this group alone."""
        return self.rollout([group], {})[0]

    @abstractmethod
    def rollout(self, groups: Sequence[Group], memory: Memory) -> list[list[float]]:
        """The rewards of a rollout's groups; brings `memory` up to date."""


class HapoPenalty(_Remembering):
    """c + a max(f, -0.7) if right, a min(f, 0) if wrong, f = cos(min(pi / 2 l / h, pi)) (HAPO, arXiv 2505.11225).

    h is the shortest right response to this problem in all earlier rollouts; without one f is 0. It takes several
    passes over the problems.
    """

    kind: Literal["hapo"] = Field(description="against the shortest right response to the problem so far")

    def rollout(self, groups: Sequence[Group], memory: Memory) -> list[list[float]]:
        """A right response as long as h gets 1, one twice as long 1 - 0.7 a."""
        found = [self._against(group, memory.get(group.problem)) for group in groups]
        for group in groups:
            if group.right:
                memory[group.problem] = min([*group.right, memory.get(group.problem, math.inf)])
        return found

    def _against(self, group: Group, shortest: float | None) -> list[float]:
        if shortest is None:
            return group.pay(lambda _: 1.0)

        def term(length: int) -> float:
            return math.cos(min(math.pi / 2 * length / shortest, math.pi))

        return group.pay(
            lambda length: 1.0 + group.alpha * max(term(length), -0.7),
            lambda length: group.alpha * min(term(length), 0.0),
        )


class ShortRlPenalty(_Remembering):
    """c (1 + a f), f = 0.5 up to min + tolerance, else 0.5 - (l - min) / (max - min) (Short-RL, arXiv 2505.12284).

    min and max of the group's right responses. Plain accuracy where the rollout's is below the best so far by more
    than `accuracy`.
    """

    kind: Literal["short_rl"] = Field(description="a neutral zone, and a gate by the rollouts' accuracy")
    tokens: PositiveInt = Field(100, description="what a response may be longer than the shortest right one, tokens")
    accuracy: Annotated[float, Field(ge=0, le=1)] = Field(
        0.05, description="what a rollout's accuracy may be below the best so far"
    )

    def rollout(self, groups: Sequence[Group], memory: Memory) -> list[list[float]]:
        """From 1 + a / 2 down to 1 - a / 2."""
        accuracy = fmean(group.solved for group in groups)
        memory["best"] = max(accuracy, memory.get("best", 0.0))
        shut = accuracy < memory["best"] - self.accuracy
        return [group.pay(lambda _: 1.0) if shut else self._within(group) for group in groups]

    def _within(self, group: Group) -> list[float]:
        shortest, longest = min(group.right, default=0), max(group.right, default=0)

        def term(length: int) -> float:
            within = length <= shortest + self.tokens
            return 0.5 if within else 0.5 - (length - shortest) / (longest - shortest)

        return group.pay(lambda length: 1.0 + group.alpha * term(length))


class LaserDPenalty(_Remembering):
    """c (1 + a [l <= target of the prompt's difficulty]) (Laser-D, arXiv 2505.15612; a 0.5).

    Three difficulties by solve rate, apart at 1/3 and 2/3. The target of each is the least of the steps within which
    its groups have a right response each on average, in the rollout before; before a first, the longest there can be.
    Theirs are taken from a set of problems apart, every 20 steps.
    """

    kind: Literal["laser_d"] = Field(description="a bonus within a target that follows the difficulty")
    step_tokens: PositiveInt = Field(description="how far apart the targets are that it chooses from, tokens")

    def rollout(self, groups: Sequence[Group], memory: Memory) -> list[list[float]]:
        """1 + a or 1."""
        found = [self._within(group, memory.get(_difficulty(group), group.longest)) for group in groups]
        for name in ("easy", "medium", "hard"):
            same = [group for group in groups if _difficulty(group) == name]
            right = sorted(length for group in same for length in group.right)
            if same and len(right) >= len(same):
                memory[name] = self.step_tokens * math.ceil(right[len(same) - 1] / self.step_tokens)
        return found

    def _within(self, group: Group, target: float) -> list[float]:
        return group.pay(lambda length: 1.0 + group.alpha * (length <= target))


class LeashPenalty(_Remembering):
    """c - a k max(0, l / target - 1), k from 1 on + rate (mean l / target - 1) a rollout (Leash, arXiv 2512.21540).

    A dial in tokens: a is only where the pressure begins. k stays in [0, most].
    """

    kind: Literal["leash"] = Field(description="the pressure grows until the mean length is the target")
    target_tokens: PositiveInt = Field(description="the mean length to come to, tokens")
    rate: PositiveFloat = Field(0.1, description="how fast the pressure follows, a rollout")
    most: PositiveFloat = Field(10.0, description="the largest pressure, a multiple of alpha")

    def rollout(self, groups: Sequence[Group], memory: Memory) -> list[list[float]]:
        """Linear in the excess, for wrong responses too; nothing is paid for being shorter than the target."""
        pressure = memory.get("pressure", 1.0)
        off = fmean(fmean(group.lengths) for group in groups) / self.target_tokens - 1
        memory["pressure"] = min(max(0.0, pressure + self.rate * off), self.most)
        return [self._above(group, pressure) for group in groups]

    def _above(self, group: Group, pressure: float) -> list[float]:
        def cost(length: int) -> float:
            return group.alpha * pressure * max(0.0, length / self.target_tokens - 1)

        return group.pay(lambda length: 1.0 - cost(length), lambda length: 0.0 - cost(length))


def _difficulty(group: Group) -> str:
    return "easy" if group.solved > 2 / 3 else "medium" if group.solved > 1 / 3 else "hard"
