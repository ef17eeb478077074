"""Real MNIST: find it, fetch it where it is missing, verify every byte at every load, make tensors of it.

`load_train_val` opens the files of the 60,000 and no others; `load_test` those of the official 10,000. What trains or
tunes imports only the first (lecture points 1, 9 and 10).
"""

import gzip
import hashlib
import io
import math
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from lenet_mnist.config import DataConfig
from lenet_mnist.data.fetch import FetchListener, fetch
from lenet_mnist.data.idx import parse_idx
from lenet_mnist.data.sets import Fingerprint, Normalization, TestSet, TrainSet, TrainVal, ValSet
from lenet_mnist.data.split import digest_of_split, limit, split_train_val
from lenet_mnist.errors import DataError
from lenet_mnist.files.storage import read_bounded

SOURCE = "mnist"
CLASS_NAMES = tuple("0123456789")
IMAGE_SIZE = 28
DIGIT_SIZE = 20  # the box that MNIST's digits were fitted into


@dataclass(frozen=True)
class IdxFile:
    """One of MNIST's four files: its name, the shape of its array and the SHA-256 of its bytes, uncompressed."""

    name: str
    shape: tuple[int, ...]
    sha256: str

    @property
    def num_bytes(self) -> int:
        """The exact size of the uncompressed file: header and values."""
        return 4 + 4 * len(self.shape) + math.prod(self.shape)

    def complaint(self, content: bytes) -> str | None:
        """Say what is wrong with `content`, or None if it is this file to the last byte."""
        found = hashlib.sha256(content).hexdigest()
        if found == self.sha256:
            return None
        for other in ALL_FILES:
            if found == other.sha256:
                return f"this is {other.name} under another name"
        if len(content) < self.num_bytes:
            return f"truncated: {len(content):,} bytes instead of {self.num_bytes:,}"
        if len(content) > self.num_bytes:
            return f"longer than the {self.num_bytes:,} bytes of MNIST's"
        return f"damaged: its SHA-256 is {found} instead of {self.sha256}"


TRAIN_IMAGES = IdxFile(
    "train-images-idx3-ubyte",
    (60_000, 28, 28),
    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
)
TRAIN_LABELS = IdxFile(
    "train-labels-idx1-ubyte",
    (60_000,),
    "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
)
TEST_IMAGES = IdxFile(
    "t10k-images-idx3-ubyte",
    (10_000, 28, 28),
    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
)
TEST_LABELS = IdxFile(
    "t10k-labels-idx1-ubyte",
    (10_000,),
    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
)
TRAIN_FILES = (TRAIN_IMAGES, TRAIN_LABELS)
TEST_FILES = (TEST_IMAGES, TEST_LABELS)
ALL_FILES = TRAIN_FILES + TEST_FILES


@dataclass(frozen=True)
class DataAccess:
    """Where the data lie, and whether the network may be asked for what is missing. No part of an experiment."""

    directory: Path
    offline: bool
    listener: FetchListener


def load_train_val(config: DataConfig, access: DataAccess) -> TrainVal:
    """Return the training and validation parts of the 60,000. The test files are not opened.

    Raises: DataError if a file is damaged, or missing and not to be had; ConfigError if the split does not fit.
    """
    images, labels = _load(TRAIN_FILES, access)
    train_part, val_part = split_train_val(labels, config.train_size, config.val_size, config.split_seed)
    train_part = limit(train_part, labels, config.limit_train, config.split_seed)
    train = TrainSet(*_tensors(images, labels, train_part))
    return TrainVal(
        train=train,
        val=ValSet(*_tensors(images, labels, val_part)),
        class_names=CLASS_NAMES,
        normalization=Normalization.of(train),
        fingerprint=Fingerprint(
            source=SOURCE,
            files={file.name: file.sha256 for file in TRAIN_FILES},
            split=digest_of_split(train_part, val_part),
        ),
    )


def load_test(access: DataAccess) -> TestSet:
    """Return the official 10,000 test images.

    Raises: DataError if a file is damaged, or missing and not to be had.
    """
    images, labels = _load(TEST_FILES, access)
    return TestSet(*_tensors(images, labels, np.arange(len(labels))))


def find(file: IdxFile, directory: Path) -> Path | None:
    """Return where `file` lies: in torchvision's layout or directly in `directory`, raw or compressed.

    Raises: DataError if `directory` cannot be looked into.
    """
    for parent in (raw_directory(directory), directory):
        for path in (parent / file.name, parent / f"{file.name}.gz"):
            try:
                path.stat()
            except (FileNotFoundError, NotADirectoryError):
                continue
            except (OSError, ValueError) as error:  # no permission; a null character in the name
                raise DataError(f"{path}: cannot be looked at: {getattr(error, 'strerror', None) or error}") from error
            return path
    return None


def raw_directory(directory: Path) -> Path:
    """Return where torchvision puts MNIST's files, given its root; fetched files go there."""
    return directory / "MNIST" / "raw"


def fetch_missing(access: DataAccess) -> list[IdxFile]:
    """Fetch those of the four files that are not there, and return them. What is there is left as it is.

    Raises: DataError if something is missing and may not, or cannot, be fetched.
    """
    missing = [file for file in ALL_FILES if find(file, access.directory) is None]
    if missing and access.offline:
        raise DataError(
            f"{access.directory}: {', '.join(file.name for file in missing)}: no such file, and --offline forbids to "
            "fetch it. Run `lenet data fetch` once while online, or name the directory with --data-dir"
        )
    if missing:
        fetch({file.name: file for file in missing}, raw_directory(access.directory), access.listener)
    return missing


def read_verified(file: IdxFile, directory: Path) -> tuple[Path, npt.NDArray[np.uint8]]:
    """Return the path and the array of `file`, every byte verified. The array is read-only.

    Raises: DataError if the file is missing or is not MNIST's to the last byte.
    """
    path = find(file, directory)
    if path is None:
        raise DataError(f"{directory}: {file.name}: no such file. Run `lenet data fetch`, or name --data-dir")
    content = read_bounded(path, max_bytes=2 * file.num_bytes, error=DataError)
    if path.suffix == ".gz":
        content = _gunzip(content, path, max_bytes=file.num_bytes)
    if complaint := file.complaint(content):
        raise _damaged(path, complaint)
    return path, parse_idx(content, len(file.shape), path)


def _load(files: tuple[IdxFile, IdxFile], access: DataAccess) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Return the images and labels in `files`, fetched where they are missing."""
    if any(find(file, access.directory) is None for file in files):
        fetch_missing(access)
    images, labels = (read_verified(file, access.directory)[1] for file in files)
    return images, labels


def _gunzip(content: bytes, path: Path, max_bytes: int) -> bytes:
    """Decompress at most `max_bytes`, and one more to notice a file that is too long."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
            return stream.read(max_bytes + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(path, f"damaged: {error}") from error


def _damaged(path: Path, complaint: str) -> DataError:
    return DataError(f"{path}: {complaint}. It is not used: delete it or move it away, then run `lenet data fetch`")


def _tensors(
    images: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8], indices: npt.NDArray[np.int64]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return copies of the chosen images and labels, and the indices, as an ImageSet wants them."""
    return (
        torch.from_numpy(images[indices]),
        torch.from_numpy(labels[indices].astype(np.int64)),
        torch.from_numpy(indices),
    )
