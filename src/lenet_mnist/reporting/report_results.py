"""The results and the network of a run, as a report shows them: matrix, images, classes, filters, feature maps."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from markupsafe import Markup

from lenet_mnist.analysis.intervals import Interval, wilson_interval
from lenet_mnist.analysis.metrics import PER_CELL, ClassScores, Counts
from lenet_mnist.config import Activation
from lenet_mnist.errors import per_cent
from lenet_mnist.reporting.gallery import ink, is_on_black, signed
from lenet_mnist.reporting.text import counted
from lenet_mnist.runs.results import Examples, SavedEvaluation
from lenet_mnist.training.checkpoint import TrainedNetwork

_MOST_CLASSES = 26  # of a matrix that can be read
_MOST_PAIRS, _IMAGES_PER_PAIR = 6, 6
_SHADES = 5


@dataclass(frozen=True)
class Picture:
    """A small image: its data, what it shows in words, and the lines below it."""

    source: Markup
    alt: str
    captions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Images:
    """Images of one cell of the confusion matrix."""

    anchor: str
    title: str
    note: str
    digits: tuple[Picture, ...]


@dataclass(frozen=True)
class Cell:
    """A cell of the confusion matrix. `anchor` is where its images are, empty where there are none."""

    count: int
    look: str
    label: str
    anchor: str


@dataclass(frozen=True)
class ClassRow:
    """How well one class is found, and what it is mostly misread as."""

    scores: ClassScores
    recall_interval: Interval | None
    misread_as: str


@dataclass(frozen=True)
class Results:
    """All that is shown of one evaluation. Where there are no images, `no_images` says why."""

    evaluation: SavedEvaluation
    matrix: tuple[tuple[Cell, ...], ...]
    panels: tuple[Images, ...]
    classes: tuple[ClassRow, ...]
    pairs: tuple[Images, ...]
    no_images: str
    per_cell: int = PER_CELL


@dataclass(frozen=True)
class NetworkPictures:
    """What can be seen of the network. Without an evaluation there is no image, and so there are no feature maps."""

    epoch: int
    activation: str
    filters: tuple[Picture, ...]
    image: Picture | None = None
    s2: tuple[Picture, ...] = ()
    s4: tuple[Picture, ...] = ()


def results_of(evaluation: SavedEvaluation, examples: Examples | str) -> Results:
    """Return what is shown of an evaluation; instead of its images there may be the reason why there are none."""
    is_readable = len(evaluation.class_names) <= _MOST_CLASSES
    panels = _panels(evaluation, examples) if is_readable else ()
    classes = [_class_row(evaluation, k, scores) for k, scores in enumerate(evaluation.per_class)]
    if not is_readable:
        classes = sorted(classes, key=lambda row: row.scores.f1)[:_MOST_CLASSES]
    return Results(
        evaluation=evaluation,
        matrix=_matrix(evaluation, {panel.anchor for panel in panels}) if is_readable else (),
        panels=panels,
        classes=tuple(classes),
        pairs=_pairs(evaluation, examples),
        no_images=examples if isinstance(examples, str) else "",
    )


def _pictures(evaluation: SavedEvaluation, examples: Examples, positions: Iterable[int]) -> tuple[Picture, ...]:
    """Return some of the images that an evaluation has kept."""
    names, pictures = evaluation.class_names, []
    paper, black = (0, 255) if is_on_black(examples.images) else (255, 0)
    for position in positions:
        true, predicted = int(examples.labels[position]), int(examples.predictions[position])
        index, confidence = int(examples.indices[position]), float(examples.confidences[position])
        sure = per_cent(confidence).replace("over ", ">").replace("under ", "<")  # there is room for no more
        read_as = "read as that" if true == predicted else f"read as {names[predicted]}"
        alt = f"{evaluation.split} image {index}: {names[true]}, {read_as}, {sure} sure"
        pictures.append(Picture(ink(examples.images[position], paper, black), alt, (sure, f"#{index}")))
    return tuple(pictures)


def _matrix(evaluation: SavedEvaluation, anchors: set[str]) -> tuple[tuple[Cell, ...], ...]:
    """Return the cells; rows are true, columns predicted. The more mistakes, the darker the shade, 0 to 5."""
    counts = evaluation.confusion_matrix
    most = max(int(_mistakes(counts).max()), 2)

    def cell(true: int, predicted: int) -> Cell:
        count, anchor = int(counts[true, predicted]), f"cell-{true}-{predicted}"
        shade = 1 + math.floor((_SHADES - 1) * math.log(count) / math.log(most)) if count else 0
        look = "hit" if true == predicted else f"shade-{shade}"
        return Cell(count, look, _title(evaluation, true, predicted, count), anchor if anchor in anchors else "")

    classes = range(len(counts))
    return tuple(tuple(cell(true, predicted) for predicted in classes) for true in classes)


def _panels(evaluation: SavedEvaluation, examples: Examples | str) -> tuple[Images, ...]:
    """Return the images of every cell that has some."""
    if isinstance(examples, str):
        return ()
    panels = []
    for true, predicted in sorted(set(zip(examples.labels.tolist(), examples.predictions.tolist(), strict=True))):
        positions, count = examples.of_cell(true, predicted), int(evaluation.confusion_matrix[true, predicted])
        if count < len(positions):
            continue  # damaged: there cannot be more examples than images
        note = f"The {len(positions)} most confident."
        if len(positions) == count:
            note = "All of them, the most confident first."
        elif true == predicted:
            note = f"{len(positions)} of them, the most and the least confident."
        title = _title(evaluation, true, predicted, count)
        panels.append(Images(f"cell-{true}-{predicted}", title, note, _pictures(evaluation, examples, positions)))
    return tuple(panels)


def _class_row(evaluation: SavedEvaluation, k: int, scores: ClassScores) -> ClassRow:
    mistakes = evaluation.confusion_matrix[k].copy()
    mistakes[k] = 0
    worst = int(mistakes.argmax())
    interval = wilson_interval(scores.num_correct, scores.num_images) if scores.num_images else None
    misread_as = f"{evaluation.class_names[worst]} ({mistakes[worst]:,})" if mistakes[worst] else ""
    return ClassRow(scores, interval, misread_as)


def _pairs(evaluation: SavedEvaluation, examples: Examples | str) -> tuple[Images, ...]:
    counts, names = evaluation.confusion_matrix, evaluation.class_names
    order = _mistakes(counts).argsort(axis=None, kind="stable")[::-1][:_MOST_PAIRS]
    pairs = []
    for true, predicted in (divmod(int(place), len(names)) for place in order):
        count, of_class = int(counts[true, predicted]), int(counts[true].sum())
        if true == predicted or count == 0:
            break
        digits: tuple[Picture, ...] = ()
        if not isinstance(examples, str):
            digits = _pictures(evaluation, examples, examples.of_cell(true, predicted)[:_IMAGES_PER_PAIR])
        note = f"{count:,} of {of_class:,} images, {count / of_class:.1%}"
        pairs.append(Images("", f"{names[true]} read as {names[predicted]}", note, digits))
    return tuple(pairs)


def _mistakes(counts: Counts) -> Counts:
    """Return the confusion matrix without its diagonal."""
    mistakes = counts.copy()
    np.fill_diagonal(mistakes, 0)
    return mistakes


def _title(evaluation: SavedEvaluation, true: int, predicted: int, count: int) -> str:
    names = evaluation.class_names
    what = f"read as {names[predicted]}" if true != predicted else "read correctly"
    return f"{names[true]} {what}: {counted(count, 'image')}"


def network_pictures(trained: TrainedNetwork, results: Results | str, examples: Examples | str) -> NetworkPictures:
    """Return the filters of C1, and the feature maps of the most confident correct image that was kept."""
    network, kernels = trained.network, trained.network.c1.weight.detach().numpy()[:, 0]
    largest, filters = float(np.abs(kernels).max()), []
    for k, kernel in enumerate(kernels):
        row, column = divmod(int(kernel.argmax()), kernel.shape[1])
        span = f"{kernel.min():.2f} to {kernel.max():.2f}"
        alt = f"C1 filter {k}: 5 by 5 weights from {span}, the largest in row {row + 1}, column {column + 1}"
        filters.append(Picture(signed(kernel, largest), alt, (span,)))
    seen = trained.epoch, activation_name(network.activation), tuple(filters)
    if isinstance(examples, str) or isinstance(results, str) or len(examples) == 0:
        return NetworkPictures(*seen)
    if examples.images.shape[1] != network.image_size:
        return NetworkPictures(*seen)
    is_hit = examples.labels == examples.predictions
    position = int(np.where(is_hit, examples.confidences, -1.0).argmax())
    (image,) = _pictures(results.evaluation, examples, [position])
    pixels = torch.from_numpy(examples.images[position].copy())[None]
    with torch.inference_mode():
        outputs = network.layer_outputs(trained.normalization.apply(pixels))
    return NetworkPictures(*seen, image, _maps("S2", outputs.s2[0]), _maps("S4", outputs.s4[0]))


def _maps(layer: str, outputs: torch.Tensor) -> tuple[Picture, ...]:
    """Draw the feature maps of a layer on one scale. Shapes: outputs C H W."""
    maps = outputs.numpy()
    pictures = []
    for k, values in enumerate(maps):
        height, width = values.shape
        spread = f"from {values.min():.2f} to {values.max():.2f}, mean {values.mean():.2f}"
        alt = f"{layer} map {k}, {height} by {width}: {spread}"
        pictures.append(Picture(ink(values, float(maps.min()), float(maps.max())), alt, (f"map {k}",)))
    return tuple(pictures)


def activation_name(activation: Activation) -> str:
    """Return how an activation is written in a sentence."""
    return "ReLU" if activation is Activation.RELU else activation.value
