"""A folder of pictures for each class: what is read, and what is refused in one line."""

import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.conftest import Listener
from tests.data.own import chosen, write_pictures

from lenet_mnist.config import DataConfig
from lenet_mnist.data.load import load_test, load_train_val
from lenet_mnist.data.mnist import DataAccess
from lenet_mnist.data.picture_folders import load, read_class_names
from lenet_mnist.data.sets import LoadedPart, Part, TrainVal
from lenet_mnist.errors import DataError

Array = np.ndarray
NAMES = ("zeros", "<b>ones<b>", "twos & threes")  # sorted, the second comes first


@pytest.fixture(scope="module")
def digits(small: TrainVal) -> tuple[Array, Array]:
    """Thirty digits, three classes."""
    return chosen(small.val, 12, 10, 8)


@pytest.fixture
def directory(tmp_path: Path, digits: tuple[Array, Array]) -> Path:
    return write_pictures(tmp_path / "own", *digits, NAMES)


def loaded(directory: Path, part: Part = Part.TRAIN_VAL, resize: bool = False, skip: bool = False) -> LoadedPart:
    return load(directory, part, DataConfig(resize=resize, skip_unreadable=skip))


def refusal_of(directory: Path, part: Part = Part.TRAIN_VAL, **settings: bool) -> str:
    with pytest.raises(DataError) as caught:
        loaded(directory, part, **settings)
    return str(caught.value)


def first_picture(directory: Path, part: Part = Part.TRAIN_VAL) -> Path:
    """Return a picture of a part."""
    return directory / loaded(directory, part).names[0]


def num_pictures(directory: Path) -> int:
    return sum(len(loaded(directory, part).labels) for part in Part)


def test_classes_are_the_folders_by_name_and_a_fifth_is_cut_off(directory: Path, digits: tuple[Array, Array]) -> None:
    rest, test = (loaded(directory, part) for part in Part)
    assert rest.class_names == test.class_names == tuple(sorted(NAMES)) == read_class_names(directory)
    assert (len(rest.labels), len(test.labels)) == (24, 6)
    assert sorted([*rest.indices, *test.indices]) == list(range(30))
    order = np.concatenate([np.flatnonzero(digits[1] == NAMES.index(name)) for name in sorted(NAMES)])
    for part in (rest, test):
        assert np.array_equal(part.images, digits[0][order[part.indices]])
        expected = [NAMES[label] for label in digits[1][order[part.indices]]]
        assert [sorted(NAMES)[label] for label in part.labels] == expected
        assert part.notes == ()


@pytest.mark.parametrize("part", Part)
def test_the_pictures_of_the_other_part_are_not_opened(directory: Path, part: Part) -> None:
    other = loaded(directory, next(each for each in Part if each is not part))
    for name in other.names:
        (directory / name).write_bytes(b"not a picture")
    assert len(loaded(directory, part).labels) == 30 - len(other.names)


def test_test_is_a_folder_too_where_train_is_next_to_it(tmp_path: Path, digits: tuple[Array, Array]) -> None:
    images, labels = digits
    for first, second in (("train", "test"), ("Training", "Testing")):
        directory = tmp_path / first
        write_pictures(directory / first, images, labels, NAMES)
        assert f"name {directory}/{first} instead" in refusal_of(tmp_path)
        write_pictures(directory / second, images[::2], labels[::2], NAMES)
        rest, test = (loaded(directory, part) for part in Part)
        assert (len(rest.labels), len(test.labels)) == (30, 15)
        assert rest.class_names == test.class_names == tuple(sorted(NAMES))
        (directory / "more").mkdir()
        assert f"{directory}/more: is next to {first}" in refusal_of(directory)
        (directory / "more").rmdir()
        write_pictures(directory / second, images, labels, (*NAMES[:2], "fours"))
        assert f"{directory}/{second}: the class fours is only in one" in refusal_of(directory, Part.TEST)
        directory.rename(tmp_path / f".{first}")


def test_classes_may_be_called_train_and_test(tmp_path: Path, digits: tuple[Array, Array]) -> None:
    directory = write_pictures(tmp_path, *digits, ("test", "train", "val"))
    assert loaded(directory).class_names == ("test", "train", "val")


def test_hidden_files_and_those_of_systems_are_skipped_silently_others_with_a_note(
    directory: Path, digits: tuple[Array, Array]
) -> None:
    before = loaded(directory)
    for name in (".git", "__MACOSX", "@eaDir", "lost+found", "$RECYCLE.BIN", ".ipynb_checkpoints"):
        for place in (directory, directory / "zeros"):
            (place / name / "zeros").mkdir(parents=True)
            (place / name / "zeros" / "._0.png").write_bytes(b"not a picture")
            (place / name / "0000.png").write_bytes(b"not a picture")
    for name in ("README.txt", "zeros/.hidden.png", "zeros/Thumbs.db"):
        (directory / name).write_bytes(b"")
    (directory / "link").symlink_to("README.txt")
    after = loaded(directory)
    assert (after.class_names, after.files, after.notes) == (before.class_names, before.files, ())
    (directory / "zeros" / "picture.ppm").write_bytes(b"P6")
    Image.fromarray(digits[0][0]).save(directory / "zeros.17.png")
    inside, beside = loaded(directory).notes
    assert ("zeros/picture.ppm" in inside, "zeros.17.png" in beside) == (True, True)


