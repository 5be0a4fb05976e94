"""The report's pictures, from figures that are already there. Colours are Okabe and Ito's, readable without hue."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from alphatier_models import Evaluation, Interval, LevelResult

COLOURS = ("#000000", "#0072B2", "#56B4E9", "#009E73", "#E69F00", "#D55E00", "#CC79A7", "#F0E442")
MARKERS = "osD^vPX*"

Measured = Mapping[str, Evaluation]
"""Tier to figures, in the family's order."""


def accuracy_against_tokens(measured: Measured, file: Path) -> None:
    """One point a tier, with 95 % intervals both ways."""
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for index, (tier, figures) in enumerate(measured.items()):
        axes.errorbar(
            figures.tokens.mean,
            100 * figures.accuracy.mean,
            xerr=_errors([figures.tokens], 1),
            yerr=_errors([figures.accuracy], 100),
            label=tier,
            capsize=3,
            **_style(index),
        )
    axes.set(xlabel="mean tokens a response", ylabel="accuracy, %", title="All levels, 95 % intervals")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    _write(figure, file)


def by_level(measured: Measured, file: Path) -> None:
    """Accuracy and tokens of each tier at each level."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    _level_panel(left, measured, lambda level: level.accuracy, 100, "accuracy, %")
    _level_panel(right, measured, lambda level: level.tokens, 1, "mean tokens a response")
    right.legend(fontsize=8)
    _write(figure, file)


def training_curves(curves: Mapping[str, Sequence[Mapping[str, float]]], file: Path) -> None:
    """Accuracy and mean tokens of the rollouts by step, a line a tier."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    panels = figure.subplots(1, 2)
    for panel, field, scale, label in zip(
        panels,
        ("accuracy", "tokens"),
        (100, 1),
        ("accuracy of the rollouts, %", "mean tokens a rollout"),
        strict=True,
    ):
        for index, (tier, curve) in enumerate(curves.items(), start=1):
            steps, values = [entry["step"] for entry in curve], [scale * entry[field] for entry in curve]
            panel.plot(steps, values, color=COLOURS[index % len(COLOURS)], label=tier)
        panel.set(xlabel="step", ylabel=label)
        panel.grid(alpha=0.3)
    panels[1].legend(fontsize=8)
    _write(figure, file)


def _level_panel(
    axes: Any, measured: Measured, value: Callable[[LevelResult], Interval], scale: float, label: str
) -> None:
    for index, (tier, figures) in enumerate(measured.items()):
        intervals = [value(level) for level in figures.levels]
        spots = [position + 0.06 * (index - len(measured) / 2) for position in range(len(intervals))]
        means = [scale * interval.mean for interval in intervals]
        axes.errorbar(
            spots, means, yerr=_errors(intervals, scale), label=tier, linewidth=1, capsize=2, **_style(index)
        )
    levels = [level.level for level in next(iter(measured.values())).levels]
    axes.set_xticks(range(len(levels)), levels)
    axes.set(xlabel="level", ylabel=label)
    axes.grid(alpha=0.3)


def _errors(intervals: Sequence[Interval], scale: float) -> list[list[float]]:
    """Lengths of the bars below and above the means, as matplotlib wants them."""
    below = [scale * (interval.mean - interval.low) for interval in intervals]
    above = [scale * (interval.high - interval.mean) for interval in intervals]
    return [below, above]


def _style(index: int) -> dict[str, Any]:
    return {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)], "markersize": 5}


def _write(figure: Figure, file: Path) -> None:
    FigureCanvasAgg(figure)
    temporary = file.with_suffix(".tmp")
    figure.savefig(temporary, format="png", dpi=120, metadata={"Software": None})
    temporary.replace(file)
