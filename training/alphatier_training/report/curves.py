"""Training curves: what the RL runs logged by step, a line a tier, a panel for each quantity that was logged."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, isfinite, nan
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from alphatier_training.report import style
from alphatier_training.report.evidence import Curve

MOST_POINTS = 200
"""Longer curves are drawn as the means of equal stretches."""

WINDOW_SHARE = 0.1
"""The bold line is a running mean over this share of the steps; the faint one is each step."""


@dataclass(frozen=True)
class Quantity:
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
    drawn, zero = _worth_drawing(curves)
    columns = min(3, len(drawn))
    rows = ceil(len(drawn) / columns)
    figure = Figure(figsize=(3.3 * columns + 1.2, 2.3 * rows + 0.4), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, quantity in zip(panels, drawn, strict=False):
        for tier, curve in curves.items():
            _line(panel, *_values(curve, quantity), tier, order.index(tier))
        panel.set_title(quantity.label, fontsize=9.5)
        panel.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    for panel in panels[len(drawn) :]:
        panel.set_visible(False)
    figure.supxlabel("step", fontsize=9.5)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", fontsize=9)
    return figure, zero


def _worth_drawing(curves: Mapping[str, Curve]) -> tuple[list[Quantity], list[str]]:
    drawn: list[Quantity] = []
    zero: list[str] = []
    for quantity in QUANTITIES:
        values = [value for curve in curves.values() for value in _values(curve, quantity)[1]]
        if any(values):
            drawn.append(quantity)
        elif values:
            zero.append(quantity.label.removesuffix(", %"))
    return drawn, zero


def _values(curve: Curve, quantity: Quantity) -> tuple[list[float], list[float]]:
    """Steps and values of the entries that have the quantity."""
    value = _tokens_a_second(curve) if quantity.label == "tokens a second" else _logged(quantity)
    pairs = [(float(entry["step"]), quantity.scale * value(entry)) for entry in curve]
    kept = [pair for pair in pairs if isfinite(pair[1])]
    return [step for step, _ in kept], [value for _, value in kept]


def _logged(quantity: Quantity) -> Callable[[Mapping[str, float]], float]:
    def value(entry: Mapping[str, float]) -> float:
        return float(next((entry[key] for key in quantity.keys if entry.get(key) is not None), nan))

    return value


def _tokens_a_second(curve: Curve) -> Callable[[Mapping[str, float]], float]:
    """As logged, else trained tokens (TRL's `num_tokens` is a running total) by the seconds of the step."""
    totals = [0.0, *(float(entry.get("num_tokens", nan)) for entry in curve)]
    new = {id(entry): after - before for entry, before, after in zip(curve, totals, totals[1:], strict=False)}

    def value(entry: Mapping[str, float]) -> float:
        if "tokens_per_second" in entry:
            return float(entry["tokens_per_second"])
        seconds, tokens = entry.get("step_time", 0), new[id(entry)]
        return tokens / seconds if seconds and tokens > 0 else nan  # the total begins again when a run is resumed

    return value


def _line(axes: Any, steps: Sequence[float], values: Sequence[float], tier: str, index: int) -> None:
    if not values:
        axes.plot([], [], label=tier, **style.line(index))
        return
    window = max(1, round(WINDOW_SHARE * len(values)))
    axes.plot(*_thinned(steps, values), color=style.COLOURS[index % len(style.COLOURS)], alpha=0.25, linewidth=0.8)
    axes.plot(*_thinned(steps, _running_mean(values, window)), label=tier, linewidth=1.5, **style.line(index))


def _running_mean(values: Sequence[float], window: int) -> list[float]:
    """Means of what lies within half a window on either side; at the ends, of what there is."""
    half = window // 2
    return [float(np.mean(values[max(0, at - half) : at + half + 1])) for at in range(len(values))]


def _thinned(steps: Sequence[float], values: Sequence[float]) -> Iterator[list[float]]:
    stretches = min(MOST_POINTS, len(values))
    for numbers in (steps, values):
        yield [float(np.mean(stretch)) for stretch in np.array_split(np.asarray(numbers), stretches)]
