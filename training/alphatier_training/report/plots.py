"""Pictures of measured rows, alike in colours, markers and lines, and how they become PNG files and SVG in a page.

Colours are Okabe and Ito's (Color Universal Design, 2008) without yellow, which vanishes on white. Nothing is told by
colour alone: each row has a marker and a line style too, the same in all pictures of a family. In a page, lines and
text of the colour INK take the page's text colour, so that a picture is readable on light and on dark.
"""

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from math import ceil, isfinite, nan
from pathlib import Path
from typing import Any, Protocol

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, ScalarFormatter
from PIL import Image

from alphatier_models import Interval
from alphatier_training.evaluation.comparing import Line, Lines
from alphatier_training.evaluation.figures import Frontier, Point, dominators, front
from alphatier_training.evaluation.tables import level_names
from alphatier_training.report.evidence import Curve

INK, GREY = "#101214", "#808080"
COLOURS = (INK, "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
MARKERS = "osD^vPX*<>"
LINES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)))
RIGHT, WRONG = "#0072B2", "#D55E00"
"""Of right and of wrong responses; the wrong ones are hatched too."""

WIDTH_REM = 6.1
"""How wide an inch of a picture is in a page, so that text is as large in all of them."""

LOG_FROM = 5.0
"""Tokens get a logarithmic axis when the largest is more than this many times the smallest (or the median)."""

BINS = 32

MOST_POINTS = 200
"""Longer training curves are drawn as the means of equal stretches."""

WINDOW_SHARE = 0.1
"""The bold line is a running mean over this share of the steps; the faint one is each step."""

QUANTITIES = {
    "accuracy": "accuracy of the rollouts, %",
    "heldout_accuracy": "held-out accuracy, %",
    "tokens": "mean tokens a rollout",
    "truncated": "truncated, %",
    "reward": "reward",
    "kl": "KL to the base a token",
    "kl_cost": "cost of the KL a response",
    "entropy": "entropy a token",
    "grad_norm": "norm of the gradient",
    "clipped": "clipped ratios, %",
    "tokens_per_second": "tokens a second",
}
"""What is logged by step, and its panel; shares are drawn in percent."""

_SETTINGS = {
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    "grid.color": GREY,
    "grid.alpha": 0.35,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "alphatier",
}


class Measured(Protocol):
    """A point of the plane with its intervals: a tier's figures, or a row of a sweep."""

    @property
    def accuracy(self) -> Interval: ...
    @property
    def tokens(self) -> Interval: ...


