"""Penalties that compare a response with the others of its group."""

from statistics import fmean
from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from alphatier_training.penalties.group import Group, LengthPenalty
from alphatier_training.reward import length_penalised_rewards


class SigmoidPenalty(LengthPenalty):
    """c (1 - a sigmoid((l - mean) / std)), mean and std of the group's right responses (the paper)."""

    kind: Literal["sigmoid"] = Field(description="the paper's")
    std_floor: Annotated[float, Field(ge=0)] = Field(
        0.0,
        description="the least std, tokens, so that a gap of 1 token weighs less than one of 1,000 (paper: 0)",
    )

    def rewards(self, group: Group) -> list[float]:
        """As `reward` says."""
        return length_penalised_rewards(group.correct, group.lengths, group.alpha, self.std_floor)


class MinMaxPenalty(LengthPenalty):
    """c + a (0.5 - (l - min) / (max - min)), min and max of the whole group (Kimi k1.5, arXiv 2501.12599).

    A wrong response gets at most 0: it gains nothing by being short. With equal lengths it is plain accuracy.
    """

    kind: Literal["min_max"] = Field(description="Kimi k1.5's: between the group's shortest and longest response")

    def rewards(self, group: Group) -> list[float]:
        """Of lengths 10, 20, 30: 1 + a / 2, 1, 1 - a / 2."""
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
        """The shortest right response gets 1, one without end 1 - a."""
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
        """Linear and unbounded in the distance."""
        best, scale = min(group.right, default=fmean(group.lengths)), self.scale_tokens or group.longest

        def cost(length: int) -> float:
            return group.alpha * abs(length - best) / scale

        return group.pay(lambda length: 1.0 - cost(length), lambda length: 0.0 - cost(length))


class TwynPenalty(LengthPenalty):
    """c + a (m - 1 - 2 i) / N, i the rank by length among the m right ones (Think When You Need, arXiv 2504.03234).

    The sum of pairwise comparisons: 1 for a right against a wrong response, a for a shorter against a longer right
    one (theirs: 0.1). Two virtual ones belong to the N = n + 2 and to the m: a wrong of length 0, a right of infinite
    length. Without the constant -m / N of every response, and without their z-score, which `advantage` decides.
    """

    kind: Literal["twyn"] = Field(description="by the rank of the length among the right responses")

    def rewards(self, group: Group) -> list[float]:
        """Ties share their ranks."""
        right, everyone = group.right, len(group.lengths) + 2

        def won(length: int) -> int:  # the longer ones and the virtual one, less the shorter ones: m - 1 - 2 i
            return 1 + sum(other > length for other in right) - sum(other < length for other in right)

        return group.pay(lambda length: 1.0 + group.alpha * won(length) / everyone)


class Gr3Penalty(LengthPenalty):
    """c / (1 + a l / mean), mean of the whole group (GR3, arXiv 2603.10535; a 0.33)."""

    kind: Literal["gr3"] = Field(description="divided by the length over the group's mean")

    def rewards(self, group: Group) -> list[float]:
        """A response of the mean length gets 1 / (1 + a)."""
        mean = fmean(group.lengths)
        return group.pay(lambda length: 1.0 / (1.0 + group.alpha * length / mean))
