"""A directory with a folder of pictures for each class; the folder's name is the class's.

Pictures in folders within a class's folder belong to the class. If the directory holds a folder train (or training)
instead, which contains the classes' folders, then a folder val (valid, validation) next to it is the validation part,
and a folder test (testing) the test part. The files of the test part's pictures are not even opened for training.
"""

import hashlib
import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lenet_mnist.config import DataConfig
from lenet_mnist.data.decoding import KINDS, MAX_PICTURE_BYTES, Pixels, decode_picture, is_picture, pixels_of, visible
from lenet_mnist.data.sets import IMAGE_SIZE, LoadedPart, Part, require_class_names
from lenet_mnist.data.split import Indices, cut_off_test
from lenet_mnist.errors import DataError
from lenet_mnist.files.storage import read_bounded, storage_errors

_PARTS = (("train", "training"), ("val", "valid", "validation"), ("test", "testing"))
_MAX_PICTURES = 1_000_000
_MAX_NAMED = 10


class _Picture(NamedTuple):
    """A picture's path, its class, the folder of the class (class/, or val/class/), and its name in that folder."""

    path: Path
    label: int
    folder: str
    inside: str


class _Listing(NamedTuple):
    """The pictures in the classes' folders; `notes` say what was skipped."""

    class_names: tuple[str, ...]
    pictures: list[_Picture]
    notes: tuple[str, ...]


def load(directory: Path, part: Part, config: DataConfig) -> LoadedPart:
    """Return one part of the pictures, in the order of their folders' names and their own.

    Raises: DataError if a picture is unreadable or of a different size, or if there are not two classes; StorageError.
    """
    listing, indices, num_val = _part_of(directory, part)
    contents: dict[int, str] = {}
    images: dict[int, Pixels] = {}
    unreadable, other_sizes = [], []
    for k in indices.tolist():
        path = listing.pictures[k].path
        try:
            content = read_bounded(path, max_bytes=MAX_PICTURE_BYTES, error=DataError)
            contents[k] = hashlib.sha256(content).hexdigest()
            picture = decode_picture(content, path)
        except DataError as error:  # named within the directory: no run says where its data were
            unreadable.append(str(error).replace(f"{directory}{os.sep}", ""))
            continue
        pixels = pixels_of(picture, config.resize)
        if pixels is None:
            other_sizes.append(f"{path.relative_to(directory)} ({picture.width} x {picture.height})")
        else:
            images[k] = pixels.T if config.transpose else pixels
    skipped = _first_of(unreadable, len(indices), "cannot be read")
    if unreadable and not config.skip_unreadable:
        hint = "Repair or remove them, or skip them with --set data.skip_unreadable=true"
        raise DataError(f"{directory}: {skipped}. {hint}")
    if other_sizes:
        said = _first_of(other_sizes, len(indices), f"are not {IMAGE_SIZE} x {IMAGE_SIZE} pixels")
        raise DataError(f"{directory}: {said}. Resize them, or let lenet do it with --set data.resize=true")
    read = [listing.pictures[k] for k in images]
    read_of_val = sum(k >= len(listing.pictures) - num_val for k in images)
    if num_val and not read_of_val:
        raise DataError(f"{directory}: no picture of its validation part can be read: {skipped}")
    return LoadedPart(
        source="pictures",
        images=np.stack(list(images.values())) if images else np.empty((0, IMAGE_SIZE, IMAGE_SIZE), dtype=np.uint8),
        labels=np.array([each.label for each in read], dtype=np.int64),
        indices=np.array(list(images), dtype=np.int64),
        class_names=listing.class_names,
        files=_digests(listing.pictures, contents),
        names=tuple(f"{each.folder}{each.inside}" for each in read),
        notes=(*([f"skipped: {skipped}"] if unreadable else []), *listing.notes),
        num_val=read_of_val,
    )


def read_class_names(directory: Path) -> tuple[str, ...]:
    """Return the names of the classes; no picture is opened. Raises: DataError, StorageError."""
    return _part_of(directory, Part.TRAIN_VAL)[0].class_names


def _digests(pictures: list[_Picture], contents: dict[int, str]) -> dict[str, str]:
    """Return one digest per folder: of the names of all its pictures, and the contents of those that were read."""
    hashers: dict[str, Any] = {}
    for k, picture in enumerate(pictures):
        hasher = hashers.setdefault(picture.folder, hashlib.sha256())
        hasher.update(repr((picture.inside, contents.get(k))).encode())
    return {folder: hasher.hexdigest() for folder, hasher in hashers.items()}


