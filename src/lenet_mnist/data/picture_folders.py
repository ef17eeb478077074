"""A directory with a folder of pictures for each class, which is called what the folder is called.

Pictures in folders within a class's folder are of that class. Where the directory holds a folder train (or training)
instead, with the classes' folders in it, a folder val (valid, validation) beside it is the validation part, and a
folder test (testing) the test part. Of the pictures of the test part not even the files are opened.
"""

import hashlib
import os
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lenet_mnist.config import DataConfig
from lenet_mnist.data.decoding import Picture, decode_picture, is_picture, read_picture_bytes
from lenet_mnist.data.mnist import IMAGE_SIZE
from lenet_mnist.data.scaling import Pixels, squared, to_pixels
from lenet_mnist.data.sets import LoadedPart, Part, require_class_names
from lenet_mnist.data.split import Indices, cut_off_test
from lenet_mnist.errors import DataError
from lenet_mnist.files.storage import storage_errors

SOURCE = "pictures"
_TRAIN, _VAL, _TEST = ("train", "training"), ("val", "valid", "validation"), ("test", "testing")
_SYSTEM = {"__macosx", "@eadir", "lost+found", "$recycle.bin", "system volume information", "thumbs.db", "desktop.ini"}
_MOST_PICTURES = 1_000_000
_MOST_NAMED = 10


@dataclass(frozen=True, eq=False)
class _Listing:
    """What lies in the folders of the classes: for each picture its place, its class and its name, class/picture.png.

    The last `num_val` are those of a validation part of its own. `notes` are what was passed over.
    """

    class_names: tuple[str, ...]
    paths: list[Path]
    labels: Indices
    names: list[str]
    notes: tuple[str, ...]
    num_val: int = 0

    def digests(self, contents: dict[int, str]) -> dict[str, str]:
        """Return one digest a folder: of the names of all its pictures, and of the contents of those that were read."""
        hashers: dict[str, Any] = {}
        for k, (name, label) in enumerate(zip(self.names, self.labels.tolist(), strict=True)):
            folder, _, rest = name.partition(f"{self.class_names[label]}/")
            hasher = hashers.setdefault(f"{folder}{self.class_names[label]}/", hashlib.sha256())
            hasher.update(repr((rest, contents.get(k))).encode())
        return {folder: hasher.hexdigest() for folder, hasher in hashers.items()}

    def followed_by(self, val: "_Listing", folder: str) -> "_Listing":
        """Return the pictures with those of the validation part behind them."""
        return _Listing(
            self.class_names,
            self.paths + val.paths,
            np.concatenate([self.labels, val.labels]),
            self.names + [f"{folder}/{name}" for name in val.names],
            self.notes + val.notes,
            len(val.paths),
        )


def is_picture_directory(directory: Path) -> bool:
    """Whether there are folders in it."""
    return bool(_folders(directory))


def load(directory: Path, part: Part, config: DataConfig) -> LoadedPart:
    """Return one part of the pictures, in the order of their folders' names and their own.

    Raises: DataError if a picture cannot be read or has another size, unless the settings allow for that, or if there
    are not two classes with pictures; StorageError if a folder cannot be listed.
    """
    listing, indices = _part_of(directory, part)
    contents: dict[int, str] = {}
    images: dict[int, Pixels] = {}
    unreadable: list[str] = []
    others: list[str] = []
    for k in indices.tolist():
        path = listing.paths[k]
        try:
            content = read_picture_bytes(path)
            contents[k] = hashlib.sha256(content).hexdigest()
            pixels = pixels_of(decode_picture(content, path), config.resize)
            images[k] = pixels.T if config.transpose else pixels
        except OtherSizeError as error:
            others.append(_without(directory, error))
        except DataError as error:
            unreadable.append(_without(directory, error))
    if unreadable and not config.skip_unreadable:
        raise DataError(
            f"{directory}: {_some(unreadable, len(indices), 'cannot be read')}. Repair or remove them, or leave them "
            "out with --set data.skip_unreadable=true"
        )
    if others:
        raise DataError(
            f"{directory}: {_some(others, len(indices), 'are not 28 x 28 pixels')}. Scale them, or let lenet do it "
            "with --set data.resize=true"
        )
    left_out = [f"left out: {_some(unreadable, len(indices), 'cannot be read')}"] if unreadable else []
    return LoadedPart(
        source=SOURCE,
        images=np.stack(list(images.values())) if images else np.empty((0, IMAGE_SIZE, IMAGE_SIZE), dtype=np.uint8),
        labels=listing.labels[list(images)],
        indices=np.array(list(images), dtype=np.int64),
        class_names=listing.class_names,
        files=listing.digests(contents),
        names=tuple(listing.names[k] for k in images),
        notes=(*left_out, *listing.notes),
        num_val=sum(k >= len(listing.paths) - listing.num_val for k in images),
    )


