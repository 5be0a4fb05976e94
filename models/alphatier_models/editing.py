"""Changes of a family that move no weights: pure, from one family to the next; `files.change_family` writes them."""

from collections.abc import Mapping

from alphatier_models.errors import EditError
from alphatier_models.schema import Canary, Effort, Family


def removed(family: Family, name: str, heir: str | None) -> Family:
    """Without the tier `name`; what led to it leads to `heir`. Raises EditError."""
    _known(family, name)
    if heir is not None and _known(family, heir) == name:
        raise EditError(f"--to {heir} is the tier to remove. Name another.")
    blends = [tier.name for tier in family.tiers if any(part.tier == name for part in tier.blend or ())]
    if blends:
        raise EditError(f"{blends[0]} is a blend of {name}. Remove that first.")
    uses = _uses(family, name)
    if uses and heir is None:
        raise EditError(f"{', '.join(uses)} lead to {name}. Say where to instead: --to TIER.")
    staying = tuple(tier for tier in family.tiers if tier.name != name)
    tried = family.canary is not None and name in (family.canary.tier, family.canary.version)
    fewer = family.model_copy(update={"tiers": staying, "canary": None if tried else family.canary})
    return fewer if heir is None else _led(fewer, name, heir)


def renamed(family: Family, old: str, new: str) -> Family:
    """With the tier `old` called `new`, wherever its name stands; its folder stays. Raises EditError."""
    _known(family, old)
    if new in {tier.name for tier in family.tiers}:
        raise EditError(f"{family.name} has a tier {new} already. Give another name.")
    tiers = []
    for tier in family.tiers:
        parts = tier.blend and tuple(
            part.model_copy(update={"tier": new}) if part.tier == old else part for part in tier.blend
        )
        tiers.append(tier.model_copy(update={"name": new if tier.name == old else tier.name, "blend": parts}))
    return _led(family.model_copy(update={"tiers": tuple(tiers)}), old, new)


def with_canary(family: Family, canary: Canary | None) -> Family:
    """With this new version of a tier to be tried, or none. Raises EditError."""
    if canary is not None and _known(family, canary.tier) == _known(family, canary.version):
        raise EditError(f"{canary.version} is the tier itself. Name another tier as its new version.")
    return family.model_copy(update={"canary": canary})


def promoted(family: Family) -> Family:
    """With the version that is tried in its tier's place, under its tier's name. Raises EditError."""
    if family.canary is None:
        raise EditError(f"No new version of a tier of {family.name} is tried.")
    tier, version = family.canary.tier, family.canary.version
    return renamed(removed(family, tier, version), version, tier)


def with_efforts(family: Family, efforts: Mapping[Effort, str]) -> Family:
    """With these efforts leading to other tiers. Raises EditError."""
    for tier in efforts.values():
        _known(family, tier)
    return family.model_copy(update={"efforts": {**family.efforts, **efforts}})


def with_default(family: Family, name: str) -> Family:
    """With another tier for requests that choose none. Raises EditError."""
    _known(family, name)
    return family.model_copy(update={"default_tier": name})


def _known(family: Family, name: str) -> str:
    names = [tier.name for tier in family.tiers]
    if name not in names:
        raise EditError(f"{name!r} is no tier of {family.name}; the tiers are {', '.join(names)}.")
    return name


def _uses(family: Family, name: str) -> list[str]:
    efforts = [f"the effort {effort}" for effort, tier in family.efforts.items() if tier == name]
    places = {"the default": family.default_tier, "the reference tier": family.reference_tier}
    return [*efforts, *(place for place, tier in places.items() if tier == name)]


def _led(family: Family, old: str, new: str) -> Family:
    tried = family.canary and Canary.model_validate(
        {field: new if value == old else value for field, value in family.canary}
    )
    return family.model_copy(
        update={
            "efforts": {effort: new if tier == old else tier for effort, tier in family.efforts.items()},
            "default_tier": new if family.default_tier == old else family.default_tier,
            "canary": tried,
            "reference_tier": new if family.reference_tier == old else family.reference_tier,
        }
    )
