"""When does a tier take a shorter way of working? A rule from its alpha and the base alone, held against the tiers.

    python -m alphatier_training.tiny.law runs/tiny --plot law.png

In a group whose right responses are some long and some short, their standardised lengths are about +1 and -1. A short
way that is right with probability q then pays q (1 - alpha s(-1)), a long one that is right with probability p pays
p (1 - alpha s(+1)), where s is the sigmoid. So RL at alpha should take the short way where

    q / p > (1 - alpha s(1)) / (1 - alpha s(-1))       .976 at alpha .05, .902 at .2, .793 at .4, .529 at .8

Of several ways the rule begins with the longest and goes on to each shorter one that beats what it has.

What: q of the base by level and way, forced and greedy; the way that most responses of a tier take, from the samples
of its evaluation; the level at which a tier ceases to answer at once. What not: how often the base takes a way by
itself. RL can only reinforce what is sampled, and the rule knows nothing of that.
"""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from alphatier_models import directory_sha256
from alphatier_training.errors import told
from alphatier_training.evaluation.figures import OTHER_WAY
from alphatier_training.evaluation.samples import Sample
from alphatier_training.recipe import tier_name
from alphatier_training.run.assembly import samples_of
from alphatier_training.run.folder import RunFolder
from alphatier_training.tiny.ways import Way, way_of

WAYS = tuple(Way(lines).name for lines in (1, 2, 3, 0))
"""The longest first."""

LONGEST, SHORTEST = WAYS[0], WAYS[-1]

_SHORT = {Way(lines).name: str(lines) for lines in range(4)} | {OTHER_WAY: "?"}

TAKEN = 0.5
"""A tier ceases to answer at once where no more responses than this share do."""


def threshold(alpha: float) -> float:
    """How often right a short way must be to be worth taking at `alpha`."""
    return (1 - alpha / (1 + math.exp(-1))) / (1 - alpha / (1 + math.exp(1)))


@dataclass(frozen=True)
class Cell:
    """One tier at one level."""

    alpha: float
    level: int
    threshold: float
    q: Mapping[str, float]
    """How often the base is right in each way, at this level."""
    shares: Mapping[str, float]
    """Of the tier's responses, by way, checked or not."""

    @property
    def predicted(self) -> str:
        """The way that the rule says."""
        return self._rule(WAYS)

    @property
    def observed(self) -> str:
        """The way that most responses take."""
        return max(self.shares, key=self.shares.__getitem__)

    @property
    def margin(self) -> float:
        """How far answers at once are above the threshold, against the way that the rule says without them."""
        return self.q[SHORTEST] / self.q[self._rule(WAYS[:-1])] - self.threshold

    def _rule(self, ways: Sequence[str]) -> str:
        taken = LONGEST
        for way in ways[1:]:
            if way in self.q and self.q[way] > self.threshold * self.q[taken]:
                taken = way
        return taken


def shares(samples: Sequence[Sample]) -> dict[int, dict[str, float]]:
    """By level and way, the share of responses that take it; those in no way count too."""
    found: dict[int, Counter[str]] = defaultdict(Counter)
    for sample in samples:
        way = way_of(sample.whole)
        found[int(sample.level)][Way(way.lines).name if way else OTHER_WAY] += 1
    return {
        level: {way: own[way] / own.total() for way in (*WAYS, OTHER_WAY)} for level, own in sorted(found.items())
    }


def cells(
    q: Mapping[int, Mapping[str, float]], tiers: Mapping[float, Mapping[int, Mapping[str, float]]]
) -> list[Cell]:
    """The rule and what became of it: q by level and way, and each alpha's shares by level and way."""
    return [
        Cell(alpha, level, threshold(alpha), q[level], own)
        for alpha, levels in sorted(tiers.items())
        for level, own in levels.items()
    ]


