"""scikit-learn's 1,797 digits of 8 x 8 pixels: small, real, and there without a network.

Source: Alpaydin and Kaynak, "Optical recognition of handwritten digits", UCI Machine Learning Repository, 1998: bitmaps
of 32 x 32, the ink counted in squares of 4 x 4.
"""

import hashlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lenet_mnist.config import Source
from lenet_mnist.data.mnist import DIGIT_SIZE, IMAGE_SIZE
from lenet_mnist.data.scaling import Pixels, resampling, to_pixels
from lenet_mnist.data.sets import LoadedPart, Part
from lenet_mnist.data.split import cut_off_test
from lenet_mnist.errors import DataError, InstallationError

CLASS_NAMES = tuple("0123456789")
_FULL_INK = 16
_SHA256 = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"


def load(part: Part) -> LoadedPart:
    """Return one part of the digits, enlarged: into the box of 20 x 20 pixels that MNIST's digits were fitted into.

    Raises: InstallationError if scikit-learn is not there; DataError if its digits are not those known here.
    """
    small, labels = _read()
    found = hashlib.sha256(small.tobytes() + labels.tobytes()).hexdigest()
    if found != _SHA256:
        raise DataError(
            f"scikit-learn's digits are not those known here: their SHA-256 is {found} instead of {_SHA256}"
        )
    rest, test = cut_off_test(labels)
    indices = test if part is Part.TEST else rest
    return LoadedPart(
        source=Source.DIGITS.value,
        images=enlarged(small[indices]),
        labels=labels[indices].astype(np.int64),
        indices=indices,
        class_names=CLASS_NAMES,
        files={"digits": found},
    )


def package_path() -> Path | None:
    """Return where scikit-learn is installed, or None if it is not."""
    spec = find_spec("sklearn")
    return None if spec is None or spec.origin is None else Path(spec.origin).parent


def enlarged(small: npt.NDArray[np.uint8]) -> Pixels:
    """Return the digits in 28 x 28 pixels. Shapes: small N 8 8, 0 (paper) .. 16; result N 28 28, 0 .. 255."""
    matrix = resampling(small.shape[1], DIGIT_SIZE)
    margin = (IMAGE_SIZE - DIGIT_SIZE) // 2
    fitted = to_pixels(matrix @ (small * (255 / _FULL_INK)) @ matrix.T)
    return np.pad(fitted, ((0, 0), (margin, margin), (margin, margin)))


def _read() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Return images N 8 8 and labels N. Only this needs scikit-learn."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise InstallationError(
            f"data.source digits is part of scikit-learn, which is not there ({error}): pip install scikit-learn"
        ) from error
    digits = load_digits()
    return digits.images.astype(np.uint8), digits.target.astype(np.uint8)
