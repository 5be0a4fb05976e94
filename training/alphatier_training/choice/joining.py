"""One family out of several sweeps over the same base.

What: checks that the bases are the same by their checksum (or hub id and revision), puts the tiers and their evidence
together, and copies the chosen ones into a folder of their own. What not: no training, no measuring.
"""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from alphatier_models import Family, Tier, save_family
from alphatier_models.files import base_folder
from alphatier_training.choice.applying import chosen_family
from alphatier_training.choice.proposal import Proposal
from alphatier_training.errors import ChoiceError
from alphatier_training.report.evidence import Evidence
from alphatier_training.run.folder import replacing


def joined(sources: Sequence[tuple[Path, Evidence]]) -> Evidence:
    """The evidence of all sweeps as of one family; name, reference and efforts are the first one's.

    Raises:
        ChoiceError: their bases differ, or two have a tier of the same name with other weights.
    """
    tiers = owners(sources)
    samples = {key: group for _, evidence in reversed(sources) for key, group in evidence.samples.items()}
    family = sources[0][1].family.model_copy(update={"tiers": tuple(tier for _, tier in tiers.values())})
    return replace(sources[0][1], family=family, samples=samples)


def owners(sources: Sequence[tuple[Path, Evidence]]) -> dict[str, tuple[Path, Tier]]:
    """Each tier's name with the first folder that has it; raises what `joined` raises."""
    (first_folder, first), *others = sources
    tiers: dict[str, tuple[Path, Tier]] = {tier.name: (first_folder, tier) for tier in first.family.tiers}
    for folder, evidence in others:
        _check_base(first_folder, first.family, folder, evidence.family)
        for tier in evidence.family.tiers:
            where, present = tiers.setdefault(tier.name, (folder, tier))
            if (present.layout, present.sha256) != (tier.layout, tier.sha256):
                raise ChoiceError(
                    f"{where} and {folder} both have a tier {tier.name}, with other weights. "
                    "Join sweeps of different alphas, or rename one of the two tiers in its family.json."
                )
    return tiers


def write_joined(sources: Sequence[tuple[Path, Evidence]], evidence: Evidence, proposal: Proposal, out: Path) -> None:
    """Copy the base and the chosen tiers of `sources` into the new folder `out`, with their family.json.

    Raises:
        ChoiceError: `out` is there already, or two tiers lie in folders of the same name.
    """
    if out.exists():
        raise ChoiceError(f"{out} exists. Give --out a folder that does not.")
    chosen, homes = chosen_family(evidence.family, proposal), owners(sources)
    paths = [tier.path for tier in chosen.tiers if tier.path is not None]
    if len(set(paths)) < len(paths):
        raise ChoiceError(f"two tiers lie in folders of the same name ({', '.join(paths)}); rename one of them.")
    with replacing(out) as folder:
        local = base_folder(chosen, sources[0][0])
        if local is not None:
            shutil.copytree(local, folder / chosen.base.model)
        for tier in chosen.tiers:
            if tier.path is not None:
                shutil.copytree(homes[tier.name][0] / tier.path, folder / tier.path)
        save_family(chosen, folder)


def _check_base(first: Path, one: Family, second: Path, other: Family) -> None:
    fields = ("sha256", "revision", "chat_template_sha256")
    same = all(getattr(one.base, field) == getattr(other.base, field) for field in fields)
    if not same or (one.base.sha256 is None and one.base.model != other.base.model):
        raise ChoiceError(
            f"{first} and {second} have different bases, so their tiers are no family. "
            "Join only sweeps over the same base (compare `base` in their family.json)."
        )
