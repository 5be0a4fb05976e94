"""A blend becomes a tier of a family: its folder, its checksum, its entry in family.json.

Folders appear by renaming when they are complete, so a stop or a full disk leaves the family as it was.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from alphatier_models.blending.parts import Blend
from alphatier_models.errors import BlendError
from alphatier_models.files import FAMILY_FILE, base_folder, load_family, new_folder, save_family
from alphatier_models.hashing import directory_sha256
from alphatier_models.hub import base_on_disk, tier_on_disk
from alphatier_models.schema import Family, Tier

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Made:
    """A tier that was made."""

    tier: Tier
    bytes: int
    """Size of its folder."""
    rank: int | None
    """Of an adapter."""
    relative_error: float | None
    """Of an adapter that was cut to a rank; 0 where nothing was cut."""


def add_blend(folder: Path, blend: Blend, rank: int | None, progress: Progress) -> Made:
    """Make `blend` from the weights of the family in `folder`, and add it to that family.

    Args:
        folder: The family's folder.
        blend: What to make.
        rank: Cut an adapter to this rank; None keeps it exact.
        progress: Told bytes done and all, while checkpoints are averaged.

    Raises:
        BlendError: the weights do not fit together, or the folder of the new tier is there already.
    """
    family = load_family(folder, checksums=False)
    target = folder / blend.name
    with new_folder(target) as temporary:
        adapter = _write_weights(family, folder, blend, temporary, rank, progress)
        size = sum(file.stat().st_size for file in temporary.iterdir())
        tier = Tier(
            name=blend.name,
            layout=family.tier(blend.parts[0].tier).layout,
            path=blend.name,
            sha256=directory_sha256(temporary),
            blend=blend.parts,
        )
        family = family.model_copy(update={"tiers": (*family.tiers, tier)})
    try:
        save_family(family, folder)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise
    return Made(tier, size, *(adapter or (None, None)))


@contextmanager
def copied_family(source: Path, target: Path) -> Iterator[Path]:
    """A copy of the family in `source` that becomes `target` when the block ends without an error.

    Only what family.json names is copied: the folders of the base, the tiers and the gated adapter, and the router.
    """
    family = load_family(source)
    with new_folder(target) as temporary:
        base = base_folder(family, source)
        gated = family.gated.path if family.gated else None
        for name in {*(tier.path for tier in family.tiers), family.base.model if base else None, gated} - {None}:
            assert name is not None
            shutil.copytree(source / name, temporary / name)
        if family.router is not None:
            shutil.copyfile(source / family.router.path, temporary / family.router.path)
        save_family(family, temporary / FAMILY_FILE)
        yield temporary


def _write_weights(
    family: Family, folder: Path, blend: Blend, target: Path, rank: int | None, progress: Progress
) -> tuple[int, float] | None:
    """Rank and relative error of an adapter; None for a checkpoint."""
    places = ((tier_on_disk(family.tier(part.tier), folder), part.weight) for part in blend.parts)
    sources = [(place, weight) for place, weight in places if place is not None]
    if family.tier(blend.parts[0].tier).layout == "adapter":
        from alphatier_models.blending.adapters import mix_adapters

        mixed = mix_adapters(sources, target, rank)
        return mixed.rank, mixed.relative_error
    if rank is not None:
        raise BlendError(
            "--rank is for adapters; these tiers are checkpoints, whose mean has full rank. Leave it out."
        )
    from alphatier_models.blending.checkpoints import average_checkpoints

    if blend.base_weight:
        sources.append((base_on_disk(family, folder), blend.base_weight))
    average_checkpoints(sources, target, progress)
    return None
