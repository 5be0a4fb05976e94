"""Writing a choice of tiers into family.json, without losing what was measured of the others.

What: family.json through its one writer. What not: no tier's folder is ever removed; the whole sweep stays readable
as family.sweep.json beside it, and a later choice starts from there.
"""

from pathlib import Path

from alphatier_models import Family, Tier, load_family, save_family
from alphatier_training.choice.proposal import Proposal

SWEEP_FILE = "family.sweep.json"
"""Every tier that was trained, chosen or not; a family.json like any other."""


def chosen_family(family: Family, proposal: Proposal) -> Family:
    """The family with only the proposed tiers, efforts and default."""
    names = proposal.names("kept", "reference")
    document = family.model_dump(exclude_none=True) | {
        "tiers": [_within(family.tier(name), names).model_dump(exclude_none=True) for name in names],
        "efforts": proposal.efforts,
        "default_tier": proposal.default_tier,
    }
    return Family.model_validate(document)


def _within(tier: Tier, names: list[str]) -> Tier:
    """A blend whose parts are not all in the family says no more what it was made of; its weights are its own."""
    lacks = any(part.tier not in names for part in tier.blend or ())
    return tier.model_copy(update={"blend": None}) if lacks else tier


def sweep_of(folder: Path, family: Family) -> Family:
    """The family with the tiers that earlier choices left out of it, as far as family.sweep.json has them."""
    file = folder / SWEEP_FILE
    if not file.is_file():
        return family
    tiers = {tier.name: tier for tier in (*load_family(file, checksums=False).tiers, *family.tiers)}
    return family.model_copy(update={"tiers": tuple(tiers.values())})


def write_choice(folder: Path, sweep: Family, proposal: Proposal) -> None:
    """Write the sweep first, then the chosen family, so that a stop between the two loses nothing."""
    save_family(sweep, folder / SWEEP_FILE)
    save_family(chosen_family(sweep, proposal), folder)
