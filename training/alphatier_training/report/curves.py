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
    keys: tuple[str, ...]
    """What it may be called in the log; the first that is there."""
    scale: float = 1.0


QUANTITIES = (
    Quantity("accuracy of the rollouts, %", ("accuracy",), 100),
    Quantity("held-out accuracy, %", ("heldout_accuracy",), 100),
    Quantity("mean tokens a rollout", ("tokens", "completions/mean_length")),
    Quantity("truncated, %", ("truncated", "completions/clipped_ratio"), 100),
    Quantity("reward", ("reward",)),
    Quantity("KL to the base a token", ("kl",)),
    Quantity("cost of the KL a response", ("kl_cost",)),
    Quantity("entropy a token", ("entropy",)),
    Quantity("norm of the gradient", ("grad_norm", "gradient_norm")),
    Quantity("clipped ratios, %", ("clip_ratio/region_mean", "clip_share"), 100),
    Quantity("tokens a second", ("tokens_per_second",)),
)


def training_curves(curves: Mapping[str, Curve], order: Sequence[str]) -> tuple[Figure, list[str]]:
    """The picture, and the labels of quantities that are left out because they were 0 at every step.

    Args:
        curves: by tier.
        order: all tiers of the family, so that a tier looks the same in every picture.
    """
    curves = {tier: _with_speed(curve) for tier, curve in curves.items()}
    logged = {quantity: {tier: _values(curve, quantity) for tier, curve in curves.items()} for quantity in QUANTITIES}
    there = {quantity: lines for quantity, lines in logged.items() if any(values for _, values in lines.values())}
    drawn = {q: lines for q, lines in there.items() if any(any(values) for _, values in lines.values())}
    columns = min(3, len(drawn))
    rows = ceil(len(drawn) / columns)
    figure = Figure(figsize=(3.3 * columns + 1.2, 2.3 * rows + 0.4), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, (quantity, lines) in zip(panels, drawn.items(), strict=False):
        for tier, (steps, values) in lines.items():
            _line(panel, steps, values, tier, style.line(order.index(tier)))
        panel.set_title(quantity.label, fontsize=9.5)
        panel.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    for panel in panels[len(drawn) :]:
        panel.set_visible(False)
    figure.supxlabel("step", fontsize=9.5)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", fontsize=9)
    return figure, [quantity.label.removesuffix(", %") for quantity in there if quantity not in drawn]


def _values(curve: Curve, quantity: Quantity) -> tuple[list[float], list[float]]:
    """Steps and values of the entries that have the quantity."""
    pairs = []
    for entry in curve:
        value = float(next((entry[key] for key in quantity.keys if entry.get(key) is not None), nan))
        if isfinite(value):
            pairs.append((float(entry["step"]), quantity.scale * value))
    return [step for step, _ in pairs], [value for _, value in pairs]


def _with_speed(curve: Curve) -> Curve:
    """Where tokens a second are not logged: trained tokens (TRL's `num_tokens` is a running total) by seconds."""
    found, before = [], 0.0
    for entry in curve:
        total, seconds = float(entry.get("num_tokens", nan)), entry.get("step_time", 0)
        if seconds and total > before:  # the total begins again when a run is resumed
            found.append({"tokens_per_second": (total - before) / seconds, **entry})
        else:
            found.append({**entry})
        before = total
    return found


def _line(axes: Any, steps: Sequence[float], values: Sequence[float], tier: str, look: Mapping[str, Any]) -> None:
    """Each step, faint, and the means of what lies within half a window on either side."""
    half = max(1, round(WINDOW_SHARE * len(values))) // 2
    means = [float(np.mean(values[max(0, at - half) : at + half + 1])) for at in range(len(values))]
    axes.plot(*_thinned(steps, values), color=look["color"], alpha=0.25, linewidth=0.8)
    axes.plot(*_thinned(steps, means), label=tier, linewidth=1.5, **look)


def _thinned(*numbers: Sequence[float]) -> list[list[float]]:
    stretches = min(MOST_POINTS, len(numbers[0])) or 1
    return [[float(np.mean(part)) for part in np.array_split(one, stretches) if len(part)] for one in numbers]
