"""What is known about a family, read from its folder: measured rows, and samples, curves and recipe if found.

What: the one place that finds them, for reports and for choices of tiers. A file of samples belongs to a figure when
it has that many responses and the very same means, so that no text is ever put beside samples of another measurement.
What not: no models, no plots.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isclose
from pathlib import Path
from statistics import fmean

from alphatier_models import Evaluation, Family, text_sha256
from alphatier_training.errors import TrainingError
from alphatier_training.evaluation.comparing import Line, Lines
from alphatier_training.evaluation.figures import Frontier, frontier_of, read_frontiers, tokens_where
from alphatier_training.evaluation.samples import Sample, SampleFile, read_plan

Curve = Sequence[Mapping[str, float]]
"""What one RL run logged, an entry a step."""


@dataclass(frozen=True)
class Evidence:
    """A family's figures and what stands behind them."""

    family: Family
    datasets: Mapping[str, Lines]
    """What was measured of each tier, in the family's order, with the samples where they were found; by data set,
    the reference's first."""
    curves: Mapping[str, Curve]
    """By tier, in the family's order."""
    recipe: str | None
    """The recipe's canonical JSON; None where it was not found."""
    frontiers: Mapping[str, Frontier]
    """Published ones, by the data set's name there."""
    frontier_name: str
    """Of the file that they are from."""

    def order(self) -> list[str]:
        """The tiers' names, in the family's order."""
        return [tier.name for tier in self.family.tiers]


def gather(
    family: Family,
    folder: Path,
    *,
    samples: Sequence[Path] = (),
    recipe: str | None = None,
    frontier: Path | None = None,
) -> Evidence:
    """All that is known about the `family` in `folder`.

    Samples are looked for in its `work/samples` and in the folders `samples`, e.g. `runs/evaluate/NAME`. The recipe,
    where it is not given as canonical JSON, is the file whose checksum family.json names. `frontier` has published
    ones.

    Raises:
        TrainingError: no tier was measured, or a file that is there cannot be read.
    """
    if not any(tier.evaluations for tier in family.tiers):
        raise TrainingError(
            f"no tier of {family.name} was ever measured. Measure them: alphatier evaluate {folder} --write"
        )
    files = [file for place in (folder / "work" / "samples", *samples) for file in sorted(place.glob("*.jsonl"))]
    found = {key: group for file in files for key, group in _matching(family, file)}
    order = [family.tier(family.reference_tier), *family.tiers]
    datasets = {
        dataset: {
            tier.name: _line(tier.name, figures, found.get((tier.name, dataset), ()))
            for tier in family.tiers
            if (figures := tier.evaluation(dataset)) is not None
        }
        for dataset in dict.fromkeys(figures.dataset for tier in order for figures in tier.evaluations)
    }
    published = read_frontiers(frontier) if frontier else {}
    if frontier and not any(frontier_of(dataset, published) for dataset in datasets):
        raise TrainingError(
            f"{frontier} has frontiers on {', '.join(published)}, and {family.name} was measured on "
            f"{', '.join(datasets)}. Measure it on one of the first: alphatier evaluate --data NAME=PLACE."
        )
    recipe, curves = recipe or _recipe(family, folder), dict(_curves(family, folder))
    return Evidence(family, datasets, curves, recipe, published, frontier.stem if frontier else "")


def _line(tier: str, figures: Evaluation, samples: Sequence[Sample]) -> Line:
    """Tokens of right and of wrong responses, which an older family.json lacks, come from the samples."""
    if samples and not (figures.tokens_correct or figures.tokens_wrong):
        right, wrong = (tokens_where(samples, correct=correct) for correct in (True, False))
        figures = figures.model_copy(update={"tokens_correct": right, "tokens_wrong": wrong})
    return Line(tier, figures, samples)


def _matching(family: Family, file: Path) -> Iterator[tuple[tuple[str, str], Sequence[Sample]]]:
    """The samples of a file with the tier and data set whose figures they give; nothing when they give none."""
    try:
        plan = read_plan(file)
        source = SampleFile(plan, file.parent)
        source.path = file  # its name may be of another version's digest
        taken = [] if plan.baseline else source.read()
    except (ValueError, KeyError, TypeError) as error:
        raise TrainingError(
            f"{file} is no file of samples ({type(error).__name__}: {error}). Remove it, or evaluate again."
        ) from error
    for tier in family.tiers:
        figures = tier.evaluation(plan.dataset) if tier.name == plan.tier else None
        if figures and _gives(taken, figures):
            yield (tier.name, plan.dataset), taken


def _gives(samples: Sequence[Sample], figures: Evaluation) -> bool:
    return (
        len(samples) == figures.problems * figures.samples_per_problem
        and isclose(fmean(one.correct for one in samples), figures.accuracy.mean, abs_tol=1e-6)
        and isclose(fmean(one.tokens for one in samples), figures.tokens.mean, abs_tol=1e-5)
    )


def _curves(family: Family, folder: Path) -> Iterator[tuple[str, Curve]]:
    for tier in family.tiers:
        file = folder / "work" / "curves" / f"{tier.name}.json"
        try:
            entries = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
            curve = [entry for entry in entries if "step" in entry]
        except (ValueError, TypeError) as error:
            raise TrainingError(
                f"{file} is no training curve: {error}. Remove it, or train the tier again."
            ) from error
        if curve:
            yield tier.name, curve


def _recipe(family: Family, folder: Path) -> str | None:
    """The recipe's text, if a file in the folder has the checksum that the tiers name."""
    wanted = {tier.recipe_sha256 for tier in family.tiers}
    for file in (folder / "work" / "recipe.json", folder / "report" / "recipe.json"):
        if file.is_file() and text_sha256(text := file.read_text(encoding="utf-8")) in wanted:
            return text
    return None
