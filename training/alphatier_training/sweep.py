"""Many runs over one base: variants of a recipe's `rl` section and alphas, with several seeds each, in one table.

    alphas: [0.2, 0.4]
    seeds: [42, 43, 44]
    variants:
      sigmoid: {}
      kimi: {penalty: {kind: min_max}}
      whitened: {advantage: whiten, alphas: [0.2]}

    OUT/base-run/              the recipe's base, and its samples
    OUT/kimi/seed-42/          a run, resumable like any
    OUT/sweep.md, sweep.json, sweep.png   the table

The alphas of the variants that change nothing else make a curve (the paper's, in the shipped sweeps), and every other
variant is held against it at its own number of tokens. Intervals are 95 %, over seeds and problems, both drawn at
random (`intervals.crossed`); all runs answer the same held-out problems. What not: no training of its own (`train`).
"""

import copy
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import yaml
from pydantic import Field, ValidationError
from rich.console import Console

from alphatier_models import EFFORTS, FAMILY_FILE, Interval
from alphatier_models.schema import Name
from alphatier_training.errors import TrainingError
from alphatier_training.evaluation.intervals import Crossed, crossed, holm, spread
from alphatier_training.evaluation.samples import Sample, means
from alphatier_training.evaluation.tables import Table, p_text, plain
from alphatier_training.recipe import BASE_TIER, Recipe, tier_name
from alphatier_training.recipe.reading import parse_recipe
from alphatier_training.recipe.sections import Alpha, Section
from alphatier_training.report import plots
from alphatier_training.run.assembly import samples_of
from alphatier_training.run.folder import RunFolder, replacing, write_text
from alphatier_training.run.scheduling import Machine
from alphatier_training.train import SAMPLES, Selection, train_family

DOUBT = 0.05
"""A difference from the curve with a smaller p-value, corrected for all of them, is beyond doubt."""


class Sweep(Section):
    """The variants of a recipe."""

    alphas: tuple[Alpha, ...] = Field(min_length=1, description="a tier each, in every variant that names none")
    seeds: tuple[int, ...] = Field((42, 43, 44), min_length=1, description="of prompts and rollouts")
    variants: dict[Name, dict[str, Any]] = Field(
        min_length=1, description="name to changes of the recipe's `rl` section; `alphas` for alphas of its own"
    )

    def curve(self, variants: Sequence[str] = ()) -> tuple[str, ...]:
        """The variants that the others are held against: the named ones, else those that change only alphas.

        Raises:
            TrainingError: there is no such variant.
        """
        for variant in variants:
            if variant not in self.variants:
                known = ", ".join(self.variants)
                raise TrainingError(f"--curve {variant}: there is no such variant; there are {known}.")
        unchanged = (name for name, changes in self.variants.items() if not changes.keys() - {"alphas"})
        return tuple(variants or unchanged)


@dataclass(frozen=True)
class Run:
    """One variant with one seed."""

    variant: str
    seed: int
    recipe: Recipe

    def folder(self, out: Path) -> Path:
        """Where the run goes."""
        return out / self.variant / f"seed-{self.seed}"


class Grid(NamedTuple):
    """What one variant made of the problems at one alpha [seeds, problems], means over a problem's responses."""

    right: Any
    tokens: Any

    def place(self) -> tuple[float, float]:
        """Mean tokens and accuracy."""
        return float(np.mean(self.tokens)), float(np.mean(self.right))


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


