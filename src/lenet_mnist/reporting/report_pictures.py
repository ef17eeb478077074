"""What a report shows of a run in pictures: charts, the confusion matrix and its images, filters, feature maps.

Each function returns plain values, by the names that templates/report.html.jinja has for them. Charts are matplotlib's,
as SVG; small images are data URIs of PNGs, in which there is nothing to escape.
"""

import base64
import io
import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from markupsafe import Markup
from matplotlib.axes import Axes
from PIL import Image

from lenet_mnist.analysis.findings import TrainingRecord
from lenet_mnist.analysis.intervals import wilson_interval
from lenet_mnist.analysis.metrics import PER_CELL
from lenet_mnist.config import Activation
from lenet_mnist.errors import DataError, per_cent
from lenet_mnist.reporting.gallery import is_on_black
from lenet_mnist.reporting.plots import draw_accuracy, draw_loss
from lenet_mnist.reporting.style import chart, description_of, inline_svg
from lenet_mnist.reporting.text import counted
from lenet_mnist.runs.results import Examples, SavedEvaluation
from lenet_mnist.training.checkpoint import TrainedNetwork

_MOST_EPOCHS = 60  # of the table of epochs
_MOST_CLASSES = 26  # of a matrix that can be read
_MOST_PAIRS, _IMAGES_PER_PAIR = 6, 6
_SHADES = 5
_SIGNED = np.array([(213, 94, 0), (255, 255, 255), (0, 114, 178)])  # below zero, zero, above
Reals = npt.NDArray[np.float64]

Values = dict[str, Any]


# Charts


