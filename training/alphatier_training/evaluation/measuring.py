"""`alphatier evaluate`: measure tiers of an existing family, in this process or through an endpoint.

What: rows and tasks to plans, samples (resumed where they were left), figures, on request in family.json.
What not: no training and no printing; the models are loaded by `sampling`, the endpoint asked by `endpoint`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from alphatier_models import (
    Evaluation,
    Family,
    HubError,
    SamplingSettings,
    Tier,
    directory_sha256,
    load_family,
    save_family,
)
from alphatier_models.hub import base_on_disk, tier_on_disk
from alphatier_training.errors import TrainingError
from alphatier_training.evaluation.answers import Answers, Progress
from alphatier_training.evaluation.baselines import Row, as_cut
from alphatier_training.evaluation.engine import Engine, ask_server, sample
from alphatier_training.evaluation.figures import evaluation
from alphatier_training.evaluation.samples import Plan, Sample, SampleFile
from alphatier_training.evaluation.tasks import Task
from alphatier_training.run.reporting import Report, Reporter


@dataclass(frozen=True)
class Source:
    """Who answers: models in this process, or an endpoint."""

    family: Family
    folder: Path
    """Where family.json is."""
    engine: Engine


@dataclass(frozen=True)
class Job:
    """One row of the table on one task."""

    row: Row
    task: Task
    """As the row asks it."""
    plan: Plan

    @property
    def stage(self) -> str:
        """What the display calls it."""
        return f"{self.plan.row} on {self.task.name}"


@dataclass(frozen=True)
class Measured:
    """The samples and figures of one row on one task."""

    job: Job
    file: Path
    samples: tuple[Sample, ...]
    figures: Evaluation


def jobs(source: Source, rows: Sequence[Row], tasks: Sequence[Task], sampling: SamplingSettings) -> list[Job]:
    """What is to be measured, data set by data set.

    Raises:
        TrainingError: a row cannot be measured that way.
    """
    for row in rows:
        if row.adapter is not None and source.engine.url:
            raise TrainingError(f"--baseline {row.adapter}: the server at {source.engine.url} has no such adapter.")
        if row.budget is not None:
            check_budget(row.budget, sampling.max_tokens)
    return [_job(source, row, row.asks(task), sampling) for task in tasks for row in rows]


def check_budget(budget: int, max_tokens: int) -> None:
    """TrainingError when responses end before the budget does, so that it says nothing."""
    if budget > max_tokens:
        raise TrainingError(
            f"a budget of {budget} tokens is above --max-tokens {max_tokens}, where every response was cut off "
            "already; raise --max-tokens or lower the budget."
        )


def take_samples(source: Source, wanted: Sequence[Job], out: Path, report: Reporter) -> None:
    """Take the samples that are not in `out` yet; jobs with one plan share them, those of one model an engine."""
    jobs = {job.plan: job for job in wanted}.values()
    asked = {
        job: Answers(job.plan, job.task.problems, SampleFile(job.plan, out), _progress(job, report)) for job in jobs
    }
    if source.engine.url:
        ask_server(list(asked.values()), source.engine)
    else:
        weights = {job: weights_of(source.family, source.folder, job.row) for job in jobs if asked[job].missing}
        for model in dict.fromkeys(model for model, _ in weights.values()):
            own = [(asked[job], adapter) for job, (base, adapter) in weights.items() if base == model]
            sample(own, model, source.engine)
    for job in jobs:
        report(Report(job.stage, job.plan.total(), job.plan.total(), "responses", finished=True))


def _progress(job: Job, report: Reporter) -> Progress:
    return Progress(job.stage, job.plan.total(), report)


def measured(job: Job, out: Path, budgets: Sequence[int]) -> Measured:
    """The figures of a job, from its file of samples."""
    file = SampleFile(job.plan, out)
    samples = as_cut(job.row, file.read())
    plan = job.plan if job.row.budget is None else replace(job.plan, max_tokens=job.row.budget)
    figures = evaluation(plan, samples, [budget for budget in budgets if budget <= plan.max_tokens])
    return Measured(job, file.path, tuple(samples), figures)


def write_figures(folder: Path, found: Sequence[Measured]) -> None:
    """Put the tiers' figures into family.json; each replaces the tier's earlier ones on the same data set."""
    family = load_family(folder)
    new = [(one.job.row.tier, one.figures) for one in found if one.job.row.name == one.job.row.tier]
    tiers = [_with_figures(tier, [figures for name, figures in new if name == tier.name]) for tier in family.tiers]
    save_family(family.model_copy(update={"tiers": tuple(tiers)}), folder)


def _with_figures(tier: Tier, new: Sequence[Evaluation]) -> Tier:
    """New figures take the place of old ones, so that the first data set stays the first."""
    by_name = {figures.dataset: figures for figures in (*tier.evaluations, *new)}
    return tier.model_copy(update={"evaluations": tuple(by_name.values())})


def _job(source: Source, row: Row, task: Task, sampling: SamplingSettings) -> Job:
    weights = _weights(source, row)
    return Job(row, task, task.plan(source.family.name, row.tier, weights, sampling, baseline=row.baseline))


def _weights(source: Source, row: Row) -> str:
    family, engine = source.family, source.engine
    own = directory_sha256(row.adapter) if row.adapter else family.tier(row.tier).identity
    where = f"{engine.url} {engine.model_name(family.name, row.tier)}" if engine.url else ""
    return " ".join(part for part in (family.base.identity, own, where) if part)


def weights_of(family: Family, folder: Path, row: Row) -> tuple[Path, Path | None]:
    """The whole model of a row, and the adapter over it if it has one."""
    tier = family.tier(row.tier)
    try:
        own = row.adapter or tier_on_disk(tier, folder)
        if own is not None and row.adapter is None and tier.layout == "checkpoint":
            return own, None
        return base_on_disk(family, folder), own
    except HubError as error:
        raise TrainingError(f"{error} Or measure through a server that has it: --engine URL.") from error
