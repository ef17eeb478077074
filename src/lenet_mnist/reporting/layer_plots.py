"""What goes on inside the network, layer by layer: drawn from probe.csv."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from lenet_mnist.analysis.findings import TrainingRecord
from lenet_mnist.reporting.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    TITLE_POINTS,
    bare,
    epoch_axis,
    plain_log_axis,
)
from lenet_mnist.reporting.text import plain_number
from lenet_mnist.training.probe import flat_word, passed_gradients
from lenet_mnist.training.rows import Layer, ProbeRow

# From the input to the output; lines differ in dash as well as in colour.
_LINES = {
    Layer.C1: (BLUE, "-", "o"),
    Layer.C3: (ORANGE, "--", "s"),
    Layer.C5: (GREEN, "-.", "^"),
    Layer.F6: (PURPLE, ":", "v"),
    Layer.OUTPUT: (GREY, "-", "x"),
}


def layers_figure(record: TrainingRecord, title: str) -> Figure:
    """Draw gradients, updates, saturated and dead units of each layer by epoch; epoch 0 is before the first update."""
    figure = Figure(figsize=(8.4, 6.4), layout="constrained")
    figure.suptitle(title, fontsize=TITLE_POINTS)
    panels = figure.subplots(2, 2, sharex=True)
    (gradients, updates), (saturated, dead) = panels
    probe, flat = record.probe, flat_word(record.activation)
    inner = [row for row in probe if row.layer is not Layer.OUTPUT]
    passing, words = passed_gradients(probe)
    _draw(gradients, passing, lambda row: row.gradient_norm)
    _draw(updates, [row for row in probe if row.epoch > 0], lambda row: row.update_ratio)
    _draw(saturated, inner, lambda row: row.saturated)
    _draw(dead, inner, lambda row: row.dead)
    gradients.set_title(f"gradient of the weights, Euclidean norm\n{words}", fontsize=8)
    updates.set_title("last update of the epoch / weights, Euclidean norms", fontsize=8)
    saturated.set_title(f"outputs that are {flat}", fontsize=8)
    dead.set_title(f"dead: units that are {flat} on all images of the probe", fontsize=8)
    for axes in (gradients, updates):
        if not axes.lines:
            axes.text(0.5, 0.5, "no epoch was completed", transform=axes.transAxes, ha="center", color=GREY, fontsize=8)
        _log_axis_with_zero(axes)
    for axes in (saturated, dead):
        axes.set_ylim(-0.03, 1.03)
        axes.yaxis.set_major_formatter(PercentFormatter(xmax=1))
        axes.set_xlabel("epoch")
    epoch_axis(gradients, max((row.epoch for row in probe), default=0))
    if probe:
        of_all = max(panels.flat, key=lambda axes: len(axes.lines))
        figure.legend(
            *of_all.get_legend_handles_labels(), loc="outside lower center", ncols=len(Layer), frameon=False, fontsize=9
        )
    return figure


def _log_axis_with_zero(axes: Axes) -> None:
    """Let y be logarithmic; zero, which has no place there, lies at the lower end and is called so."""
    values = np.concatenate([np.zeros(0), *(np.asarray(line.get_ydata(), dtype=float) for line in axes.lines)])
    seen = values[np.isfinite(values) & (values > 0)]
    low, high = (seen.min(), seen.max()) if len(seen) else (0.1, 1.0)
    axes.set_ylim(low / 1.5, high * 1.5)
    if (values == 0).any():
        zero = 10.0 ** (math.floor(math.log10(low)) - 1)
        for line in axes.lines:
            line.set_ydata(np.where(np.asarray(line.get_ydata()) == 0, zero, line.get_ydata()))
        axes.set_ylim(zero / 1.5, high * 1.5)
        plain_log_axis(axes.yaxis)
        axes.yaxis.set_major_formatter(lambda value, _: "0" if value < 1.5 * zero else plain_number(value, 6))
        axes.axhspan(zero / 1.5, 1.5 * zero, color="#f0f0f0", zorder=0)
    else:
        plain_log_axis(axes.yaxis)


def _draw(axes: Axes, rows: Sequence[ProbeRow], value: Callable[[ProbeRow], float]) -> None:
    for layer, (color, dash, marker) in _LINES.items():
        of_layer = [row for row in rows if row.layer is layer]
        if of_layer:
            epochs, values = [row.epoch for row in of_layer], [value(row) for row in of_layer]
            axes.plot(
                epochs, values, color=color, linestyle=dash, marker=marker, markersize=4, linewidth=1.3, label=layer
            )
    axes.grid(color="#e6e6e6")
    axes.set_axisbelow(True)
    bare(axes)
