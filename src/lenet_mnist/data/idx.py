"""The IDX format of MNIST's files: a magic number, the sizes, the bytes.

Source: "The MNIST database of handwritten digits", section "File formats": two zero bytes, a type (8 = unsigned byte),
the number of dimensions, each dimension as a 32-bit big-endian number, then the data. Labels may be of other whole
types too, and a table with a row an image, of which the first column counts: so are QMNIST's.
"""

import gzip
import io
import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_mnist.errors import DataError

_UNSIGNED_BYTE = 8
_LABEL_TYPES = {_UNSIGNED_BYTE: "u1", 9: "i1", 11: ">i2", 12: ">i4"}
_BEGINNINGS = {  # of what is often there instead
    b"\0\0\x08\x04": "It has a fourth dimension, as pictures in colour do: only grey ones are read",
    b"\0\0\x0d": "It holds fractions (float32): write them as whole numbers from 0 to 255, in unsigned bytes",
    b"\0\0\x0e": "It holds fractions (float64): write them as whole numbers from 0 to 255, in unsigned bytes",
    b"\x1f\x8b": "It is compressed once more: unpack it",
    b"PK\x03\x04": "It is a zip archive: unpack it",
    b"<": "It is a page of the web, not the file: fetch that again",
}
_LABELS = {bytes((kind, num_dimensions)) for kind in _LABEL_TYPES for num_dimensions in (1, 2)}


def parse_header(head: bytes, num_dimensions: int, where: Path) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Return the type and the shape that the first bytes of a file announce; `where` is named in errors.

    Raises: DataError if the magic number or the number of dimensions is wrong, or the header is cut off.
    """
    kind = _UNSIGNED_BYTE
    if num_dimensions == 1 and head[:2] == b"\0\0" and head[2:4] in _LABELS:
        kind, num_dimensions = head[2:4]
    expected_magic = bytes((0, 0, kind, num_dimensions))
    header_size = 4 + 4 * num_dimensions
    if head[:4] != expected_magic:
        hint = next((f". {said}" for start, said in _BEGINNINGS.items() if head.lstrip().startswith(start)), "")
        raise DataError(
            f"{where}: not an IDX file of unsigned bytes with {num_dimensions} dimension(s): "
            f"it begins with {head[:4].hex(' ') or 'nothing'}, expected {expected_magic.hex(' ')}{hint}"
        )
    if len(head) < header_size:
        raise DataError(f"{where}: truncated: the header alone takes {header_size} bytes, the file has {len(head)}")
    return np.dtype(_LABEL_TYPES[kind]), struct.unpack(f">{num_dimensions}I", head[4:header_size])


def parse_idx(content: bytes, num_dimensions: int, where: Path) -> npt.NDArray[Any]:
    """Return the array in `content`, read-only; `where` is named in errors. Labels (1 dimension) are whole numbers.

    Raises: DataError if the magic number, the number of dimensions or the length is wrong.
    """
    dtype, shape = parse_header(content, num_dimensions, where)
    header_size = 4 + 4 * len(shape)
    expected_size = header_size + math.prod(shape) * dtype.itemsize
    if len(content) != expected_size:
        raise DataError(
            f"{where}: {len(content):,} bytes, but the header announces {' x '.join(map(str, shape))} values, "
            f"that is {expected_size:,} bytes"
        )
    try:
        array = np.frombuffer(content, dtype=dtype, offset=header_size).reshape(shape)
    except ValueError as error:  # no values, in dimensions beyond what an array can have
        raise DataError(f"{where}: the header announces {' x '.join(map(str, shape))} values: {error}") from None
    return array[:, 0] if num_dimensions == 1 and array.ndim == 2 else array


def gunzip(content: bytes, max_bytes: int) -> bytes:
    """Decompress at most `max_bytes`, and one more by which to notice that there is more.

    Raises: ValueError if `content` is no gzip file, or a damaged one.
    """
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
            return stream.read(max_bytes + 1)
    except (OSError, EOFError, zlib.error) as error:
        if content.lstrip().startswith(b"<"):
            raise ValueError("it is a page of the web, not the file: fetch that again") from None
        raise ValueError(str(error)) from error


def encode_idx(array: npt.NDArray[np.uint8]) -> bytes:
    """Return `array` as the content of an IDX file."""
    header = bytes((0, 0, _UNSIGNED_BYTE, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + np.ascontiguousarray(array, dtype=np.uint8).tobytes()
