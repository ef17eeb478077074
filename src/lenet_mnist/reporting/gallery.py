"""Images in rows, each with a caption."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from lenet_mnist.analysis.metrics import Evaluation
from lenet_mnist.reporting.pixels import is_on_black
from lenet_mnist.reporting.style import GREY, TITLE_POINTS, plain

COLUMNS = 8
_NAME_WIDTH, _READ_WIDTH = 13, 8.5  # as stand above an image, the second behind "read as"
_LETTERS_OF_A_LINE = 8  # as many as both names may have to stand in one line with it


class Tile(NamedTuple):
    """One image. Shapes: picture H W uint8."""

    picture: npt.NDArray[np.uint8]
    caption: str
    footer: str


def mistake_tile(evaluation: Evaluation, images: npt.NDArray[np.uint8], position: Any) -> Tile:
    """Return an image with what it is, what it was read as, and where it lies. Shapes: images N H W."""
    true = plain(evaluation.class_names[evaluation.labels[position]], _NAME_WIDTH)
    predicted = plain(evaluation.class_names[evaluation.predictions[position]], _READ_WIDTH)
    gap = " " if len(true) + len(predicted) <= _LETTERS_OF_A_LINE else "\n"
    caption = f"{true}{gap}read as {predicted}\n{_sure(evaluation.confidences[position])} sure"
    return Tile(images[position], caption, f"#{evaluation.indices[position]}")


def tiles_figure(tiles: Sequence[Tile], title: str, if_none: str) -> Figure:
    """Draw all of them, at most eight a row and the rows alike: ten are five and five. Where is none, say `if_none`."""
    size = len(tiles[0].picture) if tiles else 28
    rows = max(1, -(-len(tiles) // COLUMNS))
    columns = -(-len(tiles) // rows) or COLUMNS
    lines = max([2, *(tile.caption.count("\n") + 1 for tile in tiles)])
    above = (0.15 + 0.15 * lines) * size  # room for the caption, in pixels
    cell_height, cell_width = above + 1.2 * size, 1.15 * size
    figure = Figure(figsize=(8.4, 0.4 + cell_height / size * 0.88 * rows), layout="constrained")
    axes = figure.add_subplot()  # one for all: forty of their own are slow to lay out
    axes.set_title(title, fontsize=TITLE_POINTS)
    axes.axis("off")
    beside = (COLUMNS - columns) / 2 * cell_width
    axes.set_xlim(-size * 0.1 - beside, columns * cell_width + beside)
    axes.set_ylim(rows * cell_height, -size * 0.1)
    colours = "gray_r" if is_on_black(np.array([tile.picture for tile in tiles], dtype=np.uint8)) else "gray"
    for place, tile in enumerate(tiles):
        left, top = (place % columns) * cell_width, (place // columns) * cell_height + above
        axes.imshow(
            tile.picture,
            extent=(left, left + size, top + size, top),
            cmap=colours,
            vmin=0,
            vmax=255,
            aspect="equal",
        )
        axes.text(left + size / 2, top, tile.caption, ha="center", va="bottom", fontsize=7)
        axes.text(left + size / 2, top + size, tile.footer, ha="center", va="top", fontsize=6, color=GREY)
    if not tiles:
        axes.text(0, size, if_none, fontsize=TITLE_POINTS)
    return figure


def _sure(probability: float) -> str:
    """Write a probability so that nobody reads certainty into it."""
    return "over 99.9%" if probability > 0.999 else f"{probability:.1%}"
