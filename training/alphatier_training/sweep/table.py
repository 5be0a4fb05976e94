"""What came out of a sweep: accuracy and tokens of every variant and alpha over its seeds, as a table and a picture.

Intervals are 95 % percentile bootstrap over seeds and problems, both drawn anew each time; all runs answer the same
held-out problems.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alphatier_models import Interval
from alphatier_training.evaluation.intervals import RESAMPLES, interval, per_problem, spread
from alphatier_training.evaluation.samples import Sample
from alphatier_training.recipe import BASE_TIER, tier_name
from alphatier_training.report.style import COLOURS, MARKERS, save_png
from alphatier_training.run.assembly import samples_of
from alphatier_training.run.folder import RunFolder
from alphatier_training.sweep.variants import Run


@dataclass(frozen=True)
class Row:
    """One variant at one alpha."""

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

    def as_json(self) -> dict[str, Any]:
        """For scripts."""
        return asdict(self) | {"accuracy": self.accuracy.model_dump(), "tokens": self.tokens.model_dump()}


def rows(finished: Sequence[Run], out: Path) -> list[Row]:
    """The base, then every variant and alpha in the sweep's order."""
    first = finished[0]
    base = [samples_of(first.recipe, RunFolder(first.folder(out)), BASE_TIER)]
    found = [_row("base", None, (first.seed,), base, 1.0)]
    reference = found[0].tokens.mean
    for variant in dict.fromkeys(run.variant for run in finished):
        same = [run for run in finished if run.variant == variant]
        for alpha in same[0].recipe.tiers.alphas:
            samples = [samples_of(run.recipe, RunFolder(run.folder(out)), tier_name(alpha)) for run in same]
            found.append(_row(variant, alpha, tuple(run.seed for run in same), samples, reference))
    return found


def markdown(table: Sequence[Row]) -> Iterator[str]:
    """The table's lines."""
    yield "| variant | alpha | accuracy % | tokens | of the base's | accuracy of each seed |"
    yield "|---|---|---|---|---|---|"
    for row in table:
        alpha = "–" if row.alpha is None else f"{row.alpha:g}"
        seeds = " ".join(f"{100 * value:.1f}" for value in row.accuracies)
        yield (
            f"| {row.variant} | {alpha} | {spread(row.accuracy, 100)} | {spread(row.tokens, 1)} "
            f"| {row.share:.0%} | {seeds} |"
        )


def draw(table: Sequence[Row], file: Path) -> None:
    """Accuracy against tokens, a colour and a marker a variant, intervals both ways."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    for index, variant in enumerate(dict.fromkeys(row.variant for row in table)):
        same = [row for row in table if row.variant == variant]
        style: dict[str, Any] = {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)]}
        axes.errorbar(
            [row.tokens.mean for row in same],
            [100 * row.accuracy.mean for row in same],
            xerr=np.transpose([_arms(row.tokens, 1) for row in same]),
            yerr=np.transpose([_arms(row.accuracy, 100) for row in same]),
            label=variant,
            linewidth=1,
            capsize=2,
            markersize=5,
            **style,
        )
        for row in same:
            if row.alpha is not None:
                at = (row.tokens.mean, 100 * row.accuracy.mean)
                axes.annotate(f"{row.alpha:g}", at, (4, 4), textcoords="offset points", fontsize=7)
    axes.set(xlabel="mean tokens a response", ylabel="accuracy, %", title="95 % intervals over seeds and problems")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)
    save_png(figure, file)


def _row(
    variant: str, alpha: float | None, seeds: tuple[int, ...], samples: list[list[Sample]], reference: float
) -> Row:
    accuracy, tokens = _grid(samples, "correct"), _grid(samples, "tokens")
    mean = float(tokens.mean())
    return Row(
        variant=variant,
        alpha=alpha,
        seeds=seeds,
        accuracy=_interval(accuracy),
        tokens=_interval(tokens),
        share=1.0 if alpha is None else mean / reference,
        accuracies=tuple(round(float(value), 6) for value in accuracy.mean(axis=1)),
        tokens_by_seed=tuple(round(float(value), 4) for value in tokens.mean(axis=1)),
    )


def _grid(samples: list[list[Sample]], field: str) -> Any:
    """Means of each seed and problem [seeds, problems]."""
    means = (per_problem(group, field) for group in samples)
    return np.array([[mean[problem] for problem in sorted(mean)] for mean in means])


def _interval(grid: Any) -> Interval:
    rng = np.random.default_rng(0)
    means = []
    for _ in range(RESAMPLES):
        seeds = rng.integers(len(grid), size=len(grid))
        problems = rng.integers(grid.shape[1], size=grid.shape[1])
        means.append(grid[seeds][:, problems].mean())
    low, high = np.percentile(means, [2.5, 97.5])
    return interval(float(grid.mean()), float(low), float(high))


def _arms(figure: Interval, scale: float) -> tuple[float, float]:
    return scale * (figure.mean - figure.low), scale * (figure.high - figure.mean)
