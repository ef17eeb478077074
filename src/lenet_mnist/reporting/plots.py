"""The pictures of a training: loss, accuracy, layers, learning rate. Each is drawn from the CSV files of the run.

`draw_*` draw into one pair of axes, which become a PNG in plots/ and an SVG in the report.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, MultipleLocator, PercentFormatter

from lenet_mnist.analysis.findings import TrainingRecord
from lenet_mnist.config import Schedule
from lenet_mnist.errors import one_line
from lenet_mnist.reporting.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    TITLE_POINTS,
    Figure,
    chart,
    plain,
    plain_log_axis,
    plain_numbers,
    save_figure,
    tidy,
)
from lenet_mnist.runs.run import Run
from lenet_mnist.training.probe import passed_gradients
from lenet_mnist.training.rows import EpochRow, Layer, ProbeRow

PICTURES = ("loss", "accuracy", "layers")
_LOWEST_LOSS, _HIGHEST_LOSS = 1e-6, 100.0  # in nats, and in times that of chance level: the rest is cut off
_IMAGES_PER_SIDE, _MOST_ROWS_PER_SIDE = 320, 20  # of a running mean
_MOST_DOTS = 60  # on a line: more would hide it
_MOST_POINTS = 2000  # of a line: more would be closer together than a pixel
_LARGEST = 1e30
_LABEL_WIDTH = 0.16  # of a rate, as a share of the axes
# From the input to the output; lines differ in dash as well as in colour.
_LAYERS = {
    Layer.C1: (BLUE, "-", "o"),
    Layer.C3: (ORANGE, "--", "s"),
    Layer.C5: (GREEN, "-.", "^"),
    Layer.F6: (PURPLE, ":", "v"),
    Layer.OUTPUT: (GREY, "-", "x"),
}


def draw_training(run: Run, note: Callable[[str], None]) -> None:
    """Draw plots/ from what a training has recorded, unless that is done.

    A training is worth more than its pictures: whatever goes wrong is one line of `note`.
    """
    pictures = [run.plots_path / f"{name}.png" for name in PICTURES]
    try:
        recorded = max(
            path.stat().st_mtime_ns for path in (run.history_path, run.steps_path, run.probe_path, run.manifest_path)
        )
        if all(path.exists() and path.stat().st_mtime_ns >= recorded for path in pictures):
            return
        for path in pictures:
            save_figure(training_figure(run.record, run.manifest.best_epoch, path.stem), path)
    except Exception as error:
        note(f"note: {run.plots_path}: not drawn: {one_line(str(error)) or type(error).__name__}")


def training_figure(record: TrainingRecord, best_epoch: int | None, name: str) -> Figure:
    """Return "loss", "accuracy" or "layers" of a training, whatever state it is in."""
    title = f"{name.capitalize()}: {plain(record.config.label)}"
    if name == "layers":
        return layers_figure(record, title)
    draw = {"loss": draw_loss, "accuracy": draw_accuracy}[name]
    return chart(lambda axes: draw(axes, record, best_epoch), title)


def draw_loss(axes: Axes, record: TrainingRecord, best_epoch: int | None) -> None:
    """Draw the loss from the first update on, on a log scale, next to chance level; a loss that explodes is cut off.

    With schedule plateau, mark where the rate was reduced.
    """
    history, chance = record.history, record.guessing_loss
    at, losses, means = loss_by_update(record)
    axes.plot(*_thinned(at, losses), color=BLUE, alpha=0.25, linewidth=0.6)
    axes.plot(*_thinned(at, means), color=BLUE, linewidth=1.3, label="training, running mean")
    _draw_validation(axes, history, "val_loss", best_epoch)
    axes.axhline(chance, color=GREY, linestyle=":", label=f"chance level: {chance:.2f}")
    if record.stop_reason == "diverged" and at:
        axes.axvline(at[-1], color=ORANGE, linewidth=1, linestyle="-.", label="diverged")
    free_from = 0.0  # behind the last label
    for before, after in pairwise(history):
        if after.lr < before.lr and record.config.training.schedule is Schedule.PLATEAU:
            axes.axvline(before.epoch, color=GREEN, linestyle=":", linewidth=1.2)
            if free_from <= before.epoch <= (1 - _LABEL_WIDTH) * len(history):  # where it fits
                place, words = (before.epoch, 0.99), f" lr {after.lr:.2g}"
                axes.text(*place, words, transform=axes.get_xaxis_transform(), va="top", fontsize=7, color=GREEN)
                free_from = before.epoch + _LABEL_WIDTH * len(history)
    drawn = [loss for loss in (*means, *(row.val_loss for row in history)) if loss > 0]
    low, high = min([chance / 2, *drawn]), max([chance * 1.5, *drawn])
    axes.set_ylim(max(low, _LOWEST_LOSS) / 1.2, min(high, _HIGHEST_LOSS * chance) * 1.2)
    plain_log_axis(axes.yaxis)
    _epoch_axis(axes, math.ceil(max([history[-1].epoch, *at])) if history else None)
    axes.set(xlabel="epoch" if history else "update", ylabel="cross-entropy [nats per image]")


def loss_by_update(record: TrainingRecord) -> tuple[list[float], list[float], list[float]]:
    """Return the training loss from the first update on: when, as fractions of epochs, each batch, and running means.

    A mean is over about 640 images, half of them before and half after. Where no epoch was completed, `when` counts
    updates. A loss that explodes would press all others flat: it is cut.
    """
    history, steps = record.history, record.steps
    per_epoch = history[0].step / history[0].epoch if history else 1.0
    losses = np.array([min(row.train_loss, _HIGHEST_LOSS * record.guessing_loss) for row in steps])
    reach = 2
    if history:
        reach = min(max(2, round(_IMAGES_PER_SIDE * per_epoch / record.num_train)), _MOST_ROWS_PER_SIDE)
    sides = [min(k, reach) for k in range(len(losses))]
    means = [float(losses[k - side : k + side + 1].mean()) for k, side in enumerate(sides)]
    return [row.step / per_epoch for row in steps], losses.tolist(), means


def draw_accuracy(axes: Axes, record: TrainingRecord, best_epoch: int | None) -> None:
    """Draw training and validation accuracy by epoch."""
    history = record.history
    if history:
        _draw_by_epoch(axes, history, "train_accuracy", color=BLUE, linestyle="--", label="training, while learning")
        _draw_validation(axes, history, "val_accuracy", best_epoch)
        low, high = axes.get_ylim()
        axes.set_ylim(min(low, high - 0.02), max(high, low + 0.02))
        axes.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    else:
        _say_inside(axes, "no epoch was completed")
        axes.set_yticks([])
    _epoch_axis(axes, history[-1].epoch if history else 1)
    axes.set(xlabel="epoch", ylabel="accuracy [% of the images]")


def _draw_validation(axes: Axes, history: Sequence[EpochRow], field: str, best_epoch: int | None) -> None:
    """Draw the validation curve, and mark the epoch whose weights were kept."""
    _draw_by_epoch(axes, history, field, color=ORANGE, linewidth=1.3, label="validation, after the epoch")
    for row in history:
        if row.epoch == best_epoch:
            style: dict[str, Any] = {"markersize": 9, "fillstyle": "none", "color": BLACK}
            axes.plot(row.epoch, getattr(row, field), "o", label=f"kept: epoch {best_epoch}", **style)


def _draw_by_epoch(axes: Axes, rows: Sequence[Any], field: str, marker: str = ".", **style: Any) -> None:
    """Draw one column of the rows, with dots unless they would hide the line; nothing if there are no rows."""
    xs, ys = _thinned([row.epoch for row in rows], [getattr(row, field) for row in rows])
    if xs:
        axes.plot(xs, ys, marker=marker if len(xs) <= _MOST_DOTS else "", **style)


def _epoch_axis(axes: Axes, last: int | None) -> None:
    """Let x go from before the first update to the last epoch, however few there are; None: it counts updates."""
    if last is not None:
        axes.set_xlim(-0.04 * max(last, 1), 1.04 * max(last, 1))
    is_short = last is not None and last < 8
    axes.xaxis.set_major_locator(MultipleLocator(1) if is_short else MaxNLocator(integer=True))


def _say_inside(axes: Axes, text: str) -> None:
    """Write into empty axes why they are empty."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", color=GREY, fontsize=8)


