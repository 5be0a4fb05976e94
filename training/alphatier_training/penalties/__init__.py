"""What length may cost: the rewards of one prompt's group, under a penalty that a recipe names in `rl.penalty`.

A penalty is a class of its parameters with one pure function, from a group to its rewards; at alpha 0 all of them are
plain accuracy. In their formulae c is 1 for a right response and 0 for a wrong one, l its tokens, a the alpha in
force. The first compare a response with others of its group, the next with a number of tokens, the last with earlier
rollouts. One more is one more class, and its name in `Penalty`; `tests/training/test_penalties.py` works each out.

>>> MinMaxPenalty(kind="min_max").rewards(Group([True, True, False], [10, 30, 20], alpha=0.2))
[1.1, 0.9, 0.0]
>>> ShortestPenalty(kind="shortest").rewards(Group([True, True, False], [10, 40, 5], alpha=0.2))
[1.0, 0.85, 0.0]
"""

import math
from collections.abc import Sequence
from random import Random
from statistics import fmean
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from alphatier_training.penalties.group import Gate, Group, LengthPenalty, Memory
from alphatier_training.reward import length_penalised_rewards

__all__ = ["Gate", "Group", "LengthPenalty", "Memory", "Penalty", "SigmoidPenalty"]


class SigmoidPenalty(LengthPenalty):
    """c (1 - a sigmoid((l - mean) / std)), mean and std of the group's right responses (the paper)."""

    kind: Literal["sigmoid"] = Field(description="the paper's")
    std_floor: Annotated[float, Field(ge=0)] = Field(
        0.0,
        description="the least std, tokens, so that a gap of 1 token weighs less than one of 1,000 (paper: 0)",
    )

    def rewards(self, group: Group) -> list[float]:
        return length_penalised_rewards(group.correct, group.lengths, group.alpha, self.std_floor)


class MinMaxPenalty(LengthPenalty):
    """c + a (0.5 - (l - min) / (max - min)), min and max of the whole group (Kimi k1.5, arXiv 2501.12599).

    A wrong response gets at most 0: it gains nothing by being short. With equal lengths it is plain accuracy.
    """

    kind: Literal["min_max"] = Field(description="Kimi k1.5's: between the group's shortest and longest response")

    def rewards(self, group: Group) -> list[float]:
        shortest, spread = min(group.lengths), max(group.lengths) - min(group.lengths)
        if not spread:
            return group.pay(lambda _: 1.0)

        def term(length: int) -> float:
            return 0.5 - (length - shortest) / spread

        return group.pay(
            lambda length: 1.0 + group.alpha * term(length), lambda length: group.alpha * min(0.0, term(length))
        )


class ShortestPenalty(LengthPenalty):
    """c (1 - a (1 - shortest / l)), shortest of the group's right responses: ShorterBetter's target, bounded."""

    kind: Literal["shortest"] = Field(description="against the group's shortest right response")

    def rewards(self, group: Group) -> list[float]:
        shortest = min(group.right, default=0)
        return group.pay(lambda length: 1.0 - group.alpha * (1.0 - shortest / length))


class ShorterBetterPenalty(LengthPenalty):
    """c - a |l - best| / scale, best of the shortest right response, else the mean (ShorterBetter, arXiv 2504.21370).

    Its alpha 2 and beta 1e-3 are an a / scale of 5e-4 a token. Wrong responses pay too, and so does a shorter one.
    """

    kind: Literal["shorter_better"] = Field(description="the distance to the shortest right response")
    scale_tokens: PositiveInt | None = Field(
        None, description="the distance that costs all of alpha, tokens; null for `rl.max_new_tokens`"
    )

    def rewards(self, group: Group) -> list[float]:
        best, scale = min(group.right, default=fmean(group.lengths)), self.scale_tokens or group.longest
        return group.charge(lambda length: group.alpha * abs(length - best) / scale)


class TwynPenalty(LengthPenalty):
    """c + a (m - 1 - 2 i) / N, i the rank by length among the m right ones (Think When You Need, arXiv 2504.03234).

    The sum of pairwise comparisons: 1 for a right against a wrong response, a for a shorter against a longer right
    one (theirs: 0.1). Two virtual ones belong to the N = n + 2 and to the m: a wrong of length 0, a right of infinite
    length. Without the constant -m / N of every response, and without their z-score, which `advantage` decides. Ties
    share their ranks.
    """

    kind: Literal["twyn"] = Field(description="by the rank of the length among the right responses")

    def rewards(self, group: Group) -> list[float]:
        right, everyone = group.right, len(group.lengths) + 2

        def won(length: int) -> int:  # the longer ones and the virtual one, less the shorter ones: m - 1 - 2 i
            return 1 + sum(other > length for other in right) - sum(other < length for other in right)

        return group.pay(lambda length: 1.0 + group.alpha * won(length) / everyone)