def test_a_picture_is_known_by_its_name_or_its_content(directory: Path) -> None:
    """Browsers save .jfif, old programs .jpe, some none at all: none of them is left out."""
    before = num_pictures(directory)
    picture = Image.open(first_picture(directory)).convert("L")
    names = ("a.jfif", "b.JPE", "c.JFI", "d", "e.jpg_large", "f.JPG")
    for name in names:
        picture.save(directory / "zeros" / name, format="JPEG")
    picture.save(directory / "zeros" / "g", format="PNG")
    picture.save(directory / "zeros" / "h", format="BMP")
    (directory / "zeros" / "BMW").write_text("BMW is not a picture")
    assert num_pictures(directory) == before + len(names) + 2
    assert ["zeros/BMW" in note for note in loaded(directory).notes] == [True]


def test_pictures_in_folders_within_a_class_belong_to_the_class(tmp_path: Path, digits: tuple[Array, Array]) -> None:
    flat = write_pictures(tmp_path / "flat", *digits, NAMES)
    nested = write_pictures(tmp_path / "nested", *digits, tuple(f"{name}/session 1/a" for name in NAMES))
    for part in Part:
        expected, found = loaded(flat, part), loaded(nested, part)
        assert np.array_equal(found.images, expected.images)
        assert np.array_equal(found.labels, expected.labels)
        assert found.class_names == expected.class_names
        assert ["session 1/a/" in note for note in found.notes] == [True]
    assert all(name.split("/")[1:3] == ["session 1", "a"] for name in found.names)


def test_classes_come_in_the_order_of_numbers(tmp_path: Path, digits: tuple[Array, Array]) -> None:
    for names in (("10", "9", "2"), ("class 10", "class 9", "class 2")):
        directory = write_pictures(tmp_path / names[0], *digits, names)
        assert loaded(directory).class_names == tuple(reversed(names)) == read_class_names(directory)


def test_a_name_is_one_however_its_accents_are_written(tmp_path: Path, digits: tuple[Array, Array]) -> None:
    """Zip archives of macOS hold the letters and their accents one by one."""
    whole, apart = (unicodedata.normalize(form, "Königin") for form in ("NFC", "NFD"))
    write_pictures(tmp_path / "train", *digits, (whole, "b", "c"))
    write_pictures(tmp_path / "test", *digits, (apart, "b", "c"))
    rest, test = (loaded(tmp_path, part) for part in Part)
    assert rest.class_names == test.class_names == (whole, "b", "c")
    assert rest.files == loaded(tmp_path / "test").files | rest.files
    write_pictures(tmp_path / "train", *digits, (apart, "b", "c"))
    assert f"two folders are called {whole}" in refusal_of(tmp_path)


@pytest.mark.parametrize("names", [("train", "val"), ("Training", "VALID"), ("train", "Validation", "Test")])
def test_a_validation_part_of_its_own_is_used(
    tmp_path: Path, digits: tuple[Array, Array], names: tuple[str, ...]
) -> None:
    images, labels = digits
    for k, name in enumerate(names):
        write_pictures(tmp_path / name, images[k::3], labels[k::3], NAMES)
    access = DataAccess(tmp_path, offline=True, progress=Listener())
    config = DataConfig(source=str(tmp_path))
    data, test = load_train_val(config, access), load_test(config, access)
    given = {image.tobytes() for image in images[1::3]}
    assert {image.numpy().tobytes() for image in data.val.images} == given
    assert {name.split("/")[0] for name in data.val.names} == {names[1]}
    assert {len(name.split("/")) for name in data.train.names} == {2}
    own_test = len(names) == 3
    assert (len(data.train), len(test)) == ((10, 10) if own_test else (8, 2))
    others = load_train_val(config.model_copy(update={"split_seed": 7, "val_size": 3}), access)
    assert others.val.is_same_as(data.val)
    assert sum("data.val_size" in note for note in others.notes) == 1
    before = data.fingerprint.files
    Image.new("L", (28, 28), 9).save(next((tmp_path / names[1] / "zeros").iterdir()))
    after = load_train_val(config, access).fingerprint.files
    assert [name for name in before if before[name] != after[name]] == [f"{names[1]}/zeros/"]


def test_pictures_can_be_turned_upright(tmp_path: Path, directory: Path, digits: tuple[Array, Array]) -> None:
    transposed = write_pictures(tmp_path / "transposed", digits[0].transpose(0, 2, 1), digits[1], NAMES)
    turned = load(transposed, Part.TRAIN_VAL, DataConfig(source="own", transpose=True))
    assert np.array_equal(turned.images, loaded(directory).images)


