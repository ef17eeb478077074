"""Images in rows with captions: mistakes, training images and their augmentation, the steps of one's own pictures."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.patches import Rectangle

from lenet_mnist.analysis.metrics import Evaluation
from lenet_mnist.config import AugmentationConfig
from lenet_mnist.data.augment import Augmentation
from lenet_mnist.data.sets import Normalization, TrainSet, TrainVal
from lenet_mnist.errors import ConfigError, per_cent
from lenet_mnist.files.storage import prepare_to_write
from lenet_mnist.inference.predict import Reading
from lenet_mnist.randomness import Purpose, random_order
from lenet_mnist.reporting.style import GREY, ORANGE, TITLE_POINTS, Figure, plain, save_figure
from lenet_mnist.sections import flat_values

_COLUMNS = 8
_NAME_WIDTH, _READ_WIDTH = 13, 8.5  # above an image; the second one after "read as"
_FILE_WIDTH = 60
_LETTERS_OF_A_LINE = 8  # both names together may have as many to stand in one line with it
_DARK = 64  # of 255: below it a grey level counts as black
# Shown where the configuration does not augment: values that help (docs/augmentation.md).
EXAMPLE = AugmentationConfig(rotation=10.0, scale=0.1, shear=0.1, shift=1.0, elastic=0.85)


class Tile(NamedTuple):
    """One image. Shapes: picture H W uint8."""

    picture: npt.NDArray[np.uint8]
    caption: str
    footer: str


def mistake_tile(evaluation: Evaluation, images: npt.NDArray[np.uint8], position: Any) -> Tile:
    """Return an image with its class, its prediction and its place in the source. Shapes: images N H W."""
    true = plain(evaluation.class_names[evaluation.labels[position]], _NAME_WIDTH)
    predicted = plain(evaluation.class_names[evaluation.predictions[position]], _READ_WIDTH)
    gap = " " if len(true) + len(predicted) <= _LETTERS_OF_A_LINE else "\n"
    caption = f"{true}{gap}read as {predicted}\n{per_cent(evaluation.confidences[position])} sure"
    return Tile(images[position], caption, f"#{evaluation.indices[position]}")


def tiles_figure(tiles: Sequence[Tile], title: str, if_none: str) -> Figure:
    """Draw the tiles, at most eight per row and the rows alike: ten are five and five. If there is none, say so."""
    size = len(tiles[0].picture) if tiles else 28
    rows = max(1, -(-len(tiles) // _COLUMNS))
    columns = -(-len(tiles) // rows) or _COLUMNS
    lines = max([2, *(tile.caption.count("\n") + 1 for tile in tiles)])
    above = (0.15 + 0.15 * lines) * size  # room for the caption, in pixels
    cell_height, cell_width = above + 1.2 * size, 1.15 * size
    figure = Figure(figsize=(8.4, 0.4 + cell_height / size * 0.88 * rows), layout="constrained")
    axes = figure.add_subplot()  # one for all: forty of their own are slow to lay out
    axes.set_title(title, fontsize=TITLE_POINTS)
    axes.axis("off")
    beside = (_COLUMNS - columns) / 2 * cell_width
    axes.set_xlim(-size * 0.1 - beside, columns * cell_width + beside)
    axes.set_ylim(rows * cell_height, -size * 0.1)
    colours = "gray_r" if is_on_black(np.array([tile.picture for tile in tiles], dtype=np.uint8)) else "gray"
    for place, tile in enumerate(tiles):
        left, top = (place % columns) * cell_width, (place // columns) * cell_height + above
        extent = (left, left + size, top + size, top)
        axes.imshow(tile.picture, extent=extent, cmap=colours, vmin=0, vmax=255, aspect="equal")
        axes.text(left + size / 2, top, tile.caption, ha="center", va="bottom", fontsize=7)
        axes.text(left + size / 2, top + size, tile.footer, ha="center", va="top", fontsize=6, color=GREY)
    if not tiles:
        axes.text(0, size, if_none, fontsize=TITLE_POINTS)
    return figure


def is_on_black(images: npt.NDArray[np.uint8]) -> bool:
    """Whether most of the images is black, as in MNIST: such are shown inverted, as ink on paper. Shapes: N H W."""
    return images.size == 0 or float(np.median(images)) < _DARK


# Training images


def draw_contact_sheet(tiles: Sequence[Tile], title: str, path: Path) -> None:
    """Draw training images. Raises: ConfigError if `path` does not end in .png; StorageError."""
    if path.suffix.lower() != ".png":
        raise ConfigError(f"--output {path}: expected a name that ends in .png")  # or it could hit any file
    save_figure(tiles_figure(tiles, title, if_none=""), path)


def contact_tiles(
    data: TrainVal, augmentation: AugmentationConfig | None, seed: int, epoch: int, num: int
) -> tuple[list[Tile], str]:
    """Return the first `num` images of an epoch, the classes in turn, and a title.

    With an augmentation, each has seven views: those that a training with this seed sees in that epoch and the six
    after it.
    """
    chosen = classes_in_turn(data.train, seed, epoch, num)
    labels = [plain(data.class_names[label], _NAME_WIDTH) for label in chosen.labels.tolist()]
    originals = zip(chosen.images.numpy(), labels, chosen.indices.tolist(), strict=True)
    tiles = [Tile(image, label, f"#{index}") for image, label, index in originals]
    if augmentation is None:
        return tiles, f"Training images of epoch {epoch}, seed {seed}"
    epochs = range(epoch, epoch + _COLUMNS - 1)
    shown = replace(data, train=chosen, normalization=Normalization(mean=0.0, std=1.0))
    augmented = Augmentation(shown, augmentation, seed, torch.device("cpu"))
    views = [augmented.view(each).images_of(torch.arange(len(chosen))).mul(255).round().byte() for each in epochs]
    rows = [
        [tile, *(Tile(view[row, 0].numpy(), f"epoch {each}", "") for each, view in zip(epochs, views, strict=True))]
        for row, tile in enumerate(tiles)
    ]
    values = flat_values(augmentation)
    if augmentation.elastic == 0:
        del values["elastic_sigma"]
    words = ", ".join(f"{name} {value:g}" for name, value in values.items() if value)  # those that have an effect
    return list(chain.from_iterable(rows)), f"Training images, and how the epochs of seed {seed} see them\n{words}"


def classes_in_turn(train: TrainSet, seed: int, epoch: int, num: int) -> TrainSet:
    """Return `num` images in the order of `epoch`, but the classes in turn; all of them if there are fewer."""
    order = random_order(seed, Purpose.ORDER, len(train), position=epoch)
    labels = train.labels.numpy()[order]
    turns = np.empty_like(labels)
    for label, count in zip(*np.unique(labels, return_counts=True), strict=True):
        turns[labels == label] = np.arange(count)
    places = torch.from_numpy(order[np.lexsort((labels, turns))[:num]])
    return TrainSet(train.images[places], train.labels[places], train.indices[places])


# The steps from a picture to what the network sees


def draw_reading(reading: Reading) -> Path | None:
    """Draw into the run the steps of the first pictures that were prepared, one row each.

    Returns: the picture's path, or None if there are no steps to draw.
    Raises: StorageError.
    """
    if not reading.prepared:
        return None
    count = len(reading.prepared)
    figure = Figure(figsize=(9.0, 0.3 + 2.15 * count), layout="constrained")
    for row, (answer, steps) in zip(figure.subfigures(count, 1, squeeze=False)[:, 0], reading.prepared, strict=True):
        file, name = plain(Path(answer.picture).name, _FILE_WIDTH), plain(answer.prediction)
        row.suptitle(f"{file}: {name}, {per_cent(answer.probabilities[answer.prediction])}", fontsize=TITLE_POINTS)
        columns = (
            ("grey", steps.grey, "gray", 255),
            ("contrast", steps.contrast, "gray_r", max(steps.contrast.max(), 1)),
            ("ink, with the digit found", steps.ink, "gray_r", 1),
            ("scaled to 20 x 20", steps.fitted, "gray_r", 1),
            ("what the network sees", steps.seen, "gray_r", 255),
        )
        all_axes = row.subplots(1, len(columns))
        for axes, (title, pixels, colours, most) in zip(all_axes, columns, strict=True):
            axes.imshow(pixels, cmap=colours, vmin=0, vmax=most)
            axes.set_title(title, fontsize=7)
            axes.set(xticks=[], yticks=[])
        top, bottom, left, right = steps.box
        outline: dict[str, Any] = {"fill": False, "edgecolor": ORANGE, "linewidth": 1.2}
        all_axes[2].add_patch(Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, **outline))
    prepare_to_write(reading.run.path)
    path = reading.run.predictions_path / "steps.png"
    save_figure(figure, path)
    return path