class Gr3Penalty(LengthPenalty):
    """c / (1 + a l / mean), mean of the whole group (GR3, arXiv 2603.10535; a 0.33)."""

    kind: Literal["gr3"] = Field(description="divided by the length over the group's mean")

    def rewards(self, group: Group) -> list[float]:
        mean = fmean(group.lengths)
        return group.pay(lambda length: 1.0 / (1.0 + group.alpha * length / mean))


class LinearPenalty(LengthPenalty):
    """c (1 - a min(1, l / scale)): the length itself."""

    kind: Literal["linear"] = Field(description="linear in the length")
    scale_tokens: PositiveInt | None = Field(
        None, description="the length that costs all of alpha, tokens; null for `rl.max_new_tokens`"
    )

    def rewards(self, group: Group) -> list[float]:
        scale = self.scale_tokens or group.longest
        return group.pay(lambda length: 1.0 - group.alpha * min(1.0, length / scale))


class AlpPenalty(LengthPenalty):
    """c - a max(solved, 1 / n) l / scale, solved the share of right responses (ALP, arXiv 2506.05256).

    Easy prompts pay more a token; wrong responses pay too.
    """

    kind: Literal["alp"] = Field(description="linear in the length and in the solve rate")
    scale_tokens: PositiveInt | None = Field(
        None, description="the length that costs all of alpha, tokens; null for `rl.max_new_tokens`"
    )

    def rewards(self, group: Group) -> list[float]:
        price = group.alpha * max(group.solved, 1 / len(group.lengths)) / (self.scale_tokens or group.longest)
        return group.charge(lambda length: price * length)


class LaserPenalty(LengthPenalty):
    """c (1 + a [l <= target]) (Laser, arXiv 2505.15612; a 0.5)."""

    kind: Literal["laser"] = Field(description="a bonus for right responses within a target")
    target_tokens: PositiveInt = Field(description="the length up to which there is the bonus, tokens")

    def rewards(self, group: Group) -> list[float]:
        return group.pay(lambda length: 1.0 + group.alpha * (length <= self.target_tokens))


class DlerPenalty(LengthPenalty):
    """c [l <= (1 - a) limit]: what is longer is wrong, where a is not 0 (DLER, arXiv 2510.15110).

    Its 4,000 of 32,000 tokens are an a of 0.875. Responses run on to their end: training logs whole ones.
    """

    kind: Literal["dler"] = Field(description="a right response beyond the limit counts as wrong")
    limit_tokens: PositiveInt | None = Field(
        None, description="the limit at alpha 0, tokens; alpha cuts its share off; null for `rl.max_new_tokens`"
    )

    def rewards(self, group: Group) -> list[float]:
        limit = (1 - group.alpha) * (self.limit_tokens or group.longest)
        return group.pay(lambda length: float(length <= limit or not group.alpha))


class TargetPenalty(LengthPenalty):
    """c - a |l - target| / target, or c max(0, 1 - a excess / target) (L1, arXiv 2503.04697).

    Its own alpha is a / target. The target is one number for the family, as a tier is chosen by the request; or it is
    drawn for each prompt and asked for in its text, as in L1, and then a request has to ask for one too.
    """

    kind: Literal["target"] = Field(description="L1's: a length to hit, or not to exceed")
    target_tokens: PositiveInt | tuple[PositiveInt, PositiveInt] = Field(
        description="the length to aim at, tokens; of [least, most] each prompt asks for one between (L1: 100, 4000)"
    )
    only_longer: bool = Field(
        False, description="false: both sides cost (L1-Exact); true: correct * (1 - excess), never below 0 (L1-Max)"
    )
    suffix: str = Field(
        " Think for {target} tokens.",
        description="how a prompt asks for the target drawn for it (L1-Max: Think for maximum {target} tokens)",
    )

    @model_validator(mode="after")
    def _can_be_asked_for(self) -> Self:
        if isinstance(self.target_tokens, tuple):
            if self.target_tokens[0] > self.target_tokens[1]:
                raise ValueError(f"target_tokens: nothing lies in {list(self.target_tokens)}; give the least first")
            if "{target}" not in self.suffix:
                raise ValueError("suffix: it has to name the target that is drawn; write {target} in it")
        return self

    def asked(self, prompt: int, seed: int) -> tuple[int, str]:
        """Uniform between least and most, the same for the same prompt number and seed."""
        if isinstance(self.target_tokens, int):
            return 0, ""
        target = Random(f"{seed}/{prompt}").randint(*self.target_tokens)
        return target, self.suffix.replace("{target}", str(target))

    def rewards(self, group: Group) -> list[float]:
        target = self.target_tokens if isinstance(self.target_tokens, int) else group.target

        def cost(length: int) -> float:
            return group.alpha * abs(length - target) / target

        if self.only_longer:
            return group.pay(lambda length: max(0.0, 1.0 - cost(max(length, target))))
        return group.charge(cost)


