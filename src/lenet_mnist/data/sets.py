"""What the rest of the program knows of data. Training, validation and test images are three different types.

A function that takes a `TrainVal` cannot be handed test images: the type checker refuses it (lecture point 9).
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from lenet_mnist.errors import DataError


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Labelled grey images.

    Shapes: images N H W uint8; labels N int64, each in 0 .. K-1; indices N int64, the place of each image in its
    source, so that a prediction can always be traced back to its picture.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor

    def __post_init__(self) -> None:
        num_images = len(self.images)
        assert self.images.dtype == torch.uint8
        assert self.images.shape[1] == self.images.shape[2]
        assert self.labels.shape == self.indices.shape == (num_images,)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_size(self) -> int:
        """Height, which is also the width, in pixels."""
        return self.images.shape[1]

    def require_labels_below(self, num_classes: int) -> None:
        """Raise DataError if a label names no class."""
        outside = (self.labels < 0) | (self.labels >= num_classes)
        if outside.any():
            place = int(outside.nonzero()[0])
            raise DataError(
                f"image {int(self.indices[place])} has label {int(self.labels[place])}, "
                f"but the data have {num_classes} classes, 0 .. {num_classes - 1}"
            )

    def part(self, chosen: Tensor | slice) -> Self:
        """Return the chosen ones, as images of the same kind. Shapes: chosen N int64, positions in this set."""
        return type(self)(self.images[chosen], self.labels[chosen], self.indices[chosen])


class TrainSet(ImageSet):
    """Images that fit the weights."""


class ValSet(ImageSet):
    """Images that choose settings and the moment to stop."""


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
        """Measure the training images, and no others. Raises: DataError if all pixels are equal."""
        counts = torch.bincount(images.images.flatten(), minlength=256).double()  # exact, whatever the order
        if int(counts.count_nonzero()) < 2:
            raise DataError(f"all pixels of the {len(images)} training images are equal: there is nothing to learn")
        levels = torch.arange(256, dtype=torch.float64) / 255
        mean = (counts @ levels) / counts.sum()
        std = ((counts @ (levels - mean) ** 2) / counts.sum()).sqrt()
        return cls(mean.item(), std.item())

    def apply(self, images: Tensor) -> Tensor:
        """Return pixels that average 0 with deviation 1. Shapes: images N H W uint8; result N 1 H W float32."""
        return images.unsqueeze(1).float().div_(255).sub_(self.mean).div_(self.std)


@dataclass(frozen=True)
class Fingerprint:
    """Which data these are, byte by byte: the SHA-256 of each file, and of the indices of the split."""

    source: str
    files: dict[str, str]
    split: str


@dataclass(frozen=True, eq=False)
class TrainVal:
    """All that training may see."""

    train: TrainSet
    val: ValSet
    class_names: tuple[str, ...]
    normalization: Normalization
    fingerprint: Fingerprint

    def __post_init__(self) -> None:
        for part in (self.train, self.val):
            part.require_labels_below(self.num_classes)

    @property
    def num_classes(self) -> int:
        """K, which is the number of outputs that a network for these data has."""
        return len(self.class_names)
