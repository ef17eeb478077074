"""A directory of IDX files: grey pictures of any kind, in the files that MNIST, EMNIST and QMNIST come in.

train-images-idx3-ubyte and train-labels-idx1-ubyte, compressed or not, with or without a prefix (emnist-letters-);
beside them t10k-... or test-... if the set has an official test part; and classes.txt, if its classes have names.
"""

import hashlib
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_mnist.config import DataConfig
from lenet_mnist.data.idx import gunzip, parse_header, parse_idx
from lenet_mnist.data.mnist import IMAGE_SIZE
from lenet_mnist.data.scaling import squared
from lenet_mnist.data.sets import LoadedPart, Part, require_class_names
from lenet_mnist.data.split import cut_off_test
from lenet_mnist.errors import DataError
from lenet_mnist.files.storage import decode_text, read_bounded, storage_errors

SOURCE = "idx"
_FILE = re.compile(r"(.*?)(train|t10k|test)[-._](images|labels)[-._]idx[123][-._](?:ubyte|int)(\.gz)?", re.IGNORECASE)
_CLASSES = "classes.txt"
_MOST_IMAGES = 1_000_000
_LARGEST_SIDE = 256
_MOST_BYTES = 1 << 30
_MOST_NAME_BYTES = 256 * 1024
_MOST_HEADER_BYTES = 15  # and one: that of three dimensions

Array = npt.NDArray[Any]
Files = Mapping[tuple[Part, str], Path]


def lies_on_its_side(names: Iterable[str], config: DataConfig) -> bool:
    """Whether the pictures of files with these names lie on their side, as EMNIST's do, and are not turned upright."""
    return not config.transpose and any("emnist" in name.lower() and _FILE.fullmatch(name) for name in names)


def is_idx_directory(directory: Path) -> bool:
    """Whether there is an IDX file in it, by its name."""
    with storage_errors(directory, "list"):
        return any(_FILE.fullmatch(path.name) for path in directory.iterdir())


def load(directory: Path, part: Part, config: DataConfig) -> LoadedPart:
    """Return one part of the set; a test part of its own is not opened for the other, one that is cut off must be.

    Raises: DataError if files are missing, damaged, do not belong together, or hold something else than such pictures.
    """
    files = _find(directory)
    has_test = (Part.TEST, "images") in files
    opened = part if has_test else Part.TRAIN_VAL
    labels, class_names, digests = _read_labels(files, opened, directory)
    path = files[opened, "images"]
    images, digest = _read(path, 3)
    if len(images) != len(labels):
        raise DataError(
            f"{path}: {len(images):,} images, but {files[opened, 'labels'].name} has {len(labels):,} labels"
        )
    indices = np.arange(len(labels))
    if not has_test:
        rest, test = cut_off_test(labels)
        indices = test if part is Part.TEST else rest
    images = images[indices].transpose(0, 2, 1).copy() if config.transpose else images[indices]
    notes = []
    if lies_on_its_side([path.name], config):
        notes.append(
            "EMNIST's pictures lie on their side: a network that learns from them so reads upright pictures wrong; "
            "--set data.transpose=true turns them upright, and `lenet data show` shows them"
        )
    return LoadedPart(
        source=SOURCE,
        images=_of_the_right_size(images, path, config.resize),
        labels=labels[indices],
        indices=indices,
        class_names=class_names,
        files={_plain_name(path): digest, **digests},
        notes=tuple(notes),
    )


def read_class_names(directory: Path) -> tuple[str, ...]:
    """Return the names of the classes, without a look at any picture. Raises: DataError."""
    return _read_labels(_find(directory), Part.TRAIN_VAL, directory)[1]


def _find(directory: Path) -> Files:
    """Return where the images and labels of each part are; raw files win over compressed ones."""
    found: dict[tuple[Part, str], Path] = {}
    with storage_errors(directory, "list"):
        paths = sorted(directory.iterdir(), key=lambda path: path.name)  # the raw file before the compressed one
    for path in paths:
        if match := _FILE.fullmatch(path.name):
            key = Part.TRAIN_VAL if match[2].lower() == "train" else Part.TEST, match[3].lower()
            first = found.setdefault(key, path)
            if _plain_name(first) != _plain_name(path):
                raise DataError(
                    f"{directory}: holds {first.name} and {path.name}: give each set a directory of its own"
                )
    for part, name in ((Part.TRAIN_VAL, "train"), (Part.TEST, "t10k")):
        kinds = [kind for kind in ("images", "labels") if (part, kind) not in found]
        if len(kinds) == 1 or (kinds and part is Part.TRAIN_VAL):
            there = next((path.name for key, path in found.items() if key[0] is part), None)
            beside = f", beside {there}," if there else ""
            file_names = " and ".join(f"{name}-{kind}-idx{3 if kind == 'images' else 1}-ubyte" for kind in kinds)
            raise DataError(f"{directory}: {file_names}{beside} is missing")
    return found


