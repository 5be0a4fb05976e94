"""What a blend is made of: names and weights from what a user asked for. Pure; no files."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

from alphatier_models.errors import BlendError
from alphatier_models.schema import RESERVED_TIER_NAMES, BlendPart, Family, Name

LARGEST = 1.5
"""The largest share or weight. Above 1 a blend leaves the range between trained tiers; far above, models break."""


@dataclass(frozen=True)
class Blend:
    """A tier to be made: base + sum of weight * (part - base)."""

    name: str
    parts: tuple[BlendPart, ...]
    """The tiers with weights on disk; the base is no part, as it has what the weights leave of 1."""

    @property
    def base_weight(self) -> float:
        """The weight that is left for the base."""
        return _rounded(1 - math.fsum(part.weight for part in self.parts))

    @property
    def extrapolates(self) -> bool:
        """Whether it lies outside of what lies between its parts and the base."""
        return self.base_weight < 0 or any(not 0 <= part.weight <= 1 for part in self.parts)


def between(family: Family, first: str, second: str, share: float, name: str | None = None) -> Blend:
    """(1 - share) of `first` and `share` of `second`; 0 is the first, 1 the second.

    Raises:
        BlendError: a name or the share cannot be used.
    """
    _check_weight(second, share)
    return _blend(family, {first: _rounded(1 - share), second: share}, name or f"{first}-{second}-{share:g}", 2)


def scaled(family: Family, tier: str, share: float, name: str | None = None) -> Blend:
    """The base and `share` of what training made of it; 0 is the base, 1 the tier.

    Raises:
        BlendError: the name or the share cannot be used.
    """
    _check_weight(tier, share)
    return _blend(family, {tier: share}, name or f"{tier}-x{share:g}", 1)


def mixed(family: Family, weights: Mapping[str, float], name: str | None = None) -> Blend:
    """Any number of tiers with their weights; what they leave of 1 is the base's.

    Raises:
        BlendError: a name or a weight cannot be used, or the base's weight contradicts the others.
    """
    for tier, weight in weights.items():
        _check_weight(tier, weight)
    bases = [tier for tier in weights if _layout(family, tier) == "base"]
    if bases and _rounded(math.fsum(weights.values())) != 1:
        raise BlendError(
            f"The weights add up to {math.fsum(weights.values()):g}. Let them add up to 1, or leave out {bases[0]}: "
            "what the other tiers leave of 1 is the base's."
        )
    return _blend(family, weights, name or "-".join(f"{tier}-{weight:g}" for tier, weight in weights.items()), 1)


def _blend(family: Family, weights: Mapping[str, float], name: str, different: int) -> Blend:
    if len(weights) < different:
        raise BlendError("A blend between a tier and itself is that tier. Name two tiers.")
    layouts = {tier: _layout(family, tier) for tier in weights}
    parts = tuple(BlendPart(tier=tier, weight=weight) for tier, weight in weights.items() if layouts[tier] != "base")
    if not parts:
        raise BlendError("The base alone is no blend. Name a tier that was trained.")
    kinds = Counter(layouts[part.tier] for part in parts)
    if len(kinds) > 1:
        listing = ", ".join(f"{part.tier} is {_article(layouts[part.tier])}" for part in parts)
        raise BlendError(f"Adapters and checkpoints cannot be blended: {listing}. Merge the adapters into the base.")
    _check_name(family, name)
    return Blend(name, parts)


def _check_name(family: Family, name: str) -> None:
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError as error:
        raise BlendError(
            f"{name!r} is no name for a tier: at most 63 of a-z, 0-9, '.', '_' and '-'. Give another with --name."
        ) from error
    if name in RESERVED_TIER_NAMES:
        raise BlendError(f"The name {name!r} is reserved for the gateway's own choice. Give another with --name.")
    if name in {tier.name for tier in family.tiers}:
        raise BlendError(
            f"{family.name} has a tier {name!r} already. Give another name with --name, or remove that tier."
        )


def _check_weight(tier: str, weight: float) -> None:
    if not 0 <= weight <= LARGEST:
        raise BlendError(f"{tier}: {weight:g} is no share. Give one from 0 to {LARGEST:g} (above 1 extrapolates).")


def _layout(family: Family, name: str) -> str:
    try:
        return family.tier(name).layout
    except KeyError:
        names = ", ".join(tier.name for tier in family.tiers)
        raise BlendError(f"{name!r} is no tier of {family.name}. Its tiers are {names}.") from None


def _article(layout: str) -> str:
    return "an adapter" if layout == "adapter" else f"a {layout}"


def _rounded(weight: float) -> float:
    """Without the noise of binary fractions: 1 - 0.9 is 0.1."""
    return round(weight, 12)
