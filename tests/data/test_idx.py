"""The IDX format, both ways."""

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from lenet_mnist.data.idx import encode_idx, parse_idx
from lenet_mnist.errors import DataError

HERE = Path("some/file")
IMAGES = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
CONTENT = encode_idx(IMAGES)


def test_the_bytes_are_those_of_the_description() -> None:
    assert encode_idx(np.array([7, 255], dtype=np.uint8)) == bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 255])
    assert bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, *range(24)]) == CONTENT


def test_sizes_are_big_endian() -> None:
    assert parse_idx(bytes([0, 0, 8, 1, 0, 0, 1, 2, *bytes(258)]), 1, HERE).shape == (258,)


@given(array=arrays.arrays(np.uint8, arrays.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=6)))
def test_what_was_encoded_is_parsed_back(array: np.ndarray) -> None:
    parsed = parse_idx(encode_idx(array), array.ndim, HERE)
    assert parsed.dtype == np.uint8
    assert parsed.shape == array.shape
    assert (parsed == array).all()


@pytest.mark.parametrize("array", [IMAGES.T, IMAGES[::-1], IMAGES[:, :, ::2], np.asfortranarray(IMAGES)])
def test_the_order_in_memory_does_not_matter(array: np.ndarray) -> None:
    assert (parse_idx(encode_idx(array), 3, HERE) == array).all()


def test_what_is_parsed_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        parse_idx(CONTENT, 3, HERE)[0, 0, 0] = 1


@pytest.mark.parametrize(
    "content",
    [b"", b"\0", b"\0\0\x08", b"\x1f\x8b\x08\x00" + CONTENT[4:]]
    + [CONTENT[:i] + bytes([CONTENT[i] ^ 1]) + CONTENT[i + 1 :] for i in range(4)],
    ids=lambda content: content[:4].hex() or "nothing",
)
def test_a_wrong_magic_number_is_refused(content: bytes) -> None:
    with pytest.raises(DataError) as caught:
        parse_idx(content, 3, HERE)
    assert str(caught.value).startswith("some/file: not an IDX file")
    assert f"begins with {content[:4].hex(' ') or 'nothing'}, expected 00 00 08 03" in str(caught.value)


@pytest.mark.parametrize("num_dimensions", [1, 2, 4])
def test_a_wrong_number_of_dimensions_is_refused(num_dimensions: int) -> None:
    with pytest.raises(DataError, match=rf"^some/file: not an IDX file .* {num_dimensions} dimension\(s\)"):
        parse_idx(CONTENT, num_dimensions, HERE)


@pytest.mark.parametrize("length", range(4, 16))
def test_a_truncated_header_is_refused(length: int) -> None:
    with pytest.raises(DataError, match=f"^some/file: truncated: .* 16 bytes, the file has {length}$"):
        parse_idx(CONTENT[:length], 3, HERE)


@pytest.mark.parametrize("content", [CONTENT[:16], CONTENT[:-1], CONTENT + b"\0", CONTENT * 2])
def test_a_wrong_length_is_refused(content: bytes) -> None:
    with pytest.raises(DataError, match=f"^some/file: {len(content)} bytes, .* 2 x 3 x 4 values, that is 40 bytes$"):
        parse_idx(content, 3, HERE)


@pytest.mark.parametrize("shape", [(2**32 - 1,) * 3, (2**32 - 1, 0, 2**32 - 1), (0, 2**32 - 1, 2**32 - 1)])
def test_an_absurd_size_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"^some/file: "):
        parse_idx(CONTENT[:4] + struct.pack(">3I", *shape), 3, HERE)


@given(
    content=st.binary(max_size=40) | st.binary(max_size=40).map(CONTENT[:4].__add__), num_dimensions=st.integers(1, 4)
)
def test_any_bytes_are_refused_or_parsed(content: bytes, num_dimensions: int) -> None:
    try:
        parsed = parse_idx(content, num_dimensions, HERE)
    except DataError as error:
        assert str(error).startswith("some/file: ")  # noqa: PT017  # either is right; anything else is a bug  # either is right; anything else is a bug
    else:
        assert encode_idx(parsed) == content
