"""What the rest of the program knows of data. Training, validation and test images are three different types.

A function that takes a `TrainVal` cannot be given test images: the type checker refuses it (lecture point 9).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lenet_mnist.errors import DataError

IMAGE_SIZE = 28  # pixels, of every source's images: height and width
LONGEST_CLASS_NAME = 64
_MOST_CLASSES = 1000


class Part(Enum):
    """The two disjoint parts of every source: one for training and validation, one for the test."""

    TRAIN_VAL = "train-val"
    TEST = "test"


@dataclass(frozen=True, eq=False)
class LoadedPart:
    """One part of a source, as read from its files; the last `num_val` images are a validation part of its own.

    Shapes: images N H W uint8; labels N int64, each in 0 .. K-1; indices N int64, positions in the source.
    `files` maps names to the SHA-256 of what was read; `notes` are sentences for the user; `names` are the images'
    files, where each image has its own.
    """

    source: str
    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    indices: npt.NDArray[np.int64]
    class_names: tuple[str, ...]
    files: dict[str, str]
    notes: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    num_val: int = 0


def require_class_names(names: Sequence[str], where: str) -> None:
    """Raise DataError, which says `where` they come from, unless these are two or more distinct names of classes."""
    if len(names) < 2:
        only = f", {names[0]}" if names else ""
        raise DataError(f"{where}: holds {len(names)} class{only}: at least two are needed")
    if len(names) > _MOST_CLASSES:
        raise DataError(f"{where}: holds {len(names):,} classes, of at most {_MOST_CLASSES:,}")
    for name in names:
        if not is_class_name(name):
            raise DataError(f"{where}: class {name[:80]!r}: a name has 1 to {LONGEST_CLASS_NAME} printable characters")
        if names.count(name) > 1:
            raise DataError(f"{where}: two classes are called {name}")


def is_class_name(name: str) -> bool:
    """Whether this can name a class: short enough for a table, and without control characters."""
    return name.isprintable() and name.strip() != "" and len(name) <= LONGEST_CLASS_NAME


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Labelled grey images. `names` are their files, where each has its own.

    Shapes: images N H W uint8; labels N int64, each in 0 .. K-1; indices N int64, positions in the source, so that a
    prediction can be traced back to its picture.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        num_images = len(self.images)
        assert self.images.dtype == torch.uint8
        assert self.images.shape[1] == self.images.shape[2]
        assert self.labels.shape == self.indices.shape == (num_images,)
        assert len(self.names) in (0, num_images)

    @classmethod
    def of(cls, loaded: LoadedPart, positions: npt.NDArray[np.int64]) -> Self:
        """Return copies of the chosen images of a part."""
        return cls(
            torch.from_numpy(loaded.images[positions]),
            torch.from_numpy(loaded.labels[positions]),
            torch.from_numpy(loaded.indices[positions]),
            tuple(loaded.names[k] for k in positions) if loaded.names else (),
        )

    def __len__(self) -> int:
        return len(self.images)

    def name_of(self, position: int) -> str:
        """Return an image's file, or else its position in the source."""
        return self.names[position] if self.names else str(int(self.indices[position]))

    @property
    def image_size(self) -> int:
        """Height and width, in pixels."""
        return self.images.shape[1]

    def is_same_as(self, other: "ImageSet") -> bool:
        """Whether the other set holds the same images with the same labels, in the same order."""
        return torch.equal(self.images, other.images) and torch.equal(self.labels, other.labels)

    def require_labels_below(self, num_classes: int) -> None:
        """Raise DataError if a label is not in 0 .. num_classes - 1."""
        outside = (self.labels < 0) | (self.labels >= num_classes)
        if outside.any():
            place = int(outside.nonzero()[0])
            found = f"image {int(self.indices[place])} has label {int(self.labels[place])}"
            raise DataError(f"{found}, but the data have {num_classes} classes, 0 .. {num_classes - 1}")

    def part(self, chosen: Tensor | slice) -> Self:
        """Return the chosen images, as a set of the same kind. Shapes: chosen N int64, positions in this set."""
        positions = range(len(self))[chosen] if isinstance(chosen, slice) else chosen.tolist()
        names = tuple(self.names[position] for position in positions) if self.names else ()
        return type(self)(self.images[chosen], self.labels[chosen], self.indices[chosen], names)


class TrainSet(ImageSet):
    """Images that the weights are fitted to."""


class ValSet(ImageSet):
    """Images that choose settings and when to stop."""


class TestSet(ImageSet):
    """Images that measure the final performance, and decide nothing."""

    __test__ = False  # the name is the lecture's; pytest must not take it for a test class


@dataclass(frozen=True)
class Normalization:
    """Mean and standard deviation of the training pixels, on the scale 0 (black) to 1 (white)."""

    mean: float
    std: float

    @classmethod
    def of(cls, images: TrainSet) -> "Normalization":
        """Measure the training images. Raises: DataError if all pixels are equal."""
        counts = torch.bincount(images.images.flatten(), minlength=256).double()  # exact, whatever the order
        if int(counts.count_nonzero()) < 2:
            raise DataError(f"all pixels of the {len(images)} training images are equal: there is nothing to learn")
        levels = torch.arange(256, dtype=torch.float64) / 255
        mean = (counts @ levels) / counts.sum()
        std = ((counts @ (levels - mean) ** 2) / counts.sum()).sqrt()
        return cls(mean.item(), std.item())

    def apply(self, images: Tensor) -> Tensor:
        """Return pixels with mean 0 and deviation 1. Shapes: images N H W uint8; result N 1 H W float32."""
        return images.unsqueeze(1).float().div_(255).sub_(self.mean).div_(self.std)


@dataclass(frozen=True)
class Fingerprint:
    """Exactly which data these are: the SHA-256 of each file, and of the indices of the split."""

    source: str
    files: dict[str, str]
    split: str


@dataclass(frozen=True, eq=False)
class TrainVal:
    """All that training may see. `notes` are sentences for the user about these data."""

    train: TrainSet
    val: ValSet
    class_names: tuple[str, ...]
    normalization: Normalization
    fingerprint: Fingerprint
    notes: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int:
        return len(self.class_names)
