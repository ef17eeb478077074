"""Confusion matrix, mistakes, calibration; images in rows."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from lenet_mnist.analysis.metrics import Evaluation
from lenet_mnist.config import AugmentationConfig, Config
from lenet_mnist.data.batches import TrainBatches
from lenet_mnist.data.sets import TrainVal
from lenet_mnist.errors import ConfigError
from lenet_mnist.randomness import Purpose, random_order
from lenet_mnist.reporting import evaluation_plots
from lenet_mnist.reporting.gallery import EXAMPLE, classes_in_turn, contact_tiles, draw_contact_sheet
from lenet_mnist.reporting.style import save_figure


def evaluation(labels: list[int], predictions: list[int], names: tuple[str, ...] = ("a", "b")) -> Evaluation:
    shares = np.full((len(labels), len(names)), 0.1)
    shares[np.arange(len(labels)), predictions] = 1 - 0.1 * (len(names) - 1)
    indices = np.arange(100, 100 + len(labels))
    return Evaluation(names, indices, np.array(labels), np.array(predictions), shares, 1.0)


def mistakes(seen: Evaluation, ground: int = 0) -> Figure:
    images = np.full((len(seen), 28, 28), ground, np.uint8)
    images[:, 10:14, 10:14] = 255 - ground
    return evaluation_plots.mistakes_figure(seen, images, "test set")


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_rows_of_the_confusion_matrix_are_true_and_columns_predicted(tmp_path: Path) -> None:
    seen = evaluation([0, 0, 0, 1], [1, 1, 1, 1], ("cat", "dog"))
    (axes,) = evaluation_plots.confusion_figure(seen, "title").axes
    cells = {text.get_position(): text.get_text() for text in axes.texts}
    assert cells == {(0, 0): "0", (1, 0): "3", (0, 1): "0", (1, 1): "1"}  # three cats called dogs
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog"]
    save_figure(evaluation_plots.confusion_figure(evaluation([0, 1], [0, 1]), "perfect"), tmp_path / "p.png")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_of_many_classes_there_are_colours_only() -> None:
    for num_classes, has_numbers, has_names in ((26, True, True), (62, False, True), (300, False, False)):
        labels = list(range(num_classes))
        seen = evaluation(labels, labels[::-1], tuple(f"class {label}" for label in labels))
        figure = evaluation_plots.confusion_figure(seen, "t")
        names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
        assert (len(texts(figure)) == num_classes**2) is has_numbers
        assert (names[:2] == ["class 0", "class 1"]) is has_names
        assert max(figure.get_size_inches()) < 15


def test_the_mistakes_are_shown_with_their_numbers() -> None:
    assert texts(mistakes(evaluation([0, 1, 1], [0, 0, 1]))) == ["b read as a\n90.0% sure", "#101"]
    assert texts(mistakes(evaluation([0], [0]))) == ["no mistakes"]
    sure = evaluation([1], [0])
    sure.probabilities[:] = [[0.99999, 0.00001]]
    assert "over 99.9% sure" in texts(mistakes(sure))[0]
    for number, title in ((1, "1 mistake in"), (40, "40 mistakes"), (1041, "1,041 mistakes")):
        (axes,) = mistakes(evaluation([0] * number, [1] * number)).axes
        assert f"test set: {title}" in axes.get_title()
        assert ("the 40 most" in axes.get_title()) == (number > 40)
        assert len(axes.images) == min(number, 40)
    for number, columns in ((1, 1), (3, 3), (8, 8), (9, 5), (10, 5), (16, 8), (40, 8)):
        (axes,) = mistakes(evaluation([0] * number, [1] * number)).axes
        assert len({image.get_extent()[0] for image in axes.images}) == columns
    for ground, colours in ((0, "gray_r"), (255, "gray"), (120, "gray")):  # ink on paper, all others as they are
        assert mistakes(evaluation([0], [1]), ground).axes[0].images[0].get_cmap().name == colours


def test_no_caption_runs_into_the_next_whatever_the_classes_are_called(tmp_path: Path) -> None:
    names = (
        "W" * 40,
        "a name without end",
        "日本語の文字",
        "שלום עולם",
        "x" * 1000,
        "a\nb\x1b[31m",
        "$\\frac{$",
        "é",
    )
    labels = [k for k in range(8) for _ in range(7)]
    predictions = [other for k in range(8) for other in range(8) if other != k]
    seen = evaluation(labels, predictions, names)
    figure = mistakes(seen)
    save_figure(figure, tmp_path / "a.png")  # no formula, and no warning of a letter that is missing
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert not any(one.overlaps(other) for k, one in enumerate(boxes) for other in boxes[:k])
    matrix = evaluation_plots.confusion_figure(seen, "t")
    save_figure(matrix, tmp_path / "b.png")
    shown = [label.get_text() for label in matrix.axes[0].get_xticklabels()]
    assert shown[2].startswith(r"\u65e5")
    assert (shown[0][-1], shown[7]) == ("…", "é")
    assert {label.get_rotation() for label in matrix.axes[0].get_xticklabels()} == {90.0}


def test_the_calibration_shows_every_bin_and_connects_those_of_enough_images(tmp_path: Path) -> None:
    seen = evaluation([0] * 30, [0] * 20 + [1] * 10)
    seen.probabilities[:] = [[0.95, 0.05]] * 15 + [[0.75, 0.25]] * 5 + [[0.35, 0.65]] * 9 + [[0.45, 0.55]]
    figure = evaluation_plots.calibration_figure(seen, "t")
    upper, lower = figure.axes
    assert [bar.get_height() for bar in lower.patches] == [1, 9, 5, 15]
    connected = next(line for line in upper.get_lines() if line.get_linestyle() == "-")
    assert list(connected.get_xdata()) == pytest.approx([0.95])
    save_figure(figure, tmp_path / "p.png")


# The contact sheet of `lenet data show`


def test_the_classes_take_turns_in_the_order_of_the_epoch(small: TrainVal) -> None:
    chosen = classes_in_turn(small.train, seed=3, epoch=2, num=25)
    assert chosen.labels.tolist() == [*range(10), *range(10), *range(5)]
    order = random_order(3, Purpose.ORDER, len(small.train), position=2)
    first_seven = next(place for place in order if small.train.labels[place] == 7)
    assert chosen.indices[7] == small.train.indices[first_seven]
    assert len(classes_in_turn(small.train, 0, 1, 10**6)) == len(small.train)


def test_plain_images_are_drawn_with_their_labels_and_places(small: TrainVal, tmp_path: Path) -> None:
    tiles, title = contact_tiles(small, None, 0, 1, 12)
    chosen = classes_in_turn(small.train, 0, 1, 12)
    assert [tile.caption for tile in tiles] == [str(label) for label in (*range(10), 0, 1)]
    assert [tile.footer for tile in tiles] == [f"#{index}" for index in chosen.indices.tolist()]
    assert np.array_equal([tile.picture for tile in tiles], chosen.images.numpy())
    assert title == "Training images of epoch 1, seed 0"
    draw_contact_sheet(tiles, title, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ConfigError, match=r"\.png"):
        draw_contact_sheet(tiles, title, tmp_path / "a.txt")


def test_next_to_each_image_is_what_seven_epochs_see_of_it(small: TrainVal) -> None:
    tiles, title = contact_tiles(small, EXAMPLE, 4, 2, 3)
    assert [tile.caption for tile in tiles[8:16]] == ["1", *(f"epoch {epoch}" for epoch in range(2, 9))]
    assert title.endswith("\nrotation 10, scale 0.1, shear 0.1, shift 1, elastic 0.85, elastic_sigma 5")
    assert contact_tiles(small, AugmentationConfig(rotation=2.5), 0, 1, 1)[1].endswith("\nrotation 2.5")
    place = int((small.train.indices == classes_in_turn(small.train, 4, 2, 3).indices[1]).nonzero())
    for epoch, tile in enumerate(tiles[9:16], start=2):
        config = Config.model_validate(
            {"seed": 4, "training": {"batch_size": 2000}, "augmentation": EXAMPLE.model_dump()}
        )
        batches = TrainBatches(small, config)
        (batch,) = batches.of_epoch(epoch)
        (row,) = (random_order(4, Purpose.ORDER, 2000, position=epoch) == place).nonzero()[0]
        seen = batch.images[row, 0] * small.normalization.std + small.normalization.mean
        assert np.abs(tile.picture - 255 * seen.numpy()).max() < 0.51
