"""A directory of IDX files: what is read, and what is refused in one line."""

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.data.own import chosen, write_idx

from lenet_mnist.config import DataConfig, Source
from lenet_mnist.data import idx_directory
from lenet_mnist.data.idx import encode_idx
from lenet_mnist.data.idx_directory import load, read_class_names
from lenet_mnist.data.sets import Part, TrainVal
from lenet_mnist.errors import DataError

Array = np.ndarray


@pytest.fixture(scope="module")
def digits(small: TrainVal) -> tuple[Array, Array]:
    """Thirty digits, three classes."""
    return chosen(small.val, 12, 10, 8)


@pytest.fixture
def directory(digits: tuple[Array, Array], tmp_path: Path) -> Path:
    return write_idx(tmp_path / "own", "train", *digits)


def refusal_of(directory: Path, part: Part = Part.TRAIN_VAL, is_resized: bool = False) -> str:
    with pytest.raises(DataError) as caught:
        load(directory, part, DataConfig(resize=is_resized))
    return str(caught.value)


@pytest.mark.parametrize("is_packed", [False, True], ids=["raw", "gz"])
def test_without_a_test_part_of_its_own_a_fifth_is_cut_off(
    digits: tuple[Array, Array], tmp_path: Path, is_packed: bool
) -> None:
    directory = write_idx(tmp_path, "train", *digits, is_packed)
    rest, test = (load(directory, part, DataConfig()) for part in Part)
    assert (len(rest.labels), len(test.labels)) == (24, 6)
    assert sorted([*rest.indices, *test.indices]) == list(range(30))
    for part in (rest, test):
        assert np.array_equal(part.images, digits[0][part.indices])
        assert np.array_equal(part.labels, digits[1][part.indices])
        assert part.class_names == ("0", "1", "2")


def test_the_digests_are_those_of_what_is_inside(digits: tuple[Array, Array], tmp_path: Path) -> None:
    raw, packed = (write_idx(tmp_path / str(k), "train", *digits, is_packed=bool(k)) for k in range(2))
    assert load(raw, Part.TRAIN_VAL, DataConfig()).files == load(packed, Part.TRAIN_VAL, DataConfig()).files
    assert list(load(raw, Part.TRAIN_VAL, DataConfig()).files) == ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"]


@pytest.mark.parametrize("prefix", ["t10k", "test"])
def test_an_official_test_part_is_taken_and_not_opened_for_training(
    directory: Path, digits: tuple[Array, Array], prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = digits[0][:5], digits[1][[0, 1, 15, 25, 26]]
    write_idx(directory, prefix, images, labels)
    opened: list[str] = []
    read = idx_directory._read
    monkeypatch.setattr(idx_directory, "_read", lambda path, n: (opened.append(path.name), read(path, n))[1])
    assert len(load(directory, Part.TRAIN_VAL, DataConfig()).labels) == 30
    assert all(name.startswith("train-") for name in opened)
    test = load(directory, Part.TEST, DataConfig())
    assert np.array_equal(test.images, images)
    assert np.array_equal(test.labels, labels)


def test_classes_are_the_labels_that_there_are(digits: tuple[Array, Array], tmp_path: Path) -> None:
    """EMNIST's letters count from 1; others leave gaps."""
    images, labels = digits
    directory = write_idx(tmp_path, "train", images, np.array([3, 7, 200])[labels])
    loaded = load(directory, Part.TRAIN_VAL, DataConfig())
    assert loaded.class_names == ("3", "7", "200") == read_class_names(directory)
    assert np.array_equal(loaded.labels, labels[loaded.indices])


def test_classes_txt_names_them(directory: Path) -> None:
    (directory / "classes.txt").write_text("zero\n one \ntwó\nthree\n")
    loaded = load(directory, Part.TRAIN_VAL, DataConfig())
    assert loaded.class_names == ("zero", "one", "twó") == read_class_names(directory)
    assert "classes.txt" in loaded.files


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"zero\none\n", "2 lines, but there are labels from 0 to 2"),
        (b"zero\none\none\n", "two classes are called one"),
        (b"zero\n\ntwo\n", "class '': a name has 1 to 64 printable characters"),
        (b"zero\none\n" + b"x" * 65 + b"\n", "a name has 1 to 64 printable characters"),
        (b"zero\none\n\x1b[2J\n", "a name has 1 to 64 printable characters"),
        (b"zero\none\n\xff\n", "not UTF-8 text (byte 9)"),
        ("zero\none\ntwo\n".encode("utf-16"), "UTF-16"),
        ("zero\none\ntwo\n".encode("utf-16-le"), "UTF-16"),
        (b"x" * 300_000, "larger than"),
    ],
)
def test_bad_names_are_refused(directory: Path, content: bytes, said: str) -> None:
    (directory / "classes.txt").write_bytes(content)
    assert said in refusal_of(directory)


