"""The rows of `alphatier evaluate`: tiers of an existing family and what they are compared with, on each task.

    cutoff-32           the reference tier with every response cut off at 32 tokens; no sampling of its own
    cutoff-32:alpha-0   … another tier's
    concise, draft, tokens-100   … asked with an instruction (see INSTRUCTIONS), `:TIER` as above
    runs/baselines/x    a LoRA adapter over the same base, e.g. of `alphatier baseline`

What: rows and tasks to plans, samples (gone on with where they were left), figures, on request in family.json.
What not: no training and no printing; who answers is `engine`'s to know.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from alphatier_models import Family, HubError, SamplingSettings, directory_sha256, load_family, save_family
from alphatier_models.files import family_file
from alphatier_models.hub import base_on_disk, tier_on_disk
from alphatier_training.errors import TrainingError
from alphatier_training.evaluation.comparing import Found, Line, find
from alphatier_training.evaluation.engine import Engine, ask_server, sample
from alphatier_training.evaluation.figures import cut_off, evaluation, read_frontiers
from alphatier_training.evaluation.samples import Answers, Plan, Progress, SampleFile
from alphatier_training.evaluation.tasks import Asked, Task, sampling_of, tasks_of
from alphatier_training.run.folder import RunFolder
from alphatier_training.run.reporting import Display, Report, Reporter

INSTRUCTIONS = {
    "concise": "Be concise.",
    "draft": "Think step by step, but only keep a minimum draft for each thinking step, with 5 words at most.",
}
"""Put after the user's message. Concise chain of thought (arXiv 2401.05618), chain of draft (arXiv 2502.18600)."""

TOKEN_LIMIT = "Let's think step by step and use less than {limit} tokens."
"""The same for `tokens-N` (TALE, arXiv 2412.18547)."""

BASELINE_FILE = "baseline.json"
"""In the folder of an adapter that `alphatier baseline` made: what it is."""


@dataclass(frozen=True)
class Row:
    """One line of the table: a tier, or what was done to one."""

    name: str
    tier: str
    baseline: str = ""
    """What was done, other than cutting off; it decides responses. Empty for the tier itself."""
    instruction: str = ""
    budget: int | None = None
    """Where responses are cut off, tokens."""
    adapter: Path | None = None
    """Another adapter than the tier's."""

    def asks(self, task: Task) -> Task:
        """The task with the row's instruction."""
        if not self.instruction:
            return task
        text = self.instruction.replace("{", "{{").replace("}", "}}")
        return replace(task, prompt=f"{task.prompt}\n\n{text}")


def baseline_row(text: str, family: Family) -> Row:
    """The row that `--baseline TEXT` asks for.

    Raises:
        TrainingError: there is no such baseline, tier or adapter.
    """
    if (Path(text) / "adapter_config.json").is_file():
        return _adapter_row(Path(text), family)
    name, _, tier = text.partition(":")
    tier = tier or family.reference_tier
    _check_tier(tier, family)
    kind, _, number = name.partition("-")
    limit = int(number) if re.fullmatch(r"[1-9]\d*", number) else None
    if kind == "cutoff" and limit:
        return Row(text, tier, budget=limit)
    if kind == "tokens" and limit:
        return Row(text, tier, name, TOKEN_LIMIT.format(limit=limit))
    if name in INSTRUCTIONS:
        return Row(text, tier, name, INSTRUCTIONS[name])
    raise TrainingError(
        f"--baseline {text}: there is no such baseline. Give cutoff-N, tokens-N, {', '.join(INSTRUCTIONS)} "
        "(each may be followed by :TIER), or the folder of an adapter (one with an adapter_config.json)."
    )


def measure(
    path: Path,
    console: Console,
    asked: Asked,
    sampling: Mapping[str, Any],
    engine: Engine,
    *,
    tiers: Sequence[str],
    baselines: Sequence[str],
    budgets: Sequence[int],
    compare: Sequence[tuple[str, str]],
    frontier: Path | None,
    out: Path | None,
    fresh: bool,
) -> Found:
    """Take the samples that are missing, and compute figures and comparisons.

    What is None or empty is as before, or as the command's help says; `out` is a folder for the samples.

    Raises:
        TrainingError: an option makes no sense for the family, or the engine failed; what was taken is kept.
    """
    family, folder = load_family(path), family_file(path).parent
    recipe = RunFolder(folder).recipe() if RunFolder(folder).recipe_file.is_file() else None
    settings = sampling_of(family, asked.data, sampling, recipe)
    rows = _rows(family, tiers, baselines)
    pairs = _pairs(family, [row.name for row in rows], compare)
    frontiers = read_frontiers(frontier) if frontier else {}
    out = out or Path("runs") / "evaluate" / family.name
    wanted = {
        task.name: [(row, task, _plan(family, row, task, settings, engine, budgets)) for row in rows]
        for task in tasks_of(family, asked, settings.seed, recipe)
    }
    if fresh:
        for plan in (plan for group in wanted.values() for _, _, plan in group):
            plan.file(out).unlink(missing_ok=True)
    sources = {plan: (row, task) for group in wanted.values() for row, task, plan in group}
    with Display(list(dict.fromkeys(map(_stage, sources))), console) as display:
        _take(family, folder, sources, out, engine, display)
    datasets = {
        name: {row.name: _line(row, plan, out, budgets) for row, _, plan in group} for name, group in wanted.items()
    }
    return find(family.name, family.reference_tier, datasets, dict.fromkeys(datasets, pairs), frontiers)


