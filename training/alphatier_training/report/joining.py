"""Families over one base as one, with all tiers that were ever trained there; and what a choice makes of them.

What: tiers that earlier choices left out are found again, and what is written is family.json, through its one writer.
What not: no tier's folder is ever removed.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from alphatier_models import Family, Tier, load_family, save_family
from alphatier_models.files import base_folder, family_file
from alphatier_training.errors import TrainingError
from alphatier_training.report.choosing import Proposal
from alphatier_training.report.evidence import Evidence, gather
from alphatier_training.run.folder import replacing

SWEEP_FILE = "family.sweep.json"
"""Every tier that was trained, chosen or not; a family.json like any other. A later choice starts from there."""


class Joined(NamedTuple):
    """Families over one base as one: all tiers that were ever trained there; the rest is the first one's."""

    evidence: Evidence
    homes: Mapping[str, Path]
    """Each tier's family's folder, the first family's first."""


def join(paths: Sequence[Path], samples: Sequence[Path] = ()) -> Joined:
    """The families at `paths`, with the tiers that earlier choices left out, and all that is known about them.

    Raises:
        TrainingError: their bases differ, two have a tier of the same name with other weights, or none was measured.
    """
    tiers: dict[str, Tier] = {}
    homes: dict[str, Path] = {}
    families = {family_file(path).parent: _whole(path) for path in paths}
    folder, first = next(iter(families.items()))
    for where, family in families.items():
        bases = {(one.base.identity, one.base.chat_template_sha256) for one in (first, family)}
        if len(bases) > 1:
            raise TrainingError(
                f"{folder} and {where} have different bases, so their tiers are no family. "
                "Join only sweeps over the same base (compare `base` in their family.json)."
            )
        for tier in family.tiers:
            there, home = tiers.setdefault(tier.name, tier), homes.setdefault(tier.name, where)
            if (there.layout, there.identity) != (tier.layout, tier.identity):
                raise TrainingError(
                    f"{home} and {where} both have a tier {tier.name}, with other weights. "
                    "Join sweeps of different alphas, or rename one of the two tiers in its family.json."
                )
    places = [*(where / "work" / "samples" for where in families), *samples]
    return Joined(gather(first.model_copy(update={"tiers": tuple(tiers.values())}), folder, samples=places), homes)


def write_choice(joined: Joined, proposal: Proposal) -> str:
    """Write the chosen family, after the sweep, so that a stop between the two loses nothing; says what is where."""
    sweep, folder = joined.evidence.family, next(iter(joined.homes.values()))
    save_family(sweep, folder / SWEEP_FILE)
    save_family(_chosen(sweep, proposal), folder)
    left = [str(folder / path) for name in proposal.names("left out") if (path := sweep.tier(name).path)]
    stay = f" These folders stay where they are: {', '.join(left)}." if left else ""
    return f"Written: {folder / 'family.json'}.{stay} The whole sweep is in {folder / SWEEP_FILE}."


def write_copies(joined: Joined, proposal: Proposal, out: Path) -> str:
    """Copy base, gated adapter, router and chosen tiers into the new folder `out`, with their family.json; says so.

    Raises:
        TrainingError: `out` is there already, or two tiers lie in folders of the same name.
    """
    if out.exists():
        raise TrainingError(f"{out} exists. Give --out a folder that does not.")
    chosen = _chosen(joined.evidence.family, proposal)
    paths = {tier.name: tier.path for tier in chosen.tiers if tier.path is not None}
    if len(set(paths.values())) < len(paths):
        listing = ", ".join(paths.values())
        raise TrainingError(f"two tiers lie in folders of the same name ({listing}); rename one of them.")
    first = next(iter(joined.homes.values()))
    with replacing(out) as folder:
        if (local := base_folder(chosen, first)) is not None:
            shutil.copytree(local, folder / chosen.base.model)
        if chosen.gated is not None:
            shutil.copytree(first / chosen.gated.path, folder / chosen.gated.path)
        if chosen.router is not None:
            shutil.copyfile(first / chosen.router.path, folder / chosen.router.path)
        for name, path in paths.items():
            shutil.copytree(joined.homes[name] / path, folder / path)
        save_family(chosen, folder)
    return f"Written: {out}, with its own copies of what the family needs."


def _whole(path: Path) -> Family:
    """The family at `path`, with the tiers that earlier choices left out of it."""
    family, sweep = load_family(path, checksums=False), family_file(path).parent / SWEEP_FILE
    before = load_family(sweep, checksums=False).tiers if sweep.is_file() else ()
    tiers = {tier.name: tier for tier in (*before, *family.tiers)}
    return family.model_copy(update={"tiers": tuple(tiers.values())})


def _chosen(family: Family, proposal: Proposal) -> Family:
    """The family with only the proposed tiers, efforts and default.

    A blend whose parts are not all in it says no more what it was made of; its weights are its own.
    """
    names = proposal.names("kept", "reference")
    tiers = (family.tier(name) for name in names)
    within = (
        tier.model_copy(update={"blend": None}) if any(part.tier not in names for part in tier.blend or ()) else tier
        for tier in tiers
    )
    changes = {"tiers": tuple(within), "efforts": proposal.efforts, "default_tier": proposal.default_tier}
    return family.model_copy(update=changes)
