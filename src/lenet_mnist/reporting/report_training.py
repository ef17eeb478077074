"""The course of a training, as a report shows it: curves, what the probe saw, the learning rate."""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from lenet_mnist.config import Activation, Config
from lenet_mnist.errors import DataError
from lenet_mnist.reporting.charts import Axis, Chart, Series, line_chart, thinned
from lenet_mnist.reporting.text import plain_number
from lenet_mnist.runs.manifest import Manifest
from lenet_mnist.runs.run import Run
from lenet_mnist.training.probe import flat_word, passed_gradients
from lenet_mnist.training.rows import EpochRow, Layer, ProbeRow, StepRow

_LOOKS = (0, 1, 4)  # of training, validation, and what they are to be measured by
HIGHEST_LOSS = 100.0  # times that of guessing
_IMAGES_TO_A_SIDE, _MOST_ROWS_TO_A_SIDE = 320, 20
_MOST_TABLE_ROWS = 60


@dataclass(frozen=True)
class Curves:
    """The two curves, and the numbers behind them; of very many epochs some."""

    loss: Chart
    accuracy: Chart
    rows: tuple[EpochRow, ...]
    num_epochs: int
    best_epoch: int | None


@dataclass(frozen=True)
class Rates:
    """The learning rate: how it moved, and where it came from."""

    chart: Chart | None
    facts: tuple[tuple[str, str], ...]


def loss_by_update(
    history: Sequence[EpochRow], steps: Sequence[StepRow], num_train: int, guessing_loss: float
) -> tuple[list[float], list[float], list[float]]:
    """Return the training loss from the first update on: when, as fractions of epochs, each batch, and running means.

    A mean is over some 640 images, as many before as behind: the first is that of the first batch alone. Where no
    epoch was completed, the updates are counted. A loss that rises without end would press all others flat: it is cut.
    """
    per_epoch = history[0].step / history[0].epoch if history else 1.0
    losses = np.array([min(row.train_loss, HIGHEST_LOSS * guessing_loss) for row in steps])
    reach = min(max(2, round(_IMAGES_TO_A_SIDE * per_epoch / num_train)), _MOST_ROWS_TO_A_SIDE) if history else 2
    sides = [min(k, reach) for k in range(len(losses))]
    means = [float(losses[k - side : k + side + 1].mean()) for k, side in enumerate(sides)]
    return [row.step / per_epoch for row in steps], losses.tolist(), means


def curves_of(run: Run, manifest: Manifest) -> Curves:
    """Return the curves of a training. Raises: DataError if there are none."""
    history, steps = run.history, _steps_of(run)
    if not history and not steps:
        raise DataError("No update has been recorded, so there is nothing to draw.")
    best = next((row for row in history if row.epoch == manifest.best_epoch), None)
    guessing = manifest.guessing_loss
    at, _, means = loss_by_update(history, steps, manifest.num_train, guessing)
    train = list(zip(at, means, strict=True)) or [(float(row.epoch), row.train_loss) for row in history]
    losses = [loss for _, loss in train] + [row.val_loss for row in history]
    x_label = "epoch" if history else "update"
    return Curves(
        loss=_curve(
            f"Loss by {x_label}",
            {
                "training": train,
                "validation, after the epoch": [(row.epoch, row.val_loss) for row in history],
                f"guessing: {guessing:.2f}": [(0.0, guessing), (train[-1][0], guessing)],
            },
            (best.epoch, best.val_loss) if best else None,
            "nats per image",
            Axis.around([guessing, *losses], is_log=True),
        ),
        accuracy=_curve(
            "Accuracy by epoch",
            {
                "training, while learning": [(row.epoch, row.train_accuracy) for row in history],
                "validation, after the epoch": [(row.epoch, row.val_accuracy) for row in history],
            },
            (best.epoch, best.val_accuracy) if best else None,
            "share of the images",
            Axis.around([part for row in history for part in (row.train_accuracy, row.val_accuracy)], is_percent=True),
        ),
        rows=tuple(thinned(history, _MOST_TABLE_ROWS)),
        num_epochs=len(history),
        best_epoch=None if best is None else best.epoch,
    )


def probe_charts(run: Run, activation: Activation) -> list[Chart]:
    """Return gradients, updates, saturated and dead units by epoch. Raises: DataError if nothing was looked at."""
    probe = run.probe
    if not probe:
        raise DataError("Nothing was recorded of what goes on inside.")
    flat, fraction = flat_word(activation), Axis(-0.03, 1.03, is_log=False, is_percent=True)
    inner = [row for row in probe if row.layer is not Layer.OUTPUT]
    updated = [row for row in probe if row.epoch > 0]
    passing, words = passed_gradients(probe)
    gradients, updates = [row.gradient_norm for row in passing], [row.update_ratio for row in updated]
    charts = [
        _layers(
            "Gradients", passing, lambda row: row.gradient_norm, "norm of the gradient", Axis.around(gradients, True)
        ),
        _layers("Updates", updated, lambda row: row.update_ratio, "last update / weights", Axis.around(updates, True)),
        _layers(f"Outputs that are {flat}", inner, lambda row: row.saturated, "share of the outputs", fraction),
        _layers("Dead units", inner, lambda row: row.dead, f"share of units always {flat}", fraction),
    ]
    charts[0] = replace(charts[0], note=f"{words.capitalize()}. {charts[0].note}" if words else charts[0].note)
    return [chart for chart in charts if chart.lines]


