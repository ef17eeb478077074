"""What the pictures share.

Colours are Okabe and Ito's, which people with any colour vision tell apart; lines differ in dash as well.
"""

import io
from collections.abc import Collection
from functools import cache
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ticker import FuncFormatter

from lenet_mnist.files.storage import write_bytes

BLUE = "#0072B2"
ORANGE = "#D55E00"
GREEN = "#009E73"
GREY = "#767676"
PURPLE = "#CC79A7"
SKY = "#56B4E9"
AMBER = "#E69F00"
BLACK = "#000000"

TITLE_POINTS = 10
_DOTS_PER_INCH = 160


def save_figure(figure: Figure, path: Path) -> None:
    """Write `figure` as PNG, whole or not at all. Raises: StorageError."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=_DOTS_PER_INCH)
    write_bytes(path, picture.getvalue())


def plain_log_axis(axes: Axes) -> None:
    """Let y be logarithmic, with plain numbers."""
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(plain_numbers())
    axes.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}" if _leads_with_2_or_5(value) else ""))


def plain_numbers() -> FuncFormatter:
    """Write 1,000 and 0.01, not powers of ten."""
    return FuncFormatter(lambda value, _: f"{value:,g}" if value < 1e6 else f"{value:g}")


def plain(name: str, most_letters: int = 64) -> str:
    """Return a name as a picture can show it: no longer than that, no formula, no letter that the font lacks."""
    known = _letters_of_the_font()
    shown = "".join(letter if ord(letter) in known else letter.encode("unicode_escape").decode() for letter in name)
    if len(shown) > most_letters:
        shown = f"{shown[: most_letters - 1]}…"
    return shown.replace("$", r"\$")


@cache
def _letters_of_the_font() -> Collection[int]:
    return frozenset(get_font(findfont(FontProperties())).get_charmap())


def bare(axes: Axes) -> None:
    """Leave out the frame's upper and right side."""
    axes.spines[["top", "right"]].set_visible(False)


def _leads_with_2_or_5(value: float) -> bool:
    """Whether a minor tick of a log axis is one of those that get a number."""
    return f"{value:e}"[0] in "25"