def load_sweep(path: Path) -> Sweep:
    """Read the variants in the YAML file at `path`; TrainingError with every fault."""
    try:
        return Sweep.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise TrainingError(f"{path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise TrainingError(f"{path} is not YAML: {error}") from error
    except ValidationError as error:
        faults = "\n".join(f"  - {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise TrainingError(f"{path} is no usable sweep (expected alphas, seeds, variants):\n{faults}") from error


def runs(recipe: Recipe, sweep: Sweep) -> Iterator[Run]:
    """Every run of the sweep, seeds first, so that a sweep cut short has some of everything.

    Raises:
        TrainingError: a variant is no usable recipe.
    """
    for seed in sweep.seeds:
        for name, own in sweep.variants.items():
            document, changes = recipe.model_dump(mode="json"), copy.deepcopy(own)
            alphas = changes.pop("alphas", list(sweep.alphas))
            document["rl"] = document["rl"] | changes | {"seed": seed}
            document["tiers"] = {"alphas": alphas, "default": BASE_TIER, "efforts": dict.fromkeys(EFFORTS, BASE_TIER)}
            yield Run(name, seed, parse_recipe(document, f"variant {name!r} of {recipe.name}"))


def run_sweep(
    recipe: Recipe, todo: Sequence[Run], out: Path, machine: Machine, console: Console, *, base: Path | None = None
) -> None:
    """Train and measure every run of the sweep in `out` that is not finished.

    The base is that of `base`, a family or a run with the same one, else the recipe's, trained here.
    """
    source = RunFolder(base or out / "base-run")
    if base is None:
        train_family(recipe, source.root, machine, console, Selection(tier=BASE_TIER))
    elif not source.base.is_dir():
        raise TrainingError(f"{base} holds no base/. Give a family, or a run of `alphatier train`, with --base.")
    for number, run in enumerate(todo, start=1):
        console.print(f"[{number}/{len(todo)}] {run.variant}, seed {run.seed}", highlight=False)
        folder = RunFolder(run.folder(out))
        if not (folder.root / FAMILY_FILE).is_file():
            _adopt_base(run.recipe, source, folder)
        train_family(run.recipe, folder.root, machine, console)


def _adopt_base(recipe: Recipe, source: RunFolder, folder: RunFolder) -> None:
    """Give a run its base, and what was measured of it, as if its own stage had made them."""
    folder.claim(recipe)
    if folder.is_done(BASE_TIER):
        return
    if source.base.is_dir():
        with replacing(folder.base) as new:
            shutil.copytree(source.base, new, dirs_exist_ok=True)
    if source.base_file.is_file():
        shutil.copyfile(source.base_file, folder.base_file)
    if source.samples.is_dir():
        others = shutil.ignore_patterns("alpha-*")
        shutil.copytree(source.samples, folder.samples, dirs_exist_ok=True, ignore=others)
    folder.mark_done(BASE_TIER, 0.0)
    if source.is_done(SAMPLES + BASE_TIER):
        folder.mark_done(SAMPLES + BASE_TIER, 0.0)


def write_table(finished: Sequence[Run], out: Path, curve: Sequence[str]) -> tuple[str, str]:
    """Compare the runs in `out`, and write it there; the variants in `curve` are what the others are held against.

    Gives the table in Markdown with the verdict, and the rows as JSON.
    """
    found, against_it = rows(finished, out, curve), next(iter(curve), None)
    text = "\n\n".join(filter(None, [table(found, against_it).markdown(), verdict(found, against_it)]))
    document = json.dumps(plain(found), indent=1)
    write_text(out / "sweep.md", text + "\n")
    write_text(out / "sweep.json", document + "\n")
    series: dict[str, dict[str, Row]] = {row.variant: {} for row in found}
    for row in sorted(found, key=lambda row: row.tokens.mean):
        series[row.variant]["" if row.alpha is None else f"{row.alpha:g}"] = row
    with plots.drawing():
        figure = plots.accuracy_tokens("95 % intervals over seeds and problems", series, curve=against_it or "")
        plots.save_png(figure, out / "sweep.png")
    return text, document


def rows(finished: Sequence[Run], out: Path, curve: Sequence[str] = ()) -> list[Row]:
    """The base, then every variant and alpha in the sweep's order, from the samples in `out`.

    The variants in `curve`, which the others are held against, have the name of the first.
    """
    first = finished[0]
    base = samples_of(first.recipe, RunFolder(first.folder(out)), BASE_TIER)
    grids: dict[tuple[str, float | None], Grid] = {("base", None): grid([base])}
    for variant in dict.fromkeys(run.variant for run in finished):
        same = [run for run in finished if run.variant == variant]
        for alpha in same[0].recipe.tiers.alphas:
            samples = [samples_of(run.recipe, RunFolder(run.folder(out)), tier_name(alpha)) for run in same]
            grids[curve[0] if variant in curve else variant, alpha] = grid(samples)
    seeds = tuple(dict.fromkeys(run.seed for run in finished))
    return rows_of(grids, seeds, next(iter(curve), None))


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
        lines.append([*cells, " ".join(f"{100 * value:.1f}" for value in row.accuracies)])
    return Table("Variants", caption, [*headers, "accuracy of each seed"], lines)


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
