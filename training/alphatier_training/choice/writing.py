"""Writing a choice of tiers: into the family.json that it was made of, or with copies of its tiers into a new folder.

What: family.json through its one writer; tiers of several sweeps over the same base as one family. What not: no
tier's folder is ever removed; the whole sweep stays as family.sweep.json, and a later choice starts from there.
"""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from alphatier_models import Family, Tier, load_family, save_family
from alphatier_models.files import base_folder, family_file
from alphatier_training.choice.proposal import Proposal
from alphatier_training.errors import TrainingError
from alphatier_training.report.evidence import Evidence, gather
from alphatier_training.run.folder import replacing

SWEEP_FILE = "family.sweep.json"
"""Every tier that was trained, chosen or not; a family.json like any other."""

Sweep = tuple[Path, Evidence]
"""A family's folder, and what is known of all tiers that were ever trained there."""


def sweep_of(path: Path, samples: Sequence[Path]) -> Sweep:
    """The family at `path` with the tiers that earlier choices left out of it, and its evidence."""
    family, folder = load_family(path, checksums=False), family_file(path).parent
    if (folder / SWEEP_FILE).is_file():
        before = load_family(folder / SWEEP_FILE, checksums=False)
        tiers = {tier.name: tier for tier in (*before.tiers, *family.tiers)}
        family = family.model_copy(update={"tiers": tuple(tiers.values())})
    return folder, gather(family, folder, samples=samples)


def joined(sweeps: Sequence[Sweep]) -> Evidence:
    """The evidence of all sweeps as of one family; name, reference and efforts are the first one's.

    Raises:
        TrainingError: their bases differ, or two have a tier of the same name with other weights.
    """
    tiers = tuple(tier for _, tier in _owners(sweeps).values())
    samples = {key: group for _, evidence in reversed(sweeps) for key, group in evidence.samples.items()}
    first = sweeps[0][1]
    return replace(first, family=first.family.model_copy(update={"tiers": tiers}), samples=samples)


def write_choice(folder: Path, sweep: Family, proposal: Proposal) -> None:
    """Write the sweep first, then the chosen family, so that a stop between the two loses nothing."""
    save_family(sweep, folder / SWEEP_FILE)
    save_family(_chosen(sweep, proposal), folder)


def write_copies(sweeps: Sequence[Sweep], family: Family, proposal: Proposal, out: Path) -> None:
    """Copy the base and the chosen tiers of `sweeps` into the new folder `out`, with their family.json.

    Raises:
        TrainingError: `out` is there already, or two tiers lie in folders of the same name.
    """
    if out.exists():
        raise TrainingError(f"{out} exists. Give --out a folder that does not.")
    chosen, homes = _chosen(family, proposal), _owners(sweeps)
    paths = {tier.name: tier.path for tier in chosen.tiers if tier.path is not None}
    if len(set(paths.values())) < len(paths):
        listing = ", ".join(paths.values())
        raise TrainingError(f"two tiers lie in folders of the same name ({listing}); rename one of them.")
    with replacing(out) as folder:
        local = base_folder(chosen, sweeps[0][0])
        if local is not None:
            shutil.copytree(local, folder / chosen.base.model)
        for name, path in paths.items():
            shutil.copytree(homes[name][0] / path, folder / path)
        save_family(chosen, folder)


def _chosen(family: Family, proposal: Proposal) -> Family:
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


def _owners(sweeps: Sequence[Sweep]) -> dict[str, tuple[Path, Tier]]:
    """Each tier's name with the first folder that has it."""
    first_folder, first = sweeps[0]
    tiers: dict[str, tuple[Path, Tier]] = {}
    for folder, evidence in sweeps:
        if _base(evidence.family) != _base(first.family):
            raise TrainingError(
                f"{first_folder} and {folder} have different bases, so their tiers are no family. "
                "Join only sweeps over the same base (compare `base` in their family.json)."
            )
        for tier in evidence.family.tiers:
            where, present = tiers.setdefault(tier.name, (folder, tier))
            if (present.layout, present.identity) != (tier.layout, tier.identity):
                raise TrainingError(
                    f"{where} and {folder} both have a tier {tier.name}, with other weights. "
                    "Join sweeps of different alphas, or rename one of the two tiers in its family.json."
                )
    return tiers


def _base(family: Family) -> tuple[str | None, ...]:
    """What makes a base the same: its checksum, else hub id and revision; and its chat template."""
    base = family.base
    return base.sha256, base.revision, base.chat_template_sha256, None if base.sha256 else base.model
