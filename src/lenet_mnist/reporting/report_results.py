"""What an evaluation found, as a report shows it: confusion matrix, digits, pairs that are confused, calibration."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lenet_mnist.analysis.intervals import Interval, wilson_interval
from lenet_mnist.analysis.metrics import FEW_IMAGES, PER_CELL, Counts
from lenet_mnist.errors import DataError
from lenet_mnist.reporting import pixels
from lenet_mnist.reporting.charts import Axis, Chart, Series, line_chart
from lenet_mnist.reporting.report_facts import without_directories
from lenet_mnist.runs.results import Examples, SavedEvaluation, read_evaluation, read_examples
from lenet_mnist.runs.run import Run

MOST_CLASSES = 26  # of a matrix that can be read
_MOST_PAIRS = 6
_PICTURES_OF_A_PAIR = 6
_SHADES = 5


@dataclass(frozen=True)
class Digit:
    """One picture, and what the network made of it."""

    source: str
    alt: str
    index: int
    confidence: str


@dataclass(frozen=True)
class Cell:
    """One cell of the confusion matrix. `anchor` is where its pictures are, or None where there are none.

    `shade` is 0 for a cell with no mistake, and 1 to 5 by the number of mistakes.
    """

    count: int
    is_hit: bool
    shade: int
    label: str
    anchor: str | None


@dataclass(frozen=True)
class Panel:
    """The pictures of one cell."""

    anchor: str
    title: str
    note: str
    digits: tuple[Digit, ...]


@dataclass(frozen=True)
class ClassRow:
    """How well one class is found. Fractions; `most_often_read_as` is the commonest mistake, in words."""

    name: str
    num_images: int
    num_correct: int
    precision: float
    recall: float
    recall_interval: Interval | None
    f1: float
    most_often_read_as: str


@dataclass(frozen=True)
class Pair:
    """One class that is read as another."""

    title: str
    note: str
    digits: tuple[Digit, ...]


@dataclass(frozen=True)
class Results:
    """All that is shown of one evaluation. `no_pictures` says why there are none, where there are none."""

    evaluation: SavedEvaluation
    matrix: tuple[tuple[Cell, ...], ...]
    panels: tuple[Panel, ...]
    classes: tuple[ClassRow, ...]
    pairs: tuple[Pair, ...]
    calibration: Chart
    examples: Examples | None
    no_pictures: str
    per_cell: int = PER_CELL


def results_of(run: Run) -> Results:
    """Return the results on the test set, or else on the validation set. Raises: DataError if there are none."""
    split = next((name for name in ("test", "val") if run.evaluation_path(name).is_dir()), None)
    if split is None:
        raise DataError("Nothing has been evaluated yet.")
    evaluation = read_evaluation(run, split)
    try:
        examples, no_pictures = read_examples(run, evaluation), ""
    except DataError as error:
        examples, no_pictures = None, without_directories(str(error), run)
    is_readable = len(evaluation.class_names) <= MOST_CLASSES
    panels = _panels(evaluation, examples) if examples is not None and is_readable else ()
    return Results(
        evaluation=evaluation,
        matrix=_matrix(evaluation, {panel.anchor for panel in panels}) if is_readable else (),
        panels=panels,
        classes=_classes(evaluation),
        pairs=_pairs(evaluation, examples),
        calibration=_calibration(evaluation),
        examples=examples,
        no_pictures=no_pictures,
    )


def digits_of(evaluation: SavedEvaluation, examples: Examples, positions: Iterable[int]) -> tuple[Digit, ...]:
    """Return some of the pictures that an evaluation has kept."""
    names, digits = evaluation.class_names, []
    paper, ink = (0, 255) if pixels.is_on_black(examples.images) else (255, 0)
    for position in positions:
        true, predicted = int(examples.labels[position]), int(examples.predictions[position])
        index, sure = int(examples.indices[position]), _sure(float(examples.confidences[position]))
        read_as = "read as that" if true == predicted else f"read as {names[predicted]}"
        alt = f"{evaluation.split} image {index}: {names[true]}, {read_as}, {sure} sure"
        digits.append(Digit(pixels.ink(examples.images[position], paper, ink), alt, index, sure))
    return tuple(digits)


def _matrix(evaluation: SavedEvaluation, anchors: set[str]) -> tuple[tuple[Cell, ...], ...]:
    """Return the cells; rows are true, columns predicted."""
    counts, names = evaluation.confusion_matrix, evaluation.class_names
    most = max(int(_mistakes(counts).max()), 1)
    return tuple(
        tuple(
            _cell(int(counts[true, predicted]), true, predicted, most, names, anchors)
            for predicted in range(len(names))
        )
        for true in range(len(names))
    )


def _cell(count: int, true: int, predicted: int, most: int, names: Sequence[str], anchors: set[str]) -> Cell:
    is_hit, anchor = true == predicted, _anchor(true, predicted)
    shade = 0 if is_hit or count == 0 else 1 + math.floor((_SHADES - 1) * math.log(count) / math.log(max(most, 2)))
    return Cell(count, is_hit, shade, _counted(names, true, predicted, count), anchor if anchor in anchors else None)


def _panels(evaluation: SavedEvaluation, examples: Examples) -> tuple[Panel, ...]:
    """Return the pictures of every cell that has some."""
    panels = []
    for true, predicted in _cells_with_examples(examples):
        positions, count = examples.of_cell(true, predicted), int(evaluation.confusion_matrix[true, predicted])
        if count < len(positions):
            continue  # damaged: there cannot be more pictures than images
        if len(positions) == count:
            note = "All of them, the surest first."
        elif true == predicted:
            note = f"{len(positions)} of them, the surest and the least sure."
        else:
            note = f"The {len(positions)} that the network was surest of."
        title = _counted(evaluation.class_names, true, predicted, count)
        panels.append(Panel(_anchor(true, predicted), title, note, digits_of(evaluation, examples, positions)))
    return tuple(panels)


def _cells_with_examples(examples: Examples) -> list[tuple[int, int]]:
    return sorted(set(zip(examples.labels.tolist(), examples.predictions.tolist(), strict=True)))


def _classes(evaluation: SavedEvaluation) -> tuple[ClassRow, ...]:
    """Return a row a class; of very many classes, those that are found worst."""
    rows = []
    for k, scores in enumerate(evaluation.per_class):
        mistakes = evaluation.confusion_matrix[k].copy()
        mistakes[k] = 0
        worst = int(mistakes.argmax())
        rows.append(
            ClassRow(
                name=scores.name,
                num_images=scores.num_images,
                num_correct=scores.num_correct,
                precision=scores.precision,
                recall=scores.recall,
                recall_interval=wilson_interval(scores.num_correct, scores.num_images) if scores.num_images else None,
                f1=scores.f1,
                most_often_read_as=f"{evaluation.class_names[worst]} ({mistakes[worst]:,})" if mistakes[worst] else "",
            )
        )
    return tuple(rows) if len(rows) <= MOST_CLASSES else tuple(sorted(rows, key=lambda row: row.f1)[:MOST_CLASSES])


def _pairs(evaluation: SavedEvaluation, examples: Examples | None) -> tuple[Pair, ...]:
    """Return the confusions that happen most often."""
    counts, names = evaluation.confusion_matrix, evaluation.class_names
    mistakes = _mistakes(counts)
    order = mistakes.argsort(axis=None, kind="stable")[::-1][:_MOST_PAIRS]
    pairs = []
    for true, predicted in (divmod(int(place), len(names)) for place in order):
        count, of_class = int(mistakes[true, predicted]), int(counts[true].sum())
        if count == 0:
            break
        note = f"{count:,} of {of_class:,} images, {count / of_class:.1%}"
        digits: tuple[Digit, ...] = ()
        if examples is not None:
            digits = digits_of(evaluation, examples, examples.of_cell(true, predicted)[:_PICTURES_OF_A_PAIR])
        pairs.append(Pair(f"{names[true]} read as {names[predicted]}", note, digits))
    return tuple(pairs)


def _calibration(evaluation: SavedEvaluation) -> Chart:
    bins = evaluation.calibration
    told = [row for row in bins if row.num_images >= FEW_IMAGES]
    fraction = Axis(-0.03, 1.03, is_log=False, is_percent=True)
    widest = max(bins, key=lambda row: abs(row.mean_confidence - row.accuracy) * row.num_images, default=None)
    alt = f"Accuracy against confidence in {len(bins)} bins; expected calibration error "
    alt += f"{evaluation.expected_calibration_error:.2%}."
    if widest is not None:
        alt += (
            f" The bin that adds most to it holds {widest.num_images:,} images, whose mean confidence is "
            f"{widest.mean_confidence:.1%} and of which {widest.accuracy:.1%} are right."
        )
    series = [
        Series("as sure as right", 4, [(0.0, 0.0), (1.0, 1.0)]),
        Series("this network", 0, [(row.mean_confidence, row.accuracy) for row in told]),
    ]
    chart = line_chart("Calibration", alt, series, "confidence", "accuracy", fraction, x_axis=fraction)
    few = f"Not drawn, as they say next to nothing: {len(bins) - len(told)} bins of fewer than {FEW_IMAGES} images."
    return replace(chart, note=few) if len(told) < len(bins) else chart


def _mistakes(counts: Counts) -> Counts:
    """Return the confusion matrix without its hits."""
    mistakes = counts.copy()
    np.fill_diagonal(mistakes, 0)
    return mistakes


def _counted(names: Sequence[str], true: int, predicted: int, count: int) -> str:
    """Say what a cell counts."""
    what = f"{names[true]} read as {names[predicted]}" if true != predicted else f"{names[true]} read right"
    return f"{what}: {count:,} {'image' if count == 1 else 'images'}"


def _anchor(true: int, predicted: int) -> str:
    return f"cell-{true}-{predicted}"


def _sure(probability: float) -> str:
    """Write a probability so that nobody reads certainty into it."""
    return ">99.9%" if probability > 0.999 else f"{probability:.1%}"
