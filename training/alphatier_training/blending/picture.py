"""The picture of a study: accuracy against tokens, and tokens along the shares."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from alphatier_training.blending.curve import Point, Result
from alphatier_training.report.style import drawing, save_png, series


def draw(result: Result, file: Path) -> None:
    """Write a PNG; intervals are 95 %, thin lines single seeds."""
    with drawing():
        figure = Figure(figsize=(9.6, 4.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        for index, (name, curve) in enumerate(result.curves.items(), start=1):
            _line(left, curve.points, name, index)
            _along(right, curve.points, name, index)
        _front(left, result)
        left.set(xlabel="mean tokens a response", ylabel="accuracy, %", title="Blends and trained tiers")
        right.set(xlabel="share", ylabel="mean tokens a response", title="Tokens by share (thin: single seeds)")
        for axes in (left, right):
            axes.legend(fontsize=7.5)
        save_png(figure, file)


def _front(axes: Any, result: Result) -> None:
    _line(axes, result.trained, "trained", 0, linewidth=1.5)
    for index, point in enumerate(result.trained):
        spot = (point.tokens.mean, 100 * point.accuracy.mean)
        axes.annotate(
            point.tier, spot, xytext=(3, 9 if index % 2 == 0 else -13), textcoords="offset points", fontsize=7
        )


def _line(axes: Any, points: Sequence[Point], label: str, index: int, linewidth: float = 0.8) -> None:
    axes.errorbar(
        [point.tokens.mean for point in points],
        [100 * point.accuracy.mean for point in points],
        yerr=[
            [100 * (point.accuracy.mean - point.accuracy.low) for point in points],
            [100 * (point.accuracy.high - point.accuracy.mean) for point in points],
        ],
        label=label,
        linewidth=linewidth,
        elinewidth=0.7,
        capsize=2,
        **series(index),
    )


def _along(axes: Any, points: Sequence[Point], label: str, index: int) -> None:
    shares = [point.share for point in points]
    for seed in range(len(points[0].seeds)):
        axes.plot(shares, [point.seeds[seed][0] for point in points], color=series(index)["color"], linewidth=0.4)
    axes.plot(shares, [point.tokens.mean for point in points], label=label, **series(index))
