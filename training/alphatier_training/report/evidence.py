"""What is known about a family, read from its folder: figures, and where they are found samples, curves and recipe.

What: the one place that finds them. A file of samples belongs to a figure when it has that many responses and the
very same means, so that no text is ever put beside samples of another measurement. What not: no models, no plots.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isclose
from pathlib import Path
from statistics import fmean
from typing import Any

from alphatier_models import Evaluation, Family, text_sha256
from alphatier_training.errors import TrainingError
from alphatier_training.evaluation.efficiency import Frontier, frontier_of, read_frontiers
from alphatier_training.evaluation.figures import tokens_where
from alphatier_training.evaluation.findings import Line
from alphatier_training.evaluation.samples import Sample, SampleFile, read_plan

Curve = Sequence[Mapping[str, float]]
"""What one RL run logged, an entry a step."""


@dataclass(frozen=True)
class Evidence:
    """A family's figures and what stands behind them."""

    family: Family
    samples: Mapping[tuple[str, str], Sequence[Sample]] = field(default_factory=dict)
    """By tier and data set; only where they were found."""
    curves: Mapping[str, Curve] = field(default_factory=dict)
    """By tier, in the family's order."""
    recipe: str | None = None
    """The recipe's canonical JSON; None where it was not found."""
    frontiers: Mapping[str, Frontier] = field(default_factory=dict)
    """Published ones, by the data set's name there."""
    frontier_name: str = ""
    """Of the file that they are from."""

    def order(self) -> list[str]:
        """The tiers' names, in the family's order."""
        return [tier.name for tier in self.family.tiers]

    def datasets(self) -> list[str]:
        """The data sets that any tier was measured on, the reference's first."""
        order = [self.family.tier(self.family.reference_tier), *self.family.tiers]
        return list(dict.fromkeys(figures.dataset for tier in order for figures in tier.evaluations))

    def lines(self, dataset: str) -> dict[str, Line]:
        """What was measured of each tier on `dataset`, in the family's order.

        The tokens of right and of wrong responses, which an older family.json lacks, come from the samples.
        """
        found: dict[str, Line] = {}
        for tier in self.family.tiers:
            figures, samples = tier.evaluation(dataset), self.samples.get((tier.name, dataset), ())
            if figures is None:
                continue
            if samples and not (figures.tokens_correct or figures.tokens_wrong):
                right, wrong = (tokens_where(samples, correct=correct) for correct in (True, False))
                figures = figures.model_copy(update={"tokens_correct": right, "tokens_wrong": wrong})
            found[tier.name] = Line(tier.name, figures, samples)
        return found

    def recipe_sha256(self) -> str | None:
        """The checksum of the recipe that trained the tiers, as family.json names it; None when it names none."""
        return next((tier.recipe_sha256 for tier in self.family.tiers if tier.recipe_sha256), None)


def gather(
    family: Family,
    folder: Path,
    *,
    samples: Sequence[Path] = (),
    recipe: str | None = None,
    frontier: Path | None = None,
) -> Evidence:
    """All that is known about the `family` in `folder`.

    Args:
        family: the family, as read from its folder.
        folder: the family's folder; `work/samples` and `work/curves` are looked into where they exist.
        samples: more folders with samples, e.g. `runs/evaluate/NAME`.
        recipe: the recipe's canonical JSON; None to look for the file whose checksum family.json names.
        frontier: a file of published frontiers.

    Raises:
        TrainingError: no tier was measured, or a file that is there cannot be read.
    """
    if not any(tier.evaluations for tier in family.tiers):
        raise TrainingError(
            f"no tier of {family.name} was ever measured. Measure them: alphatier evaluate {folder} --write"
        )
    files = [file for place in (folder / "work" / "samples", *samples) for file in sorted(place.glob("*.jsonl"))]
    found: dict[tuple[str, str], Sequence[Sample]] = {}
    for file in files:
        found |= _matching(family, file)
    recipe, curves = recipe or _recipe(family, folder), dict(_curves(family, folder))
    if frontier is None:
        return Evidence(family, found, curves, recipe)
    published = read_frontiers(frontier)
    evidence = Evidence(family, found, curves, recipe, published, frontier.stem)
    if not any(frontier_of(dataset, published) for dataset in evidence.datasets()):
        raise TrainingError(
            f"{frontier} has frontiers on {', '.join(published)}, and {family.name} was measured on "
            f"{', '.join(evidence.datasets())}. Measure it on one of the first: alphatier evaluate --data NAME=PLACE."
        )
    return evidence


def _matching(family: Family, file: Path) -> dict[tuple[str, str], Sequence[Sample]]:
    """The samples of a file, by the tier and data set whose figures they give; nothing when they give none."""
    try:
        plan = read_plan(file)
        source = SampleFile(plan, file.parent)
        source.path = file  # its name may be of another version's digest
        taken = [] if plan.baseline else source.read()
    except (ValueError, KeyError, TypeError) as error:
        raise TrainingError(
            f"{file} is no file of samples ({type(error).__name__}: {error}). Remove it, or evaluate again."
        ) from error
    tiers = [tier for tier in family.tiers if tier.name == plan.tier]
    return {
        (tier.name, figures.dataset): taken
        for tier in tiers
        for figures in tier.evaluations
        if figures.dataset == plan.dataset and _gives(taken, figures)
    }


def _gives(samples: Sequence[Sample], figures: Evaluation) -> bool:
    if len(samples) != figures.problems * figures.samples_per_problem:
        return False
    accuracy = fmean(sample.correct for sample in samples)
    tokens = fmean(sample.tokens for sample in samples)
    return isclose(accuracy, figures.accuracy.mean, abs_tol=1e-6) and isclose(
        tokens, figures.tokens.mean, abs_tol=1e-5
    )


def _curves(family: Family, folder: Path) -> Iterator[tuple[str, Curve]]:
    for tier in family.tiers:
        file = folder / "work" / "curves" / f"{tier.name}.json"
        if file.is_file() and (curve := _read_curve(file)):
            yield tier.name, curve


def _read_curve(file: Path) -> Curve:
    try:
        entries: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
        return [entry for entry in entries if "step" in entry]
    except (ValueError, TypeError) as error:
        raise TrainingError(f"{file} is no training curve: {error}. Remove it, or train the tier again.") from error


def _recipe(family: Family, folder: Path) -> str | None:
    """The recipe's text, if a file in the folder has the checksum that the tiers name."""
    wanted = {tier.recipe_sha256 for tier in family.tiers}
    for file in (folder / "work" / "recipe.json", folder / "report" / "recipe.json"):
        if file.is_file() and text_sha256(text := file.read_text(encoding="utf-8")) in wanted:
            return text
    return None
