"""The IDX format of MNIST's files: a magic number, the sizes, the bytes.

Source: "The MNIST database of handwritten digits", section "File formats": two zero bytes, a type (8 = unsigned byte),
the number of dimensions, each dimension as a 32-bit big-endian number, then the data.
"""

import math
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lenet_mnist.errors import DataError

_UNSIGNED_BYTE = 8


def parse_idx(content: bytes, num_dimensions: int, where: Path) -> npt.NDArray[np.uint8]:
    """Return the array in `content`, read-only; `where` is named in errors.

    Raises: DataError if the magic number, the number of dimensions or the length is wrong.
    """
    expected_magic = bytes((0, 0, _UNSIGNED_BYTE, num_dimensions))
    header_size = 4 + 4 * num_dimensions
    if content[:4] != expected_magic:
        raise DataError(
            f"{where}: not an IDX file of unsigned bytes with {num_dimensions} dimension(s): "
            f"it begins with {content[:4].hex(' ') or 'nothing'}, expected {expected_magic.hex(' ')}"
        )
    if len(content) < header_size:
        raise DataError(f"{where}: truncated: the header alone takes {header_size} bytes, the file has {len(content)}")
    shape = struct.unpack(f">{num_dimensions}I", content[4:header_size])
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


def encode_idx(array: npt.NDArray[np.uint8]) -> bytes:
    """Return `array` as the content of an IDX file."""
    header = bytes((0, 0, _UNSIGNED_BYTE, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + np.ascontiguousarray(array, dtype=np.uint8).tobytes()
