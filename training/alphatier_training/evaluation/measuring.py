"""`alphatier evaluate`: measure tiers of an existing family, in this process or through an endpoint.

What: plans, samples (resumed where they were left), figures, and on request the figures in family.json.
What not: no training; the models are loaded by `sampling`, the endpoint asked by `endpoint`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from alphatier_models import Evaluation, Family, SamplingSettings, Tier, load_family, save_family
from alphatier_models.files import base_folder
from alphatier_training.arithmetic.problems import LEVELS
from alphatier_training.errors import TrainingError
from alphatier_training.evaluation.figures import evaluation
from alphatier_training.evaluation.samples import DATASET, Plan, SampleFile
from alphatier_training.run.reporting import Reporter


@dataclass(frozen=True)
class Settings:
    """What to measure and how."""

    tiers: tuple[str, ...]
    """Names; empty for all."""
    problems: int
    samples_per_problem: int
    sampling: SamplingSettings
    endpoint: str | None
    device: str


def default_sampling(family: Family) -> SamplingSettings:
    """How the family was measured before, so that new figures compare; else the paper's temperature."""
    for tier in family.tiers:
        if (measured := tier.evaluation(DATASET)) is not None:
            return measured.sampling
    return SamplingSettings(temperature=0.6, top_p=0.95, max_tokens=256, seed=7)


def plans(family: Family, settings: Settings) -> list[Plan]:
    """One plan a tier.

    Raises:
        TrainingError: the family has no tier of that name.
    """
    names = [tier.name for tier in family.tiers]
    for name in settings.tiers:
        if name not in names:
            raise TrainingError(f"{name!r} is no tier of {family.name}; the tiers are {', '.join(names)}.")
    return [_plan(family, family.tier(name), settings) for name in settings.tiers or names]


def take_samples(family: Family, folder: Path, plan: Plan, settings: Settings, out: Path, report: Reporter) -> None:
    """Take the samples of one plan that are not in `out` yet."""
    file = SampleFile(plan, out)
    if settings.endpoint is not None:
        from alphatier_training.evaluation.endpoint import sample_endpoint

        sample_endpoint(plan, file, settings.endpoint, report)
        return
    from alphatier_training.evaluation.sampling import sample_model
    from alphatier_training.rl.policy import device_of

    tier = family.tier(plan.tier)
    base = base_folder(family, folder) or family.base.model
    whole = folder / tier.path if tier.layout == "checkpoint" and tier.path else base
    adapter = folder / tier.path if tier.layout == "adapter" and tier.path else None
    sample_model(plan, file, whole, adapter, device_of(settings.device), report)


def figures_of(plans: Sequence[Plan], out: Path) -> dict[str, Evaluation]:
    """The figures of each plan's tier, from its file of samples."""
    return {plan.tier: evaluation(plan, SampleFile(plan, out).read()) for plan in plans}


def write_figures(folder: Path, measured: dict[str, Evaluation]) -> None:
    """Put figures into family.json; each replaces the tier's earlier ones on the same data set."""
    family = load_family(folder)
    tiers = [_with_figures(tier, measured[tier.name]) if tier.name in measured else tier for tier in family.tiers]
    save_family(family.model_copy(update={"tiers": tuple(tiers)}), folder)


def _with_figures(tier: Tier, new: Evaluation) -> Tier:
    others = tuple(old for old in tier.evaluations if old.dataset != new.dataset)
    return tier.model_copy(update={"evaluations": (new, *others)})


def _plan(family: Family, tier: Tier, settings: Settings) -> Plan:
    weights = [family.base.sha256 or f"{family.base.model}@{family.base.revision}", tier.sha256, settings.endpoint]
    return Plan(
        family=family.name,
        tier=tier.name,
        weights=" ".join(part for part in weights if part),
        dataset=DATASET,
        levels=tuple(LEVELS),
        problems=settings.problems,
        samples_per_problem=settings.samples_per_problem,
        temperature=settings.sampling.temperature,
        top_p=settings.sampling.top_p,
        max_tokens=settings.sampling.max_tokens,
        seed=settings.sampling.seed,
    )
