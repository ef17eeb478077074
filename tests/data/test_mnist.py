"""Real MNIST and its like, found in every layout, verified to the last byte, never replaced; scikit-learn's digits."""

import gzip
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import tracemalloc
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from tests.files.test_storage import without_privileges

from lenet_mnist.config import DataConfig, Source
from lenet_mnist.data import mnist
from lenet_mnist.data.fetch import fetch_missing
from lenet_mnist.data.idx import encode_idx
from lenet_mnist.data.load import is_verified, load_test, load_train_val
from lenet_mnist.data.mnist import (
    FILES,
    DataAccess,
    IdxFile,
    Progress,
    enlarged,
    find,
    load_digits,
    raw_directory,
    read_verified,
)
from lenet_mnist.data.sets import Part, TestSet, TrainVal
from lenet_mnist.errors import DataError, InstallationError, LenetError

MNIST = FILES[Source.MNIST]
TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = MNIST
KIN = (Source.FASHION_MNIST, Source.KMNIST)


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
    """The four files in one directory, raw and compressed; tests link to them."""
    directory = tmp_path_factory.mktemp("originals")
    for file in MNIST:
        content = encode_idx(read_verified(file, mnist_dir)[1])
        (directory / file.name).write_bytes(content)
        (directory / f"{file.name}.gz").write_bytes(gzip.compress(content, compresslevel=1, mtime=0))
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def place(originals: Path, tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Put files into a data directory of one's own: links to the originals, or given content."""

    def place(file: IdxFile, content: bytes | None = None, suffix: str = "", flat: bool = False) -> Path:
        path = (tmp_path if flat else raw_directory(tmp_path, file.source)) / (file.name + suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.symlink_to(originals / path.name)
        else:
            path.write_bytes(content)
        return path

    yield place
    shutil.rmtree(tmp_path)  # some files are large, and pytest keeps directories


Place = Callable[..., Path]


@pytest.fixture
def online(tmp_path: Path) -> DataAccess:
    """The data directory of `place`; if something is missing there, asking for it is an error of the test."""
    return DataAccess(tmp_path, offline=False, progress=Progress())


@pytest.fixture
def offline(tmp_path: Path) -> DataAccess:
    return DataAccess(tmp_path, offline=True, progress=Progress())


@pytest.fixture(scope="module")
def everything(access: DataAccess) -> TrainVal:
    return load_train_val(DataConfig(), access)


@pytest.fixture(scope="module")
def test_set(access: DataAccess) -> TestSet:
    return load_test(DataConfig(), access)


def load(file: IdxFile, access: DataAccess) -> None:
    """Load the part of the data that `file` belongs to."""
    load_train_val(DataConfig(), access) if file in MNIST[:2] else load_test(DataConfig(), access)


def refusal_of(load: Callable[..., object], *arguments: object) -> str:
    with pytest.raises(DataError) as caught:
        load(*arguments)
    return str(caught.value)


# Sound data.


def test_all_of_mnist_is_there_each_image_once(everything: TrainVal, test_set: TestSet) -> None:
    for images, count in ((everything.train, 55_000), (everything.val, 5_000), (test_set, 10_000)):
        assert images.images.shape == (count, 28, 28)
        assert (images.images.dtype, images.labels.dtype) == (torch.uint8, torch.int64)
        assert images.labels.unique().tolist() == list(range(10))
    indices = torch.cat([everything.train.indices, everything.val.indices])
    assert indices.sort().values.tolist() == list(range(60_000))
    assert test_set.indices.tolist() == list(range(10_000))
    assert everything.class_names == tuple("0123456789")
    assert (round(everything.normalization.mean, 3), round(everything.normalization.std, 3)) == (0.131, 0.308)


def test_pixels_and_labels_are_those_that_torchvision_reads(
    everything: TrainVal, test_set: TestSet, place: Place, tmp_path: Path
) -> None:
    from torchvision import datasets

    for file in MNIST:
        place(file)
    training, test = (datasets.MNIST(tmp_path, train=is_training, download=False) for is_training in (True, False))
    for part in (everything.train, everything.val):
        assert torch.equal(part.images, training.data[part.indices])
        assert torch.equal(part.labels, training.targets[part.indices])
    assert torch.equal(test_set.images, test.data)
    assert torch.equal(test_set.labels, test.targets)


def test_the_fingerprint_names_the_files_and_the_split(everything: TrainVal, access: DataAccess) -> None:
    assert everything.fingerprint.source == "mnist"
    assert everything.fingerprint.files == {file.name: file.sha256 for file in MNIST[:2]}
    configs = (DataConfig(split_seed=1), DataConfig(limit_train=54_999), DataConfig(val_size=4_999))
    splits = {load_train_val(config, access).fingerprint.split for config in configs}
    assert len(splits | {everything.fingerprint.split}) == 4


# Where the files are.


def test_every_layout_is_found(place: Place, online: DataAccess, test_set: TestSet) -> None:
    for flat in (True, False):
        for suffix in (".gz", ""):  # each wins over those before
            paths = [place(file, suffix=suffix, flat=flat) for file in MNIST]
            assert [find(file, online.directory) for file in MNIST] == paths
            assert torch.equal(load_test(DataConfig(), online).images, test_set.images)
            assert fetch_missing(online) == []


def test_training_does_not_open_the_test_files(place: Place, online: DataAccess, everything: TrainVal) -> None:
    for file in MNIST[:2]:
        place(file)
    assert load_train_val(DataConfig(), online).normalization == everything.normalization
    for file in MNIST[2:]:
        os.mkfifo(raw_directory(online.directory) / file.name)
    assert torch.equal(load_train_val(DataConfig(), online).train.images, everything.train.images)


# Damage.

Damage = Callable[[bytes], bytes]
RAW_DAMAGES: list[Damage] = [
    lambda _: b"",
    lambda content: content[:-1],
    lambda content: b"\0\0\x09" + content[3:],
    lambda content: content[:5000] + bytes([content[5000] ^ 1]) + content[5001:],
    lambda content: content[:-1] + bytes([content[-1] ^ 128]),
    lambda content: content + b"\0",
    lambda content: content * 2,
    lambda _: b"<html>404 not found</html>",
]
GZ_DAMAGES: list[Damage] = [
    lambda _: b"",
    lambda content: content[:-1000],
    lambda content: content[:-4],
    lambda content: content[:-8] + bytes([content[-8] ^ 1]) + content[-7:],
    lambda content: content[:2000] + bytes([content[2000] ^ 1]) + content[2001:],
    lambda content: content + b"junk",
    lambda _: gzip.compress(b"something else"),
    lambda content: content * 2,
    lambda content: gzip.compress(content, 0),
    lambda content: gzip.compress(gzip.decompress(content)[:-1] + b"\x0b", 1),
]


@pytest.mark.parametrize(("suffix", "damages"), [("", RAW_DAMAGES), (".gz", GZ_DAMAGES)], ids=["raw", "gz"])
def test_a_damaged_file_is_named_and_left_alone(
    originals: Path, place: Place, online: DataAccess, suffix: str, damages: list[Damage]
) -> None:
    for file in MNIST[:3]:
        place(file)
    sound = (originals / f"{TEST_LABELS.name}{suffix}").read_bytes()
    for change in damages:
        path = place(TEST_LABELS, change(sound), suffix)
        before = path.stat().st_mtime_ns
        message = refusal_of(load_test, DataConfig(), online)
        assert message.startswith(f"{path}: is damaged")
        assert "lenet data fetch" in message
        assert fetch_missing(online) == []
        assert (path.read_bytes(), path.stat().st_mtime_ns) == (change(sound), before)
    path.write_bytes((originals / TEST_LABELS.name).read_bytes())  # as browsers leave it that decompress what they save
    assert len(load_test(DataConfig(), online)) == 10_000


@pytest.mark.parametrize("content", [b"", gzip.compress(bytes(10**8)), gzip.compress(bytes(250_000)) * 400])
def test_a_bomb_or_a_huge_file_is_refused_unread(place: Place, offline: DataAccess, content: bytes) -> None:
    assert len(content) < 2 * TRAIN_LABELS.num_bytes
    path = place(TRAIN_LABELS, content, suffix=".gz" if content else "")
    if not content:
        os.truncate(path, 10**9)
    tracemalloc.start()
    try:
        message = refusal_of(read_verified, TRAIN_LABELS, offline.directory)
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()
    assert message.startswith(f"{path}: {'is damaged' if content else 'larger than'}")


# Nothing there.


def test_files_missing_offline_are_named_and_nothing_is_made(place: Place, offline: DataAccess, tmp_path: Path) -> None:
    for missing in MNIST:
        for file in MNIST:
            place(file) if file is not missing else None
        message = refusal_of(load, missing, offline)
        assert message.startswith(f"{offline.directory}: {missing.name}: no such file")
        assert "lenet data fetch" in message
        assert f"{missing.name}: no such file" in refusal_of(read_verified, missing, offline.directory)
        shutil.rmtree(raw_directory(offline.directory))
    (tmp_path / "a_file").write_bytes(b"")
    for name in ("", "none", "a/b/c", "a_file"):
        access = DataAccess(tmp_path / name, offline=True, progress=Progress())
        for message in (refusal_of(load_train_val, DataConfig(), access), refusal_of(fetch_missing, access)):
            assert message.startswith(f"{tmp_path / name}: ")
            assert all(file.name in message for file in MNIST)
    assert [path.name for path in tmp_path.iterdir() if path.name != "MNIST"] == ["a_file"]


def test_a_directory_that_cannot_be_opened_is_named() -> None:
    with TemporaryDirectory() as outer, without_privileges():
        for directory in (Path(outer) / "n", Path(outer) / ("n" * 300)):  # root's alone, as the temporary one is
            with pytest.raises(LenetError, match=f"^{directory}"):
                load_test(DataConfig(), DataAccess(directory, offline=True, progress=Progress()))


# Fashion-MNIST and KMNIST, with small files in the place of theirs.


@pytest.fixture(params=KIN)
def kin(
    request: pytest.FixtureRequest, small: TrainVal, place: Place, monkeypatch: pytest.MonkeyPatch
) -> tuple[IdxFile, ...]:
    """The files of one of the two sets, in their place: a hundred training images and twenty for the test."""
    source, files = request.param, []
    images, labels = small.train.images.numpy(), small.train.labels.numpy().astype(np.uint8)
    arrays = images[:100], labels[:100], images[:20], labels[:20]
    for file, array in zip(FILES[source], arrays, strict=True):
        raw = encode_idx(array)
        content = gzip.compress(raw, mtime=0) if file.compressed else raw
        files.append(IdxFile(file.name, array.shape, hashlib.sha256(content).hexdigest(), source, file.compressed))
        place(files[-1], content, ".gz" if file.compressed else "")
    monkeypatch.setitem(mnist.FILES, source, tuple(files))
    monkeypatch.setattr(mnist, "_DEBIAN", Path("/nowhere"))
    return tuple(files)


def test_kin_are_read_from_torchvision_s_directories(kin: tuple[IdxFile, ...], offline: DataAccess) -> None:
    config = DataConfig(source=kin[0].source.value, train_size=0.8, val_size=0.2)
    data, test = load_train_val(config, offline), load_test(config, offline)
    assert (len(data.train), len(data.val), len(test)) == (80, 20, 20)
    assert len(data.class_names) == 10
    assert data.class_names == mnist.CLASS_NAMES[kin[0].source]
    assert data.fingerprint.source == kin[0].source
    assert list(data.fingerprint.files.values()) == [file.sha256 for file in kin[:2]]
    path = find(kin[2], offline.directory)
    assert path is not None
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    message = refusal_of(load_test, config, offline)
    assert message.startswith(f"{path}: is damaged")
    assert f"`lenet data fetch --source {kin[0].source}`" in message
    path.unlink()
    assert len(load_train_val(config, offline).train) == 80
    assert f"`lenet data fetch --source {kin[0].source}`" in refusal_of(load_test, config, offline)


def test_what_is_verified_compressed_is_not_looked_for_in_another_form(place: Place, offline: DataAccess) -> None:
    place(FILES[Source.KMNIST][3], b"uncompressed")
    assert find(FILES[Source.KMNIST][3], offline.directory) is None


def test_fashion_mnist_is_found_where_debian_puts_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mnist, "_DEBIAN", tmp_path / "debian")
    path = tmp_path / "debian" / f"{TEST_LABELS.name}.gz"
    path.parent.mkdir()
    path.write_bytes(b"")
    assert find(FILES[Source.FASHION_MNIST][3], tmp_path / "data") == path
    assert find(TEST_LABELS, tmp_path / "data") is None


@pytest.mark.fashion
def test_real_fashion_mnist(access: DataAccess) -> None:
    config = DataConfig(source="fashion-mnist")
    data, test = load_train_val(config, access), load_test(config, access)
    assert (len(data.train), len(data.val), len(test)) == (55_000, 5_000, 10_000)
    assert data.train.labels.bincount().tolist() == [5_500] * 10
    assert is_verified(config)


# scikit-learn's digits.


def test_all_digits_are_there_each_in_one_part() -> None:
    from sklearn.datasets import load_digits as scikit_learns

    known = scikit_learns()
    rest, test = (load_digits(part) for part in Part)
    assert (len(rest.labels), len(test.labels)) == (1438, 359)
    assert sorted([*rest.indices, *test.indices]) == list(range(1797))
    for part in (rest, test):
        assert np.array_equal(part.labels, known.target[part.indices])
        assert (part.images.shape, part.images.dtype) == ((len(part.labels), 28, 28), np.uint8)
    assert abs(np.bincount(test.labels) - np.bincount(known.target) / 5).max() < 1
    assert test.indices[:8].tolist() == [13, 14, 30, 32, 43, 47, 69, 70]  # for ever
    assert int(test.indices.sum()) == 333_627


def test_digits_fill_the_box_of_mnist_s_with_ink_from_none_to_full() -> None:
    small = np.zeros((2, 8, 8), dtype=np.uint8)
    small[1] = 16
    none, full = enlarged(small)
    assert none.max() == 0
    assert (full[4:24, 4:24] == 255).all()
    assert full.sum() == 255 * 20 * 20


def test_other_digits_are_refused_and_scikit_learn_is_named_where_it_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import sklearn.datasets

    digits = sklearn.datasets.load_digits()
    digits.images[700, 3, 3] += 1
    monkeypatch.setattr(sklearn.datasets, "load_digits", lambda: digits)
    with pytest.raises(DataError, match="their SHA-256 is"):
        load_digits(Part.TRAIN_VAL)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(InstallationError, match=r"pip install scikit-learn$"):
        load_digits(Part.TRAIN_VAL)