def rates_of(run: Run, config: Config, manifest: Manifest) -> Rates:
    """Return how the learning rate moved, and where it came from. Raises: DataError."""
    training, steps = config.training, run.steps
    facts = [
        ("peak rate", plain_number(training.learning_rate) if isinstance(training.learning_rate, float) else "auto"),
        ("chosen", _origin(manifest)),
        ("optimizer", f"{training.optimizer}, momentum {training.momentum:g}, weight decay {training.weight_decay:g}"),
        ("schedule", f"{training.schedule}, after a warm-up of {training.warmup:.0%} of all updates"),
    ]
    if not steps:
        return Rates(None, tuple(facts))
    return Rates(_rate_chart(steps), tuple(facts))


def _rate_chart(steps: Sequence[StepRow]) -> Chart:
    peak, first, last = max(steps, key=lambda row: row.lr), steps[0], steps[-1]
    alt = (
        f"Learning rate by update: {plain_number(first.lr)} at update {first.step}, at most {plain_number(peak.lr)} at "
        f"update {peak.step}, {plain_number(last.lr)} at update {last.step}."
    )
    axis = Axis.around([0.0, *(row.lr for row in steps)])
    series = [Series("learning rate", 0, [(row.step, row.lr) for row in steps])]
    return line_chart("Learning rate", alt, series, "update", "learning rate", axis)


def _origin(manifest: Manifest) -> str:
    """Say where the learning rate came from. What a search has written is not trusted."""
    try:
        tuning = manifest.tuning or {}
        lr, low, high, cost = (float(tuning[name]) for name in ("lr", "low", "high", "cost_epochs"))
    except (KeyError, TypeError, ValueError, OverflowError):
        return "in the configuration"
    return (
        f"by a search of {cost:.1f} epochs: {plain_number(lr)}, between {plain_number(low)} and {plain_number(high)} "
        f"{'with about 95% confidence' if tuning.get('is_fitted') is True else 'as far as it could tell'}"
    )


def _steps_of(run: Run) -> list[StepRow]:
    """Return what was recorded of single updates, or nothing if that is damaged."""
    with suppress(DataError):
        return run.steps
    return []


def _curve(
    title: str, lines: dict[str, Sequence[tuple[float, float]]], kept: tuple[int, float] | None, unit: str, axis: Axis
) -> Chart:
    """Draw training, validation and guessing from the first update on; mark the epoch whose weights were kept."""
    what, _, x_label = title.partition(" by ")
    words = [f"{name} {_from_to(points, axis, x_label)}" for name, points in [*lines.items()][:2] if points]
    alt = f"{title}: {'; '.join(words)}."
    ring = None
    if kept is not None:
        ring = (float(kept[0]), kept[1], f"kept: epoch {kept[0]}")
        alt += f" The weights of epoch {kept[0]} were kept, with validation {what.lower()} {axis.text(kept[1])}."
    series = [Series(name, look, points) for look, (name, points) in zip(_LOOKS, lines.items(), strict=False)]
    last = max((points[-1][0] for points in lines.values() if points), default=1.0)
    return line_chart(what, alt, series, x_label, unit, axis, ring, Axis(-0.03 * last, 1.03 * last, is_log=False))


def _from_to(points: Sequence[tuple[float, float]], axis: Axis, x_label: str) -> str:
    (first_at, first), (last_at, last) = points[0], points[-1]
    begin = f"{axis.text(first)} in {x_label} {plain_number(first_at)}"
    return (
        f"is {begin}"
        if len(points) == 1
        else f"goes from {begin} to {axis.text(last)} in {x_label} {plain_number(last_at)}"
    )


def _layers(title: str, rows: Sequence[ProbeRow], value: Callable[[ProbeRow], float], unit: str, axis: Axis) -> Chart:
    """Draw one quantity of each layer by epoch."""
    series, words = [], []
    for look, layer in enumerate(Layer):
        points = [(row.epoch, value(row)) for row in rows if row.layer is layer]
        if points:
            series.append(Series(layer.value, look, points))
            words.append(
                f"{layer} {axis.text(points[-1][1])}" if math.isfinite(points[-1][1]) else f"{layer} not finite"
            )
    last = max((row.epoch for row in rows), default=0)
    alt = f"{title} by layer and epoch. After epoch {last}: {', '.join(words)}."
    return line_chart(title, alt, series, "epoch", unit, axis)