def write(path: Path, found: Found) -> None:
    """Put the tiers' figures into family.json; each replaces the tier's earlier ones on the same data set."""
    folder = family_file(path).parent
    family, tiers = load_family(folder), []
    for tier in family.tiers:
        own = [lines[tier.name] for lines in found.datasets.values() if tier.name in lines]
        new = [line.figures for line in own if line.tier == tier.name]  # and no adapter's in a folder of that name
        by_name = {figures.dataset: figures for figures in (*tier.evaluations, *new)}  # the first stays the first
        tiers.append(tier.model_copy(update={"evaluations": tuple(by_name.values())}))
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


def _rows(family: Family, tiers: Sequence[str], baselines: Sequence[str]) -> list[Row]:
    for name in tiers:
        _check_tier(name, family)
    rows = [Row(name, name) for name in tiers or [tier.name for tier in family.tiers]]
    rows += [baseline_row(text, family) for text in baselines]
    names = [row.name for row in rows]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise TrainingError(f"two rows of the table are called {twice!r}; give each once, or rename a folder.")
    return rows


def _check_tier(name: str, family: Family) -> None:
    names = [tier.name for tier in family.tiers]
    if name not in names:
        raise TrainingError(f"{name!r} is no tier of {family.name}; the tiers are {', '.join(names)}.")


def _adapter_row(folder: Path, family: Family) -> Row:
    base = next((tier.name for tier in family.tiers if tier.layout == "base"), family.reference_tier)
    described = folder / BASELINE_FILE
    made_over = json.loads(described.read_text(encoding="utf-8")).get("base") if described.is_file() else None
    if made_over not in (None, family.base.identity):
        raise TrainingError(
            f"--baseline {folder}: the adapter was made over another base ({made_over}) than the one of "
            f"{family.name}; make it again with `alphatier baseline`."
        )
    name = folder.resolve().name
    return Row(name, base, name, adapter=folder)


def _pairs(family: Family, names: Sequence[str], given: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    for name in (name for pair in given for name in pair):
        if name not in names:
            raise TrainingError(f"--compare {name}: it is not measured here; there are {', '.join(names)}.")
    if given or family.reference_tier not in names:
        return list(given)
    return [(name, family.reference_tier) for name in names if name != family.reference_tier]


def _plan(
    family: Family, row: Row, task: Task, sampling: SamplingSettings, engine: Engine, budgets: Sequence[int]
) -> Plan:
    if row.adapter is not None and engine.url:
        raise TrainingError(
            f"--baseline {row.adapter}: the server at {engine.url} has no such adapter; leave out the URL."
        )
    longest = max([row.budget or 0, *budgets])
    if longest > sampling.max_tokens:
        raise TrainingError(
            f"a budget of {longest} tokens is above --max-tokens {sampling.max_tokens}, where every response was "
            "cut off already; raise --max-tokens or lower the budget."
        )
    own = directory_sha256(row.adapter) if row.adapter else family.tier(row.tier).identity
    where = f"{engine.url} {engine.model_name(family.name, row.tier)}" if engine.url else ""
    weights = " ".join(part for part in (family.base.identity, own, where) if part)
    return row.asks(task).plan(family.name, row.tier, weights, sampling, baseline=row.baseline)


def _stage(plan: Plan) -> str:
    """What the display calls it."""
    return f"{plan.row} on {plan.dataset}"


def _take(
    family: Family,
    folder: Path,
    sources: Mapping[Plan, tuple[Row, Task]],
    out: Path,
    engine: Engine,
    report: Reporter,
) -> None:
    """Take the samples that are missing; rows with one plan share them, and those of one model an engine."""
    asked = {
        plan: Answers(plan, task.problems, SampleFile(plan, out), Progress(_stage(plan), plan.total(), report))
        for plan, (_, task) in sources.items()
    }
    if engine.url:
        ask_server(list(asked.values()), engine)
    else:
        weights = {plan: weights_of(family, folder, row) for plan, (row, _) in sources.items() if asked[plan].missing}
        for model in dict.fromkeys(model for model, _ in weights.values()):
            sample([(asked[plan], own) for plan, (base, own) in weights.items() if base == model], model, engine)
    for plan in asked:
        report(Report(_stage(plan), plan.total(), plan.total(), "responses", finished=True))


def _line(row: Row, plan: Plan, out: Path, budgets: Sequence[int]) -> Line:
    """A row's figures and samples, cut off where the row says so."""
    samples, longest = SampleFile(plan, out).read(), row.budget or plan.max_tokens
    if row.budget:
        samples = cut_off(samples, row.budget)
    within = [budget for budget in budgets if budget <= longest]
    return Line(row.tier, evaluation(replace(plan, max_tokens=longest), samples, within), samples, plan.file(out))