class OtherSizeError(DataError):
    """A picture has another size than the network takes."""


def pixels_of(picture: Picture, is_resized: bool) -> Pixels:
    """Return a picture as the network takes it. Raises: OtherSizeError if it would have to be scaled, and may not."""
    if (picture.width, picture.height) == (IMAGE_SIZE, IMAGE_SIZE):
        return to_pixels(picture.grey)
    if not is_resized:
        raise OtherSizeError(f"{picture.path} ({picture.width} x {picture.height})")
    return squared(picture.grey, IMAGE_SIZE)


def read_class_names(directory: Path) -> tuple[str, ...]:
    """Return the names of the classes; no picture is opened. Raises: DataError, StorageError."""
    return _part_of(directory, Part.TRAIN_VAL)[0].class_names


def _part_of(directory: Path, part: Part) -> tuple[_Listing, Indices]:
    """Return a listing, and which of its pictures are of the part."""
    with storage_errors(directory, "look into it"):
        folders = _folders(directory)
        train, val, test = (_called(names, folders) for names in (_TRAIN, _VAL, _TEST))
        if train is None or not _folders(train):  # classes may have these names
            train, val, test, folders = directory, None, None, []
        if others := [folder for folder in folders if folder not in (train, val, test)]:
            raise DataError(
                f"{others[0]}: stands beside {train.name}, which holds the folders of the classes: beside it, val is "
                "for validation and test for the test; put what is there into one of them, or elsewhere"
            )
        listing = _list(train)
        if test is None:
            rest, cut_off = cut_off_test(listing.labels)
            if part is Part.TEST:
                return listing, cut_off
        else:
            tested = _list(test, like=train, class_names=listing.class_names)
            if part is Part.TEST:
                return tested, np.arange(len(tested.paths))
            rest = np.arange(len(listing.paths))
        if val is not None:
            listing = listing.followed_by(_list(val, train, listing.class_names), val.name)
            rest = np.append(rest, np.arange(len(listing.paths))[-listing.num_val :])
        return listing, rest


def _called(names: Sequence[str], folders: Sequence[Path]) -> Path | None:
    return next((folder for folder in folders if folder.name.lower() in names), None)