def test_classes_txt_may_come_from_any_editor(directory: Path) -> None:
    for text in ("\ufeffzero\r\none\r\ntwo\u0301\r\n", "zero\rone\rtwo\u0301"):
        (directory / "classes.txt").write_bytes(text.encode())
        assert read_class_names(directory) == ("zero", "one", "tw\u00f3")


@pytest.mark.parametrize(("code", "dtype"), [(9, "i1"), (11, ">i2"), (12, ">i4")])
@pytest.mark.parametrize("columns", [1, 8])
def test_labels_may_be_of_other_whole_types_and_have_more_columns(
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
    assert "but the header announces" in refusal_of(directory)
    (directory / "classes.txt").write_text("a\nb\nc\n")
    table[0, 0] = -1
    path.write_bytes(gzip.compress(header + table.tobytes()))
    assert "labels from -1 to 2" in refusal_of(directory)


@pytest.mark.parametrize("name", ["emnist-letters-train", "qmnist_train"])
def test_files_may_have_a_prefix_and_points(digits: tuple[Array, Array], tmp_path: Path, name: str) -> None:
    directory = write_idx(tmp_path, name, *digits)
    path = directory / f"{name}-images-idx3-ubyte"
    path.rename(directory / f"{name}-images.idx3-ubyte")
    assert idx_directory.is_idx_directory(directory)
    assert len(load(directory, Part.TRAIN_VAL, DataConfig()).labels) == 24


def test_two_sets_in_one_directory_are_refused(directory: Path, digits: tuple[Array, Array]) -> None:
    write_idx(directory, "emnist-train", *digits)
    message = refusal_of(directory)
    assert "holds emnist-train-images-idx3-ubyte and train-images-idx3-ubyte" in message
    assert "a directory of its own" in message


def test_a_raw_file_wins_over_its_compressed_form(directory: Path) -> None:
    (directory / "train-images-idx3-ubyte.gz").write_bytes(b"no gzip at all")
    assert len(load(directory, Part.TRAIN_VAL, DataConfig()).labels) == 24


# Other sizes.


@pytest.mark.parametrize(("height", "width"), [(8, 8), (32, 32), (40, 20)])
def test_other_sizes_are_refused_or_scaled(
    digits: tuple[Array, Array], tmp_path: Path, height: int, width: int
) -> None:
    images = np.zeros((30, height, width), dtype=np.uint8)
    images[:, height // 4 : height // 2, width // 4 : width // 2] = 200
    directory = write_idx(tmp_path, "train", images, digits[1])
    message = refusal_of(directory)
    assert f"its 24 pictures are {width} x {height} pixels, not 28 x 28" in message
    assert "data.resize=true" in message
    scaled = load(directory, Part.TRAIN_VAL, DataConfig(resize=True)).images
    assert scaled.shape == (24, 28, 28)
    assert scaled.dtype == np.uint8
    assert scaled.mean() == pytest.approx(images.mean() * min(height, width) / max(height, width), rel=0.2)


def test_what_has_the_right_size_is_not_touched(directory: Path) -> None:
    first, second = (
        load(directory, Part.TRAIN_VAL, DataConfig(resize=is_resized)).images for is_resized in (False, True)
    )
    assert np.array_equal(first, second)


# Pictures that lie on their side.


def test_pictures_can_be_turned_upright(digits: tuple[Array, Array], tmp_path: Path) -> None:
    images, labels = digits
    directory = write_idx(tmp_path / "own", "train", images.transpose(0, 2, 1), labels)
    upright = load(directory, Part.TRAIN_VAL, DataConfig(source="own", transpose=True))
    assert np.array_equal(upright.images, images[upright.indices])
    wide = write_idx(tmp_path / "wide", "train", images[:, :14], labels)
    high = write_idx(tmp_path / "high", "train", images[:, :14].transpose(0, 2, 1), labels)
    config = DataConfig(source="own", resize=True)
    turned = load(high, Part.TRAIN_VAL, config.model_copy(update={"transpose": True})).images
    assert np.array_equal(load(wide, Part.TRAIN_VAL, config).images, turned)


def test_that_emnist_s_pictures_lie_on_their_side_is_said(digits: tuple[Array, Array], tmp_path: Path) -> None:
    for prefix in ("emnist-digits-", "EMNIST_letters_", "", "my-"):
        directory = write_idx(tmp_path / f"{prefix}own", f"{prefix}train", *digits)
        for transpose in (False, True):
            notes = load(directory, Part.TRAIN_VAL, DataConfig(source="own", transpose=transpose)).notes
            assert len(notes) == int("emnist" in prefix.lower() and not transpose)


@pytest.mark.parametrize("source", Source)
def test_what_has_a_name_stands_upright(source: Source) -> None:
    with pytest.raises(ValueError, match=r"data\.transpose"):
        DataConfig(source=source.value, transpose=True)


# What does not fit.


def replaced(name: str, content: bytes) -> Callable[[Path], None]:
    def replace(directory: Path) -> None:
        (directory / name).write_bytes(content)

    return replace


def cut_off(directory: Path) -> None:
    path = directory / IMAGES
    path.write_bytes(path.read_bytes()[:-1])


def made_a_directory(directory: Path) -> None:
    (directory / IMAGES).unlink()
    (directory / IMAGES).mkdir()


IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
ONES = np.ones(30, dtype=np.uint8)
DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "no images": (lambda d: (d / IMAGES).unlink(), f"{IMAGES}, beside {LABELS}, is missing"),
    "no labels": (lambda d: (d / LABELS).unlink(), f"{LABELS}, beside {IMAGES}, is missing"),
    "colour": (replaced(IMAGES, encode_idx(np.zeros((30, 28, 28, 3), np.uint8))), "as pictures in colour do"),
    "too few labels": (replaced(LABELS, encode_idx(np.arange(29, dtype=np.uint8))), "30 images, but"),
    "one class": (replaced(LABELS, encode_idx(ONES)), "holds 1 class, 1: to choose, there must be two"),
    "no image": (replaced(IMAGES, encode_idx(np.zeros((0, 28, 28), np.uint8))), "holds no images"),
    "no label": (replaced(LABELS, encode_idx(np.zeros(0, np.uint8))), "holds no labels"),
    "no pixels": (replaced(IMAGES, encode_idx(np.zeros((30, 0, 28), np.uint8))), "holds no images"),
    "empty file": (replaced(IMAGES, b""), "it begins with nothing"),
    "header only": (replaced(IMAGES, encode_idx(np.zeros((30, 28, 28), np.uint8))[:16]), "16 bytes, but the header"),
    "half a header": (replaced(IMAGES, encode_idx(np.zeros((30, 28, 28), np.uint8))[:9]), "the header alone takes 16"),
    "cut off": (cut_off, "but the header announces"),
    "text": (replaced(LABELS, b"label\n0\n1\n"), "not an IDX file"),
    "fractions": (replaced(IMAGES, b"\0\0\x0d\x03" + bytes(12)), "float32"),
    "a web page": (replaced(IMAGES, b"<!DOCTYPE html><html>403 Forbidden</html>"), "page of the web"),
    "compressed twice": (replaced(IMAGES, gzip.compress(gzip.compress(b"\0\0\x08\x03"))), "compressed once more"),
    "a directory": (made_a_directory, "is a directory"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_does_not_fit_is_named(directory: Path, damage: str) -> None:
    make, said = DAMAGES[damage]
    make(directory)
    message = refusal_of(directory)
    assert message.startswith(str(directory))
    assert said in message


@pytest.mark.parametrize("part", Part)
def test_a_test_part_that_lacks_a_file_is_named(directory: Path, digits: tuple[Array, Array], part: Part) -> None:
    write_idx(directory, "t10k", *digits)
    (directory / "t10k-labels-idx1-ubyte").unlink()
    assert "t10k-labels-idx1-ubyte, beside t10k-images-idx3-ubyte, is missing" in refusal_of(directory, part)


def test_a_class_that_only_tests_is_refused(directory: Path, digits: tuple[Array, Array]) -> None:
    images, labels = digits
    write_idx(directory, "t10k", images, labels + 2)
    assert "t10k-labels-idx1-ubyte: image 12 has label 3, which no training image has" in refusal_of(
        directory, Part.TEST
    )


# Nothing is believed.


def bomb(shape: tuple[int, ...], num_bytes: int) -> bytes:
    header = encode_idx(np.zeros((0,) * len(shape), np.uint8))[:4] + b"".join(side.to_bytes(4, "big") for side in shape)
    return gzip.compress(header + bytes(num_bytes), mtime=0)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (bomb((30, 28, 28), 100_000_000), "bytes, but the header announces 30 x 28 x 28 values"),
        (bomb((2**31, 28, 28), 1000), "announces 2147483648 x 28 x 28 values"),
        (bomb((30, 60_000, 60_000), 1000), "announces 30 x 60000 x 60000 values"),
        (bomb((1_000_000, 256, 256), 1000), "announces 1000000 x 256 x 256 values"),
        (b"no gzip", "damaged: Not a gzipped file"),
        (gzip.compress(b"\0\0\x08\x03")[:-9], "damaged: "),
    ],
    ids=["longer than it says", "many", "wide", "large in all", "no gzip", "cut off"],
)
def test_a_bomb_does_not_go_off(directory: Path, content: bytes, said: str) -> None:
    import tracemalloc

    (directory / IMAGES).unlink()
    (directory / f"{IMAGES}.gz").write_bytes(content)
    tracemalloc.start()
    try:
        message = refusal_of(directory)
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()
    assert said in message
