"""Image sets and their normalisation."""

from typing import get_type_hints

import numpy as np
import pytest
import torch

from lenet_mnist.config import DataConfig
from lenet_mnist.data.load import load_test, load_train_val
from lenet_mnist.data.mnist import DataAccess
from lenet_mnist.data.sets import ImageSet, Normalization, TestSet, TrainSet, TrainVal, ValSet
from lenet_mnist.errors import DataError


def images_of(kind: type[ImageSet], pixels: torch.Tensor, labels: list[int] | None = None) -> ImageSet:
    num_images = len(pixels)
    places = torch.arange(100, 100 + num_images)
    return kind(pixels, torch.zeros(num_images, dtype=torch.int64) if labels is None else torch.tensor(labels), places)


@pytest.fixture(scope="module")
def everything(access: DataAccess) -> TrainVal:
    return load_train_val(DataConfig(), access)


def test_the_normalization_is_that_of_the_training_pixels(everything: TrainVal) -> None:
    pixels = everything.train.images.numpy().astype(np.float64) / 255
    assert everything.normalization.mean == pytest.approx(pixels.mean(), rel=1e-12)
    assert everything.normalization.std == pytest.approx(pixels.std(), rel=1e-12)


def test_normalized_pixels_average_0_with_deviation_1(small: TrainVal) -> None:
    applied = small.normalization.apply(small.train.images)
    assert applied.shape == (2000, 1, 28, 28)
    assert applied.dtype == torch.float32
    assert applied.double().mean().item() == pytest.approx(0, abs=1e-5)
    assert applied.double().std(correction=0).item() == pytest.approx(1, abs=1e-5)


def test_normalizing_is_pixel_over_255_minus_mean_over_std() -> None:
    images = torch.tensor([[[0, 255], [51, 102]]], dtype=torch.uint8)
    applied = Normalization(mean=0.2, std=0.5).apply(images)
    torch.testing.assert_close(applied, torch.tensor([[[[-0.4, 1.6], [0.0, 0.4]]]]))
    assert images.tolist() == [[[0, 255], [51, 102]]]


def test_images_of_one_colour_are_refused_a_single_other_pixel_is_enough() -> None:
    for level in range(256):
        pixels = torch.full((3, 28, 28), level, dtype=torch.uint8)
        with pytest.raises(DataError, match="the 3 training images are equal"):
            Normalization.of(images_of(TrainSet, pixels))
        pixels[1, 2, 3] ^= 1
        assert 0 < Normalization.of(images_of(TrainSet, pixels)).std < 1e-3


def test_a_label_without_class_is_refused_and_its_image_named() -> None:
    for label in (3, 10, -1, 2**40):
        images = images_of(ValSet, torch.zeros(4, 4, 4, dtype=torch.uint8), [2, 1, label, 0])
        with pytest.raises(DataError, match=f"^image 102 has label {label}, but the data have 3 classes, 0 .. 2$"):
            images.require_labels_below(3)


def test_what_training_sees_has_no_test_images(everything: TrainVal, access: DataAccess) -> None:
    hints = get_type_hints(TrainVal)
    assert (type(everything.train), type(everything.val)) == (hints["train"], hints["val"]) == (TrainSet, ValSet)
    assert TestSet not in hints.values()
    assert type(load_test(DataConfig(), access)) is TestSet
