"""Images that are there twice, and classes that are rare."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lenet_mnist.data.inspection import Leak, equal_images, survey_of
from lenet_mnist.data.sets import ImageSet, TestSet, TrainSet, ValSet

NAMES = ("cat", "dog", "<i>eel</i>")


def part(kind: type[ImageSet], images: list[int], labels: list[int], first_index: int = 0) -> ImageSet:
    """One image for each number, equal for equal numbers."""
    indices = torch.arange(first_index, first_index + len(labels))
    pixels = torch.tensor(images, dtype=torch.uint8).reshape(-1, 1, 1).repeat(1, 28, 28)
    return kind(pixels, torch.tensor(labels), indices)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30))
def test_equal_images_are_found_and_no_others(kinds: list[int]) -> None:
    expected = [[("training", k) for k, each in enumerate(kinds) if each == kind] for kind in dict.fromkeys(kinds)]
    found = equal_images({"training": part(TrainSet, kinds, [0] * len(kinds))})
    assert found == [group for group in expected if len(group) > 1]


def test_one_pixel_makes_a_difference() -> None:
    two = part(TrainSet, [7, 7], [0, 0])
    two.images[1, 27, 27] ^= 1
    assert equal_images({"training": two}) == []


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
