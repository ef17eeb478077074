"""The IDX format of MNIST's files, and directories of your own that hold such files (docs/data.md).

Which part of which data is read, and when: load.py. MNIST's own four files: mnist.py.

The format: two zero bytes, a type (8 = unsigned byte), the number of dimensions, each dimension as a 32-bit big-endian
number, then the data. Labels may be of other integer types, and a table with one row per image, of which the first
column counts, as QMNIST's are. Source: "The MNIST database of handwritten digits", section "File formats".
"""

import gzip
import hashlib
import io
import math
import re
import struct
import unicodedata
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_mnist.config import DataConfig
from lenet_mnist.data.decoding import squared
from lenet_mnist.data.sets import IMAGE_SIZE, LoadedPart, Part, require_class_names
from lenet_mnist.data.split import cut_off_test
from lenet_mnist.errors import DataError
from lenet_mnist.files.storage import decode_text, read_bounded, storage_errors

_UNSIGNED_BYTE = 8
_LABEL_TYPES = {_UNSIGNED_BYTE: "u1", 9: "i1", 11: ">i2", 12: ">i4"}
_LABEL_HEADERS = {bytes((0, 0, kind, num_dimensions)) for kind in _LABEL_TYPES for num_dimensions in (1, 2)}
_LONGEST_HEADER = 4 + 3 * 4
_OTHER_FORMATS = {  # by their first bytes
    b"\0\0\x08\x04": "It has a fourth dimension, as colour pictures do: only grey ones are read",
    b"\0\0\x0d": "It holds float32: save integers from 0 to 255, in unsigned bytes",
    b"\0\0\x0e": "It holds float64: save integers from 0 to 255, in unsigned bytes",
    b"\x1f\x8b": "It is compressed twice: decompress it",
    b"PK\x03\x04": "It is a zip archive: extract it",
    b"<": "It is a web page, not the file: download it again",
}
_FILE = re.compile(r"(.*?)(train|t10k|test)[-._](images|labels)[-._]idx[123][-._](?:ubyte|int)(\.gz)?", re.IGNORECASE)
_MAX_IMAGES = 1_000_000
_MAX_SIDE = 256
_MAX_BYTES = 1 << 30
_MAX_CLASSES_BYTES = 256 * 1024
_TRANSPOSED = (
    "EMNIST's pictures are transposed: a network trained on them as they are misreads upright pictures; "
    "--set data.transpose=true turns them upright, and `lenet data show` shows them"
)

Array = npt.NDArray[Any]


def parse_idx(kept: bytes, num_dimensions: int, where: Path) -> tuple[Array, str]:
    """Return the array in a file, which may be compressed, and the SHA-256 of its uncompressed bytes.

    No more is decompressed than the header announces. Raises: DataError, naming `where`.
    """
    head = unpacked(kept, _LONGEST_HEADER, where)[:_LONGEST_HEADER]
    is_label = num_dimensions == 1 and head[:4] in _LABEL_HEADERS
    magic = head[:4] if is_label else bytes((0, 0, _UNSIGNED_BYTE, num_dimensions))
    dtype, header_size = np.dtype(_LABEL_TYPES[magic[2]]), 4 + 4 * magic[3]
    if not head.startswith(magic) or len(head) < header_size:
        hint = next((f". {said}" for start, said in _OTHER_FORMATS.items() if head.lstrip().startswith(start)), "")
        raise DataError(
            f"{where}: not an IDX file of unsigned bytes with {num_dimensions} dimension(s): it begins with "
            f"{head.hex(' ') or 'nothing'}, expected {magic.hex(' ')} and a size for each dimension{hint}"
        )
    shape = struct.unpack(f">{magic[3]}I", head[4:header_size])
    size = header_size + math.prod(shape) * dtype.itemsize
    announced = f"its header announces {' x '.join(map(str, shape))} values"
    if shape[0] > _MAX_IMAGES or max(shape[1:], default=0) > _MAX_SIDE or size > _MAX_BYTES or 0 in shape:
        limits = f"1 to {_MAX_IMAGES:,} pictures, {_MAX_SIDE} pixels per side and {_MAX_BYTES:,} bytes"
        raise DataError(f"{where}: {announced}; the limits are {limits}")
    content = unpacked(kept, size, where)
    if len(content) != size:
        difference = "shorter" if len(content) < size else "longer"
        raise DataError(f"{where}: {announced}, that is {size:,} bytes, but it is {difference}")
    array = np.frombuffer(content, dtype=dtype, offset=header_size).reshape(shape)
    first_column = array[:, 0] if is_label and array.ndim == 2 else array
    return first_column, hashlib.sha256(content).hexdigest()


