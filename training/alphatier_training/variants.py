"""Variants compared, several seeds of each over one base: each alpha, and each variant's tiers as one family.

    python -m alphatier_training.variants separate=runs/s1 separate=runs/s2 gated=runs/g1 gated=runs/g2

What: two tables, a picture, and the same as JSON, of the runs of a sweep or of any that `alphatier train` made. One
variant makes a curve of accuracy against tokens, and every other one is held against it at its own number of tokens.
Intervals are 95 %, over seeds and problems, both drawn at random (`intervals.crossed`). What not: no training.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from pathlib import Path
from typing import Any, Literal

import click
import numpy as np

from alphatier_models import Interval
from alphatier_training.errors import TrainingError, told
from alphatier_training.evaluation.intervals import Crossed, crossed, holm, spread
from alphatier_training.evaluation.samples import Sample, means, same_questions
from alphatier_training.evaluation.tables import Table, p_text, plain
from alphatier_training.recipe import BASE_TIER, Recipe, tier_name
from alphatier_training.report import plots
from alphatier_training.run.assembly import samples_of
from alphatier_training.run.folder import RunFolder, write_text
from alphatier_training.wholes import Grid, wholes
from alphatier_training.wholes import table as wholes_table

DOUBT = 0.05
"""A difference from the curve with a smaller p-value, corrected for all of them, is beyond doubt."""


@dataclass(frozen=True)
class Run:
    """One variant with one seed."""

    variant: str
    seed: int
    recipe: Recipe
    place: Path | None = None
    """Where it is; None for its own folder of the sweep."""

    def folder(self, out: Path) -> Path:
        """Where the run goes."""
        return self.place or out / self.variant / f"seed-{self.seed}"


@dataclass(frozen=True)
class Above:
    """Accuracy less that of the curve at the same tokens, a share."""

    difference: Interval
    p_value: float
    """Two-sided, by Holm's correction over all rows of the table."""
    beyond: Literal["", "shorter", "longer"] = ""
    """Where the tokens are beyond the curve's ends; then it is held against the nearer end."""


@dataclass(frozen=True)
class Row:
    """One variant at one alpha; `sweep.json` has the fields by their names."""

    variant: str
    alpha: float | None
    seeds: tuple[int, ...]
    accuracy: Interval
    tokens: Interval
    share: float
    """Mean tokens, of the base's."""
    accuracies: tuple[float, ...]
    """Of each seed."""
    tokens_by_seed: tuple[float, ...]
    above: Above | None
    """None for the base, for the curve's own rows, and without a curve."""

    def name(self) -> str:
        """Variant and alpha."""
        return self.variant if self.alpha is None else f"{self.variant} at {self.alpha:g}"


def trained(named: Sequence[str]) -> list[Run]:
    """Runs that `alphatier train` made, each given as VARIANT=FOLDER.

    Raises:
        TrainingError: one is no run, or the variants have different numbers of runs.
    """
    found = []
    for text in named:
        variant, _, place = text.partition("=")
        if not place:
            raise TrainingError(f"{text}: write VARIANT=FOLDER, e.g. gated=runs/gated-1.")
        folder = RunFolder(Path(place))
        if not folder.recipe_file.is_file():
            raise TrainingError(f"{place} is no run of `alphatier train`: it has no work/recipe.json.")
        recipe = folder.recipe()
        found.append(Run(variant, recipe.rl_seed(), recipe, folder.root))
    counts = Counter(run.variant for run in found)
    if len(set(counts.values())) > 1:
        listing = ", ".join(f"{count} of {variant}" for variant, count in counts.items())
        raise TrainingError(f"there are {listing}. Give as many runs, seeds that is, of each.")
    return found


def compare(finished: Sequence[Run], out: Path, curve: Sequence[str], name: str = "sweep") -> tuple[str, str]:
    """Compare the runs, by default those in `out`, and write it there; `curve` is what the others are held against.

    Gives the tables in Markdown with the verdict, and all of it as JSON.
    """
    against_it = next(iter(curve), None)
    grids, found = grids_of(finished, out, curve), []
    found = rows_of(grids, tuple(dict.fromkeys(run.seed for run in finished)), against_it)
    families = wholes(next(iter(grids.values())), _tiers(grids), _seconds(finished, out, curve), against_it)
    parts = [table(found, against_it).markdown(), verdict(found, against_it)]
    parts += [wholes_table(families, against_it).markdown()] if families else []
    text = "\n\n".join(filter(None, parts))
    document = json.dumps({"rows": plain(found), "families": plain(families)}, indent=1)
    write_text(out / f"{name}.md", text + "\n")
    write_text(out / f"{name}.json", document + "\n")
    series: dict[str, dict[str, Row]] = {row.variant: {} for row in found}
    for row in sorted(found, key=lambda row: row.tokens.mean):
        series[row.variant]["" if row.alpha is None else f"{row.alpha:g}"] = row
    with plots.drawing():
        figure = plots.accuracy_tokens("95 % intervals over seeds and problems", series, curve=against_it or "")
        plots.save_png(figure, out / f"{name}.png")
    return text, document


