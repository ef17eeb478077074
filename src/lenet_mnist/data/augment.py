"""Augment training images, differently in every epoch: rotate, scale, shear, shift and bend, in one resampling.

What an epoch sees of an image is a pure function of (seed, view, index of the image in its source), exactly: batches,
threads, processors and the implementation, in torch or C (model/native/augment.c), make no difference. All numbers but
the very last are multiples of a power of two, and so small that float32 holds them exactly; then the order of a sum, in
which batches and processors differ, does not matter. So maps are rounded when they are drawn, to 2^-17 pixel, the
weights of the displacement so that its error is about 0.01 pixel, and coordinates to 1/256 pixel.

Source: Simard, Steinkraus and Platt, "Best practices for convolutional neural networks applied to visual document
analysis", ICDAR 2003, section 2.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from lenet_mnist.config import AugmentationConfig
from lenet_mnist.data.sets import TrainVal
from lenet_mnist.randomness import Purpose, random_keys

_PLACES = 256  # in a pixel, along each side: 255 x 256 x 256, the largest sum of four weighted pixels, is below 2^24
_NOISE_RMS = math.sqrt(85)  # of the 16 numbers -15, -13 .. 15
_ACROSS_SCALE = 128  # a weight of 1 among those that smooth the noise from left to right
_MARGIN_KNOTS = 4  # outside the images: one and a half to two standard deviations on each side


class Distortions(NamedTuple):
    """Where each pixel of an augmented image comes from; `maps` and `noise` have one row per image.

    Coordinates start at the centre of the upper left pixel, are in 1/256 pixel, and include the half that makes
    rounding down round to nearest. With i and j a pixel's offsets to the right and down from the image's centre, it
    comes from map[:, 0] i + map[:, 1] j + map[:, 2] + the displacement there. The displacement is that of the knots, of
    which a byte of noise holds 4 bits for x and 4 for y, weighted by `across` and `down`.

    Shapes: maps N 2 3 float32; noise N k k uint8; across k W float32; down H k float32.
    """

    maps: Tensor
    noise: Tensor
    across: Tensor
    down: Tensor


# (images, indices among them, distortions of all of them, black, factor) -> images for the network
Resampling = Callable[[Tensor, Tensor, Distortions, float, float], Tensor]


class View(NamedTuple):
    """All training images as an epoch sees them. Views with the same number have the same pixels.

    `images_of` returns the chosen ones. Shapes: chosen N int64; result N 1 H W float32, normalised.
    """

    number: int
    comes_again: bool
    num_images: int
    images_of: Callable[[Tensor], Tensor]


class Augmentation:
    """The training part as each epoch sees it. It is normalised by mean and deviation of the original pixels."""

    def __init__(
        self,
        data: TrainVal,
        config: AugmentationConfig,
        seed: int,
        device: torch.device,
        native: Resampling | None = None,
    ) -> None:
        self._config = config
        self._seed = seed
        self._indices = data.train.indices.numpy()
        self._images = data.train.images.to(device)
        self._scale = (255 * data.normalization.mean, 1 / (255 * data.normalization.std))
        self._resampling = resampling(native)
        self._last: View | None = None

    def view(self, epoch: int) -> View:
        """Return what `epoch` (counted from 1) sees: a new view, until the views repeat."""
        views = self._config.views
        number = epoch if views is None else (epoch - 1) % views + 1
        if self._last is None or self._last.number != number:
            drawn = draw(self._config, self._images.shape[1], self._seed, number, self._indices)
            distortions = Distortions(*(values.to(self._images.device) for values in drawn))

            def images_of(chosen: Tensor) -> Tensor:
                return self._resampling(self._images, chosen.contiguous(), distortions, *self._scale)

            self._last = View(number, views is not None, len(self._indices), images_of)
        return self._last


def draw(config: AugmentationConfig, size: int, seed: int, view: int, indices: npt.NDArray[np.int64]) -> Distortions:
    """Draw the distortions of the images with these `indices` in their source, `size` pixels wide and high."""
    keys = np.ascontiguousarray(_keys(seed, Purpose.AFFINE, view, 5, indices).T)
    maps = _maps(config, size, (keys >> np.uint64(11)) * 2.0**-52 - 1)
    across, down = _weights(config, size)
    knots = len(across)
    keys = _keys(seed, Purpose.ELASTIC, view, -(-(knots**2) // 8), indices)
    noise = np.ascontiguousarray(keys.astype("<u8").view(np.uint8)[:, : knots**2]).reshape(len(indices), knots, knots)
    return Distortions(torch.from_numpy(maps), torch.from_numpy(noise), across, down)


def _keys(
    seed: int, purpose: Purpose, view: int, num_keys: int, indices: npt.NDArray[np.int64]
) -> npt.NDArray[np.uint64]:
    """Return random keys that depend on no other image. Shapes: result N num_keys."""
    num_images = int(indices.max()) + 1
    return random_keys(seed, purpose, num_images * num_keys, position=view).reshape(num_images, num_keys)[indices]


def _maps(config: AugmentationConfig, size: int, evenly: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Return the affine maps. Shapes: evenly 5 N, between -1 and 1; result N 2 3."""
    angle = math.radians(config.rotation) * evenly[0]
    smaller = 1 / (1 + config.scale * evenly[1])
    slant = config.shear * evenly[2]
    # The image is sheared, rotated, scaled and shifted, in this order; pixels come from where the inverse leads.
    cos, sin = smaller * np.cos(angle), smaller * np.sin(angle)
    inverse = np.array([[cos + slant * sin, sin - slant * cos], [-sin, cos]])
    right, down = config.shift * evenly[3:]
    middle = (size - 1) / 2 - inverse[:, 0] * right - inverse[:, 1] * down
    maps = np.stack([inverse[:, 0], inverse[:, 1], middle], axis=1)
    # Offsets from the centre are multiples of half a pixel: so rounded, a map times one is a multiple of the unit.
    units = _unit(size) * np.array([[2], [2], [1]])
    maps = np.round(_PLACES * maps / units) * units
    maps[:, 2] += 0.5
    return np.ascontiguousarray(maps.transpose(2, 0, 1), dtype=np.float32)