def _part_of(directory: Path, part: Part) -> tuple[_Listing, Indices, int]:
    """Return a listing, which of its pictures belong to the part, and how many at the end are a validation part."""
    with storage_errors(directory, "open"):
        folders = _folders(directory)
        if not folders:
            raise DataError(
                f"{directory}: holds neither IDX files (train-images-idx3-ubyte) nor folders of pictures, one a class"
            )
        train, val, test = (
            next((folder for folder in folders if folder.name.lower() in names), None) for names in _PARTS
        )
        if train is None or not _folders(train):  # classes may have these names
            train, val, test, folders = directory, None, None, []
        if others := [folder for folder in folders if folder not in (train, val, test)]:
            raise DataError(f"{others[0]}: is next to {train.name}, where only val and test may be: move it elsewhere")
        listing = _list(train)
        rest, tested = np.arange(len(listing.pictures)), listing
        if test is None:
            rest, indices = cut_off_test(np.array([picture.label for picture in listing.pictures]))
        else:
            tested = _list(test, listing.class_names)
            indices = np.arange(len(tested.pictures))
        if part is Part.TEST:
            return tested, indices, 0
        if val is None:
            return listing, rest, 0
        of_val = _list(val, listing.class_names, prefix=f"{val.name}/")
        pictures = listing.pictures + of_val.pictures
        indices = np.append(rest, np.arange(len(listing.pictures), len(pictures)))
        return _Listing(listing.class_names, pictures, listing.notes + of_val.notes), indices, len(of_val.pictures)


def _list(directory: Path, class_names: tuple[str, ...] = (), prefix: str = "") -> _Listing:
    """Return the pictures in a directory's folders, which must be those of the training part, where these are known."""
    folders: dict[str, Path] = {}
    for folder in _folders(directory):
        name = unicodedata.normalize("NFC", folder.name)  # macOS separates letters from their accents
        if name in folders:
            raise DataError(f"{directory}: two folders are called {name} (Unicode's NFC and NFD): merge them")
        folders[name] = folder
    names = tuple(sorted(folders, key=_natural_order))
    if class_names and (others := sorted({*names} ^ {*class_names}, key=_natural_order)):
        raise DataError(f"{directory}: the class {others[0]} is only in one of this and the training part: add it")
    if len(names) == 1 and _folders(folders[names[0]]):
        hint = f"if the folders in it are the classes, name {folders[names[0]]} instead"
        raise DataError(f"{directory}: holds 1 class, {names[0]}: {hint}")
    require_class_names(names, str(directory))
    found: list[_Picture] = []
    skipped: list[str] = []
    for label, name in enumerate(names):
        files = _files(folders[name])
        pictures = {inside: _no_link(path) for inside, path in files.items() if is_picture(path)}
        if not pictures:
            raise DataError(f"{folders[name]}: is a class without a picture ({KINDS}): add some, or remove it")
        found += [_Picture(path, label, f"{prefix}{name}/", inside) for inside, path in pictures.items()]
        skipped += [f"{name}/{inside}" for inside in files if inside not in pictures]
        if len(found) > _MAX_PICTURES:
            raise DataError(f"{directory}: holds more than the {_MAX_PICTURES:,} pictures that are read")
    outside = [path.name for path in visible(directory) if not path.is_dir() and is_picture(path)]
    nested = [f"{each.folder}{each.inside}" for each in found if "/" in each.inside]
    notes = {
        f"skipped files that are not {KINDS}": skipped,
        "skipped pictures outside the classes' folders": outside,
        "pictures in subfolders, which belong to the class": nested,
    }
    said = tuple(f"{what}: {len(some):,}, such as {some[0]}" for what, some in notes.items() if some)
    return _Listing(names, found, said)


def _files(folder: Path) -> dict[str, Path]:
    """Return all files in a folder and the folders within, sorted by their names relative to it."""
    found = {}
    folders = [folder]
    for place in folders:  # which grows in this loop
        for path in visible(place):
            if path.is_dir():
                folders.append(_no_link(path))
            else:
                found[unicodedata.normalize("NFC", path.relative_to(folder).as_posix())] = path
    return dict(sorted(found.items()))


def _folders(directory: Path) -> list[Path]:
    return [_no_link(path) for path in visible(directory) if path.is_dir() or not path.exists()]


def _natural_order(name: str) -> tuple[list[str | int], str]:
    """Return a key that sorts 2 before 10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)], name


def _no_link(path: Path) -> Path:
    """Raise DataError for a symbolic link: it could bring in pictures from anywhere, for a report to show."""
    if path.is_symlink():
        raise DataError(f"{path}: is a symbolic link: put what it points to in its place")
    return path


def _first_of(problems: Sequence[str], num_in_all: int, what: str) -> str:
    more = f"; and {len(problems) - _MAX_NAMED:,} more" if len(problems) > _MAX_NAMED else ""
    return f"{len(problems):,} of {num_in_all:,} pictures {what}: {'; '.join(problems[:_MAX_NAMED])}{more}"
