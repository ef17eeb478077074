"""The IDX format both ways, and directories of such files: what is read, and what is refused in one line."""

import gzip
import hashlib
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tests.data.own import chosen, write_idx

from lenet_mnist.config import DataConfig, Source
from lenet_mnist.data.idx import encode_idx, is_idx_directory, load, parse_idx, read_class_names
from lenet_mnist.data.sets import Part, TrainVal
from lenet_mnist.errors import DataError

Array = np.ndarray
HERE = Path("some/file")
SMALL = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
CONTENT = encode_idx(SMALL)
IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


# The format.


def test_the_bytes_are_those_of_the_description() -> None:
    assert encode_idx(np.array([7, 255], dtype=np.uint8)) == bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 255])
    assert bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, *range(24)]) == CONTENT
    assert parse_idx(bytes([0, 0, 8, 1, 0, 0, 1, 2, *bytes(258)]), 1, HERE)[0].shape == (258,)  # big-endian


@given(array=arrays.arrays(np.uint8, arrays.array_shapes(min_dims=3, max_dims=3, max_side=6)), packed=st.booleans())
def test_what_was_encoded_is_parsed_back(array: Array, packed: bool) -> None:
    content = encode_idx(array)
    parsed, digest = parse_idx(gzip.compress(content) if packed else content, 3, HERE)
    assert (parsed.dtype, parsed.shape, digest) == (np.uint8, array.shape, hashlib.sha256(content).hexdigest())
    assert (parsed == array).all()


def test_the_order_in_memory_does_not_matter() -> None:
    for array in (SMALL.T, SMALL[::-1], SMALL[:, :, ::2], np.asfortranarray(SMALL)):
        assert (parse_idx(encode_idx(array), 3, HERE)[0] == array).all()


def refused(content: bytes, num_dimensions: int = 3) -> str:
    with pytest.raises(DataError) as caught:
        parse_idx(content, num_dimensions, HERE)
    assert str(caught.value).startswith("some/file: ")
    return str(caught.value)


def test_a_wrong_header_or_length_is_refused() -> None:
    wrong_bits = [CONTENT[:i] + bytes([CONTENT[i] ^ 1]) + CONTENT[i + 1 :] for i in range(4)]
    for content in (b"", b"\0", b"\0\0\x08", *wrong_bits, *(CONTENT[:length] for length in range(4, 16))):
        assert f"begins with {content[:16].hex(' ') or 'nothing'}, expected 00 00 08 03" in refused(content)
    for num_dimensions in (1, 2, 4):
        assert f" {num_dimensions} dimension(s)" in refused(CONTENT, num_dimensions)
    for content in (CONTENT[:16], CONTENT[:-1], CONTENT + b"\0", CONTENT * 2):
        assert "its header announces 2 x 3 x 4 values, that is 40 bytes" in refused(content)
    for shape in ((2**32 - 1,) * 3, (2**32 - 1, 0, 2**32 - 1), (0, 2**32 - 1, 2**32 - 1)):
        assert "the limits are" in refused(CONTENT[:4] + struct.pack(">3I", *shape))


@given(
    content=st.binary(max_size=40) | st.binary(max_size=40).map(CONTENT[:4].__add__), num_dimensions=st.integers(1, 3)
)
def test_any_bytes_are_refused_or_parsed(content: bytes, num_dimensions: int) -> None:
    try:
        parsed, _ = parse_idx(content, num_dimensions, HERE)
    except DataError as error:
        assert str(error).startswith("some/file: ")  # noqa: PT017  # either is right; anything else is a bug
    else:
        assert encode_idx(parsed) == content


# A directory.


@pytest.fixture(scope="module")
def digits(small: TrainVal) -> tuple[Array, Array]:
    """Thirty digits, three classes."""
    return chosen(small.val, 12, 10, 8)


@pytest.fixture
def directory(digits: tuple[Array, Array], tmp_path: Path) -> Path:
    return write_idx(tmp_path / "own", "train", *digits)


