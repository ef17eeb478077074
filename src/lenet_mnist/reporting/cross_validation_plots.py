"""The picture of a cross-validation: every fold's accuracy and loss curve, and all mistakes together.

Drawn from what folds.csv, fold_history.csv and confusion_matrix.csv of the run hold.
"""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from lenet_mnist.analysis.folds import CrossValidation
from lenet_mnist.files.storage import make_directory
from lenet_mnist.reporting.plots import confusion_inches, draw_confusion
from lenet_mnist.reporting.style import BLUE, GREY, ORANGE, TITLE_POINTS, bare, plain_log_axis, save_figure
from lenet_mnist.study.cross_validation import CrossValidatedRun


def draw_cross_validated_run(validated: CrossValidatedRun) -> None:
    """Draw plots/cross_validation.png. Raises: StorageError."""
    make_directory(validated.directory.plots_path)
    figure = cross_validation_figure(validated.pooled)
    save_figure(figure, validated.directory.plots_path / "cross_validation.png")


def cross_validation_figure(pooled: CrossValidation) -> Figure:
    """Accuracies to the left, loss curves below, the pooled confusion matrix to the right."""
    side = confusion_inches(pooled.class_names)
    figure = Figure(figsize=(side + 5.0, side), layout="constrained")
    ((left, right),) = figure.subfigures(1, 2, squeeze=False, width_ratios=(5.0, side))
    above, below = left.subplots(2, 1)
    _draw_accuracies(above, pooled)
    _draw_curves(below, pooled)
    title = f"All folds together: {pooled.accuracy:.2%} right"
    draw_confusion(right.add_subplot(), pooled.confusion_matrix, pooled.class_names, title)
    return figure


def _draw_accuracies(axes: Axes, pooled: CrossValidation) -> None:
    """One dot a fold; the mean with its interval beside them."""
    low, high = pooled.interval
    numbers = range(1, len(pooled.results) + 1)
    axes.axhspan(low, high, facecolor="#e3ebf2", edgecolor=GREY, linewidth=0.8, label="95 % interval, new images")
    axes.axhline(pooled.accuracy, color=BLUE, linewidth=1, label="all folds")
    axes.plot(numbers, pooled.accuracies, "o", color=ORANGE, label="one fold")
    for number in range(pooled.folds.num_folds, len(pooled.results), pooled.folds.num_folds):
        axes.axvline(number + 0.5, color=GREY, linewidth=0.8, linestyle=":")
    axes.set_title("Accuracy on the fold left out", fontsize=TITLE_POINTS)
    axes.set_xlabel("fold" if pooled.folds.num_repeats == 1 else "fold, repeat after repeat")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.legend(fontsize=8, frameon=False)
    bare(axes)


def _draw_curves(axes: Axes, pooled: CrossValidation) -> None:
    """The loss of each fold, epoch by epoch, on what it was trained on and on what it was not."""
    for number, result in enumerate(pooled.results):
        epochs = [row.epoch for row in result.history]
        first = number == 0
        axes.plot(
            epochs, [row.train_loss for row in result.history], color=BLUE, linewidth=0.8, label="training" * first
        )
        axes.plot(
            epochs,
            [row.val_loss for row in result.history],
            color=ORANGE,
            linewidth=0.8,
            linestyle="--",
            label="fold left out" * first,
        )
    plain_log_axis(axes.yaxis)
    axes.set_title("Loss, in nats", fontsize=TITLE_POINTS)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=8, frameon=False)
    bare(axes)
