"""Does a prepared picture look like a digit of MNIST? A network's answer to anything else means nothing.

Thresholds are the 0.1 and 99.9 percentiles of the training images, that of the confidence the first percentile of the
validation images: `python scripts/measure_predict.py likeness`. docs/predict.md says what they catch and what not.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lenet_mnist.inference.pictures import Steps

LEAST_INK, MOST_INK = 0.041, 0.295
MOST_GREY = 0.535
MOST_ROW_CROSSINGS = MOST_COLUMN_CROSSINGS = 4
MOST_APART = 0.19  # the 99.5th percentile: two digits in a picture are more common than a digit in two components
LEAST_CONFIDENCE = 0.82

_INKED = 0.5  # of full ink: a pixel with as much counts as part of a stroke
_GREY = (0.2, 0.8)


@dataclass(frozen=True)
class Looks:
    """Figures of a prepared picture, all but the crossings between 0 and 1.

    `ink` is the mean of the pixels that the network sees, `grey` the share of inked pixels that are neither light nor
    dark, `row_crossings` and `column_crossings` the most strokes that a row or a column of pixels crosses, and `apart`
    the share of the ink outside the largest component.
    """

    ink: float
    grey: float
    row_crossings: int
    column_crossings: int
    apart: float


def looks_of(steps: Steps) -> Looks:
    """Return the figures of a prepared picture."""
    seen, masses = steps.seen / 255, [component.mass for component in steps.components]
    low, high = _GREY
    return Looks(
        ink=float(seen.mean()),
        grey=float(((seen > low) & (seen < high)).sum() / (seen > 0).sum()),
        row_crossings=_crossings(seen >= _INKED),
        column_crossings=_crossings(seen.T >= _INKED),
        apart=1 - max(masses) / sum(masses),
    )


def _crossings(is_stroke: npt.NDArray[np.bool_]) -> int:
    begins = is_stroke & ~np.pad(is_stroke, ((0, 0), (1, 0)))[:, :-1]
    return int(begins.sum(axis=1).max())


def doubts(looks: Looks, confidence: float) -> list[str]:
    """Say in what respects a picture differs from nearly all digits of MNIST."""
    checks = (
        (looks.ink < LEAST_INK, f"thin or few strokes: ink on {looks.ink:.1%} of the picture"),
        (looks.ink > MOST_INK, f"too much ink: on {looks.ink:.0%} of the picture"),
        (looks.grey > MOST_GREY, f"blurred: {looks.grey:.0%} of the ink is half grey"),
        (looks.row_crossings > MOST_ROW_CROSSINGS, f"{looks.row_crossings} strokes side by side"),
        (looks.column_crossings > MOST_COLUMN_CROSSINGS, f"{looks.column_crossings} strokes above each other"),
        (looks.apart > MOST_APART, f"in pieces: {looks.apart:.0%} of the ink is apart. Is there more than one digit?"),
        (confidence < LEAST_CONFIDENCE, f"the network is not sure: {confidence:.0%} for its first answer"),
    )
    return [words for is_unusual, words in checks if is_unusual]
