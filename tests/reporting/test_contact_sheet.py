"""The contact sheet shows what the epochs see, and says whose images these are."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lenet_mnist.config import AugmentationConfig
from lenet_mnist.data.batches import TrainBatches
from lenet_mnist.data.sets import TrainVal
from lenet_mnist.randomness import Purpose, random_order
from lenet_mnist.reporting import contact_sheet
from lenet_mnist.reporting.contact_sheet import EXAMPLE, classes_in_turn, draw_contact_sheet
from lenet_mnist.reporting.gallery import Tile


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[Tile], str]]:
    """What was given to the gallery."""
    given: list[tuple[list[Tile], str]] = []
    whole = contact_sheet.tiles_figure

    def tiles_figure(tiles: list[Tile], title: str, if_none: str):
        given.append((tiles, title))
        return whole(tiles, title, if_none)

    monkeypatch.setattr(contact_sheet, "tiles_figure", tiles_figure)
    return given


def test_the_classes_take_turns_in_the_order_of_the_epoch(small: TrainVal) -> None:
    chosen = classes_in_turn(small.train, seed=3, epoch=2, num=25)
    assert chosen.labels.tolist() == [*range(10), *range(10), *range(5)]
    order = random_order(3, Purpose.ORDER, len(small.train), position=2)
    first_seven = next(place for place in order if small.train.labels[place] == 7)
    assert chosen.indices[7] == small.train.indices[first_seven]
    assert len(classes_in_turn(small.train, 0, 1, 10**6)) == len(small.train)


def test_plain_images_are_drawn_with_their_labels_and_places(
    small: TrainVal, drawn: list[tuple[list[Tile], str]], tmp_path: Path
) -> None:
    draw_contact_sheet(small, None, 0, 1, 12, tmp_path / "a.png")
    ((tiles, title),) = drawn
    chosen = classes_in_turn(small.train, 0, 1, 12)
    assert [tile.caption for tile in tiles] == [str(label) for label in (*range(10), 0, 1)]
    assert [tile.footer for tile in tiles] == [f"#{index}" for index in chosen.indices.tolist()]
    assert np.array_equal([tile.picture for tile in tiles], chosen.images.numpy())
    assert title == "Training images of epoch 1, seed 0"
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_beside_each_image_stands_what_seven_epochs_see_of_it(
    small: TrainVal, drawn: list[tuple[list[Tile], str]], tmp_path: Path
) -> None:
    draw_contact_sheet(small, EXAMPLE, 4, 2, 3, tmp_path / "a.png")
    ((tiles, title),) = drawn
    assert [tile.caption for tile in tiles[8:16]] == ["1", *(f"epoch {epoch}" for epoch in range(2, 9))]
    assert title.endswith("\nrotation 10, scale 0.1, shear 0.1, shift 1, elastic 0.85, elastic_sigma 5")
    place = int((small.train.indices == classes_in_turn(small.train, 4, 2, 3).indices[1]).nonzero())
    for epoch, tile in enumerate(tiles[9:16], start=2):
        cpu = torch.device("cpu")
        batches = TrainBatches(small.train, small.normalization, 2000, 4, cpu, augmentation=EXAMPLE)
        (batch,) = batches.of_epoch(epoch)
        (row,) = (random_order(4, Purpose.ORDER, 2000, position=epoch) == place).nonzero()[0]
        seen = batch.images[row, 0] * small.normalization.std + small.normalization.mean
        assert np.abs(tile.picture - 255 * seen.numpy()).max() < 0.51


def test_what_does_nothing_is_not_named(small: TrainVal, drawn: list[tuple[list[Tile], str]], tmp_path: Path) -> None:
    draw_contact_sheet(small, AugmentationConfig(rotation=2.5), 0, 1, 1, tmp_path / "a.png")
    assert drawn[0][1].endswith("\nrotation 2.5")