def refusal_of(directory: Path, part: Part = Part.TRAIN_VAL) -> str:
    with pytest.raises(DataError) as caught:
        load(directory, part, DataConfig())
    assert str(caught.value).startswith(str(directory))
    return str(caught.value)


def test_without_a_test_part_of_its_own_a_fifth_is_cut_off(digits: tuple[Array, Array], tmp_path: Path) -> None:
    raw, packed = (write_idx(tmp_path / str(k), "train", *digits, is_packed=bool(k)) for k in range(2))
    for directory in (raw, packed):
        rest, test = (load(directory, part, DataConfig()) for part in Part)
        assert (len(rest.labels), len(test.labels)) == (24, 6)
        assert sorted([*rest.indices, *test.indices]) == list(range(30))
        for part in (rest, test):
            assert np.array_equal(part.images, digits[0][part.indices])
            assert np.array_equal(part.labels, digits[1][part.indices])
            assert part.class_names == ("0", "1", "2")
    assert list(rest.files) == [IMAGES, LABELS]
    assert rest.files == load(raw, Part.TRAIN_VAL, DataConfig()).files  # of what is inside
    (raw / f"{IMAGES}.gz").write_bytes(b"not gzip at all")  # the raw file wins
    assert load(raw, Part.TRAIN_VAL, DataConfig()).files == rest.files


@pytest.mark.parametrize("prefix", ["t10k", "test"])
def test_an_official_test_part_is_taken_and_not_opened_for_training(
    directory: Path, digits: tuple[Array, Array], prefix: str
) -> None:
    images, labels = digits[0][:5], digits[1][[0, 1, 15, 25, 26]]
    write_idx(directory, prefix, images, labels)
    test = load(directory, Part.TEST, DataConfig())
    assert np.array_equal(test.images, images)
    assert np.array_equal(test.labels, labels)
    for path in directory.glob(f"{prefix}*"):
        path.write_bytes(b"damaged")
    assert len(load(directory, Part.TRAIN_VAL, DataConfig()).labels) == 30
    path.unlink()
    for part in Part:
        assert f"but not {path.name.replace('test-', 't10k-')}" in refusal_of(directory, part)


def test_a_class_that_only_tests_is_refused(directory: Path, digits: tuple[Array, Array]) -> None:
    write_idx(directory, "t10k", digits[0], digits[1] + 2)
    said = "t10k-labels-idx1-ubyte: image 12 has label 3, which no training image has"
    assert said in refusal_of(directory, Part.TEST)


def test_classes_are_the_labels_that_there_are(digits: tuple[Array, Array], tmp_path: Path) -> None:
    """EMNIST's letters count from 1; others leave gaps."""
    images, labels = digits
    directory = write_idx(tmp_path, "train", images, np.array([3, 7, 200])[labels])
    loaded = load(directory, Part.TRAIN_VAL, DataConfig())
    assert loaded.class_names == ("3", "7", "200") == read_class_names(directory)
    assert np.array_equal(loaded.labels, labels[loaded.indices])


def test_classes_txt_names_them_whatever_editor_wrote_it(directory: Path) -> None:
    for text in ("zero\n one \ntwó\nthree\n", "\ufeffzero\r\none\r\ntwo\u0301\r\n", "zero\rone\rtwo\u0301"):
        (directory / "classes.txt").write_bytes(text.encode())
        loaded = load(directory, Part.TRAIN_VAL, DataConfig())
        assert loaded.class_names == ("zero", "one", "tw\u00f3") == read_class_names(directory)
        assert "classes.txt" in loaded.files


def test_bad_names_are_refused(directory: Path) -> None:
    for content, said in (
        (b"zero\none\n", "2 lines, but labels from 0 to 2"),
        (b"zero\none\none\n", "two classes are called one"),
        (b"zero\n\ntwo\n", "class '': a name has 1 to 64 printable characters"),
        (b"zero\none\n" + b"x" * 65 + b"\n", "a name has 1 to 64 printable characters"),
        (b"zero\none\n\x1b[2J\n", "a name has 1 to 64 printable characters"),
        (b"zero\none\n\xff\n", "not UTF-8 text (byte 9)"),
        ("zero\none\ntwo\n".encode("utf-16"), "UTF-16"),
        ("zero\none\ntwo\n".encode("utf-16-le"), "UTF-16"),
        (b"x" * 300_000, "larger than"),
    ):
        (directory / "classes.txt").write_bytes(content)
        assert said in refusal_of(directory)


