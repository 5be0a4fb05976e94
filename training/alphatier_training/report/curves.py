"""Training curves: what the RL runs logged by step, a line a tier, a panel for each quantity that was logged."""

from collections.abc import Mapping, Sequence
from math import ceil, isfinite, nan
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from alphatier_training.report import style
from alphatier_training.report.evidence import Curve

MOST_POINTS = 200
"""Longer curves are drawn as the means of equal stretches."""

WINDOW_SHARE = 0.1
"""The bold line is a running mean over this share of the steps; the faint one is each step."""


class Quantity(NamedTuple):
    """Something that is logged by step."""

    label: str
    key: str
    scale: float = 1.0


QUANTITIES = (
    Quantity("accuracy of the rollouts, %", "accuracy", 100),
    Quantity("held-out accuracy, %", "heldout_accuracy", 100),
    Quantity("mean tokens a rollout", "tokens"),
    Quantity("truncated, %", "truncated", 100),
    Quantity("reward", "reward"),
    Quantity("KL to the base a token", "kl"),
    Quantity("cost of the KL a response", "kl_cost"),
    Quantity("entropy a token", "entropy"),
    Quantity("norm of the gradient", "grad_norm"),
    Quantity("clipped ratios, %", "clipped", 100),
    Quantity("tokens a second", "tokens_per_second"),
)


def training_curves(curves: Mapping[str, Curve], order: Sequence[str]) -> tuple[Figure, list[str]]:
    """The picture, and the labels of quantities that are left out because they were 0 at every step.

    Args:
        curves: by tier.
        order: all tiers of the family, so that a tier looks the same in every picture.
    """
    logged = {quantity: {tier: _points(curve, quantity) for tier, curve in curves.items()} for quantity in QUANTITIES}
    values = {q: [value for points in lines.values() for _, value in points] for q, lines in logged.items()}
    drawn = [quantity for quantity in QUANTITIES if any(values[quantity])]
    columns = min(3, len(drawn))
    rows = ceil(len(drawn) / columns)
    figure = Figure(figsize=(3.3 * columns + 1.2, 2.3 * rows + 0.4), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, quantity in zip(panels, drawn, strict=False):
        for tier, points in logged[quantity].items():
            _line(panel, points, tier, style.line(order.index(tier)))
        panel.set_title(quantity.label, fontsize=9.5)
        panel.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    for panel in panels[len(drawn) :]:
        panel.set_visible(False)
    figure.supxlabel("step", fontsize=9.5)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", fontsize=9)
    return figure, [q.label.removesuffix(", %") for q in QUANTITIES if values[q] and q not in drawn]


def _points(curve: Curve, quantity: Quantity) -> list[tuple[float, float]]:
    """Steps and values of the entries that have the quantity."""
    pairs = ((float(entry["step"]), float(entry.get(quantity.key, nan))) for entry in curve)
    return [(step, quantity.scale * value) for step, value in pairs if isfinite(value)]


def _line(axes: Any, points: Sequence[tuple[float, float]], tier: str, look: Mapping[str, Any]) -> None:
    """Each step, faint, and the means of what lies within half a window on either side."""
    if not points:
        axes.plot([], [], label=tier, **look)
        return
    steps, values = np.array(points).T
    half = round(WINDOW_SHARE * len(values)) // 2
    means = [float(np.mean(values[max(0, at - half) : at + half + 1])) for at in range(len(values))]
    axes.plot(_thinned(steps), _thinned(values), color=look["color"], alpha=0.25, linewidth=0.8)
    axes.plot(_thinned(steps), _thinned(means), label=tier, linewidth=1.5, **look)


def _thinned(numbers: Any) -> list[float]:
    return [float(np.mean(part)) for part in np.array_split(numbers, min(MOST_POINTS, len(numbers)))]
