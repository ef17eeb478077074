"""Real MNIST: found in every layout, verified to the last byte, and never replaced."""

import gzip
import os
import shutil
import socket
import subprocess
import tempfile
import tracemalloc
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from lenet_mnist.config import DataConfig
from lenet_mnist.data import mnist
from lenet_mnist.data.idx import encode_idx
from lenet_mnist.data.mnist import (
    ALL_FILES,
    TEST_FILES,
    TEST_IMAGES,
    TEST_LABELS,
    TRAIN_FILES,
    TRAIN_IMAGES,
    TRAIN_LABELS,
    DataAccess,
    IdxFile,
    fetch_missing,
    find,
    raw_directory,
    read_verified,
)
from lenet_mnist.data.sets import TestSet, TrainVal
from lenet_mnist.data.sources import load_test, load_train_val
from lenet_mnist.errors import ConfigError, DataError, LenetError

NOBODY = 65534

Damage = Callable[[bytes], bytes]
DAMAGES: dict[str, tuple[Damage, str]] = {
    "empty": (lambda _: b"", "truncated: 0 bytes"),
    "header only": (lambda content: content[:8], "truncated: 8 bytes"),
    "half of it": (lambda content: content[: len(content) // 2], "truncated"),
    "last byte missing": (lambda content: content[:-1], "truncated"),
    "wrong magic number": (lambda content: b"\0\0\x09" + content[3:], "damaged: its SHA-256 is"),
    "one bit in the middle": (
        lambda content: content[:5000] + bytes([content[5000] ^ 1]) + content[5001:],
        "damaged: its SHA-256 is",
    ),
    "one bit at the end": (lambda content: content[:-1] + bytes([content[-1] ^ 128]), "damaged: its SHA-256 is"),
    "one byte more": (lambda content: content + b"\0", "longer than"),
    "twice itself": (lambda content: content * 2, "longer than"),
    "a page of HTML": (lambda _: b"<html>404 not found</html>", "truncated"),
}


class Listener:
    def note(self, text: str) -> None:
        pytest.fail(f"nothing was to be fetched: {text}")

    def progress(self, name: str, *_: object) -> None:
        pytest.fail(f"nothing was to be fetched: {name}")


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail every test that asks for anything from outside."""

    def refuse(*_: object, **__: object) -> None:
        pytest.fail("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    monkeypatch.setattr(subprocess, "run", refuse)


@pytest.fixture(scope="module")
def originals(mnist_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The four files, raw, in one directory; tests link to them."""
    directory = tmp_path_factory.mktemp("originals")
    for file in ALL_FILES:
        (directory / file.name).write_bytes(encode_idx(read_verified(file, mnist_dir)[1]))
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def compressed(originals: Path) -> Path:
    """The four files, compressed, beside the raw ones."""
    for file in ALL_FILES:
        content = gzip.compress((originals / file.name).read_bytes(), compresslevel=1, mtime=0)
        (originals / f"{file.name}.gz").write_bytes(content)
    return originals


@pytest.fixture
def place(originals: Path, tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Put files into a data directory of one's own: links to the originals, or given content."""

    def place(file: IdxFile, content: bytes | None = None, suffix: str = "", flat: bool = False) -> Path:
        path = (tmp_path if flat else raw_directory(tmp_path)) / (file.name + suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.symlink_to(originals / path.name)
        else:
            path.write_bytes(content)
        return path

    yield place
    shutil.rmtree(tmp_path)  # some files are large, and pytest keeps directories


@pytest.fixture(params=[True, False], ids=["offline", "online"])
def mine(request: pytest.FixtureRequest, tmp_path: Path) -> DataAccess:
    """The data directory of `place`; if something is missing there, asking for it is an error of the test."""
    return DataAccess(tmp_path, offline=request.param, listener=Listener())


@pytest.fixture
def offline(tmp_path: Path) -> DataAccess:
    return DataAccess(tmp_path, offline=True, listener=Listener())


@pytest.fixture(scope="module")
def everything(access: DataAccess) -> TrainVal:
    return load_train_val(DataConfig(), access)


@pytest.fixture(scope="module")
def test_set(access: DataAccess) -> TestSet:
    return load_test(DataConfig(), access)


def load(file: IdxFile, access: DataAccess) -> None:
    """Load the part of the data that `file` belongs to."""
    if file in TRAIN_FILES:
        load_train_val(DataConfig(), access)
    else:
        load_test(DataConfig(), access)


def refusal_of(load: Callable[[], object]) -> str:
    with pytest.raises(DataError) as caught:
        load()
    return str(caught.value)


# Sound data.


def test_all_of_mnist_is_there(everything: TrainVal, test_set: TestSet) -> None:
    assert everything.train.images.shape == (55_000, 28, 28)
    assert everything.val.images.shape == (5_000, 28, 28)
    assert test_set.images.shape == (10_000, 28, 28)
    for images in (everything.train, everything.val, test_set):
        assert (images.images.dtype, images.labels.dtype, images.indices.dtype) == (
            torch.uint8,
            torch.int64,
            torch.int64,
        )
        assert images.labels.unique().tolist() == list(range(10))
    assert everything.class_names == ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
    assert round(everything.normalization.mean, 3) == 0.131
    assert round(everything.normalization.std, 3) == 0.308


def test_the_two_parts_are_the_60_000_each_image_once(everything: TrainVal) -> None:
    indices = torch.cat([everything.train.indices, everything.val.indices])
    assert indices.sort().values.tolist() == list(range(60_000))


def test_pixels_and_labels_are_those_that_torchvision_reads(
    everything: TrainVal, test_set: TestSet, place: Callable[..., Path], tmp_path: Path
) -> None:
    from torchvision.datasets import MNIST

    for file in ALL_FILES:
        place(file)
    training, test = (MNIST(tmp_path, train=is_training, download=False) for is_training in (True, False))
    for part in (everything.train, everything.val):
        assert torch.equal(part.images, training.data[part.indices])
        assert torch.equal(part.labels, training.targets[part.indices])
    assert torch.equal(test_set.images, test.data)
    assert torch.equal(test_set.labels, test.targets)
    assert test_set.indices.tolist() == list(range(10_000))


def test_the_fingerprint_names_the_files_and_the_split(everything: TrainVal, access: DataAccess) -> None:
    assert everything.fingerprint.source == "mnist"
    assert everything.fingerprint.files == {file.name: file.sha256 for file in TRAIN_FILES}
    splits = {
        load_train_val(config, access).fingerprint.split
        for config in (
            DataConfig(),
            DataConfig(split_seed=1),
            DataConfig(limit_train=54_999),
            DataConfig(val_size=4_999),
        )
    }
    assert len(splits) == 4
    assert everything.fingerprint.split in splits


def test_sizes_are_followed(access: DataAccess) -> None:
    parts = load_train_val(DataConfig(train_size=0.5, val_size=100, limit_train=300), access)
    assert (len(parts.train), len(parts.val)) == (300, 100)


def test_a_split_that_does_not_fit_is_an_error_of_the_configuration(access: DataAccess) -> None:
    with pytest.raises(ConfigError) as caught:
        load_train_val(DataConfig(limit_train=55_001), access)
    assert caught.value.key == "data.limit_train"


@pytest.mark.parametrize("file", ALL_FILES, ids=lambda file: file.name)
def test_a_file_is_as_long_as_it_says(originals: Path, file: IdxFile) -> None:
    content = (originals / file.name).read_bytes()
    assert len(content) == file.num_bytes
    assert file.complaint(content) is None


def test_what_is_read_cannot_be_changed(access: DataAccess) -> None:
    _, array = read_verified(TEST_LABELS, access.directory)
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1


# Where the files lie.


@pytest.mark.usefixtures("compressed")
@pytest.mark.parametrize("flat", [False, True], ids=["torchvision", "flat"])
@pytest.mark.parametrize("suffix", ["", ".gz"], ids=["raw", "gz"])
def test_every_layout_is_found(
    place: Callable[..., Path], mine: DataAccess, test_set: TestSet, flat: bool, suffix: str
) -> None:
    for file in ALL_FILES:
        path = place(file, suffix=suffix, flat=flat)
        assert find(file, mine.directory) == path
    assert torch.equal(load_test(DataConfig(), mine).images, test_set.images)
    if mine.offline:
        assert load_train_val(DataConfig(), mine).train.images.shape == (55_000, 28, 28)
    assert fetch_missing(mine) == []


def test_raw_files_win_over_compressed_and_torchvision_s_layout_over_the_flat_one(
    place: Callable[..., Path], tmp_path: Path
) -> None:
    for flat, suffix in [(True, ".gz"), (True, ""), (False, ".gz"), (False, "")]:
        path = place(TEST_LABELS, b"", suffix=suffix, flat=flat)
        assert find(TEST_LABELS, tmp_path) == path


@pytest.mark.usefixtures("compressed")
def test_layouts_may_be_mixed(place: Callable[..., Path], offline: DataAccess) -> None:
    place(TEST_IMAGES, suffix=".gz")
    place(TEST_LABELS, flat=True)
    assert len(load_test(DataConfig(), offline)) == 10_000


# Training and test data have nothing to do with each other.


@pytest.mark.parametrize("content", [None, b"", b"no MNIST"], ids=["absent", "empty", "garbage"])
def test_training_needs_no_test_files(
    place: Callable[..., Path], mine: DataAccess, everything: TrainVal, content: bytes | None
) -> None:
    for file in TRAIN_FILES:
        place(file)
    for file in TEST_FILES if content is not None else ():
        place(file, content)
    loaded = load_train_val(DataConfig(), mine)
    assert torch.equal(loaded.train.images, everything.train.images)
    assert loaded.normalization == everything.normalization


def test_training_does_not_open_the_test_files(place: Callable[..., Path], offline: DataAccess) -> None:
    for file in TRAIN_FILES:
        place(file)
    for file in TEST_FILES:
        os.mkfifo(raw_directory(offline.directory) / file.name)
    assert len(load_train_val(DataConfig(), offline).val) == 5_000


def test_testing_needs_no_training_files(place: Callable[..., Path], mine: DataAccess) -> None:
    for file in TEST_FILES:
        place(file)
    assert len(load_test(DataConfig(), mine)) == 10_000


# Damage.


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", [TRAIN_LABELS, TEST_IMAGES, TEST_LABELS], ids=lambda file: file.name)
def test_a_damaged_file_is_named_and_left_alone(
    originals: Path, place: Callable[..., Path], mine: DataAccess, file: IdxFile, damage: str
) -> None:
    change, said = DAMAGES[damage]
    content = change((originals / file.name).read_bytes())
    for other in ALL_FILES:
        if other is not file:
            place(other)
    path = place(file, content)
    before = path.stat().st_mtime_ns
    message = refusal_of(lambda: load(file, mine))
    assert message.startswith(f"{path}: {said}")
    assert "delete it or move it away" in message
    assert fetch_missing(mine) == []
    assert path.read_bytes() == content
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize("position", [2, 16, 47_040_015])
def test_one_wrong_byte_among_the_training_images_is_noticed(
    originals: Path, place: Callable[..., Path], offline: DataAccess, position: int
) -> None:
    content = bytearray((originals / TRAIN_IMAGES.name).read_bytes())
    content[position] ^= 1
    path = place(TRAIN_IMAGES, bytes(content))
    place(TRAIN_LABELS)
    assert refusal_of(lambda: load_train_val(DataConfig(), offline)).startswith(f"{path}: damaged: its SHA-256 is")


@pytest.mark.parametrize(
    ("wanted", "given"),
    [
        (TRAIN_LABELS, TEST_LABELS),
        (TEST_LABELS, TRAIN_LABELS),
        (TEST_LABELS, TEST_IMAGES),
        (TEST_IMAGES, TEST_LABELS),
        (TRAIN_LABELS, TRAIN_IMAGES),
        (TRAIN_IMAGES, TEST_IMAGES),
        (TEST_IMAGES, TRAIN_IMAGES),
        (TRAIN_IMAGES, TRAIN_LABELS),
    ],
    ids=lambda file: file.name,
)
def test_a_file_under_another_s_name_is_refused(
    originals: Path, place: Callable[..., Path], offline: DataAccess, wanted: IdxFile, given: IdxFile
) -> None:
    for file in ALL_FILES:
        if file is not wanted:
            place(file)
    path = raw_directory(offline.directory) / wanted.name
    path.symlink_to(originals / given.name)
    message = refusal_of(lambda: load(wanted, offline))
    if given.num_bytes <= 2 * wanted.num_bytes:
        assert message.startswith(f"{path}: this is {given.name} under another name")
    else:
        assert message.startswith(f"{path}: larger than")


def test_labels_in_another_order_are_refused(originals: Path, place: Callable[..., Path], offline: DataAccess) -> None:
    content = (originals / TEST_LABELS.name).read_bytes()
    path = place(TEST_LABELS, content[:8] + content[:7:-1])
    place(TEST_IMAGES)
    assert refusal_of(lambda: load_test(DataConfig(), offline)).startswith(f"{path}: damaged")


GZ_DAMAGES: dict[str, tuple[Damage, str]] = {
    "not compressed": (lambda content: gzip.decompress(content), "damaged: Not a gzipped file"),
    "empty": (lambda _: b"", "truncated: 0 bytes"),
    "cut": (lambda content: content[:-1000], "damaged: "),
    "checksum cut": (lambda content: content[:-4], "damaged: "),
    "wrong checksum": (lambda content: content[:-8] + bytes([content[-8] ^ 1]) + content[-7:], "damaged: CRC check"),
    "one bit": (lambda content: content[:2000] + bytes([content[2000] ^ 1]) + content[2001:], "damaged: "),
    "junk behind": (lambda content: content + b"junk", "damaged: "),
    "something else": (lambda _: gzip.compress(b"something else"), "truncated: 14 bytes"),
    "twice": (lambda content: content * 2, "longer than"),
    "compressed twice": (lambda content: gzip.compress(content, 0), "truncated: "),
    "one value changed": (
        lambda content: gzip.compress(gzip.decompress(content)[:-1] + b"\x0b", 1),
        "damaged: its SHA-256 is",
    ),
}


@pytest.mark.parametrize("damage", GZ_DAMAGES)
def test_a_damaged_compressed_file_is_named_and_left_alone(
    compressed: Path, place: Callable[..., Path], mine: DataAccess, damage: str
) -> None:
    change, said = GZ_DAMAGES[damage]
    content = change((compressed / f"{TEST_LABELS.name}.gz").read_bytes())
    for file in (*TRAIN_FILES, TEST_IMAGES):
        place(file)
    path = place(TEST_LABELS, content, suffix=".gz")
    assert refusal_of(lambda: load_test(DataConfig(), mine)).startswith(f"{path}: {said}")
    assert fetch_missing(mine) == []
    assert path.read_bytes() == content


@pytest.mark.parametrize("members", [1, 400])
def test_a_gzip_bomb_is_refused_without_unpacking_it(
    place: Callable[..., Path], offline: DataAccess, members: int
) -> None:
    bomb = gzip.compress(bytes(100_000_000 // members), mtime=0) * members  # 100 MB in 97 KB
    path = place(TRAIN_LABELS, bomb, suffix=".gz")
    assert len(bomb) < 2 * TRAIN_LABELS.num_bytes
    tracemalloc.start()
    try:
        message = refusal_of(lambda: read_verified(TRAIN_LABELS, offline.directory))
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()
    assert message.startswith(f"{path}: longer than the 60,008 bytes")


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_huge_file_is_refused_unread(place: Callable[..., Path], offline: DataAccess, suffix: str) -> None:
    path = place(TEST_LABELS, b"", suffix=suffix)
    with path.open("r+b") as file:
        file.truncate(10**9)
    tracemalloc.start()
    try:
        message = refusal_of(lambda: read_verified(TEST_LABELS, offline.directory))
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()
    assert message.startswith(f"{path}: larger than")


@pytest.mark.parametrize("kind", ["directory", "pipe"])
def test_what_is_no_file_is_named(place: Callable[..., Path], offline: DataAccess, kind: str) -> None:
    place(TEST_IMAGES)
    path = raw_directory(offline.directory) / TEST_LABELS.name
    path.mkdir() if kind == "directory" else os.mkfifo(path)
    assert refusal_of(lambda: load_test(DataConfig(), offline)).startswith(f"{path}: is ")


# Nothing there.


@pytest.mark.parametrize("missing", ALL_FILES, ids=lambda file: file.name)
def test_a_file_missing_offline_is_named(place: Callable[..., Path], offline: DataAccess, missing: IdxFile) -> None:
    for file in ALL_FILES:
        if file is not missing:
            place(file)
    message = refusal_of(lambda: load(missing, offline))
    assert message.startswith(f"{offline.directory}: {missing.name}: no such file")
    assert "lenet data fetch" in message
    assert refusal_of(lambda: read_verified(missing, offline.directory)).startswith(
        f"{offline.directory}: {missing.name}: no such file"
    )
    assert not raw_directory(offline.directory).joinpath(missing.name).exists()


@pytest.mark.parametrize(
    "load",
    [
        lambda access: load_train_val(DataConfig(), access),
        lambda access: load_test(DataConfig(), access),
        fetch_missing,
    ],
)
@pytest.mark.parametrize("place_name", ["", "none", "a/b/c", "a_file"])
def test_no_data_offline_is_an_error_and_makes_nothing(
    tmp_path: Path, load: Callable[[DataAccess], object], place_name: str
) -> None:
    (tmp_path / "a_file").write_bytes(b"")
    directory = tmp_path / place_name
    message = refusal_of(lambda: load(DataAccess(directory, offline=True, listener=Listener())))
    assert message.startswith(f"{directory}: ")
    assert all(file.name in message for file in ALL_FILES)
    assert [path.name for path in tmp_path.iterdir()] == ["a_file"]


def test_only_what_is_missing_is_fetched(
    place: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[list[str], Path]] = []
    monkeypatch.setattr(mnist, "fetch", lambda files, directory, _: asked.append((list(files), directory)))
    place(TRAIN_IMAGES, b"damaged")
    place(TEST_LABELS, b"damaged", suffix=".gz", flat=True)
    missing = fetch_missing(DataAccess(tmp_path, offline=False, listener=Listener()))
    assert missing == [TRAIN_LABELS, TEST_IMAGES]
    assert asked == [([TRAIN_LABELS.name, TEST_IMAGES.name], raw_directory(tmp_path))]


def test_loading_fetches_what_is_missing(
    originals: Path, place: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(files: dict[str, IdxFile], directory: Path, _listener: object) -> None:
        for name in files:
            (directory / name).symlink_to(originals / name)

    monkeypatch.setattr(mnist, "fetch", fetch)
    place(TEST_IMAGES)
    assert len(load_test(DataConfig(), DataAccess(tmp_path, offline=False, listener=Listener()))) == 10_000


@pytest.fixture
def closed_dir() -> Iterator[Path]:
    """A directory that may not be entered, inside one that everybody reaches."""
    outer = Path(tempfile.mkdtemp(prefix="lenet-test-"))
    outer.chmod(0o755)
    (outer / "data").mkdir(mode=0o000)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(NOBODY)
    yield outer / "data"
    if is_root:
        os.seteuid(0)
    (outer / "data").chmod(0o755)
    shutil.rmtree(outer)


def test_a_directory_that_may_not_be_entered_is_named(closed_dir: Path) -> None:
    with pytest.raises(LenetError, match=f"^{closed_dir}"):
        load_test(DataConfig(), DataAccess(closed_dir, offline=True, listener=Listener()))


def test_a_directory_with_an_impossible_name_is_named(tmp_path: Path) -> None:
    directory = tmp_path / ("n" * 300)
    with pytest.raises(LenetError, match=f"^{directory}"):
        load_test(DataConfig(), DataAccess(directory, offline=True, listener=Listener()))


def test_labels_are_copied_as_they_are(everything: TrainVal, access: DataAccess) -> None:
    _, labels = read_verified(TRAIN_LABELS, access.directory)
    assert np.array_equal(everything.val.labels.numpy(), labels[everything.val.indices.numpy()])
