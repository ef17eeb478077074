"""The pictures of a training, however it ended: as values of axes, and as files."""

import math
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lenet_mnist.analysis.findings import TrainingRecord
from lenet_mnist.config import Config, Schedule
from lenet_mnist.errors import DataError
from lenet_mnist.reporting import plots
from lenet_mnist.reporting.report_pictures import curves_of, svg_chart
from lenet_mnist.reporting.style import chart, description_of, inline_svg, save_figure
from lenet_mnist.runs.run import Run
from lenet_mnist.training.rows import EpochRow, Layer, ProbeRow, StepRow

LN10 = math.log(10)
QUICK = ("--limit-train", 300, "--epochs", 1, "--set", "data.val_size=500", "--threads", 1)
PICTURES = {"accuracy.png", "layers.png", "loss.png"}


def history(num_epochs: int) -> list[EpochRow]:
    return [EpochRow(k, 10 * k, 0.1, 1 / k, 1 - 0.5 / k, 1.5 / k, 1 - 0.6 / k, 2.0) for k in range(1, num_epochs + 1)]


def record(
    num_epochs: int, losses: list[float], stop_reason: str = "max-epochs", probe: Any = (), **training: Any
) -> TrainingRecord:
    """A training of ten updates an epoch, with the losses of its updates."""
    config = Config.model_validate({"training": training})
    steps = [StepRow(k, 1 + (k - 1) // 10, 0.1, loss, 1.0, 1.0) for k, loss in enumerate(losses, start=1)]
    return TrainingRecord(config, 640, 500, LN10, stop_reason, history(num_epochs), steps, probe)


def loss_axes(seen: TrainingRecord, best_epoch: int | None) -> Axes:
    return chart(lambda axes: plots.draw_loss(axes, seen, best_epoch), "t").axes[0]


def accuracy_axes(seen: TrainingRecord, best_epoch: int | None) -> Axes:
    return chart(lambda axes: plots.draw_accuracy(axes, seen, best_epoch), "t").axes[0]


def test_the_accuracy_shows_both_sets_and_the_kept_epoch() -> None:
    for num_epochs in (1, 2, 30):
        seen = record(num_epochs, [])
        axes = accuracy_axes(seen, num_epochs)
        train, val, kept = axes.get_lines()
        assert list(train.get_ydata()) == [row.train_accuracy for row in seen.history]
        assert list(val.get_ydata()) == [row.val_accuracy for row in seen.history]
        assert list(kept.get_xdata()) == [num_epochs]
        assert all(tick == round(tick) for tick in axes.get_xticks())  # there is no epoch 0.995
    still = replace(record(1, []), history=[EpochRow(1, 10, 0.1, 2.3, 0.1123, 2.3, 0.1124, 1.0)])
    low, high = accuracy_axes(still, 1).get_ylim()
    assert high - low > 0.02  # rounding is not spread over the whole picture


def test_the_loss_begins_at_the_first_update_next_to_chance_level() -> None:
    losses = [LN10 + 0.1] * 40 + [LN10 / k for k in range(1, 21)]  # rests, then falls
    axes = loss_axes(record(6, losses), 6)
    batches, means, val, kept, chance = axes.get_lines()
    assert list(batches.get_xdata())[:2] == list(means.get_xdata())[:2] == [0.1, 0.2]  # of an epoch
    assert list(batches.get_ydata()) == losses
    assert means.get_ydata()[0] == losses[0]
    assert np.ptp(means.get_ydata()[40:]) < np.ptp(losses[40:])
    assert list(val.get_xdata()) == [1, 2, 3, 4, 5, 6]
    assert (list(kept.get_xdata()), list(chance.get_ydata())) == ([6], [LN10, LN10])
    resting = replace(record(1, [LN10 + 0.001 * (-1) ** k for k in range(10)]), history=[])
    low, high = loss_axes(resting, None).get_ylim()
    assert high / low > 2  # a loss that rests looks flat


def test_a_reduced_rate_is_marked_with_schedule_plateau_only() -> None:
    rows = [replace(row, lr=lr) for row, lr in zip(history(5), (0.1, 0.1, 0.05, 0.05, 0.025), strict=True)]
    for schedule, shown in ((Schedule.PLATEAU, [" lr 0.05", " lr 0.025"]), (Schedule.LINEAR, [])):
        axes = loss_axes(replace(record(5, [], schedule=schedule), history=rows), 5)
        assert [text.get_text() for text in axes.texts] == shown


def test_however_a_training_ended_it_can_be_drawn(tmp_path: Path) -> None:
    for losses in ([LN10], [LN10, 1e300], [LN10, 50.0, 1e9, 3.0], [0.0, 1e-40], [1e200] * 30, []):
        cut = record(0, losses, "diverged")
        for name in plots.PICTURES:
            save_figure(plots.training_figure(cut, None, name), tmp_path / "p.png")
        axes = loss_axes(cut, None)
        assert (axes.get_xlabel(), axes.get_ylim()[1] < 1e3) == ("update", True)  # what explodes is cut off
        assert ("diverged" in [str(line.get_label()) for line in axes.get_lines()]) == bool(losses)


# Layers


def rows_of(epoch: int, gradients: list[float]) -> list[ProbeRow]:
    return [
        ProbeRow(epoch, 10 * epoch, layer, norm, 1, 0.01 * epoch, 0.1 * k, 0.02 * k, 0, 1)
        for k, (layer, norm) in enumerate(zip(Layer, gradients, strict=True))
    ]


def panels(probe: list[ProbeRow]) -> list[dict[str, tuple[list[float], list[float]]]]:
    return [
        {str(line.get_label()): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines}
        for axes in plots.layers_figure(record(0, [], probe=probe), "t").axes
    ]


def test_each_panel_shows_its_column_layer_by_layer() -> None:
    gradients, updates, saturated, dead = panels([row for epoch in range(4) for row in rows_of(epoch, [1, 2, 3, 4, 5])])
    assert list(gradients) == list(updates) == ["C1", "C3", "C5", "F6", "output"]
    assert gradients["F6"] == ([0, 1, 2, 3], [4] * 4)
    assert updates["C1"] == ([1, 2, 3], pytest.approx([0.01, 0.02, 0.03]))
    assert list(saturated) == list(dead) == ["C1", "C3", "C5", "F6"]
    assert saturated["C5"][1] == pytest.approx([0.2] * 4)
    assert dead["C5"][1] == pytest.approx([0.04] * 4)
    assert panels([]) == [{}, {}, {}, {}]


def test_zero_is_at_the_lower_end_and_labelled_so() -> None:
    probe = [*rows_of(0, [0.5, 1, 1, 1, 2]), *rows_of(1, [0, 0, 0, 0, 0])]
    axes = plots.layers_figure(record(0, [], probe=probe), "t").axes[0]
    (_, zero) = axes.lines[0].get_ydata()
    assert axes.get_ylim()[0] < zero < 0.5 / 5
    assert [axes.yaxis.get_major_formatter()(value, 0) for value in (zero, 0.5)] == ["0", "0.5"]


def test_zeros_before_the_first_update_are_no_vanished_gradient() -> None:
    gradients, *_ = panels([*rows_of(0, [0, 0, 0, 0, 2]), *rows_of(1, [0.8, 1, 1, 1, 1])])
    assert [xs for xs, _ in gradients.values()] == [[1]] * 5
    for probe, words in (
        (rows_of(0, [0.01, 1, 1, 1, 2.8]), "epoch 0: the output's is 280 times C1's"),
        ([*rows_of(0, [0, 0, 0, 0, 2]), *rows_of(1, [2, 1, 1, 1, 1])], "epoch 1: the output's is 0.5 times C1's"),
        ([*rows_of(0, [0, 0, 0, 0, 2]), *rows_of(1, [0, 0, 0, 0, 0])], "epoch 1: none reaches C1"),
    ):
        assert words in plots.layers_figure(record(0, [], probe=probe), "t").axes[0].get_title()


# In the report


@settings(max_examples=4)
@example([math.nan, math.inf, -math.inf, 1e308, 5e-324], 2, 10**400)
@example([0.0, -1.0, 1.7e308, 1e-300, 3.0], 2, 7)
@given(values=st.lists(st.floats(), max_size=10), num_epochs=st.integers(0, 2), step=st.sampled_from([7, 10**400]))
def test_whatever_a_damaged_file_holds_is_drawn_or_refused(values: list[float], num_epochs: int, step: int) -> None:
    rows = [EpochRow(k, 10 * k, *[value] * 5, 1.0) for k, value in enumerate(values[:num_epochs], start=1)]
    probe = [ProbeRow(0, 0, layer, *[value] * 7) for layer, value in zip(Layer, values, strict=False)]
    whole = replace(record(0, values, probe=probe if len(probe) == len(Layer) else ()), history=rows)
    seen = replace(whole, steps=[replace(row, step=step) for row in whole.steps])
    for title, draw in {"Rate": lambda axes: plots.draw_rate(axes, seen), **plots.layer_panels(seen)}.items():
        with suppress(DataError):  # of which the report says that it cannot be drawn
            svg_chart(title, draw)
    with suppress(DataError):
        curves_of(seen, 1)


def test_an_svg_is_the_same_every_time_and_has_neither_styles_nor_ids_of_others() -> None:
    seen = record(6, [LN10 / k for k in range(1, 61)])

    def svg(name: str) -> str:
        figure = chart(lambda axes: plots.draw_loss(axes, seen, 6))
        return inline_svg(figure, name, description_of(figure.axes[0]))

    first = svg("loss")
    assert first == svg("loss")
    assert "style=" not in first
    assert "<style" not in first
    assert "var(--look-0)" in first
    assert 'aria-label="cross-entropy [nats per image] by epoch: training, running mean goes from' in first
    ids = [{part.split('"')[0] for part in text.split(' id="')[1:]} for text in (first, svg("other"))]
    assert ids[0]
    assert not ids[0] & ids[1]


# As files


@pytest.mark.parametrize(("options", "code"), [((), 0), (("--lr", 1e6), 4), (("--seeds", "0,1"), 0)])
def test_every_training_ends_with_its_pictures(
    lenet: Callable[..., Any], tmp_path: Path, options: tuple[Any, ...], code: int
) -> None:
    answer = lenet("train", *QUICK, *options)
    assert answer.code == code
    runs = list((tmp_path / "runs").iterdir())
    assert len(runs) == (2 if "--seeds" in options else 1)
    for run in runs:
        assert {path.name for path in (run / "plots").iterdir()} == PICTURES
        assert "--seeds" in options or f"runs/{run.name}/plots/loss.png" in answer.out


@pytest.mark.usefixtures("drawn_roughly")
def test_an_interrupted_training_has_pictures_and_what_continues_is_drawn_again(run: Run) -> None:
    for path in (run.history_path, run.probe_path):
        path.write_text(path.read_text().splitlines(keepends=True)[0])
    notes: list[str] = []
    plots.draw_training(run, notes.append)
    assert ({path.name for path in run.plots_path.iterdir()}, notes) == (PICTURES, [])
    first = (run.plots_path / "loss.png").stat().st_mtime_ns
    plots.draw_training(run, notes.append)
    assert (run.plots_path / "loss.png").stat().st_mtime_ns == first  # nothing new, nothing drawn
    os.utime(run.steps_path, ns=(first + 1, first + 1))
    plots.draw_training(run, notes.append)
    assert (run.plots_path / "loss.png").stat().st_mtime_ns > first


def test_a_picture_that_cannot_be_drawn_is_a_line_and_no_failure(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("latex could not\nbe found")

    monkeypatch.setattr(Figure, "savefig", fail)
    notes: list[str] = []
    plots.draw_training(run, notes.append)
    assert [("latex could not" in note, "\n" in note) for note in notes] == [(True, False)]