def _read_labels(
    files: Files, part: Part, directory: Path
) -> tuple[npt.NDArray[np.int64], tuple[str, ...], dict[str, str]]:
    """Return the labels of a part, counted from 0, the names of the classes, and the digests of the files read.

    The classes are those that the training labels name, whatever numbers they have.
    """
    train_path, path = files[Part.TRAIN_VAL, "labels"], files[part, "labels"]
    train_labels, digest = _read(train_path, 1)
    digests = {_plain_name(train_path): digest}
    numbers = np.unique(train_labels)
    names_path = directory / _CLASSES
    if names_path.exists():
        class_names = _names_of(numbers, names_path, digests)
        require_class_names(class_names, str(names_path))
    else:
        class_names = tuple(str(number) for number in numbers)
        require_class_names(class_names, str(train_path))
    labels = train_labels if path == train_path else _read(path, 1)[0]
    if not np.isin(labels, numbers).all():
        place = int(np.flatnonzero(~np.isin(labels, numbers))[0])
        raise DataError(f"{path}: image {place} has label {labels[place]}, which no training image has")
    return np.searchsorted(numbers, labels), class_names, digests


def _names_of(numbers: Array, path: Path, digests: dict[str, str]) -> tuple[str, ...]:
    """Return what the classes of these labels are called: the first line of classes.txt names label 0."""
    content = read_bounded(path, max_bytes=_MOST_NAME_BYTES, error=DataError)
    digests[path.name] = hashlib.sha256(content).hexdigest()
    lines = decode_text(content, path, DataError).splitlines()
    if numbers.min() < 0 or len(lines) <= numbers.max():
        raise DataError(
            f"{path}: {len(lines)} lines, but there are labels from {numbers.min()} to {numbers.max()}: a line each is "
            "needed, from 0 on"
        )
    return tuple(unicodedata.normalize("NFC", lines[number].strip()) for number in numbers)


def _read(path: Path, num_dimensions: int) -> tuple[Array, str]:
    """Return the array in a file, and the SHA-256 of its bytes, uncompressed. Raises: DataError."""
    content = read_bounded(path, max_bytes=_MOST_BYTES, error=DataError)
    if not (path.suffix.lower() == ".gz" or content.startswith(b"\x1f\x8b")) or content.startswith(b"\0\0"):
        _require_bearable(*parse_header(content, num_dimensions, path), path)
    else:
        try:
            head = gunzip(content, max_bytes=_MOST_HEADER_BYTES)
            dtype, shape = parse_header(head, num_dimensions, path)
            _require_bearable(dtype, shape, path)
            content = gunzip(content, max_bytes=4 + 4 * len(shape) + math.prod(shape) * dtype.itemsize)
        except ValueError as error:
            raise DataError(f"{path}: damaged: {error}") from error
    return parse_idx(content, num_dimensions, path), hashlib.sha256(content).hexdigest()


def _require_bearable(dtype: np.dtype[Any], shape: tuple[int, ...], path: Path) -> None:
    """Raise DataError if a header announces more than is taken into memory, or nothing."""
    number, *sides = shape
    num_bytes = math.prod(shape) * dtype.itemsize
    announced = " x ".join(map(str, shape))
    if number == 0 or 0 in sides:
        raise DataError(f"{path}: holds no {'images' if sides else 'labels'}: its header announces {announced} values")
    if number > _MOST_IMAGES or max(sides, default=0) > _LARGEST_SIDE or num_bytes > _MOST_BYTES:
        raise DataError(
            f"{path}: announces {announced} values; what is read has at most {_MOST_IMAGES:,} pictures, "
            f"{_LARGEST_SIDE} pixels a side and {_MOST_BYTES:,} bytes"
        )


def _of_the_right_size(images: Array, path: Path, is_resized: bool) -> Array:
    """Return images of 28 x 28, scaled if that is wanted. Raises: DataError if it is not, and they are others."""
    height, width = images.shape[1:]
    if (height, width) == (IMAGE_SIZE, IMAGE_SIZE):
        return images
    if not is_resized:
        raise DataError(
            f"{path}: its {len(images):,} pictures are {width} x {height} pixels, not {IMAGE_SIZE} x {IMAGE_SIZE}: "
            "scale them, or let lenet do it with --set data.resize=true"
        )
    return np.stack([squared(image.astype(np.float64), IMAGE_SIZE) for image in images])


def _plain_name(path: Path) -> str:
    """Return the name of a file without .gz: its digest is that of what is inside."""
    return re.sub(r"\.gz$", "", path.name, flags=re.IGNORECASE)