def switching(found: Sequence[Cell], *, predicted: bool) -> dict[float, float]:
    """By alpha, up to which level sums are answered at once.

    Where the margin of answers at once, or their share less a half, falls to 0, on straight lines between levels;
    half a level beyond the first or the last where it is on one side of 0 at all of them.
    """
    switches: dict[float, float] = {}
    for alpha in sorted({cell.alpha for cell in found}):
        values = {
            cell.level: cell.margin if predicted else cell.shares[SHORTEST] - TAKEN
            for cell in found
            if cell.alpha == alpha
        }
        ends = (min(values) - 1, 1.0), *sorted(values.items()), (max(values) + 1, -1.0)
        (level, value), (after, fallen) = next(pair for pair in pairwise(ends) if pair[1][1] <= 0)
        inner = level in values and after in values
        switches[alpha] = level + (value / (value - fallen) if inner else 0.5)
    return switches


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--sums", default=500, show_default=True, help="Held-out sums of each level, to measure the base's q.")
@click.option(
    "--plot", type=click.Path(path_type=Path, dir_okay=False), help="Write predicted against observed here."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
def law(runs: tuple[Path, ...], sums: int, plot: Path | None, as_json: bool) -> None:
    """Hold the tiers of RUNS, made by `alphatier train`, against the rule of when a shorter way is taken.

    Runs over the same base have its q measured once.
    """
    found: dict[str, list[Cell]] = {}
    measured: dict[str, dict[int, dict[str, float]]] = {}
    for run in runs:
        folder = RunFolder(run)
        with told(run):
            recipe, base = folder.recipe(), directory_sha256(folder.base)
            taken = {alpha: shares(samples_of(recipe, folder, tier_name(alpha))) for alpha in recipe.tiers.alphas}
        if base not in measured:
            measured[base] = _quality(folder.base, sums)
        found[str(run)] = cells(measured[base], taken)
    if as_json:
        click.echo(json.dumps({run: _document(own) for run, own in found.items()}, indent=1))
    else:
        for name, own in found.items():
            Console().print(_table(name, own))
    if plot:
        from alphatier_training.report.plots import drawing, save_png

        with drawing():
            save_png(picture(found), plot)


def _quality(base: Path, sums: int) -> dict[int, dict[str, float]]:
    """The base's q by level and way, over all wordings."""
    import torch

    from alphatier_training.tiny.llama import FastLlama
    from alphatier_training.tiny.quality import measure

    torch.set_num_threads(1)
    right: dict[int, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for one in measure(FastLlama.from_pretrained(base), count=sums):
        right[one.level][one.way.name].append(one.q)
    return {level: {way: fmean(own) for way, own in ways.items()} for level, ways in right.items()}


def _document(found: Sequence[Cell]) -> dict[str, Any]:
    predicted, observed = (switching(found, predicted=which) for which in (True, False))
    return {
        "cells": [asdict(cell) | {"predicted": cell.predicted, "observed": cell.observed} for cell in found],
        "switching": [
            {"alpha": alpha, "predicted": level, "observed": observed[alpha]} for alpha, level in predicted.items()
        ],
    }


def _table(title: str, found: Sequence[Cell]) -> Table:
    levels = {cell.level: cell for cell in found}
    agreed = sum(cell.predicted == cell.observed for cell in found)
    table = Table(
        title=title,
        caption="Operations a line (0: at once) of most responses, and their share; ! what the rule says where it is "
        f"another: {agreed} of {len(found)} agree. Below a level: q of the base, %. Last: up to which level answers "
        "are at once, by the rule and as it is.",
    )
    table.add_column("alpha")
    table.add_column("q above", justify="right")
    for level, cell in sorted(levels.items()):
        q = "\n".join(f"{_SHORT[way]} {100 * cell.q[way]:.1f}" for way in reversed(WAYS) if way in cell.q)
        table.add_column(f"lvl {level}\n{q}", justify="right")
    table.add_column("up to", justify="right")
    predicted, observed = (switching(found, predicted=which) for which in (True, False))
    for alpha in predicted:
        row = {cell.level: cell for cell in found if cell.alpha == alpha}
        marks = (
            f"{_SHORT[row[level].observed]} {row[level].shares[row[level].observed]:.0%}"
            + (f" !{_SHORT[row[level].predicted]}" if row[level].predicted != row[level].observed else "")
            for level in sorted(levels)
        )
        table.add_row(
            f"{alpha:g}", f"{threshold(alpha):.1%}", *marks, f"{predicted[alpha]:.1f} : {observed[alpha]:.1f}"
        )
    return table


def picture(found: Mapping[str, Sequence[Cell]]) -> Any:
    """Two panels: the share of answers at once against their margin, a point a tier and level; and the level up to
    which each tier answers at once, predicted against observed. Each run has a marker, each alpha a colour."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    from alphatier_training.report.plots import GREY, MARKERS

    figure = Figure(figsize=(9.6, 4.4), layout="constrained")
    margins, levels = figure.subplots(1, 2)
    alphas = sorted({cell.alpha for own in found.values() for cell in own})
    colours = {alpha: colormaps["viridis"](0.92 * index / len(alphas)) for index, alpha in enumerate(alphas)}
    for marker, own in zip(MARKERS, found.values(), strict=False):
        predicted, observed = (switching(own, predicted=which) for which in (True, False))
        for alpha in predicted:
            look: dict[str, Any] = {"marker": marker, "color": colours[alpha], "linestyle": "none", "alpha": 0.8}
            mine = [cell for cell in own if cell.alpha == alpha]
            margins.plot([cell.margin for cell in mine], [cell.shares[SHORTEST] for cell in mine], **look)
            levels.plot([predicted[alpha]], [observed[alpha]], **look)
    margins.axvline(0, color=GREY, linewidth=0.8)
    margins.axhline(TAKEN, color=GREY, linewidth=0.8)
    margins.set(xlabel="q of answers at once over that of work, less the threshold", ylabel="share answered at once")
    levels.axline((1, 1), slope=1, color=GREY, linewidth=0.8)
    levels.set(xlabel="answered at once up to level, predicted", ylabel="observed")
    by_alpha = [Line2D([], [], marker="s", linestyle="none", color=colours[one], label=f"{one:g}") for one in alphas]
    by_run = [
        Line2D([], [], marker=marker, linestyle="none", color=GREY, label="/".join(Path(run).parts[-2:]))
        for marker, run in zip(MARKERS, found, strict=False)
    ]
    figure.legend(handles=by_alpha, loc="outside right upper", fontsize=8, title="alpha")
    figure.legend(handles=by_run, loc="outside right lower", fontsize=8)
    return figure


if __name__ == "__main__":
    law()
