"""Grey pictures, made larger and smaller."""

import numpy as np
import numpy.typing as npt

Grey = npt.NDArray[np.float64]

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
