"""The rows of `alphatier evaluate`: tiers of an existing family and baselines, each asked each task.

What: rows and tasks to plans, samples (gone on with where they were left), figures, on request in family.json.
What not: no training and no printing; who answers is `engine`'s to know.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
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
class Measured:
    """One row of the table on one task; samples and figures are those of its file, once they are taken."""

    row: Row
    task: Task
    """As the row asks it."""
    plan: Plan
    folder: Path
    """Of its file."""
    budgets: tuple[int, ...] = ()

    @property
    def stage(self) -> str:
        """What the display calls it."""
        return f"{self.plan.row} on {self.task.name}"

    @property
    def file(self) -> Path:
        """Where its samples are."""
        return self.plan.file(self.folder)

    @cached_property
    def samples(self) -> tuple[Sample, ...]:
        """Cut off where the row says so."""
        return tuple(as_cut(self.row, SampleFile(self.plan, self.folder).read()))

    @cached_property
    def figures(self) -> Evaluation:
        """Computed from the samples."""
        plan = self.plan if self.row.budget is None else replace(self.plan, max_tokens=self.row.budget)
        return evaluation(plan, self.samples, [budget for budget in self.budgets if budget <= plan.max_tokens])


def to_measure(
    family: Family,
    row: Row,
    task: Task,
    sampling: SamplingSettings,
    engine: Engine,
    folder: Path,
    budgets: Sequence[int],
) -> Measured:
    """A row on a task; its samples are kept in `folder`.

    Raises:
        TrainingError: it cannot be measured that way.
    """
    if row.adapter is not None and engine.url:
        raise TrainingError(
            f"--baseline {row.adapter}: the server at {engine.url} has no such adapter; leave out the URL."
        )
    for budget in filter(None, (row.budget, *budgets)):
        if budget > sampling.max_tokens:
            raise TrainingError(
                f"a budget of {budget} tokens is above --max-tokens {sampling.max_tokens}, where every response was "
                "cut off already; raise --max-tokens or lower the budget."
            )
    own = directory_sha256(row.adapter) if row.adapter else family.tier(row.tier).identity
    where = f"{engine.url} {engine.model_name(family.name, row.tier)}" if engine.url else ""
    weights = " ".join(part for part in (family.base.identity, own, where) if part)
    asked = row.asks(task)
    plan = asked.plan(family.name, row.tier, weights, sampling, baseline=row.baseline)
    return Measured(row, asked, plan, folder, tuple(budgets))


def take_samples(family: Family, folder: Path, wanted: Sequence[Measured], engine: Engine, report: Reporter) -> None:
    """Take the samples that are missing; rows with one plan share them, and those of one model an engine.

    Args:
        family: The family.
        folder: Where its family.json is.
        wanted: What is to be measured.
        engine: Who answers.
        report: Told how far it is.
    """
    rows = {one.plan: one for one in wanted}
    asked = {
        plan: Answers(
            plan, one.task.problems, SampleFile(plan, one.folder), Progress(one.stage, plan.total(), report)
        )
        for plan, one in rows.items()
    }
    if engine.url:
        ask_server(list(asked.values()), engine)
    else:
        weights = {plan: weights_of(family, folder, rows[plan].row) for plan in rows if asked[plan].missing}
        for model in dict.fromkeys(model for model, _ in weights.values()):
            sample([(asked[plan], own) for plan, (base, own) in weights.items() if base == model], model, engine)
    for plan, one in rows.items():
        report(Report(one.stage, plan.total(), plan.total(), "responses", finished=True))


def write_figures(folder: Path, new: Sequence[tuple[str, Evaluation]]) -> None:
    """Put tiers' figures into family.json; each replaces the tier's earlier ones on the same data set."""
    family = load_family(folder)
    tiers = [_with_figures(tier, [figures for name, figures in new if name == tier.name]) for tier in family.tiers]
    save_family(family.model_copy(update={"tiers": tuple(tiers)}), folder)


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


def _with_figures(tier: Tier, new: Sequence[Evaluation]) -> Tier:
    """New figures take the place of old ones, so that the first data set stays the first."""
    by_name = {figures.dataset: figures for figures in (*tier.evaluations, *new)}
    return tier.model_copy(update={"evaluations": tuple(by_name.values())})
