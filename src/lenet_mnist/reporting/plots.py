"""The pictures of a run. Each is drawn from values that also lie in a CSV or JSON file of the run."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from lenet_mnist.analysis.evaluate import Counts, Evaluation
from lenet_mnist.config import Schedule
from lenet_mnist.experiments.ensemble import EvaluatedEnsemble
from lenet_mnist.experiments.evaluation import EvaluatedRun
from lenet_mnist.files.storage import make_directory
from lenet_mnist.reporting.gallery import mistake_tile, tiles_figure
from lenet_mnist.reporting.layer_plots import layers_figure
from lenet_mnist.reporting.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    TITLE_POINTS,
    bare,
    plain,
    plain_log_axis,
    save_figure,
)
from lenet_mnist.training.loop import EpochRow

_COLUMN_INCHES = (5.0, 3.6)
# Of a confusion matrix: up to how many classes its numbers, and its names, can be read.
_MOST_NUMBERED, _MOST_NAMED = 26, 100
_INCHES_OF_MANY, _POINTS_OF_MANY = 12.0, 600.0
_NAME_LETTERS = 20


def draw_evaluated_run(seen: EvaluatedRun) -> None:
    """Draw every picture of a run that can be drawn after an evaluation, beside the files that hold its values.

    Raises: StorageError.
    """
    evaluation, split, config, history = seen.evaluation, seen.split.value, seen.config, seen.history
    of_split = f"{split} set, {evaluation.accuracy:.2%} of {len(evaluation):,} right"
    mistakes = f"{split} set: {len(evaluation.mistakes)} mistakes, the most confident first"
    best_epoch = seen.metrics["best_epoch"] or 0
    in_split = {
        "confusion_matrix": confusion_figure(evaluation, f"Confusion matrix: {of_split}"),
        "misclassified": gallery_figure(evaluation, seen.images.images.numpy(), mistakes),
        "calibration": calibration_figure(evaluation, f"Calibration: {of_split}"),
    }
    of_training = {
        "loss": loss_figure(history, best_epoch, f"Loss: {config.label}", config.training.schedule),
        "accuracy": accuracy_figure(history, best_epoch, f"Accuracy: {config.label}"),
        "layers": layers_figure(seen.probe, config.model.activation, f"Layers: {config.label}"),
    }
    make_directory(seen.run.plots_path)
    for directory, figures in ((seen.directory, in_split), (seen.run.plots_path, of_training)):
        for name, figure in figures.items():
            save_figure(figure, directory / f"{name}.png")


def draw_evaluated_ensemble(seen: EvaluatedEnsemble) -> None:
    """Draw what can be drawn of several runs' mean prediction. Raises: StorageError."""
    evaluation, split = seen.evaluation, seen.split.value
    of_split = f"{len(seen.members)} networks together, {split} set, {evaluation.accuracy:.2%} of {len(evaluation):,}"
    mistakes = f"{split} set: {len(evaluation.mistakes)} mistakes, the most confident first"
    images = seen.members[0].images.images.numpy()
    for name, figure in {
        "confusion_matrix": confusion_figure(evaluation, of_split),
        "misclassified": gallery_figure(evaluation, images, mistakes),
        "calibration": calibration_figure(evaluation, of_split),
    }.items():
        save_figure(figure, seen.directory / f"{name}.png")


def loss_figure(
    history: Sequence[EpochRow], best_epoch: int, title: str, schedule: Schedule = Schedule.LINEAR
) -> Figure:
    """Training and validation loss by epoch, on a log scale; with schedule plateau also where it reduced the rate."""
    figure, axes = _column_figure(title)
    if schedule is Schedule.PLATEAU:
        for before, after in pairwise(history):
            if after.lr < before.lr:
                axes.axvline(before.epoch, color=GREEN, linestyle=":", linewidth=1.2)
                place = (before.epoch, 0.99)
                text = f" lr {after.lr:.2g}"
                axes.text(*place, text, transform=axes.get_xaxis_transform(), va="top", fontsize=7, color=GREEN)
    _train_and_val(
        axes,
        history,
        [row.train_loss for row in history],
        [row.val_loss for row in history],
        best_epoch,
        "lower left",
    )
    plain_log_axis(axes)
    axes.set_ylabel("cross-entropy [nats per image]")
    return figure


def accuracy_figure(history: Sequence[EpochRow], best_epoch: int, title: str) -> Figure:
    """Training and validation accuracy by epoch."""
    figure, axes = _column_figure(title)
    _train_and_val(
        axes,
        history,
        [row.train_accuracy for row in history],
        [row.val_accuracy for row in history],
        best_epoch,
        "lower right",
    )
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    axes.set_ylabel("accuracy [% of the images]")
    return figure


def confusion_figure(evaluation: Evaluation, title: str) -> Figure:
    """The confusion matrix alone, as large as its classes need."""
    side = confusion_inches(evaluation.class_names)
    figure = Figure(figsize=(side, side), layout="constrained")
    draw_confusion(figure.add_subplot(), evaluation.confusion_matrix, evaluation.class_names, title)
    return figure


