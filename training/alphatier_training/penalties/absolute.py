"""Penalties that compare a response with a number of tokens."""

from random import Random
from typing import Literal, Self

from pydantic import Field, PositiveInt, model_validator

from alphatier_training.penalties.group import Group, LengthPenalty


class LinearPenalty(LengthPenalty):
    """c (1 - a min(1, l / scale)): the length itself."""

    kind: Literal["linear"] = Field(description="linear in the length")
    scale_tokens: PositiveInt | None = Field(
        None, description="the length that costs all of alpha, tokens; null for `rl.max_new_tokens`"
    )

    def rewards(self, group: Group) -> list[float]:
        """From 1 down to 1 - a."""
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
        """Linear and unbounded."""
        price = group.alpha * max(group.solved, 1 / len(group.lengths)) / (self.scale_tokens or group.longest)
        return group.pay(lambda length: 1.0 - price * length, lambda length: 0.0 - price * length)


class LaserPenalty(LengthPenalty):
    """c (1 + a [l <= target]) (Laser, arXiv 2505.15612; a 0.5)."""

    kind: Literal["laser"] = Field(description="a bonus for right responses within a target")
    target_tokens: PositiveInt = Field(description="the length up to which there is the bonus, tokens")

    def rewards(self, group: Group) -> list[float]:
        """1 + a or 1."""
        return group.pay(lambda length: 1.0 + group.alpha * (length <= self.target_tokens))


class DlerPenalty(LengthPenalty):
    """c [l <= (1 - a) limit]: what is longer is wrong (DLER, arXiv 2510.15110).

    Its 4,000 of 32,000 tokens are an a of 0.875. Responses run on to their end: training logs whole ones.
    """

    kind: Literal["dler"] = Field(description="a right response beyond the limit counts as wrong")
    limit_tokens: PositiveInt | None = Field(
        None, description="the limit at alpha 0, tokens; alpha cuts its share off; null for `rl.max_new_tokens`"
    )

    def rewards(self, group: Group) -> list[float]:
        """1 or 0; at a = 0 nothing is too long."""
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
        """To hit, wrong responses pay too (L1-Exact); not to exceed, they get 0 (after L1-Max)."""
        target = self.target_tokens if isinstance(self.target_tokens, int) else group.target

        def cost(length: int) -> float:
            return group.alpha * abs(length - target) / target

        if self.only_longer:
            return group.pay(lambda length: max(0.0, 1.0 - cost(max(length, target))))
        return group.pay(lambda length: 1.0 - cost(length), lambda length: 0.0 - cost(length))
