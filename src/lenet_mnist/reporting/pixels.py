"""Small grey pictures as data URIs: part of the page, and no file beside it."""

import base64
import io

import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from PIL import Image

_NEGATIVE, _POSITIVE = np.array([213, 94, 0]), np.array([0, 114, 178])  # Okabe and Ito's vermilion and blue
_WHITE = np.array([255, 255, 255])
_BLACK = 64  # of 255: below it a grey level counts as black


def ink(values: npt.NDArray[np.floating | np.uint8], low: float, high: float) -> Markup:
    """Draw `low` as white paper and `high` as black ink. Shapes: values H W."""
    part = np.clip((values.astype(np.float64) - low) / ((high - low) or 1), 0, 1)
    return _png(np.round(255 * (1 - part)).astype(np.uint8))


def is_on_black(images: npt.NDArray[np.uint8]) -> bool:
    """Whether most of the images is black ground, as MNIST's: such are shown the other way round, as ink on paper.

    Others are shown as they are. Shapes: images N H W.
    """
    return images.size == 0 or float(np.median(images)) < _BLACK


def signed(values: npt.NDArray[np.floating], largest: float) -> Markup:
    """Draw zero as white, numbers above it blue, below it orange. Shapes: values H W."""
    part = np.clip(values.astype(np.float64) / (largest or 1), -1, 1)[..., None]
    colour = np.where(part < 0, _NEGATIVE, _POSITIVE)
    return _png(np.round(_WHITE + np.abs(part) * (colour - _WHITE)).astype(np.uint8))


def _png(pixels: npt.NDArray[np.uint8]) -> Markup:
    """Return an image as a data URI, in which there is nothing to escape. Shapes: pixels H W, or H W 3 of colours."""
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="png", optimize=True)
    return Markup("data:image/png;base64," + base64.b64encode(content.getvalue()).decode("ascii"))
