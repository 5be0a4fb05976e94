"""What a recipe needs: work, memory and hours, as figures with their formulas.

What: pure functions of a recipe, a device and assumptions; nothing is run, fetched or written. What not: no measured
figure, and no promise: see `CHECK`.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from alphatier_models import load_family
from alphatier_training.planning.hardware import DEVICES, Assumptions, Device
from alphatier_training.planning.hours import engines_of, generation_line, sampling_lines, training_line
from alphatier_training.planning.lines import GB, Line, total
from alphatier_training.planning.memory import offloaded, trained, training_memory
from alphatier_training.planning.models import ModelShape, shape_of
from alphatier_training.planning.work import Lengths, Work, work_of
from alphatier_training.recipe import Recipe

CHECK = (
    "The one published time to check against is the paper's: about 20 hours for one tier of the 1.5B model on 4 "
    "GH200. For that run this formula gives 7 hours; its software was another, so take it as the order of magnitude, "
    "and rather too low."
)


@dataclass(frozen=True)
class Asked:
    """What a person may say of the machine and of the model."""

    device: str
    tokens_per_second: float | None = None
    """Of all engines together, where it has been measured."""
    mean_tokens: float | None = None
    """Of a response of the base, where it has been measured."""


@dataclass(frozen=True)
class Estimate:
    """The estimate of one recipe."""

    device: Device
    assumed: Assumptions
    shape: ModelShape
    trained: int
    """Weights that are trained."""
    lengths: Lengths
    work: Work
    memory: tuple[Line, ...]
    """Bytes of one training process."""
    host_memory: float
    """Bytes of optimiser state in each node's main memory."""
    rollout: tuple[Line, ...]
    """Seconds of one rollout and its updates."""
    sampling: tuple[Line, ...]
    """Seconds to measure base and tiers, and to choose problems."""
    training_devices: int
    generating_devices: int
    """GPUs of `vllm serve`, besides the training ones; 0 where the trainers generate."""

    @property
    def tier_hours(self) -> float:
        """Hours of RL of one tier."""
        return self.work.rollouts * total(list(self.rollout)) / 3600

    @property
    def family_hours(self) -> float:
        """Hours of the RL of all tiers, one after the other, of choosing problems and of the evaluation."""
        return self.work.tiers * self.tier_hours + total(list(self.sampling)) / 3600

    @property
    def fits(self) -> bool | None:
        """Whether a training process fits its device; None on a CPU."""
        return total(list(self.memory)) <= self.device.memory * GB if self.device.memory else None

    def as_json(self) -> dict[str, Any]:
        """The estimate as JSON; bytes and seconds, each with its formula."""
        work = self.work
        return {
            "device": asdict(self.device),
            "assumptions": asdict(self.assumed),
            "model": {"parameters": self.shape.parameters, "trained": self.trained},
            "lengths": {"by_data": dict(self.lengths.by_data), "source": self.lengths.source},
            "rollouts_per_tier": work.rollouts,
            "optimiser_steps_per_tier": work.updates,
            "responses_per_rollout": work.responses,
            "training_tokens": asdict(work.training),
            "evaluation_tokens": asdict(work.evaluation),
            "selection_tokens": asdict(work.selection),
            "memory_bytes": [asdict(line) for line in self.memory],
            "memory_total_bytes": total(list(self.memory)),
            "host_memory_bytes": self.host_memory,
            "fits": self.fits,
            "seconds_per_rollout": [asdict(line) for line in self.rollout],
            "sampling_seconds": [asdict(line) for line in self.sampling],
            "hours_per_tier": self.tier_hours,
            "hours": self.family_hours,
            "training_devices": self.training_devices,
            "generating_devices": self.generating_devices,
            "measured": False,
        }


def estimate(recipe: Recipe, asked: Asked, family: Path | None = None) -> Estimate:
    """What `recipe` needs.

    Args:
        recipe: The recipe.
        asked: The device, and what has been measured.
        family: The run's folder; where it is a family already, its base's measured lengths count.

    Raises:
        EstimateError: too little is known of the base.
    """
    device, assumed, shape = DEVICES[asked.device], Assumptions(), shape_of(recipe)
    lengths = lengths_of(shape, asked.mean_tokens, family)
    work = work_of(recipe, lengths)
    engines = engines_of(recipe, shape, work, device, assumed)
    served = recipe.compute.generation.engine == "vllm_server"
    return Estimate(
        device=device,
        assumed=assumed,
        shape=shape,
        trained=trained(recipe, shape),
        lengths=lengths,
        work=work,
        memory=tuple(training_memory(recipe, shape, device, assumed)),
        host_memory=offloaded(recipe, shape, device),
        rollout=(
            generation_line(recipe, shape, work, device, assumed, asked.tokens_per_second),
            training_line(recipe, shape, work, device, assumed),
        ),
        sampling=tuple(sampling_lines(recipe, shape, work, device, assumed)),
        training_devices=recipe.compute.processes * recipe.compute.nodes,
        generating_devices=engines.all_devices if served else 0,
    )


def lengths_of(shape: ModelShape, stated: float | None, family: Path | None) -> Lengths:
    """The base's mean tokens: as stated, as measured in the run's own family.json, as published, or unknown."""
    if stated is not None:
        return Lengths({"all": stated}, "as given")
    if family is not None and (family / "family.json").is_file():
        return Lengths(_measured(family), f"measured: {family / 'family.json'}")
    if shape.tokens:
        return Lengths(shape.tokens, shape.tokens_source)
    return Lengths({}, "unknown: every response is taken to be cut off; give --mean-tokens")


def default_device(recipe: Recipe) -> str:
    """The device of an estimate that names none."""
    return "h100" if recipe.compute.device == "auto" else "cpu"


def _measured(folder: Path) -> dict[str, float]:
    family = load_family(folder)
    base = next(tier for tier in family.tiers if tier.name == family.reference_tier)
    return {found.dataset: found.tokens.mean for found in base.evaluations}
