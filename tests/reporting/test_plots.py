import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from lenet_mnist.analysis.findings import TrainingRecord
from lenet_mnist.analysis.metrics import Evaluation
from lenet_mnist.config import Config, Schedule
from lenet_mnist.reporting import plots, style
from lenet_mnist.training.rows import EpochRow, StepRow

LN10 = math.log(10)


def evaluation(labels: list[int], predictions: list[int], names: tuple[str, ...]) -> Evaluation:
    probabilities = np.full((len(labels), len(names)), 0.1)
    probabilities[np.arange(len(labels)), predictions] = 1 - 0.1 * (len(names) - 1)
    return Evaluation(
        class_names=names,
        indices=np.arange(100, 100 + len(labels)),
        labels=np.array(labels),
        predictions=np.array(predictions),
        probabilities=probabilities,
        loss_sum=1.0,
    )


def history(num_epochs: int) -> list[EpochRow]:
    return [EpochRow(k, 10 * k, 0.1, 1 / k, 1 - 0.5 / k, 1.5 / k, 1 - 0.6 / k, 2.0) for k in range(1, num_epochs + 1)]


def record(num_epochs: int, losses: list[float], stop_reason: str = "max-epochs", **training: object) -> TrainingRecord:
    """A training of ten updates an epoch, with the losses of its updates."""
    config = Config.model_validate({"training": training})
    steps = [StepRow(k, 1 + (k - 1) // 10, 0.1, loss, 1.0, 1.0) for k, loss in enumerate(losses, start=1)]
    return TrainingRecord(config, 640, 500, LN10, stop_reason, history(num_epochs), steps, [])


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_rows_of_the_confusion_matrix_are_true_and_columns_predicted() -> None:
    seen = evaluation([0, 0, 0, 1], [1, 1, 1, 1], ("cat", "dog"))
    (axes,) = plots.confusion_figure(seen, "title").axes
    cells = {text.get_position(): text.get_text() for text in axes.texts}
    assert cells[1, 0] == "3"  # column 1 (dog), row 0 (cat): three cats called dogs
    assert cells[0, 1] == "0"
    assert cells[1, 1] == "1"
    assert axes.get_ylabel() == "true class"
    assert axes.get_xlabel() == "predicted class"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog"]


def test_a_perfect_confusion_matrix_can_be_drawn(tmp_path) -> None:
    style.save_figure(plots.confusion_figure(evaluation([0, 1], [0, 1], ("a", "b")), "t"), tmp_path / "p.png")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_the_gallery_shows_the_mistakes_and_where_they_are() -> None:
    seen = evaluation([0, 1, 1], [0, 0, 1], ("a", "b"))
    shown = texts(plots.gallery_figure(seen, np.zeros((3, 28, 28), np.uint8), "test set"))
    assert shown == ["b read as a\n90.0% sure", "#101"]


@pytest.mark.parametrize(("number", "title"), [(1, "1 mistake in"), (40, "40 mistakes"), (1041, "1,041 mistakes")])
def test_the_gallery_says_how_many_of_the_mistakes_it_shows(number: int, title: str) -> None:
    seen = evaluation([0] * number, [1] * number, ("a", "b"))
    figure = plots.gallery_figure(seen, np.zeros((number, 28, 28), np.uint8), "test set")
    assert f"test set: {title}" in figure.axes[0].get_title()
    assert ("the 40 that" in figure.axes[0].get_title()) == (number > 40)
    assert len(figure.axes[0].images) == min(number, 40)


def test_a_gallery_without_mistakes_says_so() -> None:
    seen = evaluation([0], [0], ("a", "b"))
    assert texts(plots.gallery_figure(seen, np.zeros((1, 28, 28), np.uint8), "test set")) == ["no mistakes"]


def test_a_class_name_with_dollars_is_no_formula(tmp_path) -> None:
    seen = evaluation([0, 1], [1, 0], ("$\\frac{$", "$x$"))
    style.save_figure(plots.confusion_figure(seen, "t"), tmp_path / "a.png")
    style.save_figure(plots.gallery_figure(seen, np.zeros((2, 28, 28), np.uint8), "test set"), tmp_path / "b.png")


def test_a_class_name_of_letters_that_the_font_lacks_is_shown_by_their_codes(tmp_path: Path) -> None:
    seen = evaluation([0, 1], [1, 0], ("あ", "é"))
    figure = plots.confusion_figure(seen, "t")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [r"\u3042", "é"]
    style.save_figure(figure, tmp_path / "a.png")  # and no warning that a glyph is missing
    shown = texts(plots.gallery_figure(seen, np.zeros((2, 28, 28), np.uint8), "test set"))
    assert "é read as \\u3042\n90.0% sure" in shown


def test_long_class_names_are_cut_and_stand_in_lines_of_their_own() -> None:
    seen = evaluation([0, 1], [1, 0], ("Ankle boot", "a garment of many names"))
    shown = texts(plots.gallery_figure(seen, np.zeros((2, 28, 28), np.uint8), "test set"))
    assert any(text.startswith("Ankle boot\nread as a ") and "…\n90.0% sure" in text for text in shown)
    (axes,) = plots.confusion_figure(seen, "t").axes
    name, cut = [label.get_text() for label in axes.get_xticklabels()]
    assert name == "Ankle boot"
    assert cut.endswith("…")
    assert {label.get_rotation() for label in axes.get_xticklabels()} == {90.0}


def test_no_caption_runs_into_the_next_whatever_the_classes_are_called(tmp_path: Path) -> None:
    names = ("W" * 40, "a name that never ends", "日本語の文字", "שלום עולם", "x" * 1000, "a\nb\x1b[31m", "$x^2$", "no")
    labels = [k for k in range(8) for _ in range(7)]
    predictions = [other for k in range(8) for other in range(8) if other != k]
    figure = plots.gallery_figure(evaluation(labels, predictions, names), np.zeros((56, 28, 28), np.uint8), "test set")
    style.save_figure(figure, tmp_path / "a.png")  # and no warning of a letter that is missing
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert not any(one.overlaps(other) for k, one in enumerate(boxes) for other in boxes[:k])
    style.save_figure(plots.confusion_figure(evaluation(labels, predictions, names), "t"), tmp_path / "b.png")


@pytest.mark.parametrize(("number", "columns"), [(1, 1), (3, 3), (8, 8), (9, 5), (10, 5), (16, 8), (40, 8)])
def test_the_rows_of_a_gallery_are_alike(number: int, columns: int) -> None:
    seen = evaluation([0] * number, [1] * number, ("a", "b"))
    figure = plots.gallery_figure(seen, np.zeros((number, 28, 28), np.uint8), "")
    assert len({image.get_extent()[0] for image in figure.axes[0].images}) == columns


@pytest.mark.parametrize(
    ("num_classes", "has_numbers", "has_names"), [(26, True, True), (62, False, True), (300, False, False)]
)
def test_of_many_classes_there_are_colours_only(num_classes: int, has_numbers: bool, has_names: bool) -> None:
    labels = list(range(num_classes))
    seen = evaluation(labels, labels[::-1], tuple(f"class {label}" for label in labels))
    figure = plots.confusion_figure(seen, "t")
    assert (len(texts(figure)) == num_classes**2) is has_numbers
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert (names[:2] == ["class 0", "class 1"]) is has_names
    assert max(figure.get_size_inches()) < 15


@pytest.mark.parametrize(("ground", "colours"), [(0, "gray_r"), (255, "gray"), (120, "gray")])
def test_what_is_no_ink_on_black_is_shown_as_it_is(ground: int, colours: str) -> None:
    images = np.full((1, 28, 28), ground, np.uint8)
    images[0, 10:14, 10:14] = 255 - ground
    (axes,) = plots.gallery_figure(evaluation([0], [1], ("a", "b")), images, "t").axes
    assert axes.images[0].get_cmap().name == colours


@pytest.mark.parametrize("num_epochs", [1, 2, 30])
def test_the_accuracy_shows_both_sets_and_the_kept_epoch(num_epochs: int, tmp_path: Path) -> None:
    seen = record(num_epochs, [])
    figure = plots.accuracy_figure(seen, num_epochs, "title")
    (axes,) = figure.axes
    train, val, kept = axes.get_lines()
    assert list(train.get_ydata()) == [row.train_accuracy for row in seen.history]
    assert list(val.get_ydata()) == [row.val_accuracy for row in seen.history]
    assert list(kept.get_xdata()) == [num_epochs]
    style.save_figure(figure, tmp_path / "p.png")
    assert all(tick == round(tick) for tick in axes.get_xticks())  # there is no epoch 0.995


def test_an_accuracy_that_stands_still_is_not_spread_over_the_whole_picture(tmp_path: Path) -> None:
    seen = replace(record(1, []), history=[EpochRow(1, 10, 0.1, 2.3, 0.1123, 2.3, 0.1124, 1.0)])
    figure = plots.accuracy_figure(seen, 1, "t")
    low, high = figure.axes[0].get_ylim()
    assert high - low > 0.02
    style.save_figure(figure, tmp_path / "p.png")


def test_the_loss_begins_at_the_first_update_beside_that_of_guessing(tmp_path: Path) -> None:
    losses = [LN10 + 0.1] * 40 + [LN10 / k for k in range(1, 21)]  # rests, then falls
    figure = plots.loss_figure(record(6, losses), 6, "t")
    (axes,) = figure.axes
    batches, means, val, kept, guessing = axes.get_lines()
    assert list(batches.get_xdata())[:2] == list(means.get_xdata())[:2] == [0.1, 0.2]  # of an epoch
    assert list(batches.get_ydata()) == losses
    assert means.get_ydata()[0] == losses[0]
    assert np.ptp(means.get_ydata()[40:]) < np.ptp(losses[40:])
    assert list(val.get_xdata()) == [1, 2, 3, 4, 5, 6]
    assert (list(kept.get_xdata()), list(guessing.get_ydata())) == ([6], [LN10, LN10])
    low, high = axes.get_ylim()
    assert low < LN10 < high
    style.save_figure(figure, tmp_path / "p.png")


def test_a_loss_that_rests_looks_flat() -> None:
    flat = replace(record(1, [LN10 + 0.001 * (-1) ** k for k in range(10)]), history=[])
    low, high = plots.loss_figure(flat, None, "t").axes[0].get_ylim()
    assert high / low > 2


@pytest.mark.parametrize("losses", [[LN10], [LN10, 1e300], [LN10, 50.0, 1e9, 3.0], [0.0, 1e-40], [1e200] * 30])
def test_however_a_training_ended_it_can_be_drawn(losses: list[float], tmp_path: Path) -> None:
    cut = record(0, losses, "diverged")
    for name, figure in {
        "loss": plots.loss_figure(cut, None, "t"),
        "accuracy": plots.accuracy_figure(cut, None, "t"),
        "layers": plots.layers_figure(cut, "t"),
    }.items():
        style.save_figure(figure, tmp_path / f"{name}.png")
    (axes,) = plots.loss_figure(cut, None, "t").axes
    assert axes.get_xlabel() == "update"
    assert axes.get_ylim()[1] < 1e3  # what rises without end does not press the rest flat
    assert "diverged" in [str(line.get_label()) for line in axes.get_lines()]
    assert texts(plots.accuracy_figure(cut, None, "t")) == ["no epoch was completed"]


def test_the_loss_shows_where_the_plateau_schedule_reduced_the_rate() -> None:
    rows = [replace(row, lr=lr) for row, lr in zip(history(5), (0.1, 0.1, 0.05, 0.05, 0.025), strict=True)]
    for schedule, shown in ((Schedule.PLATEAU, [" lr 0.05", " lr 0.025"]), (Schedule.LINEAR, [])):
        seen = replace(record(5, [], schedule=schedule), history=rows)
        assert texts(plots.loss_figure(seen, 5, "t")) == shown


def test_the_calibration_shows_every_bin_and_joins_those_of_enough_images(tmp_path: Path) -> None:
    seen = evaluation([0] * 30, [0] * 20 + [1] * 10, ("a", "b"))
    seen.probabilities[:] = [[0.95, 0.05]] * 15 + [[0.75, 0.25]] * 5 + [[0.35, 0.65]] * 9 + [[0.45, 0.55]]
    figure = plots.calibration_figure(seen, "t")
    upper, lower = figure.axes
    assert [bar.get_height() for bar in lower.patches] == [1, 9, 5, 15]
    joined = next(
        line for line in upper.get_lines() if "calibration error" in str(line.get_label()) or len(line.get_xdata()) == 1
    )
    assert list(joined.get_xdata()) == pytest.approx([0.95])
    style.save_figure(figure, tmp_path / "p.png")


def test_near_certainty_is_not_shown_as_certainty() -> None:
    seen = evaluation([1], [0], ("a", "b"))
    seen.probabilities[:] = [[0.99999, 0.00001]]
    assert "over 99.9% sure" in texts(plots.gallery_figure(seen, np.zeros((1, 28, 28), np.uint8), "test set"))[0]
