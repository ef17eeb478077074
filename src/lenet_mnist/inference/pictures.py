"""From a grey picture of a digit to the small one that the network sees, made as MNIST's were, and whether it looks so.

Each step is a value. lab/picture.c is the same as the steps here and in data/decoding.py, function by function, for the
pages: change both (tests/inference/test_page.py).

Source: yann.lecun.com/exdb/mnist: "size normalized to fit in a 20x20 pixel box while preserving their aspect ratio",
"centered in a 28x28 image by computing the center of mass of the pixels". What was measured: docs/predict.md.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lenet_mnist.data.decoding import Grey, resampling
from lenet_mnist.data.mnist import DIGIT_SIZE
from lenet_mnist.data.sets import IMAGE_SIZE
from lenet_mnist.errors import DataError

# Chosen on validation images (docs/predict.md).
_LEAST_CONTRAST = 12  # of 255 grey levels: a picture with less counts as blank
_BORDER = 3  # weight of ink at the picture's border against ink anywhere
_NOISE = 4  # standard deviations of the paper's grey
_SIGMA_OF_MAD = 1.4826  # standard deviation over median absolute deviation, of normal noise
_STROKE = 0.25  # share of full ink: pixels with as much belong to a stroke
_DIRT = 0.05  # share of the largest component's ink: a component with less is dirt
_DIGIT = 0.1  # share of all ink: a component with less cannot be the digit
_FULL = 0.9  # share of the strokes' pixels that may have less than full ink
_INKED = 0.5  # of full ink: a pixel with as much counts as part of a stroke
_GREY = (0.2, 0.8)  # of full ink: neither light nor dark


class Box(NamedTuple):
    """Rows top .. bottom - 1 and columns left .. right - 1 of a picture."""

    top: int
    bottom: int
    left: int
    right: int


class Component(NamedTuple):
    """A connected component: where, how much ink (summed over its pixels), how many sides of the picture it meets."""

    label: int
    box: Box
    mass: float
    num_sides: int


@dataclass(frozen=True, eq=False)
class Steps:
    """A picture on its way to the network.

    Shapes: grey, contrast, ink H W; fitted at most 20 20; seen 28 28 uint8.
    Units: grey and contrast 0 .. 255; ink and fitted 0 (paper) .. 1; seen 0 (paper) .. 255, as MNIST's pixels.
    """

    grey: Grey
    is_dark_on_light: bool
    contrast: Grey
    ink: Grey
    components: tuple[Component, ...]
    box: Box
    fitted: Grey
    seen: npt.NDArray[np.uint8]


def prepare(grey: Grey) -> Steps:
    """Find the digit in a grey picture, and make of it what the network sees.

    Shapes: grey H W, 0 .. 255.
    Raises: DataError if there is no ink in it.
    """
    is_dark_on_light, contrast = estimate_polarity(grey)
    ink = ink_of(contrast)
    components, labels = connected_components(ink)
    kept = components_of_digit(components)
    box = bounding_box(kept)
    is_other = ~np.isin(labels, [0, *(component.label for component in kept)])
    digit = np.where(is_other, 0, ink)[box.top : box.bottom, box.left : box.right]
    fitted = fit(digit)
    return Steps(grey, is_dark_on_light, contrast, ink, tuple(kept), box, fitted, centre(fitted))


def estimate_polarity(grey: Grey) -> tuple[bool, Grey]:
    """Return whether the ink is darker than the paper, and the contrast of each pixel with the paper around it.

    Of dark ink and light ink, take the one that leaves the picture's border, which is mostly paper, empty.
    """

    def score(contrast: Grey) -> float:
        border = np.concatenate([contrast[0], contrast[-1], contrast[:, 0], contrast[:, -1]])
        return math.sqrt((contrast**2).mean()) - _BORDER * math.sqrt((border**2).mean())

    dark, light = top_hat(255 - grey), top_hat(grey)
    is_dark_on_light = score(dark) >= score(light)
    return is_dark_on_light, dark if is_dark_on_light else light


def top_hat(grey: Grey) -> Grey:
    """Return how much lighter each pixel is than its surroundings; this removes shadows and gradients of the light.

    The surroundings are what is left after removing everything light and narrower than half of the picture.

    Source: Serra, "Image analysis and mathematical morphology", 1982: the white top-hat transform.
    """
    radius = max(grey.shape) // 4
    lowest = _slide(_slide(grey, radius, np.minimum).T, radius, np.minimum).T
    return grey - _slide(_slide(lowest, radius, np.maximum).T, radius, np.maximum).T


def _slide(rows: Grey, radius: int, extreme: np.ufunc) -> Grey:
    """Return the minimum or maximum over the 2 radius + 1 pixels around each, along the rows.

    The rows are extended by an odd reflection: what rises keeps rising. But some window must lie inside each row: of
    ink near the edge, the reflection is darker than any paper.
    """
    radius = min(radius, (rows.shape[1] - 1) // 2)
    values = np.pad(rows, ((0, 0), (radius, radius)), mode="reflect", reflect_type="odd")
    width, full = 1, 2 * radius + 1
    while 2 * width <= full:
        values = extreme(values[:, :-width], values[:, width:])
        width *= 2
    rest = full - width
    slid: Grey = extreme(values[:, : values.shape[1] - rest], values[:, rest:])
    return slid


def otsu_threshold(values: Grey) -> float:
    """Return the level, 0 .. 255, that separates the values into the two classes that differ most.

    Source: Otsu, "A threshold selection method from gray-level histograms", IEEE Trans. SMC 9(1), 1979.
    """
    counts = np.bincount(np.clip(np.floor(values + 0.5), 0, 255).astype(np.int64).ravel(), minlength=256)
    num_below, sum_below = np.cumsum(counts), np.cumsum(counts * np.arange(256))
    num_above, sum_above = num_below[-1] - num_below, sum_below[-1] - sum_below
    distance = sum_below / np.maximum(num_below, 1) - sum_above / np.maximum(num_above, 1)
    return float((num_below * num_above * distance**2).argmax()) + 0.5


def ink_of(contrast: Grey) -> Grey:
    """Return 0 for paper, 1 for full ink, and values in between in proportion.

    Raises: DataError if nothing stands out from the paper and its noise.
    """
    is_stroke = contrast > otsu_threshold(contrast)
    paper, strokes = contrast[~is_stroke], contrast[is_stroke]
    middle = np.median(paper)
    no_ink = middle + _NOISE * _SIGMA_OF_MAD * np.median(np.abs(paper - middle))
    full_ink = np.median(strokes) if len(strokes) else no_ink
    if full_ink - no_ink < _LEAST_CONTRAST:
        raise DataError("no digit found: the picture is blank or has too little contrast")
    ink: Grey = np.clip((contrast - no_ink) / (full_ink - no_ink), 0, 1)
    return ink


def connected_components(ink: Grey) -> tuple[list[Component], npt.NDArray[np.int64]]:
    """Return the components of ink, and a picture of their labels, counted from 1. Shapes: ink and labels H W."""
    height, width = ink.shape
    row = width + 2  # with a border of paper, so that each pixel has eight neighbours
    labels = np.pad(np.where(ink >= _STROKE, -1, 0), 1).ravel().tolist()
    values = np.pad(ink, 1).ravel().tolist()
    neighbours = (-row - 1, -row, -row + 1, -1, 1, row - 1, row, row + 1)
    components: list[Component] = []
    for start in range(len(labels)):
        if labels[start] != -1:
            continue
        label = len(components) + 1
        labels[start] = label
        inside = [start]
        for place in inside:  # which grows in the loop
            for step in neighbours:
                if labels[place + step] == -1:
                    labels[place + step] = label
                    inside.append(place + step)
        ys, xs = [place // row - 1 for place in inside], [place % row - 1 for place in inside]
        box = Box(min(ys), max(ys) + 1, min(xs), max(xs) + 1)
        num_sides = (box.top == 0) + (box.bottom == height) + (box.left == 0) + (box.right == width)
        components.append(Component(label, box, sum(values[place] for place in inside), num_sides))
    return components, np.array(labels).reshape(height + 2, row)[1:-1, 1:-1]


def components_of_digit(components: list[Component]) -> list[Component]:
    """Return the components of the digit: no dirt, and nothing that meets two sides, as edges and ruled lines do.

    If there is hardly anything else, what meets two sides is the digit, cut out without a margin.
    """
    inner = [each for each in components if each.num_sides < 2]
    all_mass = sum(each.mass for each in components)
    candidates = inner if max((each.mass for each in inner), default=0) >= _DIGIT * all_mass else components
    heaviest = max(each.mass for each in candidates)
    return [each for each in candidates if each.mass >= _DIRT * heaviest]


def bounding_box(components: list[Component]) -> Box:
    """Return the smallest box around all components."""
    tops, bottoms, lefts, rights = zip(*(each.box for each in components), strict=True)
    return Box(min(tops), max(bottoms), min(lefts), max(rights))


def fit(digit: Grey) -> Grey:
    """Scale the digit until its longer side has 20 pixels and a tenth of its strokes' pixels are 1, as in MNIST.

    Only made smaller, the strokes of a thin pen would be faint.
    """
    height, width = digit.shape
    scale = DIGIT_SIZE / max(height, width)
    rows = resampling(height, max(1, math.floor(height * scale + 0.5)))
    columns = resampling(width, max(1, math.floor(width * scale + 0.5)))
    small = rows @ digit @ columns.T
    strokes = np.sort(small[small >= _STROKE * small.max()])
    fitted: Grey = np.minimum(small / strokes[math.floor(_FULL * (len(strokes) - 1))], 1)
    return fitted


def centre(fitted: Grey) -> npt.NDArray[np.uint8]:
    """Return the picture that the network sees, with the centre of mass in the middle, to the nearest pixel."""
    height, width = fitted.shape
    mass = fitted.sum()
    y = (fitted.sum(axis=1) * np.arange(height)).sum() / mass
    x = (fitted.sum(axis=0) * np.arange(width)).sum() / mass
    top = min(max(math.floor(IMAGE_SIZE / 2 - y + 0.5), 0), IMAGE_SIZE - height)
    left = min(max(math.floor(IMAGE_SIZE / 2 - x + 0.5), 0), IMAGE_SIZE - width)
    seen = np.zeros((IMAGE_SIZE, IMAGE_SIZE), dtype=np.uint8)
    seen[top : top + height, left : left + width] = np.floor(255 * fitted + 0.5)
    return seen


class Looks(NamedTuple):
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
    """Say in what respects a picture differs from nearly all digits of MNIST: an answer to anything else means nothing.

    Thresholds are the 0.1 and 99.9 percentiles of the training images. That of the ink apart is the 99.5th: two digits
    in a picture are more common than a digit in two components. That of the confidence is the first percentile of the
    validation images. (`scripts/measure_predict.py likeness` at 1b6751d; docs/predict.md says what they catch.)
    """
    checks = (
        (looks.ink < 0.041, f"thin or few strokes: ink on {looks.ink:.1%} of the picture"),
        (looks.ink > 0.295, f"too much ink: on {looks.ink:.0%} of the picture"),
        (looks.grey > 0.535, f"blurred: {looks.grey:.0%} of the ink is half grey"),
        (looks.row_crossings > 4, f"{looks.row_crossings} strokes side by side"),
        (looks.column_crossings > 4, f"{looks.column_crossings} strokes above each other"),
        (looks.apart > 0.19, f"in pieces: {looks.apart:.0%} of the ink is apart. Is there more than one digit?"),
        (confidence < 0.82, f"the network is not sure: {confidence:.0%} for its first answer"),
    )
    return [words for is_unusual, words in checks if is_unusual]