def _list(directory: Path, like: Path | None = None, class_names: tuple[str, ...] = ()) -> _Listing:
    """Return the pictures in the folders of a directory, which are those of `like`, called `class_names`, too."""
    folders: dict[str, Path] = {}
    for folder in _folders(directory):
        name = unicodedata.normalize("NFC", folder.name)  # macOS takes letters with accents apart
        if name in folders:
            raise DataError(
                f"{directory}: two folders are called {name}, with its letters written in two ways (Unicode's NFC and "
                "NFD): put their pictures into one"
            )
        folders[name] = folder
    names = tuple(sorted(folders, key=_by_numbers))
    if like is not None and (others := sorted({*names} ^ {*class_names}, key=_by_numbers)):
        raise DataError(
            f"{directory.parent}: the class {others[0]} is in one of {like.name} and {directory.name} only: "
            "both need a folder for each class"
        )
    if len(names) == 1 and _folders(folders[names[0]]):
        raise DataError(
            f"{directory}: holds 1 class, {names[0]}: to choose, there must be two at least. If the folders in it are "
            f"the classes, name {folders[names[0]]} instead"
        )
    require_class_names(names, str(directory))
    paths: list[Path] = []
    labels: list[int] = []
    relative: list[str] = []
    passed_over: list[str] = []
    for label, name in enumerate(names):
        files = _files(folders[name])
        pictures = {inside: _no_link(path) for inside, path in files.items() if is_picture(path)}
        if not pictures:
            raise DataError(
                f"{folders[name]}: is a class without a picture: no file in it is a PNG, JPEG or BMP. Remove the "
                "folder, or put pictures there"
            )
        paths += pictures.values()
        labels += [label] * len(pictures)
        relative += [f"{name}/{inside}" for inside in pictures]
        passed_over += [f"{name}/{inside}" for inside in files if inside not in pictures]
        if len(paths) > _MOST_PICTURES:
            raise DataError(f"{directory}: holds more than the {_MOST_PICTURES:,} pictures that are read")
    notes = {
        "passed over in the folders of the classes, being no PNG, JPEG or BMP": passed_over,
        "passed over, being in no folder of a class": pictures_beside(directory),
        "pictures in folders within the classes' folders, which count for the class": [
            name for name in relative if name.count("/") > 1
        ],
    }
    said = tuple(f"{what}: {len(found):,}, as {found[0]}" for what, found in notes.items() if found)
    return _Listing(names, paths, np.array(labels), relative, said)


def pictures_beside(directory: Path) -> list[str]:
    """Return the names of the pictures that lie in a directory itself, and not in a folder. Raises: StorageError."""
    return [path.name for path in _visible(directory) if not path.is_dir() and is_picture(path)]


def _files(folder: Path) -> dict[str, Path]:
    """Return all files in a folder and the folders within, by their names in it, in the order of these."""
    found = {}
    folders = [folder]
    for place in folders:  # it grows meanwhile
        for path in _visible(place):
            if path.is_dir():
                folders.append(_no_link(path))
            else:
                found[unicodedata.normalize("NFC", path.relative_to(folder).as_posix())] = path
    return dict(sorted(found.items()))


def _folders(directory: Path) -> list[Path]:
    return [_no_link(path) for path in _visible(directory) if path.is_dir() or not path.exists()]


def _visible(directory: Path) -> list[Path]:
    """Return what lies in a directory, in the order of names, without what is hidden or the system's."""
    with storage_errors(directory, "list"):
        paths = [path for path in directory.iterdir() if not path.name.startswith(".")]
    return sorted((path for path in paths if path.name.lower() not in _SYSTEM), key=lambda path: path.name)


def _by_numbers(name: str) -> tuple[list[str | int], str]:
    """Return what orders names as people count: 2 before 10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)], name


def _no_link(path: Path) -> Path:
    """Raise DataError for a symbolic link: it could bring in pictures from anywhere, for a report to show."""
    if path.is_symlink():
        raise DataError(f"{path}: is a symbolic link: put what it points to in its place")
    return path


def _without(directory: Path, error: DataError) -> str:
    """Return a message about a picture that names it within the directory: no run says where its data lay."""
    return str(error).replace(f"{directory}{os.sep}", "")


def _some(lines: Sequence[str], num_in_all: int, what: str) -> str:
    """Name the first few of many."""
    more = f"; and {len(lines) - _MOST_NAMED:,} more" if len(lines) > _MOST_NAMED else ""
    return f"{len(lines):,} of {num_in_all:,} pictures {what}: {'; '.join(lines[:_MOST_NAMED])}{more}"
