"""How much disk a run still takes, counted from the shapes of the base's weights.

    checkpoints    tiers at once x (rl.checkpoints_kept + the one that is being written) x (weights + Adam's averages)
    tiers          every tier that is not trained yet, its weights

A checkpoint holds 12 bytes for each weight that is trained: itself and two averages in float32; DeepSpeed's 14, with
a bfloat16 copy. Of an adapter only its own weights are trained.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

from alphatier_models import EditError
from alphatier_models.hub import commit_of, look_at
from alphatier_models.weights import read_weights
from alphatier_training.recipe import BASE_TIER, Recipe
from alphatier_training.recipe.base import PretrainedBase
from alphatier_training.run.base import load_reference
from alphatier_training.run.folder import RunFolder

Shapes = Mapping[str, tuple[int, ...]]

GB = 1e9


@dataclass(frozen=True)
class DiskPlan:
    """What a run writes, at most at once: numbers of tiers and of checkpoints kept, bytes of one of each.

    `there` are the bytes of checkpoints that an earlier run has left, and that this one replaces.
    """

    tiers: int
    at_once: int
    kept: int
    checkpoint: int
    tier: int
    there: int

    @property
    def wanted(self) -> int:
        """Bytes that are still to be written."""
        return max(0, self.at_once * self.kept * self.checkpoint + self.tiers * self.tier - self.there)

    def formula(self) -> str:
        """How they come about."""
        return (
            f"{self.at_once} tiers at once x {self.kept} checkpoints x {_gb(self.checkpoint)}, "
            f"{self.tiers} tiers x {_gb(self.tier)}"
        )


def disk_plan(recipe: Recipe, folder: RunFolder, shapes: Shapes, tiers: Sequence[str], at_once: int) -> DiskPlan:
    """What `tiers`, which are to be trained, will take."""
    files = (file for tier in tiers for file in folder.checkpoints(tier).rglob("*"))
    trained = _adapter(shapes, recipe.rl.lora.rank) if recipe.rl.lora else sum(map(prod, shapes.values()))
    sharded = recipe.compute.strategy.startswith("zero") and not recipe.rl.lora
    return DiskPlan(
        tiers=len(tiers),
        at_once=min(at_once, len(tiers)),
        kept=recipe.rl.checkpoints_kept + 1,
        checkpoint=trained * (14 if sharded else 12),
        tier=trained * (2 if sharded else 4),
        there=sum(file.stat().st_size for file in files if file.is_file()),
    )


def disk_faults(plan: DiskPlan, out: Path) -> list[str]:
    """One line where the disk of `out` has less room."""
    free = shutil.disk_usage(next(place for place in (out, *out.absolute().parents) if place.is_dir())).free
    if plan.wanted <= free:
        return []
    return [
        f"disk: {_gb(plan.wanted)} are to be written below {out} ({plan.formula()}), but {_gb(free)} are free: make "
        "room, give another --out, or lower rl.checkpoints_kept or --jobs"
    ]


def shapes_of(recipe: Recipe, folder: RunFolder) -> Shapes | None:
    """The shapes of the base's weights, from the headers of their files; None where they cannot be told.

    That is of a base that is made here, which is small, and where the hub, or a folder, has no sound model: which is
    checked apart.
    """
    base = recipe.base
    try:
        if folder.is_done(BASE_TIER):
            return read_weights(Path(load_reference(folder).path)).shapes
        if not isinstance(base, PretrainedBase):
            return None
        if base.is_on_hub():
            return look_at(base.model, base.revision or commit_of(base.model, None)).shapes
        return read_weights(Path(base.model).expanduser()).shapes
    except EditError:
        return None


def _adapter(shapes: Shapes, rank: int) -> int:
    """Weights of an adapter on all linear layers but the head: rank x (inputs + outputs) each."""
    linear = (shape for name, shape in shapes.items() if len(shape) == 2 and not _outside(name))
    return sum(rank * sum(shape) for shape in linear)


def _outside(name: str) -> bool:
    return any(part in name for part in ("embed", "lm_head", "wte", "wpe"))


def _gb(size: float) -> str:
    return f"{size / GB:,.3g} GB" if size < 1e12 else f"{size / GB:,.0f} GB"
