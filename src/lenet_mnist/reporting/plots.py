"""The pictures of a run. Each is drawn from values that also lie in a CSV or JSON file of the run."""

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from lenet_mnist.analysis.findings import TrainingRecord
from lenet_mnist.analysis.intervals import wilson_interval
from lenet_mnist.analysis.metrics import FEW_IMAGES, CalibrationBin, Counts, Evaluation
from lenet_mnist.config import Schedule, Split
from lenet_mnist.files.storage import make_directory
from lenet_mnist.reporting.gallery import mistake_tile, tiles_figure
from lenet_mnist.reporting.layer_plots import layers_figure
from lenet_mnist.reporting.report_training import HIGHEST_LOSS, loss_by_update
from lenet_mnist.reporting.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    TITLE_POINTS,
    bare,
    epoch_axis,
    plain,
    plain_log_axis,
    save_figure,
)
from lenet_mnist.study.ensemble import EvaluatedEnsemble
from lenet_mnist.study.evaluation import EvaluatedRun
from lenet_mnist.training.rows import EpochRow

_COLUMN_INCHES = (5.0, 4.0)
_SPLITS = {Split.VAL: "validation set", Split.TEST: "test set"}
_LOWEST_LOSS = 1e-6  # in nats: what is below leaves the picture
# Of a confusion matrix: up to how many classes its numbers, and its names, can be read.
_MOST_NUMBERED, _MOST_NAMED = 26, 100
_INCHES_OF_MANY, _POINTS_OF_MANY = 12.0, 600.0
_NAME_WIDTH = 20


def draw_record(record: TrainingRecord, best_epoch: int | None, directory: Path) -> None:
    """Draw a training, however far it has come. Raises: StorageError."""
    label = plain(record.config.label)
    make_directory(directory)
    for name, figure in {
        "loss": loss_figure(record, best_epoch, f"Loss: {label}"),
        "accuracy": accuracy_figure(record, best_epoch, f"Accuracy: {label}"),
        "layers": layers_figure(record, f"Layers: {label}"),
    }.items():
        save_figure(figure, directory / f"{name}.png")


def draw_evaluation(seen: EvaluatedRun | EvaluatedEnsemble) -> None:
    """Draw what one look at a split has given, of a run or of several together. Raises: StorageError."""
    evaluation, split = seen.evaluation, _SPLITS[seen.split]
    together = f"{len(seen.members)} networks together, " if len(seen.members) > 1 else ""
    of_split = f"{together}{split}, {evaluation.accuracy:.2%} of {len(evaluation):,} right"
    images = seen.members[0].images.images.numpy()
    for name, figure in {
        "confusion_matrix": confusion_figure(evaluation, f"Confusion matrix: {of_split}"),
        "misclassified": gallery_figure(evaluation, images, split),
        "calibration": calibration_figure(evaluation, f"Calibration: {of_split}"),
    }.items():
        save_figure(figure, seen.directory / f"{name}.png")


def loss_figure(record: TrainingRecord, best_epoch: int | None, title: str) -> Figure:
    """The loss from the first update on, on a log scale, beside that of guessing; what rises out of sight is cut off.

    With schedule plateau also where it reduced the rate.
    """
    figure, axes = _column_figure(title)
    history, guessing = record.history, record.guessing_loss
    at, losses, means = loss_by_update(history, record.steps, record.num_train, guessing)
    axes.plot(at, losses, color=BLUE, alpha=0.25, linewidth=0.6)
    axes.plot(at, means, color=BLUE, linewidth=1.3, label="training, running mean")
    _mark_epochs(axes, history, [row.val_loss for row in history], best_epoch)
    axes.axhline(guessing, color=GREY, linestyle=":", label=f"guessing: {guessing:.2f}")
    if record.stop_reason == "diverged" and at:
        axes.axvline(at[-1], color=ORANGE, linewidth=1, linestyle="-.", label="diverged")
    if record.config.training.schedule is Schedule.PLATEAU:
        for before, after in pairwise(history):
            if after.lr < before.lr:
                axes.axvline(before.epoch, color=GREEN, linestyle=":", linewidth=1.2)
                place = (before.epoch, 0.99)
                text = f" lr {after.lr:.2g}"
                axes.text(*place, text, transform=axes.get_xaxis_transform(), va="top", fontsize=7, color=GREEN)
    drawn = [loss for loss in (*means, *(row.val_loss for row in history)) if loss > 0]
    low, high = min([guessing / 2, *drawn]), max([guessing * 1.5, *drawn])
    axes.set_ylim(max(low, _LOWEST_LOSS) / 1.2, min(high, HIGHEST_LOSS * guessing) * 1.2)
    plain_log_axis(axes.yaxis)
    if history:
        epoch_axis(axes, math.ceil(max([history[-1].epoch, *at])))
    axes.set_xlabel("epoch" if history else "update")
    axes.set_ylabel("cross-entropy [nats per image]")
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    return figure


def accuracy_figure(record: TrainingRecord, best_epoch: int | None, title: str) -> Figure:
    """Training and validation accuracy by epoch."""
    figure, axes = _column_figure(title)
    history = record.history
    if history:
        epochs, train = [row.epoch for row in history], [row.train_accuracy for row in history]
        axes.plot(epochs, train, color=BLUE, linestyle="--", marker=".", label="training, while learning")
        _mark_epochs(axes, history, [row.val_accuracy for row in history], best_epoch)
        low, high = axes.get_ylim()
        axes.set_ylim(min(low, high - 0.02), max(high, low + 0.02))
        axes.yaxis.set_major_formatter(PercentFormatter(xmax=1))
        figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    else:
        axes.text(0.5, 0.5, "no epoch was completed", transform=axes.transAxes, ha="center", color=GREY)
        axes.set_yticks([])
    epoch_axis(axes, history[-1].epoch if history else 1)
    axes.set_xlabel("epoch")
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
    longest = max(len(plain(name, _NAME_WIDTH)) for name in class_names)
    side = max(5.0, 1.6 + 0.42 * len(class_names)) if len(class_names) <= _MOST_NUMBERED else _INCHES_OF_MANY
    return side + (0.08 * longest if longest > 2 else 0)


