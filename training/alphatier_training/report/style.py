"""How the report's pictures look, and how they become PNG files and SVG inside a page.

Colours are Okabe and Ito's (Color Universal Design, 2008) without yellow, which vanishes on white. Nothing is told by
colour alone: each tier has a marker and a line style too. In a page, lines and text of the colour INK take the page's
text colour, so that the same picture is readable on light and on dark.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

INK = "#101214"
COLOURS = (INK, "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
MARKERS = "osD^vPX*<>"
LINES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)))
RIGHT, WRONG = "#0072B2", "#D55E00"
"""Of right and of wrong responses; the wrong ones are hatched too."""

WIDTH_REM = 6.1
"""How wide an inch of a picture is in a page, so that text is as large in all of them."""

_SETTINGS = {
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": "#808080",
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


def series(index: int) -> dict[str, Any]:
    """Colour and marker of the tier at `index` of a family; the outline keeps pale colours visible."""
    return {
        "color": COLOURS[index % len(COLOURS)],
        "marker": MARKERS[index % len(MARKERS)],
        "markersize": 6.5,
        "markeredgecolor": INK,
        "markeredgewidth": 0.7,
    }


def line(index: int) -> dict[str, Any]:
    """Colour and line style of the tier at `index` of a family."""
    return {"color": COLOURS[index % len(COLOURS)], "linestyle": LINES[index % len(LINES)]}


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

    Args:
        figure: the picture.
        name: put before its ids, which must be unique in the page.
        description: what the picture shows, in words.
    """
    stream = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(stream, format="svg", transparent=True, metadata=nothing)
    text = stream.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r"url\(#", f"url(#{name}-", text)
    text = text.replace('xlink:href="#', f'xlink:href="#{name}-')
    text = re.sub(r"'DejaVu Sans'[^;\"]*", "system-ui, sans-serif", text)
    text = re.sub(r"(\d\.\d{3})\d+", r"\1", text)  # thousandths of a point are enough
    size = f"max-width: {WIDTH_REM * figure.get_figwidth():.1f}rem"
    text = re.sub(r' (width|height)="[\d.]+pt"', "", text, count=2)
    head = f'<svg role="img" aria-label="{_escaped(description)}" class="figure" style="{size}"'
    return head + text.removeprefix("<svg")


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
