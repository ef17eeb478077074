"""Images that are there twice, and classes that are rare."""

import zlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lenet_mnist.data import inspection
from lenet_mnist.data.inspection import Leak, equal_images, survey_of
from lenet_mnist.data.sets import ImageSet, TestSet, TrainSet, ValSet

NAMES = ("cat", "dog", "<i>eel</i>")


def images_of(kinds: list[int]) -> np.ndarray:
    """One image for each number, equal for equal numbers."""
    return np.stack([np.full((28, 28), 0, np.uint8) + np.uint8(kind) for kind in kinds])


def part(kind: type[ImageSet], images: list[int], labels: list[int], first_index: int = 0) -> ImageSet:
    indices = torch.arange(first_index, first_index + len(labels))
    return kind(torch.from_numpy(images_of(images)), torch.tensor(labels), indices)


@given(st.lists(st.integers(0, 9), max_size=30))
def test_equal_images_are_found_and_no_others(kinds: list[int]) -> None:
    expected = [[k for k, each in enumerate(kinds) if each == kind] for kind in dict.fromkeys(kinds)]
    images = images_of(kinds) if kinds else np.empty((0, 28, 28), np.uint8)
    assert equal_images(images) == [group for group in expected if len(group) > 1]


def test_one_pixel_makes_a_difference() -> None:
    images = images_of([7, 7])
    images[1, 27, 27] ^= 1
    assert equal_images(images) == []


def test_images_with_one_checksum_are_not_taken_for_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection.zlib, "crc32", lambda _: 5)
    assert equal_images(images_of([1, 2, 1, 3])) == [[0, 2]]
    assert zlib.crc32(b"") == 5


def test_what_is_twice_is_counted_where_it_is() -> None:
    survey = survey_of(
        NAMES,
        {
            "training": part(TrainSet, [1, 1, 1, 2, 3], [0, 0, 1, 1, 2], first_index=100),
            "validation": part(ValSet, [4, 1, 4], [0, 0, 0], first_index=200),
            "test": part(TestSet, [4, 5, 2], [0, 1, 2]),
        },
    )
    assert survey.counts == {"training": [2, 2, 1], "validation": [3, 0, 0], "test": [1, 1, 1]}
    assert survey.num_repeated == {"training": 2, "validation": 1, "test": 0}
    assert survey.leaks == (
        Leak("validation", "201", "training", "100"),
        Leak("test", "2", "training", "103"),
        Leak("test", "0", "validation", "200"),
    )
    assert survey.num_contradicted == 2  # training image 102 is a dog, test image 2 an eel
    notes = "\n".join(survey.notes)
    assert "1 of 3 validation images are in an earlier part too" in notes
    assert "2 of 3 test images are in an earlier part too" in notes
    assert "2 images have a different label than an image that equals them" in notes
    assert "the validation part has no image of 2 of 3 classes, such as dog" in notes


def test_nothing_odd_is_nothing_said() -> None:
    parts = {"training": part(TrainSet, [1, 2, 3], [0, 1, 2]), "validation": part(ValSet, [4, 5, 6], [0, 1, 2])}
    assert survey_of(NAMES, parts).notes == ()


@pytest.mark.parametrize(("num_cats", "is_said"), [(3, False), (4, True)])
def test_unequal_is_more_than_one_and_a_half_times(num_cats: int, is_said: bool) -> None:
    labels = [0] * num_cats + [1, 1, 2, 2]
    survey = survey_of(NAMES, {"training": part(TrainSet, list(range(len(labels))), labels)})
    assert ["imbalanced: 4 images of cat, 2 of dog" in note for note in survey.notes] == [True] * is_said