def layers_figure(record: TrainingRecord, title: str) -> Figure:
    """Return the four panels of the layers in one figure; epoch 0 is the moment before the first update."""
    figure = Figure(figsize=(8.4, 6.4), layout="constrained")
    figure.suptitle(title, fontsize=TITLE_POINTS)
    panels = figure.subplots(2, 2, sharex=True).flat
    for axes, (name, draw) in zip(panels, layer_panels(record).items(), strict=True):
        tidy(axes)
        draw(axes)
        axes.set_title(name, fontsize=8)
        axes.set(xlabel="epoch" if axes in figure.axes[2:] else "", ylabel="")
    if record.probe:
        handles = max((axes.get_legend_handles_labels() for axes in figure.axes), key=lambda found: len(found[0]))
        figure.legend(*handles, loc="outside lower center", ncols=len(Layer), frameon=False, fontsize=9)
    return figure


def layer_panels(record: TrainingRecord) -> dict[str, Callable[[Axes], None]]:
    """Return what draws gradients, updates, saturated and dead units of each layer by epoch, each with its title."""
    probe, flat = record.probe, record.flat
    inner, updated = [row for row in probe if row.layer is not Layer.OUTPUT], [row for row in probe if row.epoch > 0]
    passing, words = passed_gradients(probe)
    last = max((row.epoch for row in probe), default=0)
    panels: dict[str, tuple[Sequence[ProbeRow], str, str]] = {
        f"gradient of the weights, Euclidean norm\n{words}": (passing, "gradient_norm", "norm of the gradient"),
        "last update of the epoch / weights, norms": (updated, "update_ratio", "update / weights"),
        f"outputs that are {flat}": (inner, "saturated", "share of the outputs"),
        f"dead: units that are {flat} on all images of the probe": (inner, "dead", "share of the units"),
    }
    return {title: partial(_draw_layers, panel=panel, last=last) for title, panel in panels.items()}


