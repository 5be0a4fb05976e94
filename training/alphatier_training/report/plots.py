"""Pictures of measured rows: accuracy against tokens with the Pareto front, both by level, lengths of responses.

Each row has one look in all pictures of a family. What not: training curves are in `curves`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, ScalarFormatter

from alphatier_models import Interval
from alphatier_training.evaluation.efficiency import Frontier
from alphatier_training.evaluation.front import Point, dominators, front
from alphatier_training.evaluation.samples import Sample
from alphatier_training.evaluation.tables import Rows, level_names, places
from alphatier_training.report import style

LOG_FROM = 5.0
"""Tokens get a logarithmic axis when the largest is more than this many times the smallest (or the median)."""

BINS = 32


@dataclass(frozen=True)
class Spot:
    """A point of the plane, with its intervals."""

    tokens: Interval
    accuracy: Interval
    """A share."""
    note: str = ""
    """What stands beside it."""


def accuracy_tokens(
    title: str, series: Mapping[str, Sequence[Spot]], *, curve: str = "", staircase: bool = False
) -> Figure:
    """Accuracy against mean tokens with 95 % intervals both ways.

    Args:
        title: Of the picture.
        series: By name, each with one colour and marker.
        curve: The series whose spots are joined by a line.
        staircase: Draw the Pareto front of all spots, and those that are not on it hollow.
    """
    spots = {(name, place): spot for name, group in series.items() for place, spot in enumerate(group)}
    points = {f"{name} {place}": _point(spot) for (name, place), spot in spots.items()}
    beaten = dominators(points) if staircase else {}
    figure = Figure(figsize=(7.6, 4.6), layout="constrained")
    axes = figure.add_subplot()
    if staircase:
        _staircase(axes, [points[name] for name in front(points)])
    for index, (name, group) in enumerate(series.items()):
        look, label = style.series(index), name
        if group and all(f"{name} {place}" in beaten for place in range(len(group))):
            look |= {"markerfacecolor": "none", "markeredgewidth": 1.5, "markeredgecolor": look["color"]}
            label = f"{name} (dominated)"
        if group:
            _spots(axes, label, group, "-" if name == curve else "none", look)
    _token_axis(axes, [spot.tokens.mean for spot in spots.values()])
    axes.set(xlabel="mean tokens a response", ylabel="accuracy, %", title=title)
    figure.legend(loc="outside right upper", fontsize=9)
    return figure


def by_level(rows: Rows, dataset: str, order: Sequence[str]) -> Figure | None:
    """Accuracy and tokens of each row at each level; None where the data set has no levels."""
    names = level_names(rows)
    if not names:
        return None
    figure = Figure(figsize=(10.2, 4.2), layout="constrained")
    panels = figure.subplots(1, 2, gridspec_kw={"wspace": 0.04})
    for place, (row, found) in enumerate(rows.items()):
        results = {level.level: level for level in found.levels}
        there = [position for position, name in enumerate(names) if name in results]
        shifted = [position + 0.07 * (place - (len(rows) - 1) / 2) for position in there]
        look = style.series(order.index(row)) | style.line(order.index(row)) | {"markersize": 5}
        for panel, field, scale in zip(panels, ("accuracy", "tokens"), (100, 1), strict=True):
            values = [getattr(results[names[position]], field) for position in there]
            means, arms = [scale * value.mean for value in values], _arms(values, scale)
            panel.errorbar(shifted, means, yerr=arms, label=row, linewidth=1.1, elinewidth=0.8, capsize=2, **look)
    for panel, label in zip(panels, ("accuracy, %", "mean tokens a response"), strict=True):
        panel.set_xticks(range(len(names)), names)
        panel.set(xlabel="level", ylabel=label)
    figure.suptitle(f"{dataset}: by level, 95 % intervals", fontsize=10.5)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", fontsize=9)
    return figure


def over_budgets(
    samples: Mapping[str, Sequence[Sample]],
    longest: int,
    dataset: str,
    order: Sequence[str],
    frontier: Frontier | None,
) -> Figure:
    """Accuracy over budgets up to `longest` tokens, where a longer response is wrong; a published one in grey."""
    figure = Figure(figsize=(7.6, 4.2), layout="constrained")
    axes = figure.add_subplot()
    if frontier:
        axes.plot(frontier.budgets, 100 * np.array(frontier.accuracies), color="#808080", label="published frontier")
    for row, group in samples.items():
        right = sorted(sample.tokens for sample in group if sample.correct)
        shares = 100 * np.arange(len(right) + 1) / len(group)
        look = style.line(order.index(row))
        axes.plot([0, *right, longest], [*shares, shares[-1]], label=row, drawstyle="steps-post", **look)
    axes.set_xlim(0, longest)
    axes.set(xlabel="budget, tokens", ylabel="accuracy, %", title=f"{dataset}: a longer response is wrong")
    figure.legend(loc="outside right upper", fontsize=9)
    return figure


def lengths(samples: Mapping[str, Sequence[Sample]], dataset: str) -> Figure:
    """Histograms of response lengths, a panel a row with the same axes; right and wrong ones are stacked."""
    everything = [sample.tokens for group in samples.values() for sample in group]
    log = max(everything) > LOG_FROM * max(1.0, float(np.median(everything)))
    edges = _edges(min(everything), max(everything), log=log)
    columns = min(3, len(samples))
    figure = Figure(figsize=(3.3 * columns + 0.6, 2.1 * ceil(len(samples) / columns) + 0.7), layout="constrained")
    panels = figure.subplots(-(-len(samples) // columns), columns, sharex=True, sharey=True, squeeze=False).ravel()
    for place, panel in enumerate(panels):
        panel.set_visible(place < len(samples))
        panel.tick_params(labelbottom=place + columns >= len(samples))
    for panel, (row, group) in zip(panels, samples.items(), strict=False):
        _histogram(panel, row, group, edges)
        if log:
            _log_axis(panel)
    figure.supxlabel("tokens of a response", fontsize=9.5)
    figure.supylabel("share of responses, %", fontsize=9.5)
    figure.suptitle(f"{dataset}: lengths; the dotted line is the median", fontsize=10.5)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower right", ncols=2, fontsize=9)
    return figure


def described(rows: Rows) -> str:
    """What `accuracy_tokens` shows of rows, in words."""
    points = places(rows)
    spots = "; ".join(f"{name} {100 * at.accuracy:.1f} % at {at.tokens:.1f} tokens" for name, at in points.items())
    return f"Accuracy against mean tokens: {spots}. On the Pareto front: {', '.join(front(points))}."


def _point(spot: Spot) -> Point:
    return Point(spot.accuracy.mean, spot.tokens.mean)


def _spots(axes: Any, name: str, group: Sequence[Spot], line: str, look: Mapping[str, Any]) -> None:
    tokens, accuracy = [spot.tokens for spot in group], [spot.accuracy for spot in group]
    axes.errorbar(
        [value.mean for value in tokens],
        [100 * value.mean for value in accuracy],
        xerr=_arms(tokens, 1),
        yerr=_arms(accuracy, 100),
        label=name,
        capsize=3,
        linestyle=line,
        linewidth=1,
        elinewidth=1,
        **look,
    )
    for spot in group:
        at = (spot.tokens.mean, 100 * spot.accuracy.mean)
        axes.annotate(spot.note, at, (4, 4), textcoords="offset points", fontsize=7)


def _staircase(axes: Any, corners: Sequence[Point]) -> None:
    """The best accuracy that any number of tokens buys; drawn only where there are two corners."""
    if len(corners) > 1:
        tokens, accuracy = [corner.tokens for corner in corners], [100 * corner.accuracy for corner in corners]
        look = {"color": "#808080", "linewidth": 1.2, "linestyle": "--", "drawstyle": "steps-post"}
        axes.plot(tokens, accuracy, label="Pareto front", **look)


def _histogram(axes: Any, row: str, samples: Sequence[Sample], edges: Any) -> None:
    groups = [[sample.tokens for sample in samples if sample.correct == correct] for correct in (True, False)]
    _, _, bars = axes.hist(
        groups,
        bins=edges,
        weights=[np.full(len(group), 100 / len(samples)) for group in groups],
        stacked=True,
        color=[style.RIGHT, style.WRONG],
        label=["right", "wrong"],
        edgecolor=style.INK,
        linewidth=0.3,
    )
    for bar in bars[1]:
        bar.set_hatch("////")
    axes.axvline(
        float(np.median([sample.tokens for sample in samples])), color=style.INK, linestyle=":", linewidth=1.3
    )
    axes.set_title(f"{row}: {len(groups[0])} right, {len(groups[1])} wrong", fontsize=9.5)


def _edges(shortest: int, longest: int, *, log: bool) -> Any:
    """Edges between whole numbers of tokens, so that no bar holds more lengths than its neighbour by accident."""
    if log:
        return np.unique(np.round(np.geomspace(max(1, shortest), longest + 1, BINS + 1))) - 0.5
    width = max(1, ceil((longest + 1 - shortest) / BINS))
    return np.arange(shortest, longest + 1 + width, width) - 0.5


def _token_axis(axes: Any, tokens: Sequence[float]) -> None:
    if min(tokens) > 0 and max(tokens) / min(tokens) > LOG_FROM:
        _log_axis(axes)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=8))


def _log_axis(axes: Any) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())


def _arms(values: Sequence[Interval], scale: float) -> list[list[float]]:
    """Lengths of the bars below and above the means, as matplotlib wants them."""
    below = [scale * (value.mean - value.low) for value in values]
    return [below, [scale * (value.high - value.mean) for value in values]]