def test_a_changed_a_renamed_and_a_new_picture_are_noticed(directory: Path) -> None:
    before = loaded(directory)
    assert sorted(before.files) == sorted(f"{name}/" for name in NAMES)
    path = next(directory / name for name in before.names if name.startswith("zeros/"))
    content = path.read_bytes()

    Image.new("L", (28, 28), 9).save(first_picture(directory))
    changed = loaded(directory).files
    assert sum(before.files[name] != changed[name] for name in changed) == 1

    path.rename(path.with_name(f"{path.stem}a.png"))  # which stays in its place
    assert loaded(directory).files["zeros/"] not in (before.files["zeros/"], changed["zeros/"])

    (directory / "zeros" / "zz.png").write_bytes(content)
    assert num_pictures(directory) == 31


# Pictures that cannot be read, or have a different size.


def test_a_validation_part_without_a_readable_picture_is_not_taken_from_the_training_part(
    tmp_path: Path, digits: tuple[Array, Array]
) -> None:
    for k, name in enumerate(("train", "val")):
        write_pictures(tmp_path / name, *(each[k::2] for each in digits), NAMES)
    for path in (tmp_path / "val").rglob("*.png"):
        path.write_bytes(b"")
    assert "validation part" in refusal_of(tmp_path, skip=True)


def test_unreadable_pictures_are_named_and_skipped_only_on_request(directory: Path) -> None:
    test = loaded(directory, Part.TEST)
    path = first_picture(directory)
    name = f"{path.parent.name}/{path.name}"
    for content in (b"", b"not a picture", b"\x89PNG\r\n\x1a\n" + bytes(50)):
        path.write_bytes(content)
        message = refusal_of(directory)
        assert message.startswith(f"{directory}: 1 of 24 pictures cannot be read: {name}: ")
        assert "data.skip_unreadable=true" in message
        rest = loaded(directory, skip=True)
        assert len(rest.labels) == 23
        assert rest.notes[0].startswith(f"skipped: 1 of 24 pictures cannot be read: {name}: ")
        assert str(directory) not in rest.notes[0]  # notes are kept in the run, which names no place
    assert np.array_equal(loaded(directory, Part.TEST, skip=True).indices, test.indices)
    for path in directory.rglob("*.png"):
        path.write_bytes(b"not a picture")
    message = refusal_of(directory)
    assert message.startswith(f"{directory}: 24 of 24 pictures cannot be read: ")
    assert message.count("is not a picture") == 10
    assert "; and 14 more. " in message


def test_other_sizes_are_counted_and_named_or_resized(directory: Path) -> None:
    path = first_picture(directory)
    Image.open(path).resize((56, 56), Image.Resampling.NEAREST).save(path)
    for skip in (False, True):  # it can be read
        message = refusal_of(directory, skip=skip)
        assert f"1 of 24 pictures are not 28 x 28 pixels: {path.parent.name}/{path.name} (56 x 56). " in message
        assert "data.resize=true" in message
    assert len(loaded(directory, resize=True).labels) == 24


# Directories that do not fit.


def alone(directory: Path) -> None:
    for name in NAMES[1:]:
        (directory / name).rename(directory / f".{name}")


def crowded(directory: Path) -> None:
    for k in range(1000):
        (directory / f"{k}").mkdir()


BAD_DIRECTORIES: dict[str, tuple[Callable[[Path], object], str]] = {
    "an empty class": (lambda d: (d / "empty").mkdir(), "empty: is a class without a picture"),
    "one class": (alone, "holds 1 class, zeros: at least two are needed"),
    "many classes": (crowded, "holds 1,003 classes, of at most 1,000"),
    "a long name": (lambda d: (d / ("n" * 65)).mkdir(), "a name has 1 to 64 printable characters"),
    "a name that moves the cursor": (lambda d: (d / "a\x1b[2Jb").mkdir(), "a name has 1 to 64 printable characters"),
    "a linked class": (lambda d: (d / "link").symlink_to(d / "zeros"), "link: is a symbolic link"),
    "a class linked to nothing": (lambda d: (d / "link").symlink_to(d / "nothing"), "link: is a symbolic link"),
    "a linked picture": (lambda d: (d / "zeros" / "l.png").symlink_to(d / "zeros" / "0000.png"), "is a symbolic link"),
    "a link to nothing": (lambda d: (d / "zeros" / "l.png").symlink_to(d / "nothing"), "is a symbolic link"),
}


@pytest.mark.parametrize("kind", BAD_DIRECTORIES)
def test_what_does_not_fit_is_said(directory: Path, kind: str) -> None:
    make, said = BAD_DIRECTORIES[kind]
    make(directory)
    message = refusal_of(directory)
    assert message.startswith(str(directory))
    assert said in message
    with pytest.raises(DataError) as caught:
        read_class_names(directory)
    assert str(caught.value) == message