def _draw_layers(axes: Axes, panel: tuple[Sequence[ProbeRow], str, str], last: int) -> None:
    rows, field, label = panel
    for layer, (color, dash, marker) in _LAYERS.items():
        style = {"color": color, "linestyle": dash, "label": layer.value, "markersize": 4, "linewidth": 1.3}
        _draw_by_epoch(axes, [row for row in rows if row.layer is layer], field, marker, **style)
    if label.startswith("share"):
        axes.set_ylim(-0.03, 1.03)
        axes.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    else:
        if not axes.lines:
            _say_inside(axes, "nothing was recorded" if last > 0 else "no epoch was completed")
        _log_axis_with_zero(axes)
    _epoch_axis(axes, last)
    axes.set(xlabel="epoch", ylabel=label)


def _log_axis_with_zero(axes: Axes) -> None:
    """Make y logarithmic; where there are zeros, linear below a power of ten, so that they have a place."""
    values = np.concatenate([np.zeros(0), *(np.asarray(line.get_ydata(), dtype=float) for line in axes.lines)])
    seen = values[np.isfinite(values) & (values > 0)]
    low, high = (seen.min(), seen.max()) if len(seen) else (0.1, 1.0)
    axes.set_ylim(low / 1.5, high * 1.5)
    plain_log_axis(axes.yaxis)
    if (values == 0).any():
        threshold = 10.0 ** math.floor(math.log10(low))
        axes.set_yscale("symlog", linthresh=threshold)
        axes.set_ylim(-threshold / 5, high * 1.5)
        axes.yaxis.set_major_formatter(plain_numbers())


def draw_rate(axes: Axes, record: TrainingRecord) -> None:
    """Draw the learning rate by update."""
    xs, ys = _thinned([row.step for row in record.steps], [row.lr for row in record.steps])
    axes.plot(xs, ys, color=BLUE, linewidth=1.3, label="learning rate")
    axes.set(xlabel="update", ylabel="learning rate", ylim=(0, None))


def _thinned(xs: Sequence[float], ys: Sequence[float]) -> tuple[list[float], list[float]]:
    """Thin out the points of a line: evenly spaced, with the first and the last.

    A number of a damaged file that no axis can show is a gap.
    """
    chosen = np.unique(np.linspace(0, len(xs) - 1, min(len(xs), _MOST_POINTS)).round().astype(int))
    return [xs[k] for k in chosen], [ys[k] if abs(ys[k]) < _LARGEST else math.nan for k in chosen]
