"""When does a tier take a shorter way of working? A rule from its alpha and the base alone, held against the tiers.

    python -m alphatier_training.tiny.law runs/tiny --plot law.png

In a group whose right responses are some long and some short, their standardised lengths are about +1 and -1. A short
way that is right with probability q then pays q (1 - alpha s(-1)), a long one that is always right 1 - alpha s(+1),
where s is the sigmoid. So RL at alpha should take the short way where

    q > (1 - alpha s(1)) / (1 - alpha s(-1))       .976 at alpha .05, .902 at .2, .793 at .4, .529 at .8

What: q of the base by level, of answers at once; how often each tier answers at once by level, from the samples of
its evaluation. What not: lines of several operations, nearly always right, so that the rule takes them anywhere.
"""

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from alphatier_training.errors import told
from alphatier_training.evaluation.samples import Sample
from alphatier_training.recipe import tier_name
from alphatier_training.run.assembly import samples_of
from alphatier_training.run.folder import RunFolder
from alphatier_training.tiny.ways import AT_ONCE, way_of

TAKEN = 0.5
"""A way is taken where more responses than this share go it."""


def threshold(alpha: float) -> float:
    """How often right a short way must be to be worth taking at `alpha`."""
    return (1 - alpha / (1 + math.exp(-1))) / (1 - alpha / (1 + math.exp(1)))


@dataclass(frozen=True)
class Cell:
    """One tier at one level."""

    alpha: float
    level: int
    q: float
    """How often the base is right at once, at this level."""
    threshold: float
    at_once: float
    """The share of the tier's responses that are answers at once."""

    @property
    def predicted(self) -> bool:
        """Whether the rule says that the tier answers at once."""
        return self.q > self.threshold

    @property
    def observed(self) -> bool:
        """Whether it does."""
        return self.at_once > TAKEN


def shares_at_once(samples: Sequence[Sample]) -> dict[int, float]:
    """By level, the share of responses that are answers at once."""
    found: dict[int, list[bool]] = defaultdict(list)
    for sample in samples:
        found[int(sample.level)].append(way_of(sample.whole) == AT_ONCE)
    return {level: sum(own) / len(own) for level, own in sorted(found.items())}


def cells(q: Mapping[int, float], tiers: Mapping[float, Mapping[int, float]]) -> list[Cell]:
    """The rule and what became of it: q by level, and each alpha's shares of answers at once by level."""
    return [
        Cell(alpha, level, q[level], threshold(alpha), share)
        for alpha, shares in sorted(tiers.items())
        for level, share in shares.items()
    ]


def highest(found: Sequence[Cell], *, predicted: bool) -> dict[float, int]:
    """By alpha, up to which level it answers at once, every lower one included; 0 for none."""
    up_to: dict[float, int] = {}
    for cell in found:
        goes_on = up_to.setdefault(cell.alpha, 0) == cell.level - 1
        if goes_on and (cell.predicted if predicted else cell.observed):
            up_to[cell.alpha] = cell.level
    return up_to


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--sums", default=500, show_default=True, help="Held-out sums of each level, to measure the base's q.")
@click.option(
    "--plot", type=click.Path(path_type=Path, dir_okay=False), help="Write predicted against observed here."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
def law(runs: tuple[Path, ...], sums: int, plot: Path | None, as_json: bool) -> None:
    """Hold the tiers of RUNS, made by `alphatier train`, against the rule of when a shorter way is taken."""
    from alphatier_training.tiny.llama import FastLlama
    from alphatier_training.tiny.quality import measure

    found: dict[Path, list[Cell]] = {}
    for run in runs:
        folder = RunFolder(run)
        with told(run):
            recipe = folder.recipe()
            taken = {
                alpha: shares_at_once(samples_of(recipe, folder, tier_name(alpha))) for alpha in recipe.tiers.alphas
            }
        right: dict[int, list[float]] = defaultdict(list)
        for one in measure(FastLlama.from_pretrained(folder.base), count=sums, ways=[AT_ONCE]):
            right[one.level].append(one.q)
        found[run] = cells({level: sum(own) / len(own) for level, own in right.items()}, taken)
    if as_json:
        click.echo(json.dumps({str(run): [asdict(cell) for cell in own] for run, own in found.items()}, indent=1))
    else:
        for run, own in found.items():
            Console().print(_table(str(run), own))
    if plot:
        _draw(list(found.values()), plot)


def _table(title: str, found: Sequence[Cell]) -> Table:
    levels = sorted({cell.level for cell in found})
    q = {cell.level: cell.q for cell in found}
    table = Table(
        title=title, caption="answers at once; + the rule says so, - it does not, ! the tier does otherwise"
    )
    table.add_column("alpha")
    table.add_column("q above", justify="right")
    for level in levels:
        table.add_column(f"level {level}\nq {q[level]:.1%}", justify="right")
    for alpha in sorted({cell.alpha for cell in found}):
        row = {cell.level: cell for cell in found if cell.alpha == alpha}
        marks = (
            f"{row[level].at_once:.0%} {'+' if row[level].predicted else '-'}"
            f"{' ' if row[level].predicted == row[level].observed else '!'}"
            for level in levels
        )
        table.add_row(f"{alpha:g}", f"{threshold(alpha):.1%}", *marks)
    return table


def _draw(found: Sequence[Sequence[Cell]], file: Path) -> None:
    """The share of answers at once against how far q is above the threshold; a point a tier and level."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for alpha in sorted({cell.alpha for own in found for cell in own}):
        mine = [cell for own in found for cell in own if cell.alpha == alpha]
        axes.plot([c.q - c.threshold for c in mine], [c.at_once for c in mine], "o", label=f"{alpha:g}", alpha=0.7)
    axes.axvline(0, color="grey", linewidth=0.8)
    axes.axhline(TAKEN, color="grey", linewidth=0.8)
    axes.set(xlabel="q of answers at once, less the threshold of alpha", ylabel="answers at once")
    axes.legend(title="alpha", fontsize="small")
    figure.savefig(file, dpi=120)


if __name__ == "__main__":
    law()