@pytest.mark.parametrize(("code", "dtype"), [(9, "i1"), (11, ">i2"), (12, ">i4")])
@pytest.mark.parametrize("columns", [1, 8])
def test_labels_may_be_of_other_integer_types_and_have_more_columns(
    directory: Path, digits: tuple[Array, Array], code: int, dtype: str, columns: int
) -> None:
    """QMNIST's are int32, and tell the writer too."""
    table = np.zeros((30, columns), dtype)
    table[:, 0], table[:, 1:] = digits[1], 99
    sizes = (30,) if columns == 1 else (30, columns)
    header = bytes((0, 0, code, len(sizes))) + b"".join(size.to_bytes(4, "big") for size in sizes)
    (directory / LABELS).unlink()
    path = directory / f"train-labels-idx{len(sizes)}-int.gz"
    path.write_bytes(gzip.compress(header + table.tobytes()))
    loaded = load(directory, Part.TRAIN_VAL, DataConfig())
    assert loaded.class_names == ("0", "1", "2")
    assert np.array_equal(loaded.labels, digits[1][loaded.indices])
    path.write_bytes(gzip.compress(header + table.tobytes()[:-1]))
    assert "but it is shorter" in refusal_of(directory)
    (directory / "classes.txt").write_text("a\nb\nc\n")
    table[0, 0] = -1
    path.write_bytes(gzip.compress(header + table.tobytes()))
    assert "labels from -1 to 2" in refusal_of(directory)


def test_files_may_have_a_prefix_and_points_but_only_one_set_is_allowed(
    digits: tuple[Array, Array], tmp_path: Path
) -> None:
    for name in ("emnist-letters-train", "qmnist_train"):
        directory = write_idx(tmp_path / name, name, *digits)
        (directory / f"{name}-images-idx3-ubyte").rename(directory / f"{name}-images.idx3-ubyte")
        assert is_idx_directory(directory)
        assert len(load(directory, Part.TRAIN_VAL, DataConfig()).labels) == 24
    write_idx(directory, "train", *digits)
    assert "holds qmnist_train-images.idx3-ubyte and train-images-idx3-ubyte" in refusal_of(directory)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (32, 32), (40, 20)])
