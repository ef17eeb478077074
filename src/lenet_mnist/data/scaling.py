"""Grey pictures, made larger and smaller."""

import numpy as np
import numpy.typing as npt

Grey = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]

_REACH = 0.75  # of the distance between two new pixels: how far each looks for old ones


def resampling(size: int, new_size: int) -> Grey:
    """Return the matrix that makes `new_size` pixels of `size`, by means that fall off linearly on both sides.

    Shapes: new_size size.
    """
    step = size / new_size
    reach = max(_REACH * step, 1)
    middles = (np.arange(new_size) + 0.5) * step - 0.5
    weights: Grey = np.maximum(0, 1 - np.abs(np.arange(size) - middles[:, None]) / reach)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights


def squared(grey: Grey, size: int) -> Pixels:
    """Return the picture fitted into a square with its proportions kept; what it leaves free is as its border is.

    Shapes: grey H W, 0 .. 255; result size size.
    """
    height, width = grey.shape
    new_height, new_width = (max(1, round(side * size / max(height, width))) for side in (height, width))
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    whole = np.full((size, size), np.median(border))
    top, left = (size - new_height) // 2, (size - new_width) // 2
    small = resampling(height, new_height) @ grey @ resampling(width, new_width).T
    whole[top : top + new_height, left : left + new_width] = small
    return to_pixels(whole)


def to_pixels(grey: Grey) -> Pixels:
    """Round to whole grey levels, 0 .. 255."""
    return np.clip(np.floor(grey + 0.5), 0, 255).astype(np.uint8)