def grids_of(finished: Sequence[Run], out: Path, curve: Sequence[str] = ()) -> dict[tuple[str, float | None], Grid]:
    """The base's samples, then those of every variant in the order of the runs, by alpha.

    The variants in `curve`, which the others are held against, have the name of the first.

    Raises:
        TrainingError: the runs answered different problems.
    """
    every = (samples_of(run.recipe, RunFolder(run.folder(out)), BASE_TIER) for run in finished)
    base = next(filter(None, every), None)
    if base is None:
        raise TrainingError("no run has responses of the base. Measure it: alphatier train RECIPE --tier base")
    grids: dict[tuple[str, float | None], Grid] = {("base", None): grid([base])}
    for variant in dict.fromkeys(run.variant for run in finished):
        same = [run for run in finished if run.variant == variant]
        for alpha in sorted(same[0].recipe.tiers.alphas):
            if not all(alpha in run.recipe.tiers.alphas for run in same):
                continue
            samples = [samples_of(run.recipe, RunFolder(run.folder(out)), tier_name(alpha)) for run in same]
            for run, taken in zip(same, samples, strict=True):
                if not same_questions(taken, base):
                    raise TrainingError(
                        f"{run.folder(out)} has no responses of {tier_name(alpha)} to all the problems that the base "
                        "was asked. Measure every run on the same problems."
                    )
            grids[curve[0] if variant in curve else variant, alpha] = grid(samples)
    return grids


def _tiers(grids: Mapping[tuple[str, float | None], Grid]) -> dict[str, dict[float, Grid]]:
    found: dict[str, dict[float, Grid]] = {}
    for (variant, alpha), one in grids.items():
        if alpha is not None:
            found.setdefault(variant, {})[alpha] = one
    return found


def _seconds(finished: Sequence[Run], out: Path, curve: Sequence[str]) -> dict[str, list[float]]:
    """By variant what the RL of each run took, one stage after the other; the parts of a curve are added up."""
    found: dict[str, list[float]] = {}
    for variant in dict.fromkeys(run.variant for run in finished):
        took = [_rl_seconds(run, out) for run in finished if run.variant == variant]
        name = curve[0] if variant in curve else variant
        found[name] = [one + more for one, more in zip(found.get(name, [0.0] * len(took)), took, strict=True)]
    return found


def _rl_seconds(run: Run, out: Path) -> float:
    folder = RunFolder(run.folder(out))
    stages = [run.recipe.one_run(), *map(tier_name, run.recipe.tiers.alphas)]
    return float(sum(folder.took(stage)["seconds"] for stage in stages if stage and folder.is_done(stage)))


def rows_of(
    grids: Mapping[tuple[str, float | None], Grid], seeds: tuple[int, ...], curve: str | None = None
) -> list[Row]:
    """The table's rows, the base first; `curve` is the variant that the others are held against, None for none."""
    points = [one for (variant, _), one in grids.items() if variant == curve]
    tested = {key: against(one, points) for key, one in grids.items() if points and key[0] not in ("base", curve)}
    p_values = holm([found.p_value for found in tested.values()])
    above = {key: replace(found, p_value=p) for (key, found), p in zip(tested.items(), p_values, strict=True)}
    base = next(iter(grids.values())).place()[0]
    return [
        Row(
            variant=variant,
            alpha=alpha,
            seeds=seeds[: len(one.right)],
            accuracy=crossed(one.right).share(one.right.shape[1]),
            tokens=crossed(one.tokens).interval(),
            share=round(one.place()[0] / base, 6),
            accuracies=tuple(round(float(value), 6) for value in one.right.mean(axis=1)),
            tokens_by_seed=tuple(round(float(value), 4) for value in one.tokens.mean(axis=1)),
            above=above.get((variant, alpha)),
        )
        for (variant, alpha), one in grids.items()
    ]


def grid(by_seed: Sequence[Sequence[Sample]]) -> Grid:
    """The samples of each seed as a grid."""
    return Grid(*(np.array([means(samples, field) for samples in by_seed]) for field in ("correct", "tokens")))