class HapoPenalty(LengthPenalty):
    """c + a max(f, -0.7) if right, a min(f, 0) if wrong, f = cos(min(pi / 2 l / h, pi)) (HAPO, arXiv 2505.11225).

    h is the shortest right response to this problem in all earlier rollouts; without one f is 0. It takes several
    passes over the problems.
    """

    remembers: ClassVar[bool] = True
    kind: Literal["hapo"] = Field(description="against the shortest right response to the problem so far")

    def rollout(self, groups: Sequence[Group], memory: Memory) -> list[list[float]]:
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


class ShortRlPenalty(LengthPenalty):
    """c (1 + a f), f = 0.5 up to min + tolerance, else 0.5 - (l - min) / (max - min) (Short-RL, arXiv 2505.12284).

    min and max of the group's right responses. Plain accuracy where the rollout's is below the best so far by more
    than `accuracy`.
    """

    remembers: ClassVar[bool] = True
    kind: Literal["short_rl"] = Field(description="a neutral zone, and a gate by the rollouts' accuracy")
    tokens: PositiveInt = Field(100, description="what a response may be longer than the shortest right one, tokens")
    accuracy: Annotated[float, Field(ge=0, le=1)] = Field(
        0.05, description="what a rollout's accuracy may be below the best so far"
    )

    def rollout(self, groups: Sequence[Group], memory: Memory) -> list[list[float]]:
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


class LaserDPenalty(LengthPenalty):
    """c (1 + a [l <= target of the prompt's difficulty]) (Laser-D, arXiv 2505.15612; a 0.5).

    Three difficulties by solve rate, apart at 1/3 and 2/3. The target of each is the least of the steps within which
    its groups have a right response each on average, in the rollout before; before a first, the longest there can be.
    Theirs are taken from a set of problems apart, every 20 steps.
    """

    remembers: ClassVar[bool] = True
    kind: Literal["laser_d"] = Field(description="a bonus within a target that follows the difficulty")
    step_tokens: PositiveInt = Field(description="how far apart the targets are that it chooses from, tokens")

    def rollout(self, groups: Sequence[Group], memory: Memory) -> list[list[float]]:
        found = [self._within(group, memory.get(self._difficulty(group), group.longest)) for group in groups]
        for name in ("easy", "medium", "hard"):
            same = [group for group in groups if self._difficulty(group) == name]
            right = sorted(length for group in same for length in group.right)
            if same and len(right) >= len(same):
                memory[name] = self.step_tokens * math.ceil(right[len(same) - 1] / self.step_tokens)
        return found

    def _within(self, group: Group, target: float) -> list[float]:
        return group.pay(lambda length: 1.0 + group.alpha * (length <= target))

    def _difficulty(self, group: Group) -> str:
        return "easy" if group.solved > 2 / 3 else "medium" if group.solved > 1 / 3 else "hard"


class LeashPenalty(LengthPenalty):
    """c - a k max(0, l / target - 1), k from 1 on + rate (mean l / target - 1) a rollout (Leash, arXiv 2512.21540).

    A dial in tokens: a is only where the pressure begins. k stays in [0, most].
    """

    remembers: ClassVar[bool] = True
    kind: Literal["leash"] = Field(description="the pressure grows until the mean length is the target")
    target_tokens: PositiveInt = Field(description="the mean length to come to, tokens")
    rate: PositiveFloat = Field(0.1, description="how fast the pressure follows, a rollout")
    most: PositiveFloat = Field(10.0, description="the largest pressure, a multiple of alpha")

    def rollout(self, groups: Sequence[Group], memory: Memory) -> list[list[float]]:
        pressure = memory.get("pressure", 1.0)
        off = fmean(fmean(group.lengths) for group in groups) / self.target_tokens - 1
        memory["pressure"] = min(max(0.0, pressure + self.rate * off), self.most)
        return [self._above(group, pressure) for group in groups]

    def _above(self, group: Group, pressure: float) -> list[float]:
        return group.charge(lambda length: group.alpha * pressure * max(0.0, length / self.target_tokens - 1))


Penalty = Annotated[
    SigmoidPenalty
    | MinMaxPenalty
    | ShortestPenalty
    | ShorterBetterPenalty
    | TwynPenalty
    | Gr3Penalty
    | LinearPenalty
    | AlpPenalty
    | LaserPenalty
    | DlerPenalty
    | TargetPenalty
    | HapoPenalty
    | ShortRlPenalty
    | LaserDPenalty
    | LeashPenalty,
    Field(discriminator="kind"),
]
