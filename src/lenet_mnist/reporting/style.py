"""What the pictures share: colours, axes, and figures, which become PNG files or SVGs in the report.

The colours are Okabe and Ito's, which people with any colour vision can tell apart; lines differ in dash as well.
"""

import io
import math
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from xml.sax.saxutils import quoteattr

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib import figure
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from lenet_mnist.files.storage import make_directory, write_bytes
from lenet_mnist.reporting.text import plain_number

BLUE = "#0072B2"
ORANGE = "#D55E00"
GREEN = "#009E73"
GREY = "#767676"
PURPLE = "#CC79A7"
SKY = "#56B4E9"
AMBER = "#E69F00"
BLACK = "#000000"
GRID = "#E6E6E6"
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, AMBER, GREY, BLACK)  # in this order, where several things are drawn

TITLE_POINTS = 10
_MOST_LETTERS = 200  # of a name
_DOTS_PER_INCH, _DOTS_ON_SCREEN = 160, 90
# In the report a colour is a variable of its style sheet, which is another one in the dark.
_VARIABLES = {BLUE: "look-0", ORANGE: "look-1", GREEN: "look-2", PURPLE: "look-3", GREY: "look-4", GRID: "rule"}
_VARIABLES |= {BLACK: "ink", "#F0F0F0": "wash"}
# Which numbers of a decade label a log axis, by the largest ratio of its ends.
_NUMBERS_OF_A_DECADE = ((8, (1, 1.5, 2, 3, 4, 5, 7)), (300, (1, 2, 5)))


class Figure(figure.Figure):
    """A figure without pyplot, which would keep it until it is closed. A notebook shows it all the same."""

    def png(self, dots_per_inch: int) -> bytes:
        picture = io.BytesIO()
        self.savefig(picture, format="png", dpi=dots_per_inch)
        return picture.getvalue()

    def _repr_png_(self) -> bytes:
        return self.png(_DOTS_ON_SCREEN)


def save_figure(figure: Figure, path: Path) -> None:
    """Write `figure` as PNG, whole or not at all, into a directory that is made if need be. Raises: StorageError."""
    make_directory(path.parent)
    write_bytes(path, figure.png(_DOTS_PER_INCH))


def chart(draw: Callable[[Axes], None], title: str = "") -> Figure:
    """Return a figure of one pair of axes, drawn by `draw`; what has a label is in its legend."""
    figure = Figure(figsize=(5.0, 4.0 if title else 3.7))
    axes = figure.add_axes((0.17, 0.235, 0.81, 0.69 if title else 0.745))  # a layout engine takes three times as long
    tidy(axes)
    axes.tick_params(labelsize=9)
    draw(axes)
    axes.set_title(title, fontsize=TITLE_POINTS)
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) > 1:
        is_short, is_long = max(map(len, labels)) < 8, len(labels) > 4
        columns = len(labels) if is_short else 3 if is_long else 2
        points = 6.5 if is_long and not is_short else 8
        figure.legend(handles, labels, loc="lower center", ncols=columns, frameon=False, fontsize=points)
    return figure


def inline_svg(figure: Figure, name: str, description: str) -> Markup:
    """Return `figure` as an SVG for the report: in the page's letters and colours, and the same bytes every time.

    It has no style attributes, which the page's policy forbids. `name`, one for each figure of a page, keeps ids apart.
    """
    text = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = text.getvalue()
    body = svg[svg.index("</metadata>") + len("</metadata>") : svg.rindex("</svg>")]
    body = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", body, count=1, flags=re.DOTALL)
    body = re.sub(r'<g id="[^"]*"', "<g", body)  # the others are the digests of what they name, and of `name`
    body = re.sub(r' style="([^"]*)"', _attributes, body)
    body = re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d\d)\d+|\s*\n", r"\1", path[0]), body)
    for colour, variable in _VARIABLES.items():
        body = body.replace(f'"{colour.lower()}"', f'"var(--{variable})"')
    size = [round(72 * inches) for inches in figure.get_size_inches()]
    label = f'role="img" aria-label={quoteattr(description)}'
    return Markup(f'<svg viewBox="0 0 {size[0]} {size[1]}" {label}>{body}</svg>')


def _attributes(style: re.Match[str]) -> str:
    """Turn a style attribute into attributes of their own."""
    pairs = [part.split(": ", 1) for part in style[1].split("; ")]
    return "".join(f' {name}="{value}"' for name, value in pairs if name != "font-family")


def description_of(axes: Axes) -> str:
    """Say in words and numbers what is to be seen: from where to where each line of the legend goes."""
    lines = []
    for line in axes.get_lines():
        xs, ys = (np.asarray(data, dtype=float).tolist() for data in (line.get_xdata(), line.get_ydata()))
        if not xs or str(line.get_label()).startswith("_"):
            continue
        places = [f"{_number(axes.yaxis, ys[k])} at {plain_number(xs[k])}" for k in ((0, -1) if len(xs) > 1 else (0,))]
        lines.append(f"{line.get_label()} {'goes from' if len(xs) > 1 else 'is'} {' to '.join(places)}")
    lines = lines or [text.get_text() for text in axes.texts]
    return f"{axes.get_ylabel()} by {axes.get_xlabel()}: {'; '.join(lines)}."


def _number(axis: Axis, value: float) -> str:
    return str(axis.get_major_formatter()(float(f"{value:.4g}"), 0)) if math.isfinite(value) else "not finite"


def plain_log_axis(axis: Axis) -> None:
    """Make an axis logarithmic over what is drawn, with plain numbers: the fewer decades, the more numbers."""
    (axis.axes.set_xscale if axis is axis.axes.xaxis else axis.axes.set_yscale)("log")
    low, high = axis.get_view_interval()
    between = next((numbers for times, numbers in _NUMBERS_OF_A_DECADE if not high >= times * low), (1,))
    axis.set_major_locator(LogLocator(subs=between))
    axis.set_major_formatter(plain_numbers())
    axis.set_minor_formatter(NullFormatter())


def plain_numbers() -> FuncFormatter:
    """Write 1,000 and 0.01, not powers of ten."""
    return FuncFormatter(lambda value, _: plain_number(value, 6))


def tidy(axes: Axes) -> None:
    """Draw a grid behind the lines, and no frame above and to the right."""
    axes.grid(color=GRID)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def plain(name: str, widest: float = 64) -> str:
    """Return a name that a picture can show: cut to a width in n's, no formula, no letter that the font lacks."""
    parts = [
        letter if letter.isprintable() and _width(letter) else letter.encode("unicode_escape").decode()
        for letter in name[:_MOST_LETTERS]
    ]
    room = widest - sum(sum(map(_width, part)) for part in parts)
    if room < 0:
        room -= _width("…")
        while room < 0:
            room += sum(map(_width, parts.pop()))
        parts.append("…")
    return "".join(parts).replace("$", r"\$")


@cache
def _width(letter: str) -> float:
    """Return how many times as wide as an n a letter is, 0 if the font lacks it."""
    font = get_font(findfont(FontProperties()))
    is_there = font.get_char_index(ord(letter)) > 0
    return is_there and float(font.load_char(ord(letter)).horiAdvance / font.load_char(ord("n")).horiAdvance)
