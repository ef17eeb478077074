"""The course of a training, as a report shows it: curves, what the probe saw, the learning rate."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lenet_mnist.config import Activation, Config
from lenet_mnist.errors import DataError
from lenet_mnist.reporting.charts import Axis, Chart, Series, line_chart, plain_number, thinned
from lenet_mnist.runs.directory import RunDirectory
from lenet_mnist.runs.manifest import Manifest
from lenet_mnist.training.loop import EpochRow
from lenet_mnist.training.probe import Layer, ProbeRow, flat_word
from lenet_mnist.training.updates import StepRow

_TRAIN, _VAL = 0, 1  # the looks of the two curves
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


def curves_of(run: RunDirectory, manifest: Manifest) -> Curves:
    """Return the curves of a training. Raises: DataError if there are none."""
    history = run.read_history()
    if not history:
        raise DataError("No epoch has been completed, so there is nothing to draw.")
    best = next((row for row in history if row.epoch == manifest.best_epoch), None)
    return Curves(
        loss=_curve(
            "Loss",
            history,
            ([row.train_loss for row in history], [row.val_loss for row in history]),
            None if best is None else best.val_loss,
            best,
            "nats per image",
            Axis.around([loss for row in history for loss in (row.train_loss, row.val_loss)], is_log=True),
        ),
        accuracy=_curve(
            "Accuracy",
            history,
            ([row.train_accuracy for row in history], [row.val_accuracy for row in history]),
            None if best is None else best.val_accuracy,
            best,
            "share of the images",
            Axis.around([part for row in history for part in (row.train_accuracy, row.val_accuracy)], is_percent=True),
        ),
        rows=tuple(thinned(history, _MOST_TABLE_ROWS)),
        num_epochs=len(history),
        best_epoch=None if best is None else best.epoch,
    )


def probe_charts(run: RunDirectory, activation: Activation) -> list[Chart]:
    """Return gradients, updates, saturated and dead units by epoch. Raises: DataError if nothing was looked at."""
    probe = run.read_probe()
    if not probe:
        raise DataError("Nothing was recorded of what goes on inside.")
    flat, fraction = flat_word(activation), Axis(-0.03, 1.03, is_log=False, is_percent=True)
    inner = [row for row in probe if row.layer is not Layer.OUTPUT]
    updated = [row for row in probe if row.epoch > 0]
    gradients, updates = [row.gradient_norm for row in probe], [row.update_ratio for row in updated]
    charts = [
        _layers(
            "Gradients", probe, lambda row: row.gradient_norm, "norm of the gradient", Axis.around(gradients, True)
        ),
        _layers("Updates", updated, lambda row: row.update_ratio, "last update / weights", Axis.around(updates, True)),
        _layers(f"Outputs that are {flat}", inner, lambda row: row.saturated, "share of the outputs", fraction),
        _layers("Dead units", inner, lambda row: row.dead, f"share of units always {flat}", fraction),
    ]
    return [chart for chart in charts if chart.lines]


def rates_of(run: RunDirectory, config: Config, manifest: Manifest) -> Rates:
    """Return how the learning rate moved, and where it came from. Raises: DataError."""
    training, steps = config.training, run.read_steps()
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


def _curve(
    title: str,
    history: Sequence[EpochRow],
    values: tuple[list[float], list[float]],
    kept: float | None,
    best: EpochRow | None,
    unit: str,
    axis: Axis,
) -> Chart:
    """Draw training and validation by epoch, and mark the epoch whose weights were kept."""
    epochs = [row.epoch for row in history]
    train, val = (list(zip(epochs, part, strict=True)) for part in values)
    words = [
        f"{name} {'goes' if len(part) > 1 else 'is'} {_from_to(part, axis)}"
        for name, part in (("training", train), ("validation", val))
    ]
    alt = f"{title} by epoch: {'; '.join(words)}."
    ring = None
    if best is not None and kept is not None:
        ring = (float(best.epoch), kept, f"kept: epoch {best.epoch}")
        alt += f" The weights of epoch {best.epoch} were kept, with validation {title.lower()} {axis.text(kept)}."
    series = [Series("training, while learning", _TRAIN, train), Series("validation, after the epoch", _VAL, val)]
    return line_chart(title, alt, series, "epoch", unit, axis, ring)


def _from_to(points: Sequence[tuple[float, float]], axis: Axis) -> str:
    (first_epoch, first), (last_epoch, last) = points[0], points[-1]
    if len(points) == 1:
        return f"{axis.text(first)} in epoch {first_epoch}"
    return f"from {axis.text(first)} in epoch {first_epoch} to {axis.text(last)} in epoch {last_epoch}"


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