def unpacked(kept: bytes, max_bytes: int, where: Path | str) -> bytes:
    """Return the content of a file; if it is compressed, `max_bytes` of it, and one more to show that there is more.

    Raises: DataError, naming `where`, if it is damaged.
    """
    if not kept.startswith(b"\x1f\x8b"):
        return kept
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(kept)) as stream:
            return stream.read(max_bytes + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{where}: is damaged: {error}") from error


def encode_idx(array: npt.NDArray[np.uint8]) -> bytes:
    """Return `array` as the content of an IDX file."""
    header = bytes((0, 0, _UNSIGNED_BYTE, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + np.ascontiguousarray(array, dtype=np.uint8).tobytes()


def may_be_transposed(names: Iterable[str], config: DataConfig) -> bool:
    """Whether files with these names are EMNIST's, whose rows and columns are exchanged, read without transposing."""
    return not config.transpose and any("emnist" in name.lower() and _FILE.fullmatch(name) for name in names)


def is_idx_directory(directory: Path) -> bool:
    """Whether a file in it has the name of an IDX file. Raises: StorageError."""
    with storage_errors(directory, "list"):
        return any(_FILE.fullmatch(path.name) for path in directory.iterdir())


def load(directory: Path, part: Part, config: DataConfig) -> LoadedPart:
    """Return one part. A test part of its own is not opened for the other; a fifth can be cut off only from all.

    Raises: DataError if files are missing or damaged, or do not belong together.
    """
    files = _find(directory)
    has_test = (Part.TEST, "images") in files
    opened = part if has_test else Part.TRAIN_VAL
    labels, class_names, digests = _read_labels(files, opened, directory)
    path = files[opened, "images"]
    images, digest = _read(path, 3)
    if len(images) != len(labels):
        raise DataError(f"{path}: {len(images):,} images, but {len(labels):,} labels in {files[opened, 'labels'].name}")
    indices = np.arange(len(labels))
    if not has_test:
        rest, test = cut_off_test(labels)
        indices = test if part is Part.TEST else rest
    images = images[indices].transpose(0, 2, 1).copy() if config.transpose else images[indices]
    return LoadedPart(
        source="idx",
        images=_resized(images, path, config.resize),
        labels=labels[indices],
        indices=indices,
        class_names=class_names,
        files={_without_gz(path): digest, **digests},
        notes=(_TRANSPOSED,) if may_be_transposed([path.name], config) else (),
    )


def read_class_names(directory: Path) -> tuple[str, ...]:
    """Return the names in classes.txt, or else the labels; no image is read. Raises: DataError."""
    return _read_labels(_find(directory), Part.TRAIN_VAL, directory)[1]


def _find(directory: Path) -> dict[tuple[Part, str], Path]:
    """Return where the images and labels of each part are; an uncompressed file wins over its compressed form."""
    found: dict[tuple[Part, str], Path] = {}
    with storage_errors(directory, "list"):
        paths = sorted(directory.iterdir(), key=lambda path: path.name)  # the uncompressed file comes first
    for path in paths:
        if match := _FILE.fullmatch(path.name):
            key = Part.TRAIN_VAL if match[2].lower() == "train" else Part.TEST, match[3].lower()
            first = found.setdefault(key, path)
            if _without_gz(first) != _without_gz(path):
                raise DataError(f"{directory}: holds {first.name} and {path.name}: put each set into its own directory")
    for part, name in ((Part.TRAIN_VAL, "train"), (Part.TEST, "t10k")):
        kinds = {"images": f"{name}-images-idx3-ubyte", "labels": f"{name}-labels-idx1-ubyte"}
        missing = [file for kind, file in kinds.items() if (part, kind) not in found]
        if len(missing) == 1 or (missing and part is Part.TRAIN_VAL):
            there = ", ".join(path.name for path in found.values())
            raise DataError(f"{directory}: holds {there}, but not {' and '.join(missing)}")
    return found


def _read_labels(
    files: Mapping[tuple[Part, str], Path], part: Part, directory: Path
) -> tuple[npt.NDArray[np.int64], tuple[str, ...], dict[str, str]]:
    """Return the labels of a part, counted from 0, the names of the classes, and the digests of the files read.

    The classes are the numbers among the training labels, whatever these are.
    """
    train_path, path = files[Part.TRAIN_VAL, "labels"], files[part, "labels"]
    train_labels, digest = _read(train_path, 1)
    digests = {_without_gz(train_path): digest}
    numbers = np.unique(train_labels)
    names_path = directory / "classes.txt"
    if names_path.exists():
        content = read_bounded(names_path, max_bytes=_MAX_CLASSES_BYTES, error=DataError)
        digests["classes.txt"] = hashlib.sha256(content).hexdigest()
        lines = decode_text(content, names_path, DataError).splitlines()
        if numbers.min() < 0 or len(lines) <= numbers.max():
            found = f"{len(lines)} lines, but labels from {numbers.min()} to {numbers.max()}"
            raise DataError(f"{names_path}: {found}: one line per label is needed, from 0 on")
        class_names = tuple(unicodedata.normalize("NFC", lines[number].strip()) for number in numbers)
    else:
        class_names, names_path = tuple(str(number) for number in numbers), train_path
    require_class_names(class_names, str(names_path))
    labels = train_labels if path == train_path else _read(path, 1)[0]
    unknown = np.flatnonzero(~np.isin(labels, numbers))
    if len(unknown):
        raise DataError(f"{path}: image {unknown[0]} has label {labels[unknown[0]]}, which no training image has")
    return np.searchsorted(numbers, labels), class_names, digests


def _read(path: Path, num_dimensions: int) -> tuple[Array, str]:
    return parse_idx(read_bounded(path, max_bytes=_MAX_BYTES, error=DataError), num_dimensions, path)


def _resized(images: Array, path: Path, resize: bool) -> Array:
    height, width = images.shape[1:]
    if (height, width) == (IMAGE_SIZE, IMAGE_SIZE):
        return images
    if not resize:
        said = f"its {len(images):,} pictures are {width} x {height} pixels, not {IMAGE_SIZE} x {IMAGE_SIZE}"
        raise DataError(f"{path}: {said}: resize them, or let lenet do it with --set data.resize=true")
    return np.stack([squared(image.astype(np.float64), IMAGE_SIZE) for image in images])


def _without_gz(path: Path) -> str:
    """Return a file's name without .gz: its digest is that of the uncompressed bytes."""
    return re.sub(r"\.gz$", "", path.name, flags=re.IGNORECASE)