def against(variant: Grid, curve: Sequence[Grid]) -> Above:
    """How far a variant lies above a curve at its own number of tokens, by the same seeds and problems.

        D = A - C(T),   C straight between the curve's points (T0, A0), (T1, A1), …

    D's error is that of its linearisation, cell by cell: with slope b and weights 1 - w, w of the two neighbours,
    (right - b tokens) of the variant less (1 - w) and w times the neighbours'. Its mean is D. Beyond an end of the
    curve, D is the difference to that end: at fewer tokens this is rather too little, at more too much.

    The curve has two points or more, in any order; of one, all is beyond it.
    """
    points = sorted(curve, key=lambda point: point.place()[0])
    places = [point.place() for point in points]
    tokens, _ = variant.place()
    after = next((place for place, (there, _) in enumerate(places) if there >= tokens), len(points))
    if after == len(points):
        return _above(variant.right - points[-1].right, "longer")
    if after == 0:
        return _above(variant.right - points[0].right, "shorter" if tokens < places[0][0] else "")
    (start, low), (end, high) = places[after - 1], places[after]
    weight, slope = (tokens - start) / (end - start), (high - low) / (end - start)
    before, behind = (one.right - slope * one.tokens for one in points[after - 1 : after + 1])
    return _above(variant.right - slope * variant.tokens - (1 - weight) * before - weight * behind)


def table(found: Sequence[Row], curve: str | None = None) -> Table:
    """All rows as text."""
    headers = ["variant", "alpha", "accuracy %", "tokens", "of the base's"]
    caption = "95 % intervals over seeds and problems"
    if curve:
        headers += ["points above the curve at its tokens", "p"]
        caption += f"; p by Holm's correction over {sum(row.above is not None for row in found)} tests"
        caption += f"; * beyond the ends of the curve of {curve}, held against the nearer one"
    lines = []
    for row in found:
        cells = [row.variant, "–" if row.alpha is None else f"{row.alpha:g}"]
        cells += [spread(row.accuracy, 100), spread(row.tokens), f"{row.share:.0%}"]
        if curve and row.above:
            cells += [spread(row.above.difference, 100) + "*" * bool(row.above.beyond), p_text(row.above.p_value)]
        elif curve:
            cells += ["-", "-"]
        seeds = [f"{100 * value:.1f}" for value in row.accuracies], [f"{value:.1f}" for value in row.tokens_by_seed]
        lines.append([*cells, *map(" ".join, seeds)])
    return Table("Variants", caption, [*headers, "accuracy of each seed", "tokens"], lines)


def verdict(found: Sequence[Row], curve: str | None) -> str:
    """Which variants are above or below the curve beyond doubt; empty without a curve."""
    if not curve:
        return ""
    parts = []
    for word, sign, unfair in (("above", 1, "longer"), ("below", -1, "shorter")):
        sure = [row for row in found if row.above and row.above.p_value < DOUBT and row.above.beyond != unfair]
        names = [row.name() for row in sure if row.above and sign * row.above.difference.mean > 0]
        parts.append(f"{word} it {', '.join(names) or 'none'}")
    return f"Beyond doubt (p < {DOUBT:g}), against the curve of {curve}: {'; '.join(parts)}."


def _above(cells: Any, beyond: Literal["", "shorter", "longer"] = "") -> Above:
    """The mean of the cells; one problem's worth of doubt stays where none differs."""
    found = crossed(cells)
    found = Crossed(found.mean, sqrt(found.error**2 + 1 / cells.shape[1] ** 2), found.freedom)
    return Above(found.interval(), found.p_value(), beyond)


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="VARIANT=RUN...")
@click.option("--curve", metavar="VARIANT", help="Hold the others against this one. [the first]")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default="runs/compare",
    show_default=True,
    help="For compare.md, .json and .png.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
def main(runs: tuple[str, ...], curve: str | None, out: Path, as_json: bool) -> None:
    """Compare runs of `alphatier train` over one base, several seeds of each VARIANT, as `alphatier sweep` does.

    \b
    Of each alpha: accuracy and tokens, over seeds and problems. Of each variant as a family: hypervolume, its
    difference to --curve, whether tokens fall with alpha, and what RL took.

    Example: python -m alphatier_training.variants separate=runs/s1 separate=runs/s2 gated=runs/g1 gated=runs/g2
    """
    with told(out):
        found = trained(runs)
        names = list(dict.fromkeys(run.variant for run in found))
        if curve not in (None, *names):
            raise click.UsageError(f"--curve {curve}: there is no such variant; there are {', '.join(names)}.")
        out.mkdir(parents=True, exist_ok=True)
        text, document = compare(found, out, [curve or names[0]], "compare")
    click.echo(document if as_json else text)


if __name__ == "__main__":
    main()
