import math

import pytest

from lenet_mnist.config import Activation
from lenet_mnist.reporting.layer_plots import layers_figure
from lenet_mnist.training.probe import Layer, ProbeRow

PROBE = [
    ProbeRow(epoch, 10 * epoch, layer, 10.0**-number, 1.0, 0.01 * epoch, 0.1 * number, 0.02 * number, 0.0, 1.0)
    for epoch in range(4)
    for number, layer in enumerate(Layer)
]


def lines(probe: list[ProbeRow]) -> list[dict[str, tuple[list[float], list[float]]]]:
    figure = layers_figure(probe, Activation.RELU, "title")
    figure.draw_without_rendering()
    return [
        {str(line.get_label()): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines}
        for axes in figure.axes
    ]


def test_each_panel_shows_its_column_layer_by_layer() -> None:
    gradients, updates, saturated, dead = lines(PROBE)
    assert list(gradients) == list(updates) == ["C1", "C3", "C5", "F6", "output"]
    assert gradients["F6"] == ([0, 1, 2, 3], [1e-3] * 4)
    assert updates["C1"] == ([1, 2, 3], pytest.approx([0.01, 0.02, 0.03]))
    assert list(saturated) == list(dead) == ["C1", "C3", "C5", "F6"]
    assert saturated["C5"][1] == pytest.approx([0.2] * 4)
    assert dead["C5"][1] == pytest.approx([0.04] * 4)


def test_a_gradient_of_zero_can_be_drawn() -> None:
    nothing = [ProbeRow(0, 0, layer, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0) for layer in Layer]
    gradients, updates, *_ = lines(nothing)
    assert all(math.isnan(y) for _, ys in gradients.values() for y in ys)
    assert updates == {}
    figure = layers_figure(nothing, Activation.RELU, "title")
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert texts == ["zero somewhere, and not drawn there: C1, C3, C5, F6, output"]


def test_a_run_without_any_row_can_be_drawn() -> None:
    assert lines([]) == [{}, {}, {}, {}]
