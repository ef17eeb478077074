"""What the pictures share.

Colours are Okabe and Ito's, which people with any colour vision tell apart; lines differ in dash as well.
"""

import io
import math
from functools import cache
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, MultipleLocator, NullFormatter

from lenet_mnist.config import Activation
from lenet_mnist.files.storage import write_bytes
from lenet_mnist.reporting.text import plain_number

BLUE = "#0072B2"
ORANGE = "#D55E00"
GREEN = "#009E73"
GREY = "#767676"
PURPLE = "#CC79A7"
SKY = "#56B4E9"
AMBER = "#E69F00"
BLACK = "#000000"

# From the first to the last, where several things are drawn beside each other.
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, AMBER, GREY, BLACK)

TITLE_POINTS = 10
_MOST_LETTERS = 200  # of a name: more would be looked at in vain
_DOTS_PER_INCH = 160
# Of a log axis whose upper end is less than so many times the lower one.
_NUMBERS_OF_A_DECADE = ((8, (1, 1.5, 2, 3, 4, 5, 7)), (300, (1, 2, 5)), (math.inf, (1,)))


def colour_of(activation: Activation) -> str:
    """Return the colour that an activation has wherever several are drawn beside each other."""
    return COLOURS[list(Activation).index(activation) % len(COLOURS)]


def save_figure(figure: Figure, path: Path) -> None:
    """Write `figure` as PNG, whole or not at all. Raises: StorageError."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=_DOTS_PER_INCH)
    write_bytes(path, picture.getvalue())


def plain_log_axis(axis: Axis) -> None:
    """Let an axis be logarithmic over what is drawn, with plain numbers: the more, the fewer decades there are."""
    (axis.axes.set_xscale if axis is axis.axes.xaxis else axis.axes.set_yscale)("log")
    low, high = axis.get_view_interval()
    between = next(numbers for times, numbers in _NUMBERS_OF_A_DECADE if not high >= times * low)
    axis.set_major_locator(LogLocator(subs=between))
    axis.set_major_formatter(plain_numbers())
    axis.set_minor_formatter(NullFormatter())


def plain_numbers() -> FuncFormatter:
    """Write 1,000 and 0.01, not powers of ten."""
    return FuncFormatter(lambda value, _: plain_number(value, 6))


def epoch_axis(axes: Axes, last: int) -> None:
    """Let x go from before the first update to the last epoch, however few there are."""
    axes.set_xlim(-0.04 * max(last, 1), 1.04 * max(last, 1))
    axes.xaxis.set_major_locator(MultipleLocator(1) if last < 8 else MaxNLocator(integer=True))


def plain(name: str, widest: float = 64) -> str:
    """Return a name as a picture can show it: no wider than so many n, no formula, no letter that the font lacks."""
    parts = [
        letter if letter.isprintable() and _width(letter) else letter.encode("unicode_escape").decode()
        for letter in name[:_MOST_LETTERS]
    ]
    widths = [sum(map(_width, part)) for part in parts]
    if sum(widths) > widest:
        while parts and sum(widths) + _width("…") > widest:
            parts.pop()
            widths.pop()
        parts.append("…")
    return "".join(parts).replace("$", r"\$")


@cache
def _width(letter: str) -> float:
    """Return how many times as wide as an n a letter is, 0 if the font lacks it."""
    font = get_font(findfont(FontProperties()))
    if not font.get_char_index(ord(letter)):
        return 0.0
    return float(font.load_char(ord(letter)).horiAdvance / font.load_char(ord("n")).horiAdvance)


def bare(axes: Axes) -> None:
    """Leave out the frame's upper and right side."""
    axes.spines[["top", "right"]].set_visible(False)
