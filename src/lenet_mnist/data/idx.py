"""The IDX format of MNIST's files: a magic number, the sizes, the bytes.

Source: "The MNIST database of handwritten digits", section "File formats": two zero bytes, a type (8 = unsigned byte),
the number of dimensions, each dimension as a 32-bit big-endian number, then the data.
"""

import gzip
import io
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lenet_mnist.errors import DataError

_UNSIGNED_BYTE = 8


def parse_header(head: bytes, num_dimensions: int, where: Path) -> tuple[int, ...]:
    """Return the shape that the first bytes of a file announce; `where` is named in errors.

    Raises: DataError if the magic number or the number of dimensions is wrong, or the header is cut off.
    """
    expected_magic = bytes((0, 0, _UNSIGNED_BYTE, num_dimensions))
    header_size = 4 + 4 * num_dimensions
    if head[:4] != expected_magic:
        colour = num_dimensions == 3 and head[:4] == bytes((0, 0, _UNSIGNED_BYTE, 4))
        raise DataError(
            f"{where}: not an IDX file of unsigned bytes with {num_dimensions} dimension(s): "
            f"it begins with {head[:4].hex(' ') or 'nothing'}, expected {expected_magic.hex(' ')}"
            + (". It has a fourth dimension, as pictures in colour do: only grey ones are read" if colour else "")
        )
    if len(head) < header_size:
        raise DataError(f"{where}: truncated: the header alone takes {header_size} bytes, the file has {len(head)}")
    return struct.unpack(f">{num_dimensions}I", head[4:header_size])


def parse_idx(content: bytes, num_dimensions: int, where: Path) -> npt.NDArray[np.uint8]:
    """Return the array in `content`, read-only; `where` is named in errors.

    Raises: DataError if the magic number, the number of dimensions or the length is wrong.
    """
    shape = parse_header(content, num_dimensions, where)
    header_size = 4 + 4 * num_dimensions
    expected_size = header_size + math.prod(shape)
    if len(content) != expected_size:
        raise DataError(
            f"{where}: {len(content):,} bytes, but the header announces {' x '.join(map(str, shape))} values, "
            f"that is {expected_size:,} bytes"
        )
    try:
        return np.frombuffer(content, dtype=np.uint8, offset=header_size).reshape(shape)
    except ValueError as error:  # no values, in dimensions beyond what an array can have
        raise DataError(f"{where}: the header announces {' x '.join(map(str, shape))} values: {error}") from None


def gunzip(content: bytes, max_bytes: int) -> bytes:
    """Decompress at most `max_bytes`, and one more by which to notice that there is more.

    Raises: ValueError if `content` is no gzip file, or a damaged one.
    """
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
            return stream.read(max_bytes + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(str(error)) from error


def encode_idx(array: npt.NDArray[np.uint8]) -> bytes:
    """Return `array` as the content of an IDX file."""
    header = bytes((0, 0, _UNSIGNED_BYTE, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + np.ascontiguousarray(array, dtype=np.uint8).tobytes()
