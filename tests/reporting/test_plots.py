from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from lenet_mnist.analysis.evaluate import Evaluation
from lenet_mnist.config import Schedule
from lenet_mnist.reporting import plots, style
from lenet_mnist.training.loop import EpochRow


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
    shown = texts(plots.gallery_figure(seen, np.zeros((3, 28, 28), np.uint8), "t"))
    assert shown == ["b read as a\n90.0% sure", "#101"]


def test_a_gallery_without_mistakes_says_so() -> None:
    seen = evaluation([0], [0], ("a", "b"))
    assert texts(plots.gallery_figure(seen, np.zeros((1, 28, 28), np.uint8), "t")) == ["no mistakes"]


def test_a_class_name_with_dollars_is_no_formula(tmp_path) -> None:
    seen = evaluation([0, 1], [1, 0], ("$\\frac{$", "$x$"))
    style.save_figure(plots.confusion_figure(seen, "t"), tmp_path / "a.png")
    style.save_figure(plots.gallery_figure(seen, np.zeros((2, 28, 28), np.uint8), "t"), tmp_path / "b.png")


def test_a_class_name_of_letters_that_the_font_lacks_is_shown_by_their_codes(tmp_path: Path) -> None:
    seen = evaluation([0, 1], [1, 0], ("あ", "é"))
    figure = plots.confusion_figure(seen, "t")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [r"\u3042", "é"]
    style.save_figure(figure, tmp_path / "a.png")  # and no warning that a glyph is missing
    shown = texts(plots.gallery_figure(seen, np.zeros((2, 28, 28), np.uint8), "t"))
    assert "é read as \\u3042\n90.0% sure" in shown


def test_long_class_names_are_cut_and_stand_in_lines_of_their_own() -> None:
    seen = evaluation([0, 1], [1, 0], ("Ankle boot", "a garment of many names"))
    shown = texts(plots.gallery_figure(seen, np.zeros((2, 28, 28), np.uint8), "t"))
    assert "Ankle boot\nread as a garment o…\n90.0% sure" in shown
    (axes,) = plots.confusion_figure(seen, "t").axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["Ankle boot", "a garment of many n…"]
    assert {label.get_rotation() for label in axes.get_xticklabels()} == {90.0}


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
@pytest.mark.parametrize("draw", [plots.loss_figure, plots.accuracy_figure])
def test_curves_show_both_sets_with_units_and_the_kept_epoch(draw, num_epochs: int, tmp_path) -> None:
    rows = history(num_epochs)
    figure = draw(rows, num_epochs, "title")
    (axes,) = figure.axes
    train, val, kept = axes.get_lines()
    accuracy = draw is plots.accuracy_figure
    assert list(train.get_ydata()) == [row.train_accuracy if accuracy else row.train_loss for row in rows]
    assert list(val.get_ydata()) == [row.val_accuracy if accuracy else row.val_loss for row in rows]
    assert list(kept.get_xdata()) == [num_epochs]
    assert "[" in axes.get_ylabel()
    style.save_figure(figure, tmp_path / "p.png")


def test_the_loss_shows_where_the_plateau_schedule_reduced_the_rate() -> None:
    rows = [replace(row, lr=lr) for row, lr in zip(history(5), (0.1, 0.1, 0.05, 0.05, 0.025), strict=True)]
    assert texts(plots.loss_figure(rows, 5, "t", Schedule.PLATEAU)) == [" lr 0.05", " lr 0.025"]
    assert texts(plots.loss_figure(rows, 5, "t", Schedule.LINEAR)) == []


def test_the_calibration_shows_every_bin() -> None:
    seen = evaluation([0, 1, 0], [0, 0, 0], ("a", "b"))
    upper, lower = plots.calibration_figure(seen, "t").axes
    assert len(upper.get_lines()[1].get_xdata()) == len(seen.calibration) == 1
    assert [bar.get_height() for bar in lower.patches] == [3]


def test_near_certainty_is_not_shown_as_certainty() -> None:
    seen = evaluation([1], [0], ("a", "b"))
    seen.probabilities[:] = [[0.99999, 0.00001]]
    assert "over 99.9% sure" in texts(plots.gallery_figure(seen, np.zeros((1, 28, 28), np.uint8), "t"))[0]
