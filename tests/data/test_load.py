"""`data.source`: which data are meant, how they are divided, and what is said where there are none."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.conftest import Listener
from tests.data.own import chosen, write_idx, write_pictures

from lenet_mnist.config import DataConfig
from lenet_mnist.data import load as load_module
from lenet_mnist.data.load import Leak, equal_images, find_directory, load_test, load_train_val, survey, survey_of
from lenet_mnist.data.mnist import DataAccess
from lenet_mnist.data.sets import ImageSet, TestSet, TrainSet, TrainVal, ValSet
from lenet_mnist.data.split import cut_off_test, split_train_val
from lenet_mnist.errors import DataError

Array = np.ndarray
NAMES = ("nought", "one", "two")
CLASSES = ("cat", "dog", "<i>eel</i>")


@pytest.fixture(scope="module")
def digits(small: TrainVal) -> tuple[Array, Array]:
    """A hundred digits, three classes."""
    return chosen(small.val, 40, 35, 25)


@pytest.fixture
def mine(tmp_path: Path) -> DataAccess:
    """A data directory of one's own."""
    return DataAccess(tmp_path / "data", offline=True, progress=Listener())


@pytest.fixture(params=["idx", "pictures"])
def directory(request: pytest.FixtureRequest, digits: tuple[Array, Array], tmp_path: Path) -> Path:
    """A directory of either kind."""
    if request.param == "idx":
        return write_idx(tmp_path / "own", "train", *digits)
    return write_pictures(tmp_path / "own", *digits, NAMES)


# The lecture's 60/20/20.


def test_mnist_and_its_like_are_divided_as_in_the_lecture_all_others_60_20_20() -> None:
    for source in ("mnist", "kmnist"):
        assert (DataConfig(source=source).train_size, DataConfig(source=source).val_size) == (55_000, 5_000)
    for source in ("digits", "./shapes", "MNIST"):
        assert (DataConfig(source=source).train_size, DataConfig(source=source).val_size) == (0.75, 0.25)
    assert DataConfig(source="digits", train_size=7, val_size=3).train_size == 7
    for num_images in range(3, 60):  # of rounded fractions, no image is left over or asked for twice
        train, val = split_train_val(np.zeros(num_images, dtype=np.int64), 0.75, 0.25, 0)
        assert len(train) + len(val) == num_images


def test_the_parts_are_stratified_and_never_meet(directory: Path, mine: DataAccess) -> None:
    config = DataConfig(source=str(directory))
    data, test = load_train_val(config, mine), load_test(config, mine)
    assert (len(data.train), len(data.val), len(test)) == (60, 20, 20)
    assert type(test) is TestSet
    indices = torch.cat([data.train.indices, data.val.indices, test.indices])
    assert indices.sort().values.tolist() == list(range(100))
    for part, shares in ((data.train, [15, 21, 24]), (data.val, [5, 7, 8]), (test, [5, 7, 8])):
        assert sorted(part.labels.bincount().tolist()) == shares
    assert data.num_classes == 3
    (note,) = data.notes
    assert note.startswith("the classes are imbalanced: 32 images of ")


def test_no_option_moves_an_image_into_or_out_of_the_test_part(
    directory: Path, mine: DataAccess, digits: tuple[Array, Array]
) -> None:
    tests = [
        load_test(DataConfig(source=str(directory), **changes), mine).indices.tolist()
        for changes in ({}, {"split_seed": 5}, {"train_size": 10, "val_size": 5}, {"limit_train": 9}, {"resize": True})
    ]
    assert all(each == tests[0] for each in tests)
    splits = [load_train_val(DataConfig(source=str(directory), split_seed=seed), mine).fingerprint for seed in (0, 5)]
    assert splits[0].split != splits[1].split
    assert splits[0].files == splits[1].files
    for_ever = [13, 14, 15, 17, 19, 30, 32, 35, 43, 45, 47, 59, 69, 70, 74, 76, 92, 95, 96, 98]
    assert cut_off_test(digits[1])[1].tolist() == for_ever


def test_what_the_two_kinds_hold_is_the_same(digits: tuple[Array, Array], tmp_path: Path, mine: DataAccess) -> None:
    kinds = [
        write_idx(tmp_path / "idx", "train", *digits),
        write_pictures(tmp_path / "pictures", *digits, ("0", "1", "2")),
    ]
    first, second = (load_train_val(DataConfig(source=str(kind)), mine) for kind in kinds)
    assert torch.equal(first.train.images, second.train.images)
    assert torch.equal(first.val.labels, second.val.labels)
    assert first.normalization == second.normalization
    assert first.fingerprint.source != second.fingerprint.source


# Which directory is meant.


def test_a_directory_is_looked_for_where_it_is_written_and_then_among_the_data(
    digits: tuple[Array, Array], tmp_path: Path, mine: DataAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    there = write_idx(tmp_path / "shapes", "train", *digits)
    assert find_directory("shapes", mine) == Path("shapes")
    assert find_directory("~/shapes", mine) == there
    mine.directory.mkdir()
    there.rename(mine.directory / "shapes")
    for name in ("shapes", "./shapes", "~/shapes", "/gone/shapes"):
        assert find_directory(name, mine) == mine.directory / "shapes"


def test_a_name_wins_over_a_directory_and_a_point_over_the_name(
    digits: tuple[Array, Array], tmp_path: Path, mine: DataAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_idx(tmp_path / "mnist", "train", *digits)
    with pytest.raises(DataError, match="offline"):
        load_train_val(DataConfig(source="mnist"), mine)
    assert len(load_train_val(DataConfig(source="./mnist"), mine).train) == 60


# What is unusual is said.


def test_the_images_of_published_sets_are_compared_only_on_request(
    access: DataAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(load_module, "equal_images", lambda parts: asked.append(sum(map(len, parts.values()))) or [])
    few = load_train_val(DataConfig(source="digits", limit_train=3), access)
    assert asked == []
    assert "the training part has no image of 7 of 10 classes" in few.notes[0]
    survey(DataConfig(source="digits"), access)
    assert asked == [1797]


def test_skipped_pictures_are_noted_for_each_part(digits: tuple[Array, Array], tmp_path: Path) -> None:
    directory = write_pictures(tmp_path / "own", *digits, NAMES)
    next(directory.glob("one/*.png")).write_bytes(b"")
    listener = Listener()
    config, mine = DataConfig(source=str(directory), skip_unreadable=True), DataAccess(tmp_path, True, listener)
    data, test = load_train_val(config, mine), load_test(config, mine)
    assert len(data.train) + len(data.val) + len(test) == 99
    for notes in ([*data.notes, *listener.notes], survey(config, mine).notes):
        assert sum("skipped: 1 of " in note for note in notes) == 1


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
        CLASSES,
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
    assert survey_of(CLASSES, parts).notes == ()


@pytest.mark.parametrize(("num_cats", "is_said"), [(3, False), (4, True)])
def test_unequal_is_more_than_one_and_a_half_times(num_cats: int, is_said: bool) -> None:
    labels = [0] * num_cats + [1, 1, 2, 2]
    survey = survey_of(CLASSES, {"training": part(TrainSet, list(range(len(labels))), labels)})
    assert ["imbalanced: 4 images of cat, 2 of dog" in note for note in survey.notes] == [True] * is_said
