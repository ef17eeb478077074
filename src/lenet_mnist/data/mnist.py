"""MNIST and its kin, Fashion-MNIST and KMNIST: find them, fetch what is missing, verify every byte at every load.

Each is four files, two of them with the official 10,000 test images: what trains asks for the other two only (lecture
points 1, 9 and 10).
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lenet_mnist.config import Source
from lenet_mnist.data.fetch import FetchListener, fetch
from lenet_mnist.data.idx import gunzip, parse_idx
from lenet_mnist.data.sets import LoadedPart, Part
from lenet_mnist.errors import DataError
from lenet_mnist.files.storage import read_bounded, tidy_up

IMAGE_SIZE = 28
DIGIT_SIZE = 20  # the box that MNIST's digits were fitted into
# What torchvision calls each set, and the directory that it keeps it in.
_COLLECTIONS = {Source.MNIST: "MNIST", Source.FASHION_MNIST: "FashionMNIST", Source.KMNIST: "KMNIST"}
_DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # where Debian's package dataset-fashion-mnist puts its files


@dataclass(frozen=True)
class IdxFile:
    """One of a set's four files: its name, the shape of its array and the SHA-256 of its bytes.

    The digest is that of the uncompressed bytes, or with `is_packed` that of the compressed file as it was published.
    """

    name: str
    shape: tuple[int, ...]
    sha256: str
    source: Source = Source.MNIST
    is_packed: bool = False

    @property
    def collection(self) -> str:
        """What torchvision calls the set, and the directory that it keeps it in."""
        return _COLLECTIONS[self.source]

    @property
    def num_bytes(self) -> int:
        """The exact size of the uncompressed file: header and values."""
        return 4 + 4 * len(self.shape) + math.prod(self.shape)

    def complaint(self, content: bytes) -> str | None:
        """Say what is wrong with `content`, or None if it is this file to the last byte."""
        found = hashlib.sha256(content).hexdigest()
        if found == self.sha256:
            return None
        for other in (file for each in PUBLISHED.values() for file in each.files):
            if found == other.sha256:
                if other.source is not self.source:
                    return f"this is {other.name} of {other.source}"
                return f"this is {other.name} under another name"
        if len(content) < self.num_bytes and not self.is_packed:
            return f"truncated: {len(content):,} bytes instead of {self.num_bytes:,}"
        if len(content) > self.num_bytes and not self.is_packed:
            return f"longer than the {self.num_bytes:,} bytes of {self.collection}'s"
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
class PublishedSet:
    """A set of 60,000 and 10,000 pictures in four files, and what its classes are called."""

    class_names: tuple[str, ...]
    train_files: tuple[IdxFile, IdxFile]
    test_files: tuple[IdxFile, IdxFile]

    @property
    def files(self) -> tuple[IdxFile, ...]:
        """All four."""
        return self.train_files + self.test_files


def _kin(source: Source, class_names: tuple[str, ...], digests: Sequence[str], is_packed: bool = False) -> PublishedSet:
    """Return a set whose files have the names and shapes of MNIST's; `digests` in the order of ALL_FILES."""
    images, labels, test_images, test_labels = (
        IdxFile(file.name, file.shape, digest, source, is_packed)
        for file, digest in zip(ALL_FILES, digests, strict=True)
    )
    return PublishedSet(class_names, (images, labels), (test_images, test_labels))


