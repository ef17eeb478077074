"""Does a prepared picture look like a digit of MNIST? What a network says of anything else means nothing.

Thresholds lie at the 0.1 and 99.9 percentiles of the training images, that of the confidence at the first percentile of
the validation images: `python scripts/measure_predict.py likeness`; docs/predict.md has what they catch, and what not.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lenet_mnist.inference.pictures import Steps

LEAST_INK, MOST_INK = 0.041, 0.295
MOST_GREY = 0.535
MOST_ROW_CROSSINGS = MOST_COLUMN_CROSSINGS = 4
MOST_APART = 0.19  # the 99.5th percentile: two digits in a picture are commoner than a digit in two pieces
LEAST_CONFIDENCE = 0.82

_INKED = 0.5  # of full ink: from here on a pixel of the small picture counts as stroke
_HALF_INKED = (0.2, 0.8)


@dataclass(frozen=True)
class Looks:
    """Figures of a prepared picture, all but the crossings between 0 and 1."""

    ink: float
    """Mean of the pixels that the network sees."""
    grey: float
    """Share of the inked pixels that are neither light nor dark."""
    row_crossings: int
    """Most strokes that a row of pixels meets."""
    column_crossings: int
    """Most strokes that a column of pixels meets."""
    apart: float
    """Share of the ink that does not hang together with the largest piece."""


def looks_of(steps: Steps) -> Looks:
    """Return the figures of a prepared picture."""
    seen = steps.seen / 255
    low, high = _HALF_INKED
    masses = [piece.mass for piece in steps.pieces]
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
    """Say in what the picture is unlike nearly all digits of MNIST; nothing if it is in nothing."""
    found = []
    if looks.ink < LEAST_INK:
        found.append(f"its strokes are thin or few: ink on {looks.ink:.1%} of the picture")
    if looks.ink > MOST_INK:
        found.append(f"it is full of ink: {looks.ink:.0%} of the picture")
    if looks.grey > MOST_GREY:
        found.append(f"it is blurred: {looks.grey:.0%} of the ink is half grey")
    if looks.row_crossings > MOST_ROW_CROSSINGS:
        found.append(f"{looks.row_crossings} strokes stand side by side")
    if looks.column_crossings > MOST_COLUMN_CROSSINGS:
        found.append(f"{looks.column_crossings} strokes lie above each other")
    if looks.apart > MOST_APART:
        found.append(f"it is in pieces: {looks.apart:.0%} of the ink lies apart; one digit a picture is expected")
    if confidence < LEAST_CONFIDENCE:
        found.append(f"the network is not sure: {confidence:.0%} for its first answer")
    return found
