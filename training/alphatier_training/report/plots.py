"""Pictures of a family's figures: accuracy against tokens with the Pareto front, and both by level."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, ScalarFormatter

from alphatier_models import Evaluation, Interval, LevelResult
from alphatier_training.choice.front import Point, dominators, front
from alphatier_training.report import style

Measured = Mapping[str, Evaluation]
"""Tier to figures on one data set, in the family's order."""

LOG_FROM = 5.0
"""Tokens get a logarithmic axis when the largest is more than this many times the smallest."""


def points(measured: Measured) -> dict[str, Point]:
    """Each tier's place in the plane of accuracy and tokens."""
    return {name: Point(figures.accuracy.mean, figures.tokens.mean) for name, figures in measured.items()}


def pareto(measured: Measured, dataset: str, order: Sequence[str]) -> Figure:
    """One point a tier with 95 % intervals both ways; the front as a staircase, dominated tiers hollow.

    `order` is all tiers of the family, so that a tier looks the same in every picture.
    """
    places = points(measured)
    beaten = dominators(places)
    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    axes = figure.add_subplot()
    _staircase(axes, [places[name] for name in front(places)])
    for tier, figures in measured.items():
        look = style.series(order.index(tier)) | (
            {"markerfacecolor": "none", "markeredgewidth": 1.5} if tier in beaten else {}
        )
        look |= {"markeredgecolor": look["color"]} if tier in beaten else {}
        axes.errorbar(
            figures.tokens.mean,
            100 * figures.accuracy.mean,
            xerr=_errors([figures.tokens], 1),
            yerr=_errors([figures.accuracy], 100),
            label=f"{tier} (dominated)" if tier in beaten else tier,
            capsize=3,
            linestyle="none",
            elinewidth=1,
            **look,
        )
    _token_axis(axes, [place.tokens for place in places.values()])
    axes.set(xlabel="mean tokens a response", ylabel="accuracy, %", title=f"{dataset}: tiers with 95 % intervals")
    figure.legend(loc="outside right upper", fontsize=9)
    return figure


def by_level(measured: Measured, dataset: str, order: Sequence[str]) -> Figure | None:
    """Accuracy and tokens of each tier at each level; None where the data set has no levels."""
    names = level_names(measured)
    if not names:
        return None
    figure = Figure(figsize=(10.2, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, gridspec_kw={"wspace": 0.04})
    _level_panel(left, measured, order, names, lambda level: level.accuracy, 100, "accuracy, %")
    _level_panel(right, measured, order, names, lambda level: level.tokens, 1, "mean tokens a response")
    figure.suptitle(f"{dataset}: by level, 95 % intervals", fontsize=10.5)
    figure.legend(*left.get_legend_handles_labels(), loc="outside right upper", fontsize=9)
    return figure


def level_names(measured: Measured) -> list[str]:
    """The levels that the data set's problems name, in order; none where they name none."""
    levels = dict.fromkeys(level.level for figures in measured.values() for level in figures.levels if level.level)
    return sorted(levels, key=lambda name: (0, int(name), "") if name.isdecimal() else (1, 0, name))


def _staircase(axes: Any, corners: Sequence[Point]) -> None:
    """The best accuracy that any number of tokens buys; drawn only where there are two corners."""
    if len(corners) > 1:
        tokens, accuracy = [corner.tokens for corner in corners], [100 * corner.accuracy for corner in corners]
        axes.plot(
            tokens,
            accuracy,
            drawstyle="steps-post",
            color="#808080",
            linewidth=1.2,
            linestyle="--",
            label="Pareto front",
        )


def _level_panel(
    axes: Any,
    measured: Measured,
    order: Sequence[str],
    names: Sequence[str],
    value: Callable[[LevelResult], Interval],
    scale: float,
    label: str,
) -> None:
    for place, (tier, figures) in enumerate(measured.items()):
        index = order.index(tier)
        results = {level.level: value(level) for level in figures.levels}
        there = [position for position, name in enumerate(names) if name in results]
        intervals = [results[names[position]] for position in there]
        axes.errorbar(
            [position + 0.07 * (place - (len(measured) - 1) / 2) for position in there],
            [scale * interval.mean for interval in intervals],
            yerr=_errors(intervals, scale),
            label=tier,
            linewidth=1.1,
            elinewidth=0.8,
            capsize=2,
            **style.series(index) | {"markersize": 5, "linestyle": style.line(index)["linestyle"]},
        )
    axes.set_xticks(range(len(names)), names)
    axes.set(xlabel="level", ylabel=label)


def _token_axis(axes: Any, tokens: Sequence[float]) -> None:
    if min(tokens) > 0 and max(tokens) / min(tokens) > LOG_FROM:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=8))


def _errors(intervals: Sequence[Interval], scale: float) -> list[list[float]]:
    """Lengths of the bars below and above the means, as matplotlib wants them."""
    below = [scale * (interval.mean - interval.low) for interval in intervals]
    above = [scale * (interval.high - interval.mean) for interval in intervals]
    return [below, above]