def confusion_inches(class_names: Sequence[str]) -> float:
    """Return how wide and high a confusion matrix is to be."""
    longest = max(len(plain(name, _NAME_LETTERS)) for name in class_names)
    side = max(5.0, 1.6 + 0.42 * len(class_names)) if len(class_names) <= _MOST_NUMBERED else _INCHES_OF_MANY
    return side + (0.08 * longest if longest > 2 else 0)


def draw_confusion(axes: Axes, matrix: Counts, class_names: Sequence[str], title: str) -> None:
    """Counts in every cell: rows are true, columns predicted. Mistakes are coloured by their number, hits are not.

    Of many classes there are colours only, and of very many no names.
    """
    names, num_classes = [plain(name, _NAME_LETTERS) for name in class_names], len(class_names)
    has_numbers = num_classes <= _MOST_NUMBERED
    mistakes = matrix.astype(float)
    np.fill_diagonal(mistakes, 0)
    most = max(mistakes.max(), 2)
    axes.imshow(np.where(mistakes > 0, mistakes, np.nan), cmap="Oranges", norm=LogNorm(0.5, most))
    if has_numbers:
        _write_numbers(axes, matrix, most)
    if num_classes <= _MOST_NAMED:
        letters = min(10.0, _POINTS_OF_MANY / num_classes)
        turned = 90 if max(map(len, names)) > 2 else 0
        axes.set_xticks(range(num_classes), names, fontsize=letters, rotation=turned)
        axes.set_yticks(range(num_classes), names, fontsize=letters)
        axes.set_xticks(np.arange(num_classes + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(num_classes + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="#d0d0d0", linewidth=0.6)
        axes.tick_params(which="minor", length=0)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    axes.set_title(title, fontsize=TITLE_POINTS)


def _write_numbers(axes: Axes, matrix: npt.NDArray[np.int64], most: float) -> None:
    """Write a number into each cell, white where the ground is dark."""
    for (row, column), number in np.ndenumerate(matrix):
        dark = row != column and number > most / 2
        axes.text(
            column,
            row,
            f"{number}",
            ha="center",
            va="center",
            fontsize=9,
            fontweight="bold" if row == column else "normal",
            color="white" if dark else BLUE if row == column else "black" if number else "#b0b0b0",
        )


def gallery_figure(evaluation: Evaluation, images: npt.NDArray[np.uint8], title: str, limit: int = 40) -> Figure:
    """The mistakes, most confident first. Shapes: images N H W, in the order of `evaluation`."""
    return tiles_figure(
        [mistake_tile(evaluation, images, k) for k in evaluation.mistakes[:limit]], title, "no mistakes"
    )


def calibration_figure(evaluation: Evaluation, title: str) -> Figure:
    """Accuracy against confidence, bin by bin, and how many images each bin holds."""
    figure = Figure(figsize=(5.0, 5.0), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    figure.suptitle(title, fontsize=TITLE_POINTS)
    bins = evaluation.calibration
    upper.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, label="as sure as right")
    upper.plot(
        [row.mean_confidence for row in bins],
        [row.accuracy for row in bins],
        color=BLUE,
        marker="o",
        linewidth=1.2,
        label=f"this network (expected calibration error {evaluation.expected_calibration_error:.2%})",
    )
    upper.set_ylabel("accuracy [fraction]")
    upper.set_ylim(-0.03, 1.03)
    upper.legend(loc="upper left", frameon=False, fontsize=8)
    upper.grid(color="#e6e6e6")
    centres = [(row.low + row.high) / 2 for row in bins]
    widths = [0.9 * (row.high - row.low) for row in bins]
    lower.bar(centres, [row.num_images for row in bins], width=widths, color=BLUE)
    lower.set_yscale("log")
    lower.set_ylabel("images")
    lower.set_xlabel("confidence: probability of the predicted class")
    lower.set_xlim(0, 1)
    for axes in (upper, lower):
        bare(axes)
    return figure


def _column_figure(title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=_COLUMN_INCHES, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=TITLE_POINTS)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(color="#e6e6e6", which="both")
    axes.set_axisbelow(True)
    bare(axes)
    return figure, axes


def _train_and_val(
    axes: Axes,
    history: Sequence[EpochRow],
    train: Sequence[float],
    val: Sequence[float],
    best_epoch: int,
    legend_place: Literal["lower left", "lower right"],
) -> None:
    """Draw the two curves and mark the epoch whose weights were kept."""
    epochs = [row.epoch for row in history]
    axes.plot(epochs, train, color=BLUE, linestyle="--", marker=".", label="training (while learning)")
    axes.plot(epochs, val, color=ORANGE, marker=".", label="validation (after the epoch)")
    for row, value in zip(history, val, strict=True):
        if row.epoch == best_epoch:
            label = f"kept: epoch {best_epoch}"
            axes.plot([best_epoch], [value], "o", markersize=9, fillstyle="none", color="black", label=label)
    axes.legend(loc=legend_place, frameon=False, fontsize=8)
