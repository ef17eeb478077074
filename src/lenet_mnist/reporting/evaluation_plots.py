"""The pictures of an evaluation and of a cross-validation. Each is drawn from values in the JSON and CSV files."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.ticker import MaxNLocator, PercentFormatter

from lenet_mnist.analysis.intervals import wilson_interval
from lenet_mnist.analysis.metrics import FEW_IMAGES, Evaluation, Scored
from lenet_mnist.config import Split
from lenet_mnist.data.sets import ImageSet
from lenet_mnist.reporting.gallery import mistake_tile, tiles_figure
from lenet_mnist.reporting.style import (
    BLUE,
    GREY,
    ORANGE,
    TITLE_POINTS,
    Figure,
    plain,
    plain_log_axis,
    save_figure,
    tidy,
)
from lenet_mnist.reporting.text import counted
from lenet_mnist.runs.results import Examples, SavedEvaluation
from lenet_mnist.study.cross_validation import CrossValidation
from lenet_mnist.study.evaluation import EvaluatedEnsemble, EvaluatedRun

SPLITS = {Split.VAL: "validation set", Split.TEST: "test set"}
# Of a confusion matrix: up to how many classes its numbers, and its names, can be read.
_MOST_NUMBERED, _MOST_NAMED = 26, 100
_INCHES_OF_MANY, _POINTS_OF_MANY = 12.0, 600.0
_NAME_WIDTH = 20
_MOST_MISTAKES, _IN_ORDER = 40, ", the most confident first"


def draw_evaluation(seen: EvaluatedRun | EvaluatedEnsemble) -> dict[str, Figure]:
    """Draw the pictures of an evaluation next to its tables, of each member too, and return them by name.

    Raises: StorageError.
    """
    if isinstance(seen, EvaluatedEnsemble):
        for member in seen.members:
            draw_evaluation(member)
    ensemble = f"ensemble of {len(seen.members)}, " if len(seen.members) > 1 else ""
    figures = evaluation_figures(seen.evaluation, seen.members[0].images, seen.split, ensemble)
    for name, figure in figures.items():
        save_figure(figure, seen.directory / f"{name}.png")
    return figures


def evaluation_figures(evaluation: Evaluation, images: ImageSet, split: Split, of: str = "") -> dict[str, Figure]:
    """Return the pictures of an evaluation, by name; `of` says of whom it is."""
    of_split = f"{of}{right_of(evaluation, split)}"
    return {
        "confusion_matrix": confusion_figure(evaluation, f"Confusion matrix: {of_split}"),
        "misclassified": mistakes_figure(evaluation, images.images.numpy(), SPLITS[split]),
        "calibration": calibration_figure(evaluation, f"Calibration: {of_split}"),
    }


def right_of(scored: Scored, split: Split) -> str:
    """Say how many images of a split are right."""
    return f"{SPLITS[split]}, {scored.accuracy:.2%} of {scored.num_images:,} right"


def saved_figure(saved: SavedEvaluation, examples: Examples | None) -> Figure:
    """Return the confusion matrix of a saved evaluation; or, of its examples, the 12 surest mistakes of each cell."""
    split = Split(saved.split)
    if examples is None:
        return confusion_figure(saved, f"Confusion matrix: {right_of(saved, split)}")
    probabilities = np.zeros((len(examples), len(saved.class_names)))
    probabilities[np.arange(len(examples)), examples.predictions] = examples.confidences
    kept = Evaluation(saved.class_names, examples.indices, examples.labels, examples.predictions, probabilities, 0.0)
    return mistakes_figure(kept, examples.images, SPLITS[split], saved)


def confusion_figure(evaluation: Scored, title: str) -> Figure:
    """Return the confusion matrix alone, as large as its classes need."""
    side = _confusion_inches(evaluation.class_names)
    figure = Figure(figsize=(side, side), layout="constrained")
    _draw_confusion(figure.add_subplot(), evaluation, title)
    return figure


def mistakes_figure(
    evaluation: Evaluation, images: npt.NDArray[np.uint8], split: str, whole: Scored | None = None
) -> Figure:
    """Return the mistakes, the most confident first; `evaluation` may be a part of `whole`. Shapes: images N H W."""
    shown, scored = evaluation.mistakes[:_MOST_MISTAKES], whole or evaluation
    number = scored.num_images - scored.num_correct
    title = f"{split}: {counted(number, 'mistake')} in {scored.num_images:,} images"
    title += f"; the {len(shown)} most confident ones" if number > len(shown) else _IN_ORDER * (number > 1)
    return tiles_figure([mistake_tile(evaluation, images, k) for k in shown], title, "no mistakes")


def calibration_figure(evaluation: Evaluation, title: str) -> Figure:
    """Return accuracy against confidence, and below it how many images each bin holds."""
    figure = Figure(figsize=(5.0, 5.4), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    figure.suptitle(title, fontsize=TITLE_POINTS)
    tidy(upper)
    draw_calibration(upper, evaluation)
    upper.set_xlabel("")
    bins = evaluation.calibration
    tidy(lower)
    lower.grid(visible=False)
    lows, widths = [row.low for row in bins], [row.high - row.low for row in bins]
    lower.bar(lows, [row.num_images for row in bins], widths, align="edge", color=BLUE, edgecolor="white")
    plain_log_axis(lower.yaxis)
    lower.set(xlabel="confidence of the prediction [probability]", ylabel="images")
    figure.legend(*upper.get_legend_handles_labels(), loc="outside lower center", frameon=False, fontsize=8)
    return figure


def draw_calibration(axes: Axes, evaluation: Any) -> None:
    """Draw accuracy against confidence, bin by bin with 95 % intervals. Bins of few images are pale and unconnected.

    `evaluation` is an Evaluation or one that was read back: it has `calibration` and `expected_calibration_error`.
    """
    bins = evaluation.calibration
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, label="as sure as right")
    error = f"calibration error {evaluation.expected_calibration_error:.2%}"
    for has_few, label, look in ((False, error, "o-"), (True, f"fewer than {FEW_IMAGES} images", "o")):
        shown = [row for row in bins if (row.num_images < FEW_IMAGES) is has_few]
        if shown:
            ends = [wilson_interval(round(row.accuracy * row.num_images), row.num_images) for row in shown]
            accuracies = np.array([row.accuracy for row in shown])
            reach = np.abs(np.transpose(ends) - accuracies)
            style: dict[str, Any] = {"alpha": 0.35 if has_few else 1.0, "markersize": 5, "elinewidth": 0.8}
            confidences = [row.mean_confidence for row in shown]
            axes.errorbar(confidences, accuracies, reach, fmt=look, color=BLUE, linewidth=1.3, label=label, **style)
    axes.set(xlabel="confidence", ylabel="accuracy [fraction]", ylim=(-0.03, 1.03))


def _confusion_inches(class_names: Sequence[str]) -> float:
    """Return how wide and high a confusion matrix has to be."""
    longest = max(len(plain(name, _NAME_WIDTH)) for name in class_names)
    side = max(5.0, 1.6 + 0.42 * len(class_names)) if len(class_names) <= _MOST_NUMBERED else _INCHES_OF_MANY
    return side + (0.08 * longest if longest > 2 else 0)


def _draw_confusion(axes: Axes, scored: Scored, title: str) -> None:
    """Write counts into the cells: rows are true, columns predicted. Mistakes are coloured by their number.

    Of many classes there are colours only, and of very many no names.
    """
    matrix, names = scored.confusion_matrix, [plain(name, _NAME_WIDTH) for name in scored.class_names]
    num_classes = len(names)
    mistakes = matrix.astype(float)
    np.fill_diagonal(mistakes, 0)
    most = max(mistakes.max(), 2)
    axes.imshow(np.where(mistakes > 0, mistakes, np.nan), cmap="Oranges", norm=LogNorm(0.5, most))
    if num_classes <= _MOST_NUMBERED:
        for (row, column), number in np.ndenumerate(matrix):
            is_hit, is_dark = row == column, row != column and number > most / 2
            colour = "white" if is_dark else BLUE if is_hit else "black" if number else "#b0b0b0"
            style: dict[str, Any] = {"fontsize": 9, "fontweight": "bold" if is_hit else "normal", "color": colour}
            axes.text(column, row, f"{number}", ha="center", va="center", **style)
    if num_classes <= _MOST_NAMED:
        points = min(10.0, _POINTS_OF_MANY / num_classes)
        turned = 90 if 0.09 * max(map(len, names)) > max(3.4 / num_classes, 0.42) else 0
        axes.set_xticks(range(num_classes), names, fontsize=points, rotation=turned)
        axes.set_yticks(range(num_classes), names, fontsize=points)
        edges = np.arange(num_classes + 1) - 0.5
        axes.vlines(edges, -0.5, num_classes - 0.5, color="#d0d0d0", linewidth=0.6)
        axes.hlines(edges, -0.5, num_classes - 0.5, color="#d0d0d0", linewidth=0.6)
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.set_title(title, fontsize=TITLE_POINTS)


def draw_cross_validation(pooled: CrossValidation) -> Figure:
    """Draw plots/cross_validation.png, and return it: accuracies and loss curves of the folds, and the pooled matrix.

    Raises: StorageError.
    """
    side = _confusion_inches(pooled.class_names)
    figure = Figure(figsize=(side + 5.0, side), layout="constrained")
    ((left, right),) = figure.subfigures(1, 2, squeeze=False, width_ratios=(5.0, side))
    above, below = left.subplots(2, 1)
    _draw_accuracies(above, pooled)
    for number, result in enumerate(pooled.results):
        epochs, is_first = [row.epoch for row in result.history], number == 0
        train, val = [row.train_loss for row in result.history], [row.val_loss for row in result.history]
        below.plot(epochs, train, color=BLUE, linewidth=0.8, label="training" * is_first)
        below.plot(epochs, val, color=ORANGE, linewidth=0.8, linestyle="--", label="fold left out" * is_first)
    plain_log_axis(below.yaxis)
    below.set_title("Loss, in nats", fontsize=TITLE_POINTS)
    below.set_xlabel("epoch")
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(fontsize=8, frameon=False)
    _draw_confusion(right.add_subplot(), pooled, f"All folds: {pooled.accuracy:.2%} right")
    save_figure(figure, pooled.run.plots_path / "cross_validation.png")
    return figure


def _draw_accuracies(axes: Axes, pooled: CrossValidation) -> None:
    """Draw one dot per fold, and the mean with its interval."""
    numbers, num_folds = range(1, len(pooled.results) + 1), pooled.folds.num_folds
    style: dict[str, Any] = {"facecolor": "#e3ebf2", "edgecolor": GREY, "linewidth": 0.8}
    axes.axhspan(*pooled.accuracy_interval, label="95 % interval, new images", **style)
    axes.axhline(pooled.accuracy, color=BLUE, linewidth=1, label="all folds")
    axes.plot(numbers, pooled.accuracies, "o", color=ORANGE, label="one fold")
    for number in range(num_folds, len(pooled.results), num_folds):
        axes.axvline(number + 0.5, color=GREY, linewidth=0.8, linestyle=":")
    axes.set_title("Accuracy on the fold left out", fontsize=TITLE_POINTS)
    axes.set_xlabel("fold" if pooled.folds.num_repeats == 1 else "fold, repeat after repeat")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
