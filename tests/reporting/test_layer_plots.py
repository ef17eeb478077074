import math

import pytest
from matplotlib.figure import Figure

from lenet_mnist.analysis.findings import TrainingRecord
from lenet_mnist.config import Config
from lenet_mnist.reporting.layer_plots import layers_figure
from lenet_mnist.training.rows import Layer, ProbeRow

PROBE = [
    ProbeRow(epoch, 10 * epoch, layer, 10.0**-number, 1.0, 0.01 * epoch, 0.1 * number, 0.02 * number, 0.0, 1.0)
    for epoch in range(4)
    for number, layer in enumerate(Layer)
]


def figure_of(probe: list[ProbeRow], activation: str = "relu") -> Figure:
    config = Config.model_validate({"model": {"activation": activation}})
    return layers_figure(TrainingRecord(config, 640, 500, math.log(10), "max-epochs", [], [], probe), "title")


def lines(probe: list[ProbeRow]) -> list[dict[str, tuple[list[float], list[float]]]]:
    figure = figure_of(probe)
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


def rows_of(epoch: int, gradients: list[float]) -> list[ProbeRow]:
    return [
        ProbeRow(epoch, 10 * epoch, layer, norm, 1, 0.1, 0, 0, 0, 1)
        for layer, norm in zip(Layer, gradients, strict=True)
    ]


def test_zero_lies_at_the_lower_end_and_is_called_so() -> None:
    figure = figure_of([*rows_of(0, [0.5, 1, 1, 1, 2]), *rows_of(1, [0, 0, 0, 0, 0])])
    figure.draw_without_rendering()
    axes = figure.axes[0]
    (_, zero) = axes.lines[0].get_ydata()
    assert axes.get_ylim()[0] < zero < 0.5 / 5
    assert axes.yaxis.get_major_formatter()(zero, None) == "0"
    assert axes.yaxis.get_major_formatter()(0.5, None) == "0.5"


def test_before_the_first_update_zeros_of_the_output_layer_are_no_vanished_gradient() -> None:
    gradients, *_ = lines([*rows_of(0, [0, 0, 0, 0, 2]), *rows_of(1, [0.8, 1, 1, 1, 1])])
    assert [xs for xs, _ in gradients.values()] == [[1]] * 5
    gradients, *_ = lines([*rows_of(0, [0.01, 1, 1, 1, 2.8]), *rows_of(1, [0.8, 1, 1, 1, 1])])
    assert gradients["C1"] == ([0, 1], [0.01, 0.8])


@pytest.mark.parametrize(
    ("probe", "words"),
    [
        (rows_of(0, [0.01, 1, 1, 1, 2.8]), "epoch 0: the output's is 280 times C1's"),
        ([*rows_of(0, [0, 0, 0, 0, 2]), *rows_of(1, [2, 1, 1, 1, 1])], "epoch 1: the output's is 0.5 times C1's"),
        ([*rows_of(0, [0, 0, 0, 0, 2]), *rows_of(1, [0, 0, 0, 0, 0])], "epoch 1: none reaches C1"),
    ],
)
def test_how_the_first_gradient_compares_with_the_last_layers_is_said(probe: list[ProbeRow], words: str) -> None:
    assert words in figure_of(probe).axes[0].get_title()


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_the_axis_of_epochs_is_whole_and_one_for_all_panels(epochs: int) -> None:
    figure = figure_of([row for row in PROBE if row.epoch < epochs])
    figure.draw_without_rendering()
    assert len({axes.get_xlim() for axes in figure.axes}) == 1
    assert all(tick == round(tick) for tick in figure.axes[0].get_xticks())
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()][:4] == ["C1", "C3", "C5", "F6"]


def test_a_run_without_any_row_can_be_drawn() -> None:
    assert lines([]) == [{}, {}, {}, {}]
