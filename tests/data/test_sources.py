"""`data.source`: which data are meant, how they are divided, and what is said where there are none."""

import gzip
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.conftest import Listener
from tests.data.own import chosen, write_idx, write_pictures

from lenet_mnist.config import DataConfig, Source
from lenet_mnist.data import mnist, sources
from lenet_mnist.data.idx import encode_idx
from lenet_mnist.data.mnist import DataAccess, IdxFile, PublishedSet, find, raw_directory, read_verified
from lenet_mnist.data.sets import TestSet, TrainVal
from lenet_mnist.data.sources import (
    class_names_of,
    find_directory,
    load_test,
    load_train_val,
    published_files,
    survey,
    whereabouts,
)
from lenet_mnist.data.split import cut_off_test, split_train_val
from lenet_mnist.errors import ConfigError, DataError

Array = np.ndarray
NAMES = ("nought", "one", "two")
KIN = (Source.FASHION_MNIST, Source.KMNIST)


@pytest.fixture(scope="module")
def digits(small: TrainVal) -> tuple[Array, Array]:
    """A hundred digits, three classes."""
    return chosen(small.val, 40, 35, 25)


@pytest.fixture
def mine(tmp_path: Path) -> DataAccess:
    """A data directory of one's own."""
    return DataAccess(tmp_path / "data", offline=True, listener=Listener())


@pytest.fixture(params=["idx", "pictures"])
def directory(request: pytest.FixtureRequest, digits: tuple[Array, Array], tmp_path: Path) -> Path:
    """A directory of either kind."""
    if request.param == "idx":
        return write_idx(tmp_path / "own", "train", *digits)
    return write_pictures(tmp_path / "own", *digits, NAMES)


# The lecture's 60/20/20.


@pytest.mark.parametrize(("source", "sizes"), [("mnist", (55_000, 5_000)), ("kmnist", (55_000, 5_000))])
def test_mnist_and_its_kin_are_divided_as_in_the_lecture(source: str, sizes: tuple[int, int]) -> None:
    config = DataConfig(source=source)
    assert (config.train_size, config.val_size) == sizes


@pytest.mark.parametrize("source", ["digits", "./shapes", "MNIST"])
def test_all_others_are_divided_60_20_20(source: str) -> None:
    config = DataConfig(source=source)
    assert (config.train_size, config.val_size) == (0.75, 0.25)
    assert DataConfig(source=source, train_size=7, val_size=3).train_size == 7


@pytest.mark.parametrize("num_images", range(3, 60))
def test_three_quarters_and_a_quarter_are_all(num_images: int) -> None:
    """Of fractions that are rounded, no image may be left over, and none asked for twice."""
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
    assert note.startswith("the classes are unequal: 32 images of ")


def test_no_option_moves_an_image_into_or_out_of_the_test_part(directory: Path, mine: DataAccess) -> None:
    tests = [
        load_test(DataConfig(source=str(directory), **changes), mine).indices.tolist()
        for changes in ({}, {"split_seed": 5}, {"train_size": 10, "val_size": 5}, {"limit_train": 9}, {"resize": True})
    ]
    assert all(each == tests[0] for each in tests)
    splits = [load_train_val(DataConfig(source=str(directory), split_seed=seed), mine).fingerprint for seed in (0, 5)]
    assert splits[0].split != splits[1].split
    assert splits[0].files == splits[1].files


def test_the_test_part_of_100_images_is_the_same_for_ever(digits: tuple[Array, Array]) -> None:
    expected = [13, 14, 15, 17, 19, 30, 32, 35, 43, 45, 47, 59, 69, 70, 74, 76, 92, 95, 96, 98]
    assert cut_off_test(digits[1])[1].tolist() == expected