@contextmanager
def drawing() -> Iterator[None]:
    """Pictures made in this block look alike, whatever the user's own matplotlibrc says."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_SETTINGS)
        yield


def save_png(figure: Figure, file: Path) -> None:
    """Write the picture in a palette of 128 colours, a third of the size; readers see the old one or the new one."""
    FigureCanvasAgg(figure)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=130, metadata={"Software": None})
    temporary = file.with_suffix(".tmp")
    Image.open(stream).convert("RGB").quantize(128).save(temporary, format="png", optimize=True)
    temporary.replace(file)


def to_svg(figure: Figure, name: str, description: str) -> str:
    """The picture as an SVG element for a page, with `description` read aloud in its place.

    `name` is put before its ids, which must be unique in the page.
    """
    stream = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(stream, format="svg", transparent=True, metadata=nothing)
    text = stream.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(\bid="|url\(#|xlink:href="#)', rf"\1{name}-", text)
    text = re.sub(r"'DejaVu Sans'[^;\"]*", "system-ui, sans-serif", text)
    text = re.sub(r"(\d\.\d{3})\d+", r"\1", text)  # thousandths of a point are enough
    text = re.sub(r' (width|height)="[\d.]+pt"', "", text, count=2)
    size = f"max-width: {WIDTH_REM * figure.get_figwidth():.1f}rem"
    head = f'<svg role="img" aria-label="{escape(description)}" class="figure" style="{size}"'
    return head + text.removeprefix("<svg")


def accuracy_tokens(
    title: str,
    series: Mapping[str, Mapping[str, Measured]],
    *,
    curve: str = "",
    staircase: bool = False,
    auto: Sequence[tuple[str, Point]] = (),
) -> Figure:
    """Accuracy against mean tokens with 95 % intervals both ways.

    Args:
        title: Of the picture.
        series: By name, each with one colour and marker: what stands beside a point to the point.
        curve: The series whose points are joined by a line.
        staircase: Draw the Pareto front of series of one point each, and those that are not on it hollow.
        auto: What choosing by the prompt gave, price by price, as a line; those with a note get a mark.
    """
    figure, axes = _single(4.6)
    if auto:
        _way(axes, auto)
    flat = {name: one for name, group in series.items() for one in group.values()}
    points = {name: Point(one.accuracy.mean, one.tokens.mean) for name, one in flat.items()}
    beaten, corners = (dominators(points), [points[name] for name in front(points)]) if staircase else ({}, [])
    if len(corners) > 1:
        steps = [corner.tokens for corner in corners], [100 * corner.accuracy for corner in corners]
        look = {"color": GREY, "linewidth": 1.2, "linestyle": "--", "drawstyle": "steps-post"}
        axes.plot(*steps, label="Pareto front", **look)
    for index, (name, group) in enumerate(series.items()):
        look, label = _marker(index), name
        if name in beaten:
            look |= {"markerfacecolor": "none", "markeredgewidth": 1.5, "markeredgecolor": look["color"]}
            label = f"{name} (dominated)"
        if group:
            _points(axes, label, group, look | {"linestyle": "-" if name == curve else "none"})
    tokens = [one.tokens.mean for group in series.values() for one in group.values()]
    if min(tokens) > 0 and max(tokens) / min(tokens) > LOG_FROM:
        _log_axis(axes)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=8))
    axes.set(xlabel="mean tokens a response", ylabel="accuracy, %", title=title)
    figure.legend(loc="outside right upper", fontsize=9)
    return figure


def by_level(lines: Lines, dataset: str, order: Sequence[str]) -> Figure | None:
    """Accuracy and tokens of each row at each level; None where the data set has no levels."""
    names = level_names({row: line.figures for row, line in lines.items()})
    if not names:
        return None
    figure = Figure(figsize=(10.2, 4.2), layout="constrained")
    panels = figure.subplots(1, 2, gridspec_kw={"wspace": 0.04})
    for place, (row, line) in enumerate(lines.items()):
        results = {level.level: level for level in line.figures.levels}
        there = [position for position, name in enumerate(names) if name in results]
        shifted = [position + 0.07 * (place - (len(lines) - 1) / 2) for position in there]
        look = _marker(order.index(row)) | _line(order.index(row)) | {"markersize": 5}
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


def over_budgets(lines: Lines, dataset: str, order: Sequence[str], frontier: Frontier | None) -> Figure:
    """Accuracy of rows with samples over budgets, where a longer response is wrong; a published one in grey."""
    figure, axes = _single(4.2)
    longest = max(line.figures.sampling.max_tokens for line in lines.values())
    if frontier:
        axes.plot(frontier.budgets, 100 * np.array(frontier.accuracies), color=GREY, label="published frontier")
    for row, line in lines.items():
        right = sorted(sample.tokens for sample in line.samples if sample.correct)
        shares = 100 * np.arange(len(right) + 1) / len(line.samples)
        look = _line(order.index(row)) | {"drawstyle": "steps-post"}
        axes.plot([0, *right, longest], [*shares, shares[-1]], label=row, **look)
    axes.set_xlim(0, longest)
    axes.set(xlabel="budget, tokens", ylabel="accuracy, %", title=f"{dataset}: a longer response is wrong")
    figure.legend(loc="outside right upper", fontsize=9)
    return figure


def lengths(lines: Lines, dataset: str) -> Figure:
    """Histograms of response lengths, a panel a row with the same axes; right and wrong ones are stacked."""
    everything = [sample.tokens for line in lines.values() for sample in line.samples]
    log = max(everything) > LOG_FROM * max(1.0, float(np.median(everything)))
    edges = _edges(min(everything), max(everything), log=log)
    figure, panels = _panels(len(lines), sharex=True, sharey=True)
    for place, (panel, (row, line)) in enumerate(zip(panels, lines.items(), strict=False)):
        panel.tick_params(labelbottom=place + 3 >= len(lines))
        _histogram(panel, row, line, edges)
        if log:
            _log_axis(panel)
    figure.supxlabel("tokens of a response", fontsize=9.5)
    figure.supylabel("share of responses, %", fontsize=9.5)
    figure.suptitle(f"{dataset}: lengths; the dotted line is the median", fontsize=10.5)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower right", ncols=2, fontsize=9)
    return figure


def training_curves(curves: Mapping[str, Curve], order: Sequence[str]) -> tuple[Figure, list[str]]:
    """What was logged by step, a panel a quantity; and the labels of those left out, as they were 0 at every step.

    `order` is all tiers of the family, so that a tier looks the same in every picture.
    """
    logged = {key: {tier: _logged(curve, key) for tier, curve in curves.items()} for key in QUANTITIES}
    known = {key: lines for key, lines in logged.items() if any(len(values) for _, values in lines.values())}
    drawn = {key: lines for key, lines in known.items() if any(np.any(values) for _, values in lines.values())}
    figure, panels = _panels(len(drawn))
    for panel, (key, lines) in zip(panels, drawn.items(), strict=False):
        for tier, (steps, values) in lines.items():
            _running(panel, steps, values, {"label": tier} | _line(order.index(tier)))
        panel.set_title(QUANTITIES[key], fontsize=9.5)
        panel.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    figure.supxlabel("step", fontsize=9.5)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", fontsize=9)
    return figure, [QUANTITIES[key].removesuffix(", %") for key in known if key not in drawn]


def _marker(index: int) -> dict[str, Any]:
    """Colour and marker of the row at `index`; the outline keeps pale colours visible."""
    look = {"markersize": 6.5, "markeredgecolor": INK, "markeredgewidth": 0.7}
    return look | {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)]}


def _line(index: int) -> dict[str, Any]:
    """Colour and line style of the row at `index`."""
    return {"color": COLOURS[index % len(COLOURS)], "linestyle": LINES[index % len(LINES)]}


def _single(height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(7.6, height), layout="constrained")
    return figure, figure.add_subplot()


def _panels(number: int, **shared: Any) -> tuple[Figure, Any]:
    """At most three panels side by side, with room for a legend."""
    columns = min(3, number)
    rows = ceil(number / columns)
    figure = Figure(figsize=(3.3 * columns + 0.9, 2.2 * rows + 0.6), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, **shared).ravel()
    for panel in panels[number:]:
        panel.set_visible(False)
    return figure, panels


def _points(axes: Any, label: str, group: Mapping[str, Measured], look: Mapping[str, Any]) -> None:
    tokens, accuracy = [one.tokens for one in group.values()], [one.accuracy for one in group.values()]
    at = [value.mean for value in tokens], [100 * value.mean for value in accuracy]
    arms = {"xerr": _arms(tokens, 1), "yerr": _arms(accuracy, 100)}
    axes.errorbar(*at, label=label, capsize=3, linewidth=1, elinewidth=1, **arms, **look)
    for note, *place in zip(group, *at, strict=True):
        axes.annotate(note, place, (4, 4), textcoords="offset points", fontsize=7)


def _way(axes: Any, auto: Sequence[tuple[str, Point]]) -> None:
    marks = [(note, one.tokens, 100 * one.accuracy) for note, one in auto if note]
    points = [one for _, one in auto]
    axes.plot(
        [one.tokens for one in points], [100 * one.accuracy for one in points], color=INK, label="auto, by price"
    )
    axes.plot([mark[1] for mark in marks], [mark[2] for mark in marks], "|", color=INK, markersize=9)
    for note, *place in marks:
        axes.annotate(note, place, (-4, 6), textcoords="offset points", fontsize=7, ha="right")


def _histogram(axes: Any, row: str, line: Line, edges: Any) -> None:
    groups = [[sample.tokens for sample in line.samples if sample.correct == correct] for correct in (True, False)]
    weights = [np.full(len(group), 100 / len(line.samples)) for group in groups]
    look = {"color": [RIGHT, WRONG], "label": ["right", "wrong"], "edgecolor": INK, "linewidth": 0.3}
    _, _, bars = axes.hist(groups, bins=edges, weights=weights, stacked=True, **look)
    for bar in bars[1]:
        bar.set_hatch("////")
    axes.axvline(
        float(np.median([sample.tokens for sample in line.samples])), color=INK, linestyle=":", linewidth=1.3
    )
    axes.set_title(f"{row}: {len(groups[0])} right, {len(groups[1])} wrong", fontsize=9.5)


def _edges(shortest: int, longest: int, *, log: bool) -> Any:
    """Edges between whole numbers of tokens, so that no bar holds more lengths than its neighbour by accident."""
    if log:
        return np.unique(np.round(np.geomspace(max(1, shortest), longest + 1, BINS + 1))) - 0.5
    width = max(1, ceil((longest + 1 - shortest) / BINS))
    return np.arange(shortest, longest + 1 + width, width) - 0.5


def _log_axis(axes: Any) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())


def _arms(values: Sequence[Interval], scale: float) -> list[list[float]]:
    """Lengths of the bars below and above the means, as matplotlib wants them."""
    below = [scale * (value.mean - value.low) for value in values]
    return [below, [scale * (value.high - value.mean) for value in values]]


def _logged(curve: Curve, key: str) -> tuple[Any, Any]:
    """Steps and values of the entries that have the quantity."""
    scale = 100 if QUANTITIES[key].endswith("%") else 1
    there = [entry for entry in curve if isfinite(float(entry.get(key, nan)))]
    return np.array([entry["step"] for entry in there]), scale * np.array([float(entry[key]) for entry in there])


def _running(axes: Any, steps: Any, values: Any, look: Mapping[str, Any]) -> None:
    """Each step, faint, and the means of what lies within half a window on either side."""
    half = round(WINDOW_SHARE * len(values)) // 2
    means = [np.mean(values[max(0, at - half) : at + half + 1]) for at in range(len(values))]
    axes.plot(_thinned(steps), _thinned(values), color=look["color"], alpha=0.25, linewidth=0.8)
    axes.plot(_thinned(steps), _thinned(means), linewidth=1.5, **look)


def _thinned(numbers: Any) -> list[float]:
    return [
        float(np.mean(part)) for part in np.array_split(numbers, min(MOST_POINTS, len(numbers) or 1)) if len(part)
    ]