def curves_of(record: TrainingRecord, best_epoch: int | None) -> Values:
    """Return loss and accuracy, and the numbers behind them; of very many epochs some.

    Raises: DataError if there is nothing to draw.
    """
    history = record.history
    if not history and not record.steps:
        raise DataError("No update has been recorded, so there is nothing to draw.")
    every = max(1, -(-len(history) // _MOST_EPOCHS))
    return {
        "charts": [
            svg_chart("Loss", lambda axes: draw_loss(axes, record, best_epoch)),
            svg_chart("Accuracy", lambda axes: draw_accuracy(axes, record, best_epoch)),
        ],
        "rows": [row for k, row in enumerate(history) if k % every == 0 or k == len(history) - 1],
        "num_epochs": len(history),
    }


def svg_chart(title: str, draw: Callable[[Axes], None]) -> Values:
    """Draw one pair of axes; the lines after a title's first are a note.

    Raises: DataError if damaged figures cannot be drawn: the rest of the report can.
    """
    name, _, note = title.partition("\n")
    try:
        figure = chart(draw)
        svg = inline_svg(figure, name, description_of(figure.axes[0]))
    except (ArithmeticError, ValueError) as error:
        raise DataError(f"{name}: the figures cannot be drawn: {error}") from None
    return {"title": name[:1].upper() + name[1:], "note": note.replace("\n", "; "), "svg": svg}


# The results of an evaluation


def results_of(evaluation: SavedEvaluation, examples: Examples | str) -> Values:
    """Return what is shown of an evaluation; instead of its images there may be the reason why there are none."""
    counts, names = evaluation.confusion_matrix, evaluation.class_names
    mistakes = counts.copy()
    np.fill_diagonal(mistakes, 0)
    places, most = range(len(names)), max(int(mistakes.max()), 2)
    classes: list[Values] = []
    for scores, errors in zip(evaluation.per_class, mistakes, strict=True):
        worst = int(errors.argmax())
        interval = wilson_interval(scores.num_correct, scores.num_images) if scores.num_images else None
        misread_as = f"{names[worst]} ({errors[worst]:,})" if errors[worst] else ""
        classes.append({"scores": scores, "recall_interval": interval, "misread_as": misread_as})
    matrix: list[list[Values]] = []
    if len(names) <= _MOST_CLASSES:
        matrix = [[_cell(evaluation, examples, place, most) for place in ((k, n) for n in places)] for k in places]
    else:
        classes = sorted(classes, key=lambda row: float(row["scores"].f1))[:_MOST_CLASSES]
    pairs = []
    for number in mistakes.argsort(axis=None, kind="stable")[::-1][:_MOST_PAIRS]:
        true, predicted = divmod(int(number), len(names))
        if mistakes[true, predicted]:
            cell = matrix[true][predicted] if matrix else _cell(evaluation, examples, (true, predicted), most)
            of_class = int(counts[true].sum())
            note = f"{cell['count']:,} of {of_class:,} images, {cell['count'] / of_class:.1%}"
            title = f"{names[true]} read as {names[predicted]}"
            pairs.append({"title": title, "note": note, "digits": cell["digits"][:_IMAGES_PER_PAIR]})
    return {
        "evaluation": evaluation,
        "matrix": matrix,
        "panels": [cell for row in matrix for cell in row if cell["anchor"]],
        "classes": classes,
        "pairs": pairs,
        "no_images": examples if isinstance(examples, str) else "",
        "per_cell": PER_CELL,
    }


def _cell(evaluation: SavedEvaluation, examples: Examples | str, place: tuple[int, int], most: int) -> Values:
    """Return a cell of the confusion matrix, row true and column predicted, with the images of it that were kept.

    The more mistakes, `most` in a cell, the darker the shade, 0 to 5. `anchor` is empty where there are no images.
    """
    true, predicted = place
    count, names = int(evaluation.confusion_matrix[place]), evaluation.class_names
    digits: list[Values] = []
    if not isinstance(examples, str):
        positions = examples.of_cell(true, predicted)
        if len(positions) <= count:  # else damaged: there cannot be more examples than images
            digits = _digits(evaluation, examples, positions)
    shade = 1 + math.floor((_SHADES - 1) * math.log(count) / math.log(most)) if count and true != predicted else 0
    note = f"The {len(digits)} most confident."
    if len(digits) == count:
        note = "All of them, the most confident first."
    elif true == predicted:
        note = f"{len(digits)} of them, the most and the least confident."
    words = "read correctly" if true == predicted else f"read as {names[predicted]}"
    return {
        "count": count,
        "look": "hit" if true == predicted else f"shade-{shade}" if shade else "",
        "title": f"{names[true]} {words}: {counted(count, 'image')}",
        "note": note,
        "digits": digits,
        "anchor": f"cell-{true}-{predicted}" if digits else "",
    }


def _digits(evaluation: SavedEvaluation, examples: Examples, positions: Iterable[int]) -> list[Values]:
    """Return some of the images that an evaluation has kept."""
    names, digits = evaluation.class_names, []
    shades = (255, 0) if is_on_black(examples.images) else (0, 255)
    for position in positions:
        true, predicted = int(examples.labels[position]), int(examples.predictions[position])
        index, confidence = int(examples.indices[position]), float(examples.confidences[position])
        sure = per_cent(confidence).replace("over ", ">").replace("under ", "<")  # there is room for no more
        read_as = "read as that" if true == predicted else f"read as {names[predicted]}"
        alt = f"{evaluation.split} image {index}: {names[true]}, {read_as}, {sure} sure"
        pixels = np.interp(examples.images[position], (0, 255), shades)
        digits.append(_picture(pixels, alt, sure, f"#{index}"))
    return digits


# The network


def network_pictures(trained: TrainedNetwork, results: Values | str, examples: Examples | str) -> Values:
    """Return the filters of C1, and the feature maps of the most confident correct image that was kept."""
    network, kernels = trained.network, trained.network.c1.weight.detach().numpy()[:, 0]
    largest, filters = float(np.abs(kernels).max()), []
    for k, kernel in enumerate(kernels):
        row, column = divmod(int(kernel.argmax()), kernel.shape[1])
        span = f"{kernel.min():.2f} to {kernel.max():.2f}"
        alt = f"C1 filter {k}: 5 by 5 weights from {span}, the largest in row {row + 1}, column {column + 1}"
        colours = [np.interp(kernel / (largest or 1), (-1, 0, 1), channel) for channel in _SIGNED.T]
        filters.append(_picture(np.stack(colours, axis=-1), alt, span))
    name = activation_name(network.activation)
    shown = {"epoch": trained.epoch, "activation": name, "filters": filters, "image": None}
    if isinstance(examples, str) or isinstance(results, str) or len(examples) == 0:
        return shown
    if examples.images.shape[1] != network.image_size:
        return shown
    is_hit = examples.labels == examples.predictions
    position = int(np.where(is_hit, examples.confidences, -1.0).argmax())
    (image,) = _digits(results["evaluation"], examples, [position])
    pixels = torch.from_numpy(examples.images[position].copy())[None]
    with torch.inference_mode():
        outputs = network.layer_outputs(trained.normalization.apply(pixels))
    return shown | {"image": image, "s2": _maps("S2", outputs.s2[0]), "s4": _maps("S4", outputs.s4[0])}


def activation_name(activation: Activation) -> str:
    """Return how an activation is written in a sentence."""
    return "ReLU" if activation is Activation.RELU else activation.value


def _maps(layer: str, outputs: torch.Tensor) -> list[Values]:
    """Draw the feature maps of a layer on one scale, from white paper to black ink. Shapes: outputs C H W."""
    maps, pictures = outputs.double().numpy(), []
    low, high = maps.min(), maps.max()
    for k, values in enumerate(maps):
        height, width = values.shape
        spread = f"from {values.min():.2f} to {values.max():.2f}, mean {values.mean():.2f}"
        alt = f"{layer} map {k}, {height} by {width}: {spread}"
        pictures.append(_picture(255 * (high - values) / ((high - low) or 1), alt, f"map {k}"))
    return pictures


def _picture(pixels: Reals, alt: str, *captions: str) -> Values:
    """Return a small image: its data, what it shows in words, and the lines below it. Shapes: pixels H W or H W 3."""
    return {"source": _png(pixels.round().astype(np.uint8)), "alt": alt, "captions": captions}


def _png(pixels: npt.NDArray[np.uint8]) -> Markup:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="png", optimize=True)
    return Markup("data:image/png;base64," + base64.b64encode(content.getvalue()).decode("ascii"))