def test_other_sizes_are_refused_or_resized(
    digits: tuple[Array, Array], tmp_path: Path, height: int, width: int
) -> None:
    images = np.zeros((30, height, width), dtype=np.uint8)
    images[:, height // 4 : height // 2, width // 4 : width // 2] = 200
    directory = write_idx(tmp_path, "train", images, digits[1])
    message = refusal_of(directory)
    assert f"its 24 pictures are {width} x {height} pixels, not 28 x 28" in message
    assert "data.resize=true" in message
    scaled = load(directory, Part.TRAIN_VAL, DataConfig(resize=True)).images
    assert (scaled.shape, scaled.dtype) == ((24, 28, 28), np.uint8)
    assert scaled.mean() == pytest.approx(images.mean() * min(height, width) / max(height, width), rel=0.2)


def test_pictures_can_be_turned_upright(directory: Path, digits: tuple[Array, Array], tmp_path: Path) -> None:
    images, labels = digits
    as_they_are = load(directory, Part.TRAIN_VAL, DataConfig(resize=True)).images
    transposed = write_idx(tmp_path / "transposed", "train", images.transpose(0, 2, 1), labels)
    upright = load(transposed, Part.TRAIN_VAL, DataConfig(source="own", transpose=True)).images
    assert np.array_equal(upright, as_they_are)
    wide = write_idx(tmp_path / "wide", "train", images[:, :14], labels)
    high = write_idx(tmp_path / "high", "train", images[:, :14].transpose(0, 2, 1), labels)
    turned = load(high, Part.TRAIN_VAL, DataConfig(source="own", resize=True, transpose=True)).images
    assert np.array_equal(load(wide, Part.TRAIN_VAL, DataConfig(resize=True)).images, turned)
    for source in Source:
        with pytest.raises(ValueError, match=r"data\.transpose"):
            DataConfig(source=source.value, transpose=True)


def test_that_emnist_s_pictures_are_transposed_is_said(digits: tuple[Array, Array], tmp_path: Path) -> None:
    for prefix in ("emnist-digits-", "EMNIST_letters_", "", "my-"):
        directory = write_idx(tmp_path / f"{prefix}own", f"{prefix}train", *digits)
        for transpose in (False, True):
            notes = load(directory, Part.TRAIN_VAL, DataConfig(source="own", transpose=transpose)).notes
            assert len(notes) == int("emnist" in prefix.lower() and not transpose)


# What does not fit.


def zeros(*shape: int) -> bytes:
    return encode_idx(np.zeros(shape, np.uint8))


def bomb(shape: tuple[int, ...], num_bytes: int) -> bytes:
    return gzip.compress(bytes((0, 0, 8, 3)) + struct.pack(">3I", *shape) + bytes(num_bytes))


DAMAGES: list[tuple[str, bytes | None, str]] = [
    (IMAGES, None, f"holds {LABELS}, but not {IMAGES}"),
    (LABELS, None, f"holds {IMAGES}, but not {LABELS}"),
    (IMAGES, zeros(30, 28, 28, 3), "as colour pictures do"),
    (LABELS, encode_idx(np.arange(29, dtype=np.uint8)), "30 images, but"),
    (LABELS, encode_idx(np.ones(30, dtype=np.uint8)), "holds 1 class, 1: at least two are needed"),
    (IMAGES, zeros(0, 28, 28), "announces 0 x 28 x 28 values; the limits are"),
    (LABELS, zeros(0), "announces 0 values; the limits are"),
    (IMAGES, b"", "it begins with nothing"),
    (IMAGES, zeros(30, 28, 28)[:16], "but it is shorter"),
    (IMAGES, zeros(30, 28, 28)[:9], "not an IDX file"),
    (IMAGES, zeros(30, 28, 28) + b"x", "but it is longer"),
    (LABELS, b"label\n0\n1\n", "not an IDX file"),
    (IMAGES, b"\0\0\x0d\x03" + bytes(12), "float32"),
    (IMAGES, b"<!DOCTYPE html><html>403 Forbidden</html>", "a web page"),
    (IMAGES, gzip.compress(gzip.compress(b"\0\0\x08\x03")), "compressed twice"),
    (IMAGES, bomb((30, 28, 28), 10**8), "header announces 30 x 28 x 28 values, that is 23,536 bytes, but it is longer"),
    (IMAGES, bomb((2**31, 28, 28), 1000), "announces 2147483648 x 28 x 28 values"),
    (IMAGES, bomb((30, 60_000, 60_000), 1000), "announces 30 x 60000 x 60000 values"),
    (IMAGES, bomb((1_000_000, 256, 256), 1000), "announces 1000000 x 256 x 256 values"),
    (IMAGES, gzip.compress(b"\0\0\x08\x03")[:-9], "is damaged: "),
]


def test_what_does_not_fit_is_named_and_a_bomb_does_not_go_off(directory: Path) -> None:
    sound = {name: (directory / name).read_bytes() for name in (IMAGES, LABELS)}
    for name, content, said in DAMAGES:
        (directory / name).unlink() if content is None else (directory / name).write_bytes(content)
        tracemalloc.start()
        try:
            message = refusal_of(directory)
            assert tracemalloc.get_traced_memory()[1] < 3_000_000
        finally:
            tracemalloc.stop()
        assert said in message
        (directory / name).write_bytes(sound[name])
