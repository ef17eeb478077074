"""What goes on inside the network, layer by layer: drawn from probe.csv."""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from lenet_mnist.config import Activation
from lenet_mnist.reporting.style import BLUE, GREEN, GREY, ORANGE, PURPLE, TITLE_POINTS, bare, plain_log_axis
from lenet_mnist.training.probe import Layer, ProbeRow, flat_word

# From the input to the output; lines differ in dash as well as in colour.
_LINES = {
    Layer.C1: (BLUE, "-", "o"),
    Layer.C3: (ORANGE, "--", "s"),
    Layer.C5: (GREEN, "-.", "^"),
    Layer.F6: (PURPLE, ":", "v"),
    Layer.OUTPUT: (GREY, "-", "x"),
}


def layers_figure(probe: Sequence[ProbeRow], activation: Activation, title: str) -> Figure:
    """Draw gradients, updates, saturated and dead units of each layer by epoch; epoch 0 is before the first update."""
    figure = Figure(figsize=(8.4, 6.0), layout="constrained")
    figure.suptitle(title, fontsize=TITLE_POINTS)
    (gradients, updates), (saturated, dead) = figure.subplots(2, 2)
    inner = [row for row in probe if row.layer is not Layer.OUTPUT]
    _draw(gradients, probe, lambda row: row.gradient_norm)
    _draw(updates, [row for row in probe if row.epoch > 0], lambda row: row.update_ratio)
    _draw(saturated, inner, lambda row: row.saturated)
    _draw(dead, inner, lambda row: row.dead)
    gradients.set_title("gradient of the weights, Euclidean norm", fontsize=9)
    updates.set_title("last update of the epoch / weights, Euclidean norms", fontsize=9)
    saturated.set_title(f"outputs that are {flat_word(activation)}", fontsize=9)
    dead.set_title(f"units that are {flat_word(activation)} on all images of the probe: dead", fontsize=9)
    for axes in (gradients, updates):
        _make_logarithmic(axes)
    for axes in (saturated, dead):
        axes.set_ylim(-0.03, 1.03)
        axes.yaxis.set_major_formatter(PercentFormatter(xmax=1))
        axes.set_xlabel("epoch")
    if probe:
        gradients.legend(loc="best", frameon=False, fontsize=8, ncols=2)
    return figure


def _make_logarithmic(axes: Axes) -> None:
    """Let y be logarithmic, and say where a value is exactly zero, which then cannot be drawn."""
    layers_with_zero = []
    for line in axes.lines:
        values = np.asarray(line.get_ydata(), dtype=float)
        if (values == 0).any():
            layers_with_zero.append(str(line.get_label()))
            line.set_ydata(np.where(values == 0, np.nan, values))
    if layers_with_zero:
        text = f"zero somewhere, and not drawn there: {', '.join(layers_with_zero)}"
        axes.text(0.02, 0.02, text, transform=axes.transAxes, fontsize=7, color=GREY)
    axes.relim()
    axes.autoscale_view()
    if any(np.isfinite(np.asarray(line.get_ydata(), dtype=float)).any() for line in axes.lines):
        plain_log_axis(axes)


def _draw(axes: Axes, rows: Sequence[ProbeRow], value: Callable[[ProbeRow], float]) -> None:
    for layer, (color, dash, marker) in _LINES.items():
        of_layer = [row for row in rows if row.layer is layer]
        if of_layer:
            epochs, values = [row.epoch for row in of_layer], [value(row) for row in of_layer]
            axes.plot(
                epochs, values, color=color, linestyle=dash, marker=marker, markersize=4, linewidth=1.3, label=layer
            )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(color="#e6e6e6")
    axes.set_axisbelow(True)
    bare(axes)