PUBLISHED = {
    Source.MNIST: PublishedSet(tuple("0123456789"), TRAIN_FILES, TEST_FILES),
    # Those of Debian's package, whose compressed files have the MD5 sums that torchvision lists once the name and the
    # time are put back into their headers.
    Source.FASHION_MNIST: _kin(
        Source.FASHION_MNIST,
        ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        (
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
    ),
    # TensorFlow Datasets lists these, of the compressed files (url_checksums/kmnist.txt).
    Source.KMNIST: _kin(
        Source.KMNIST,
        ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
        (
            "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
            "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
            "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
            "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
        ),
        is_packed=True,
    ),
}


@dataclass(frozen=True)
class DataAccess:
    """Where the data lie, and whether the network may be asked for what is missing. No part of an experiment."""

    directory: Path
    offline: bool
    listener: FetchListener


def load(source: Source, part: Part, access: DataAccess) -> LoadedPart:
    """Return one part of a published set. The files of the other part are not opened.

    Raises: DataError if a file is damaged, or missing and not to be had.
    """
    published = PUBLISHED[source]
    files = published.test_files if part is Part.TEST else published.train_files
    if any(find(file, access.directory) is None for file in files):
        fetch_missing(access, published.files)
    images, labels = (read_verified(file, access.directory)[1] for file in files)
    return LoadedPart(
        source=source.value,
        images=images,
        labels=labels.astype(np.int64),
        indices=np.arange(len(labels)),
        class_names=published.class_names,
        files={file.name: file.sha256 for file in files},
    )


def find(file: IdxFile, directory: Path) -> Path | None:
    """Return where `file` lies: in torchvision's layout or directly in `directory`, raw or compressed.

    Raises: DataError if `directory` cannot be looked into.
    """
    debian = [_DEBIAN] if file.source is Source.FASHION_MNIST else []
    for parent in (raw_directory(directory, file.source), *debian, directory):
        for suffix in (".gz",) if file.is_packed else ("", ".gz"):
            path = parent / f"{file.name}{suffix}"
            try:
                path.stat()
            except (FileNotFoundError, NotADirectoryError):
                continue
            except (OSError, ValueError) as error:  # no permission; a null character in the name
                raise DataError(f"{path}: cannot be looked at: {getattr(error, 'strerror', None) or error}") from error
            return path
    return None


def raw_directory(directory: Path, source: Source = Source.MNIST) -> Path:
    """Return where torchvision puts the files of a set, given its root; fetched files go there."""
    return directory / _COLLECTIONS[source] / "raw"


def fetch_missing(access: DataAccess, files: Sequence[IdxFile] = ALL_FILES) -> list[IdxFile]:
    """Fetch those of a set's four files that are not there, and return them. What is there is left as it is.

    Raises: DataError if something is missing and may not, or cannot, be fetched.
    """
    tidy_up(raw_directory(access.directory, files[0].source))
    missing = [file for file in files if find(file, access.directory) is None]
    if missing and access.offline:
        raise DataError(
            f"{access.directory}: {', '.join(file.name for file in missing)}: no such file, and --offline forbids to "
            f"fetch it. Run `{_fetch_command(missing[0])}` once while online, or name the directory with --data-dir"
        )
    if missing:
        directory = raw_directory(access.directory, missing[0].source)
        fetch({file.name: file for file in missing}, directory, access.listener)
    return missing


def read_verified(file: IdxFile, directory: Path) -> tuple[Path, npt.NDArray[np.uint8]]:
    """Return the path and the array of `file`, every byte verified. The array is read-only.

    Raises: DataError if the file is missing or is not the published one to the last byte.
    """
    path = find(file, directory)
    if path is None:
        raise DataError(f"{directory}: {file.name}: no such file. Run `{_fetch_command(file)}`, or name --data-dir")
    kept = content = read_bounded(path, max_bytes=2 * file.num_bytes, error=DataError)
    if path.suffix == ".gz":
        try:
            content = gunzip(kept, max_bytes=file.num_bytes)
        except ValueError as error:
            raise _damaged(file, path, f"damaged: {error}") from error
    if complaint := file.complaint(kept if file.is_packed else content):
        raise _damaged(file, path, complaint)
    return path, parse_idx(content, len(file.shape), path)


def _damaged(file: IdxFile, path: Path, complaint: str) -> DataError:
    return DataError(
        f"{path}: {complaint}. It is not used: delete it or move it away, then run `{_fetch_command(file)}`"
    )


def _fetch_command(file: IdxFile) -> str:
    return "lenet data fetch" + ("" if file.source is Source.MNIST else f" --source {file.source}")
