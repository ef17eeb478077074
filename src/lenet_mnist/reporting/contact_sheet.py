"""Training images in rows: as they are, or each beside what the epochs see of it."""

from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from lenet_mnist.config import AugmentationConfig
from lenet_mnist.config_file import flat_values
from lenet_mnist.data.augment import Augmentation
from lenet_mnist.data.sets import Normalization, TrainSet, TrainVal
from lenet_mnist.errors import ConfigError
from lenet_mnist.files.storage import make_directory
from lenet_mnist.randomness import Purpose, random_order
from lenet_mnist.reporting.gallery import COLUMNS, Tile, tiles_figure
from lenet_mnist.reporting.style import plain, save_figure

_VIEWS = COLUMNS - 1
# What is shown where the configuration distorts nothing: values that help (docs/augmentation.md).
EXAMPLE = AugmentationConfig(rotation=10.0, scale=0.1, shear=0.1, shift=1.0, elastic=0.85)
_AS_THEY_ARE = Normalization(mean=0.0, std=1.0)


def draw_contact_sheet(
    data: TrainVal, augmentation: AugmentationConfig | None, seed: int, epoch: int, num: int, path: Path
) -> None:
    """Draw the first `num` images of an epoch, the classes in turn; with an augmentation, seven views beside each.

    The views are those that a training with this seed sees in that epoch and the six that follow.

    Raises: ConfigError if `path` is no PNG; StorageError.
    """
    if path.suffix.lower() != ".png":
        raise ConfigError(f"--output {path}: expected a name that ends in .png")  # or it could hit any file
    chosen = classes_in_turn(data.train, seed, epoch, num)
    labels = [plain(data.class_names[label]) for label in chosen.labels.tolist()]
    originals = zip(chosen.images.numpy(), labels, chosen.indices.tolist(), strict=True)
    tiles = [Tile(image, label, f"#{index}") for image, label, index in originals]
    title = f"Training images of epoch {epoch}, seed {seed}"
    if augmentation is not None:
        epochs = range(epoch, epoch + _VIEWS)
        shown = replace(data, train=chosen, normalization=_AS_THEY_ARE)
        views = [_views(shown, augmentation, seed, each) for each in epochs]
        rows = [
            [original, *(Tile(view[row], f"epoch {each}", "") for each, view in zip(epochs, views, strict=True))]
            for row, original in enumerate(tiles)
        ]
        tiles = list(chain.from_iterable(rows))
        title = f"Training images, and what the epochs of seed {seed} see of them\n{_in_words(augmentation)}"
    make_directory(path.parent)
    save_figure(tiles_figure(tiles, title, if_none=""), path)


def classes_in_turn(train: TrainSet, seed: int, epoch: int, num: int) -> TrainSet:
    """Return `num` images as `epoch` shows them, but the classes in turn; all of them if there are fewer."""
    order = random_order(seed, Purpose.ORDER, len(train), position=epoch)
    labels = train.labels.numpy()[order]
    turns = np.empty_like(labels)
    for label, count in zip(*np.unique(labels, return_counts=True), strict=True):
        turns[labels == label] = np.arange(count)
    places = torch.from_numpy(order[np.lexsort((labels, turns))[:num]])
    return TrainSet(train.images[places], train.labels[places], train.indices[places])


def _views(data: TrainVal, augmentation: AugmentationConfig, seed: int, epoch: int) -> npt.NDArray[np.uint8]:
    """Return what `epoch` sees of the training images. Shapes: result N H W uint8."""
    images_of = Augmentation(data, augmentation, seed, torch.device("cpu")).view(epoch).images_of
    return images_of(torch.arange(len(data.train))).mul(255).round().byte().squeeze(1).numpy()


def _in_words(augmentation: AugmentationConfig) -> str:
    """Name every value that does something."""
    values = flat_values(augmentation)
    if augmentation.elastic == 0:
        del values["elastic_sigma"]
    return ", ".join(f"{name} {value:g}" for name, value in values.items() if value)