def test_what_the_two_kinds_hold_is_the_same(digits: tuple[Array, Array], tmp_path: Path, mine: DataAccess) -> None:
    images, labels = digits
    kinds = [
        write_idx(tmp_path / "idx", "train", images, labels),
        write_pictures(tmp_path / "pictures", images, labels, ("0", "1", "2")),
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


@pytest.mark.parametrize(
    ("source", "error", "said"),
    [
        ("fashon-mnist", ConfigError, "no such source, and no such directory: did you mean fashion-mnist?"),
        ("MNIST", ConfigError, "did you mean mnist?"),
        ("digit", ConfigError, "did you mean digits?"),
        ("shapes", ConfigError, "expected one of mnist, fashion-mnist, kmnist, digits, or a directory"),
        ("./shapes", DataError, "shapes: data.source: no such directory"),
        ("/nowhere/mnist", DataError, "/nowhere/mnist: data.source: no such directory"),
        ("n" * 300, DataError, "cannot be looked at: File name too long"),
        ("file", DataError, "file: data.source: is a file"),
        ("~nobody-of-that-name/x", DataError, "~nobody-of-that-name/x: data.source: "),
        ("nowhere/..", DataError, "nowhere/..: data.source: no such directory"),
        (".", DataError, "holds neither IDX files"),
    ],
)
def test_what_is_not_there_is_said(
    tmp_path: Path, mine: DataAccess, monkeypatch: pytest.MonkeyPatch, source: str, error: type[Exception], said: str
) -> None:
    (mine.directory / "MNIST").mkdir(parents=True)
    (tmp_path / "cwd").mkdir()
    (tmp_path / "cwd" / "file").write_text("no directory")
    monkeypatch.chdir(tmp_path / "cwd")
    for load in (load_train_val, load_test, class_names_of, survey):
        with pytest.raises(error) as caught:
            load(DataConfig(source=source), mine)
        assert said in str(caught.value)
        assert getattr(caught.value, "key", None) == ("data.source" if error is ConfigError else None)


# What is odd is said.


def test_images_in_two_parts_are_noticed(digits: tuple[Array, Array], tmp_path: Path, mine: DataAccess) -> None:
    images, labels = digits[0].copy(), digits[1]
    images[1:30] = images[0]
    write_idx(tmp_path, "train", images, labels)
    data = load_train_val(DataConfig(source=str(tmp_path)), mine)
    assert any("validation images are in an earlier part too" in note for note in data.notes)
    seen = survey(DataConfig(source=str(tmp_path)), mine)
    assert {leak.part for leak in seen.leaks} == {"validation", "test"}
    assert {leak.earlier_image for leak in seen.leaks} == {str(min(set(range(30)) & set(data.train.indices.tolist())))}


def test_left_out_pictures_are_noted_for_each_part(digits: tuple[Array, Array], tmp_path: Path) -> None:
    directory = write_pictures(tmp_path / "own", *digits, NAMES)
    for path in directory.glob("one/*.png"):
        path.write_bytes(b"")
        break
    listener = Listener()
    config, mine = DataConfig(source=str(directory), skip_unreadable=True), DataAccess(tmp_path, True, listener)
    data, test = load_train_val(config, mine), load_test(config, mine)
    assert len(data.train) + len(data.val) + len(test) == 99
    said = [*data.notes, *listener.notes]
    assert sum("left out: 1 of " in note for note in said) == 1
    assert sum("left out: 1 of " in note for note in survey(config, mine).notes) == 1


# Published sets of other names, with small files in the place of theirs.


@pytest.fixture(params=KIN)
def kin(request: pytest.FixtureRequest, digits: tuple[Array, Array], monkeypatch: pytest.MonkeyPatch) -> Source:
    """One of the kin of MNIST, with a hundred training images and twenty for the test."""
    source = request.param
    known = mnist.PUBLISHED[source]
    arrays = [digits[0], digits[1].astype(np.uint8), digits[0][:20], digits[1][:20].astype(np.uint8)]
    files = []
    for file, array in zip(known.files, arrays, strict=True):
        raw = encode_idx(array)
        content = gzip.compress(raw, mtime=0) if file.is_packed else raw
        files.append(IdxFile(file.name, array.shape, hashlib.sha256(content).hexdigest(), source, file.is_packed))
        CONTENTS[source, file.name] = content
    small = PublishedSet(known.class_names, (files[0], files[1]), (files[2], files[3]))
    monkeypatch.setitem(mnist.PUBLISHED, source, small)
    monkeypatch.setattr(mnist, "_DEBIAN", Path("/nowhere"))
    return source


CONTENTS: dict[tuple[Source, str], bytes] = {}


@pytest.fixture
def place(kin: Source, mine: DataAccess) -> Callable[..., Path]:
    """Put a file of the set where it belongs, or its content elsewhere."""

    def place(file: IdxFile, parent: Path | None = None) -> Path:
        path = (parent or raw_directory(mine.directory, kin)) / (f"{file.name}.gz" if file.is_packed else file.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(CONTENTS[kin, file.name])
        return path

    return place


def test_kin_are_read_from_torchvisions_directories(kin: Source, place: Callable[..., Path], mine: DataAccess) -> None:
    places = [place(file) for file in mnist.PUBLISHED[kin].files]
    config = DataConfig(source=kin.value, train_size=0.8, val_size=0.2)
    data, test = load_train_val(config, mine), load_test(config, mine)
    assert (len(data.train), len(data.val), len(test)) == (80, 20, 20)
    assert data.class_names == mnist.PUBLISHED[kin].class_names == class_names_of(config, mine)
    assert len(data.class_names) == 10
    assert data.fingerprint.source == kin.value
    assert list(data.fingerprint.files.values()) == [file.sha256 for file in mnist.PUBLISHED[kin].train_files]
    assert [path for _, path in whereabouts(config, mine)] == places
    assert f"/{mnist.PUBLISHED[kin].files[0].collection}/raw/" in str(places[0])


def test_training_on_kin_needs_no_test_files(kin: Source, place: Callable[..., Path], mine: DataAccess) -> None:
    for file in mnist.PUBLISHED[kin].train_files:
        place(file)
    assert len(load_train_val(DataConfig(source=kin.value, train_size=0.8, val_size=0.2), mine).train) == 80
    with pytest.raises(DataError, match=f"`lenet data fetch --source {kin}`"):
        load_test(DataConfig(source=kin.value), mine)


def test_damaged_kin_are_named_with_the_command(kin: Source, place: Callable[..., Path], mine: DataAccess) -> None:
    file = mnist.PUBLISHED[kin].test_files[0]
    path = place(file)
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_verified(file, mine.directory)
    assert str(caught.value).startswith(f"{path}: damaged: ")
    assert f"`lenet data fetch --source {kin}`" in str(caught.value)


def test_a_file_of_another_set_is_told_by_its_name(
    mnist_dir: Path,
) -> None:
    _, labels = read_verified(mnist.TEST_LABELS, mnist_dir)
    file = mnist.PUBLISHED[Source.FASHION_MNIST].test_files[1]
    assert file.complaint(encode_idx(labels)) == "this is t10k-labels-idx1-ubyte of mnist"


def test_what_is_verified_compressed_is_not_looked_for_in_another_form(mine: DataAccess) -> None:
    file = mnist.PUBLISHED[Source.KMNIST].test_files[1]
    path = raw_directory(mine.directory, Source.KMNIST) / file.name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"uncompressed")
    assert find(file, mine.directory) is None


def test_fashion_mnist_is_found_where_debian_puts_it(
    tmp_path: Path, mine: DataAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mnist, "_DEBIAN", tmp_path / "debian")
    (tmp_path / "debian").mkdir()
    file = mnist.PUBLISHED[Source.FASHION_MNIST].test_files[1]
    path = tmp_path / "debian" / f"{file.name}.gz"
    path.write_bytes(b"")
    assert find(file, mine.directory) == path
    assert find(mnist.TEST_LABELS, mine.directory) is None


def test_only_published_sets_are_fetched() -> None:
    for source, said in (("digits", "part of scikit-learn"), ("./shapes", "a directory of your own")):
        with pytest.raises(ConfigError, match=said):
            published_files(DataConfig(source=source))


@pytest.mark.parametrize("source", KIN)
def test_the_digests_are_well_formed_and_all_different(source: Source) -> None:
    digests = [file.sha256 for each in mnist.PUBLISHED.values() for file in each.files]
    assert len(set(digests)) == 12
    assert all(len(digest) == 64 and set(digest) <= set("0123456789abcdef") for digest in digests)
    assert [file.shape for file in mnist.PUBLISHED[source].files] == [file.shape for file in mnist.ALL_FILES]


@pytest.mark.fashion
def test_real_fashion_mnist(access: DataAccess) -> None:
    config = DataConfig(source="fashion-mnist")
    data, test = load_train_val(config, access), load_test(config, access)
    assert (len(data.train), len(data.val), len(test)) == (55_000, 5_000, 10_000)
    assert data.train.labels.bincount().tolist() == [5_500] * 10
    assert sources.is_verified(config)