@cache
def _weights(config: AugmentationConfig, size: int) -> tuple[Tensor, Tensor]:
    """Return the weights that smooth the noise at the knots horizontally, and vertically with its final amplitude.

    Noise at knots one standard deviation apart, smoothed by a Gaussian, has the same second moments as noise in every
    pixel, up to 1e-4. Near the edge, where knots are missing, the others make up for them.
    """
    if config.elastic == 0:
        return torch.empty(0, size), torch.empty(size, 0)
    num_knots = math.ceil((size - 1) / config.elastic_sigma) + _MARGIN_KNOTS
    knots = config.elastic_sigma * _steps(num_knots)
    weights = np.exp(-(((_steps(size)[:, None] - knots) / config.elastic_sigma) ** 2) / 2)
    weights /= np.sqrt((weights**2).sum(axis=1, keepdims=True))
    across = np.round(_ACROSS_SCALE * weights)
    unit = _unit(size)
    down = np.round(config.elastic * _PLACES / (_NOISE_RMS * _ACROSS_SCALE) * weights / unit) * unit
    return torch.from_numpy(across.T.astype(np.float32).copy()), torch.from_numpy(down.astype(np.float32))


def resample(images: Tensor, chosen: Tensor, distortions: Distortions, black: float, factor: float) -> Tensor:
    """Return the chosen images, augmented and normalised to (pixel - black) x factor; outside an image is black.

    Shapes: images N H W uint8; chosen n int64; result n 1 H W float32.
    """
    size, padded = images.shape[1], _padded(images.shape[1])
    steps = torch.arange(size, device=images.device) - (size - 1) / 2
    maps, noise = distortions.maps.index_select(0, chosen), distortions.noise.index_select(0, chosen)
    values = torch.stack([noise & 15, noise >> 4], dim=1).float().mul_(2).sub_(15)
    places = distortions.down @ (values @ distortions.across)
    places += maps[:, :, 2:, None] + maps[:, :, :1, None] * steps
    places += maps[:, :, 1, None, None] * steps[:, None]
    # To `grid_sample` the image's edges are -1 and 1: an exact scale if its side is a power of two.
    grid = places.floor_().mul_(2 / (_PLACES * padded)).add_(1 / padded - 1)
    pixels = F.pad(images.index_select(0, chosen).unsqueeze(1).float(), (0, padded - size, 0, padded - size))
    resampled = F.grid_sample(
        pixels, grid.permute(0, 2, 3, 1), mode="bilinear", padding_mode="zeros", align_corners=False
    )
    return resampled.sub_(black).mul_(factor)


def resampling(native: Resampling | None) -> Resampling:
    """Return the engine's own implementation of `resample`, if it has one that agrees; else `resample`."""
    return native if native is not None and _agrees(native) else resample


@cache
def _agrees(native: Resampling) -> bool:
    """Whether it gives exactly the same images on a small problem; once per process."""
    size, count = 28, 9
    config = AugmentationConfig(rotation=90, scale=0.5, shear=0.5, shift=5, elastic=2)
    images = torch.from_numpy(random_keys(0, Purpose.ENGINE_CHECK, count * size**2).astype(np.uint8))
    distortions = draw(config, size, 0, 1, np.arange(count))
    given = (images.view(count, size, size), torch.arange(count), distortions, 33.0, 0.01)
    return torch.equal(native(*given), resample(*given))


def _steps(count: int) -> npt.NDArray[np.floating]:
    """Return the offset of each of `count` positions from their centre."""
    return np.arange(count) - (count - 1) / 2


def _padded(size: int) -> int:
    return 1 << (size - 1).bit_length()


def _unit(size: int) -> float:
    """Return what all coordinates are multiples of, in 1/256 pixel: up to four times the padded image they are exact.

    In the ranges of `AugmentationConfig` a sum for images of 28 can exceed that only far outside the image, and stays
    there: tests/data/test_augment.py adds up the largest terms.
    """
    return 4 * _padded(size) * _PLACES / 2**24
