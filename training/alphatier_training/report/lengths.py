"""Histograms of the response length, a panel a tier: how long right and wrong responses are."""

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from alphatier_training.evaluation.samples import Sample
from alphatier_training.report import style

Edges = np.ndarray[Any, np.dtype[np.float64]]

BINS = 32
LOG_FROM = 8.0
"""A logarithmic axis when the longest response has more than this many times the median tokens of all."""


def lengths(samples: Mapping[str, Sequence[Sample]], dataset: str) -> Figure:
    """A panel a tier, the same axes in all; the bars of right and wrong responses are stacked."""
    everything = np.array([sample.tokens for group in samples.values() for sample in group])
    log = bool(everything.max() > LOG_FROM * max(1.0, float(np.median(everything))))
    edges = _edges(int(everything.min()), int(everything.max()), log=log)
    columns = min(3, len(samples))
    rows = ceil(len(samples) / columns)
    figure = Figure(figsize=(3.3 * columns + 0.6, 2.1 * rows + 0.7), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for panel, (tier, group) in zip(panels, samples.items(), strict=False):
        _panel(panel, tier, group, edges)
        if log:
            panel.set_xscale("log")
            panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _position: f"{value:g}"))
    for place, panel in enumerate(panels):
        panel.set_visible(place < len(samples))
        panel.tick_params(labelbottom=place + columns >= len(samples))
    figure.supxlabel("tokens of a response", fontsize=9.5)
    figure.supylabel("share of responses, %", fontsize=9.5)
    figure.suptitle(f"{dataset}: lengths; the dotted line is the median", fontsize=10.5)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower right", ncols=2, fontsize=9)
    return figure


def _panel(axes: Any, tier: str, samples: Sequence[Sample], edges: Edges) -> None:
    right = [sample.tokens for sample in samples if sample.correct]
    wrong = [sample.tokens for sample in samples if not sample.correct]
    weights = [np.full(len(group), 100 / len(samples)) for group in (right, wrong)]
    _, _, bars = axes.hist(
        [right, wrong],
        bins=edges,
        weights=weights,
        stacked=True,
        color=[style.RIGHT, style.WRONG],
        label=["right", "wrong"],
        edgecolor=style.INK,
        linewidth=0.3,
    )
    for bar in bars[1]:
        bar.set_hatch("////")
    axes.axvline(float(np.median([*right, *wrong])), color=style.INK, linestyle=":", linewidth=1.3)
    axes.set_title(f"{tier}: {len(right)} right, {len(wrong)} wrong", fontsize=9.5)


def _edges(shortest: int, longest: int, *, log: bool) -> Edges:
    """Edges between whole numbers of tokens, so that no bar holds more lengths than its neighbour by accident."""
    grid: Any
    if log:
        grid = np.unique(np.round(np.geomspace(max(1, shortest), longest + 1, BINS + 1)))
    else:
        width = max(1, ceil((longest + 1 - shortest) / BINS))
        grid = np.arange(shortest, longest + 1 + width, width)
    return np.asarray(grid, dtype=np.float64) - 0.5