def draw_confusion(axes: Axes, matrix: Counts, class_names: Sequence[str], title: str) -> None:
    """Counts in every cell: rows are true, columns predicted. Mistakes are coloured by their number, hits are not.

    Of many classes there are colours only, and of very many no names.
    """
    names, num_classes = [plain(name, _NAME_WIDTH) for name in class_names], len(class_names)
    has_numbers = num_classes <= _MOST_NUMBERED
    mistakes = matrix.astype(float)
    np.fill_diagonal(mistakes, 0)
    most = max(mistakes.max(), 2)
    axes.imshow(np.where(mistakes > 0, mistakes, np.nan), cmap="Oranges", norm=LogNorm(0.5, most))
    if has_numbers:
        _write_numbers(axes, matrix, most)
    if num_classes <= _MOST_NAMED:
        letters = min(10.0, _POINTS_OF_MANY / num_classes)
        turned = 90 if 0.09 * max(map(len, names)) > max(3.4 / num_classes, 0.42) else 0
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


def gallery_figure(evaluation: Evaluation, images: npt.NDArray[np.uint8], split: str, most: int = 40) -> Figure:
    """The mistakes, most confident first. Shapes: images N H W, in the order of `evaluation`."""
    shown, number = evaluation.mistakes[:most], len(evaluation.mistakes)
    title = f"{split}: {number:,} {'mistake' if number == 1 else 'mistakes'} in {len(evaluation):,} images"
    title += f"; the {most} that the network was surest of" if number > most else ", the surest first" * (number > 1)
    return tiles_figure([mistake_tile(evaluation, images, k) for k in shown], title, "no mistakes")


def calibration_figure(evaluation: Evaluation, title: str) -> Figure:
    """Accuracy against confidence, bin by bin with its 95 % interval, and how many images each bin holds.

    Bins of few images are pale, and the line passes them over.
    """
    figure = Figure(figsize=(5.0, 5.4), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    figure.suptitle(title, fontsize=TITLE_POINTS)
    bins = evaluation.calibration
    upper.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, label="as sure as right")
    error = f"this network: expected calibration error {evaluation.expected_calibration_error:.2%}, by images"
    told = [row for row in bins if row.num_images >= FEW_IMAGES]
    _draw_bins(upper, told, error, "o-", 1.0)
    few = f"fewer than {FEW_IMAGES} images: little is known"
    _draw_bins(upper, [row for row in bins if row.num_images < FEW_IMAGES], few, "o", 0.35)
    upper.set_ylabel("accuracy [fraction]")
    upper.set_ylim(-0.03, 1.03)
    upper.grid(color="#e6e6e6")
    bars = lower.bar(
        [(row.low + row.high) / 2 for row in bins],
        [row.num_images for row in bins],
        width=[0.9 * (row.high - row.low) for row in bins],
        color=[BLUE if row.num_images >= FEW_IMAGES else "#a6cbe3" for row in bins],
    )
    lower.bar_label(bars, [f"{row.num_images:,}" for row in bins], fontsize=6, padding=1)
    lower.set_ylim(0.5, 4.0 * max(row.num_images for row in bins))
    plain_log_axis(lower.yaxis)
    lower.set_ylabel("images")
    lower.set_xlabel("confidence: probability of the predicted class")
    lower.set_xlim(0, 1)
    for axes in (upper, lower):
        bare(axes)
    figure.legend(loc="outside lower center", frameon=False, fontsize=8)
    return figure


def _draw_bins(axes: Axes, bins: Sequence[CalibrationBin], label: str, look: str, alpha: float) -> None:
    if bins:
        intervals = [wilson_interval(round(row.accuracy * row.num_images), row.num_images) for row in bins]
        accuracies = [row.accuracy for row in bins]
        below = [max(row.accuracy - each.low, 0.0) for row, each in zip(bins, intervals, strict=True)]
        above = [max(each.high - row.accuracy, 0.0) for row, each in zip(bins, intervals, strict=True)]
        confidences = [row.mean_confidence for row in bins]
        axes.errorbar(
            confidences, accuracies, [below, above], fmt=look, color=BLUE, alpha=alpha, elinewidth=0.8, label=label
        )


def _column_figure(title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=_COLUMN_INCHES, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=TITLE_POINTS)
    axes.grid(color="#e6e6e6")
    axes.set_axisbelow(True)
    bare(axes)
    return figure, axes


def _mark_epochs(axes: Axes, history: Sequence[EpochRow], val: Sequence[float], best_epoch: int | None) -> None:
    """Draw the validation curve, and mark the epoch whose weights were kept."""
    axes.plot(
        [row.epoch for row in history], val, color=ORANGE, marker=".", linewidth=1.3, label="validation, after an epoch"
    )
    for row, value in zip(history, val, strict=True):
        if row.epoch == best_epoch:
            label = f"kept: epoch {best_epoch}"
            axes.plot([best_epoch], [value], "o", markersize=9, fillstyle="none", color="black", label=label)
