"""A directory with a folder of pictures for each class, which is called what the folder is called.

Where it holds the two folders train and test (or training and testing) instead, with the classes' folders in both, the
second is the test part. Of the pictures of the other part not even the files are opened.
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lenet_mnist.data.decoding import SUFFIXES, Picture, decode_picture, read_picture_bytes
from lenet_mnist.data.mnist import IMAGE_SIZE
from lenet_mnist.data.scaling import Pixels, squared, to_pixels
from lenet_mnist.data.sets import LoadedPart, Part, require_class_names
from lenet_mnist.data.split import Indices, cut_off_test
from lenet_mnist.errors import DataError
from lenet_mnist.files.storage import storage_errors

SOURCE = "pictures"
_PARTS = (("train", "test"), ("training", "testing"))
_MOST_PICTURES = 1_000_000
_MOST_NAMED = 10


@dataclass(frozen=True, eq=False)
class _Listing:
    """What lies in the folders of the classes. `labels` count the folders from 0, a label for each of `paths`."""

    class_names: tuple[str, ...]
    paths: list[Path]
    labels: Indices
    num_others: int

    def digests(self, contents: dict[int, str]) -> dict[str, str]:
        """Return one digest a folder: of the names of all its pictures, and of the contents of those that were read."""
        hashers = [hashlib.sha256() for _ in self.class_names]
        for k, (path, label) in enumerate(zip(self.paths, self.labels, strict=True)):
            hashers[label].update(repr((path.name, contents.get(k))).encode())
        return {f"{name}/": hasher.hexdigest() for name, hasher in zip(self.class_names, hashers, strict=True)}


def is_picture_directory(directory: Path) -> bool:
    """Whether there are folders in it."""
    return bool(_folders(directory))


def load(directory: Path, part: Part, is_resized: bool, is_unreadable_skipped: bool) -> LoadedPart:
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
            images[k] = pixels_of(decode_picture(content, path), is_resized)
        except OtherSizeError as error:
            others.append(_without(directory, error))
        except DataError as error:
            unreadable.append(_without(directory, error))
    if unreadable and not is_unreadable_skipped:
        raise DataError(
            f"{directory}: {_some(unreadable, len(indices), 'cannot be read')}. Repair or remove them, or leave them "
            "out with --set data.skip_unreadable=true"
        )
    if others:
        raise DataError(
            f"{directory}: {_some(others, len(indices), 'are not 28 x 28 pixels')}. Scale them, or let lenet do it "
            "with --set data.resize=true"
        )
    notes = [f"left out: {_some(unreadable, len(indices), 'cannot be read')}"] if unreadable else []
    if listing.num_others:
        notes.append(f"passed over, being no PNG, JPEG or BMP: {listing.num_others:,} in the folders of the classes")
    return LoadedPart(
        source=SOURCE,
        images=np.stack(list(images.values())) if images else np.empty((0, IMAGE_SIZE, IMAGE_SIZE), dtype=np.uint8),
        labels=listing.labels[list(images)],
        indices=np.array(list(images), dtype=np.int64),
        class_names=listing.class_names,
        files=listing.digests(contents),
        names=tuple(f"{listing.paths[k].parent.name}/{listing.paths[k].name}" for k in images),
        notes=tuple(notes),
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
    folders = {path.name.lower(): path for path in _folders(directory)}
    for train_name, test_name in _PARTS:
        if train_name in folders and test_name in folders and _folders(folders[train_name]):
            if len(folders) > 2:
                third = next(path for name, path in folders.items() if name not in (train_name, test_name))
                raise DataError(
                    f"{third}: stands beside {train_name} and {test_name}: the validation part is drawn from "
                    f"{train_name}, so put its pictures there, or elsewhere"
                )
            train, test = (_list(folders[name]) for name in (train_name, test_name))
            if train.class_names != test.class_names:
                name = sorted(set(train.class_names) ^ set(test.class_names))[0]
                raise DataError(f"{directory}: the class {name} is in one of {train_name} and {test_name} only")
            listing = test if part is Part.TEST else train
            return listing, np.arange(len(listing.paths))
    listing = _list(directory)
    rest, test_indices = cut_off_test(listing.labels)
    return listing, test_indices if part is Part.TEST else rest


def _list(directory: Path) -> _Listing:
    """Return the pictures in the folders of a directory."""
    folders = _folders(directory)
    require_class_names([folder.name for folder in folders], str(directory))
    paths: list[Path] = []
    sizes: list[int] = []
    num_others = 0
    for folder in folders:
        files = [path for path in _visible(folder) if not path.is_dir()]
        pictures = [_no_link(path) for path in files if path.suffix.lower() in SUFFIXES]
        if not pictures:
            raise DataError(
                f"{folder}: is a class without a picture: nothing in it ends in {', '.join(SUFFIXES)}. Remove the "
                "folder, or put pictures there"
            )
        paths += pictures
        sizes.append(len(pictures))
        num_others += len(files) - len(pictures)
        if len(paths) > _MOST_PICTURES:
            raise DataError(f"{directory}: holds more than the {_MOST_PICTURES:,} pictures that are read")
    names = tuple(folder.name for folder in folders)
    return _Listing(names, paths, np.repeat(np.arange(len(names)), sizes), num_others)


def _folders(directory: Path) -> list[Path]:
    return [_no_link(path) for path in _visible(directory) if path.is_dir()]


def _visible(directory: Path) -> list[Path]:
    """Return what lies in a directory, in the order of names, without what is hidden."""
    with storage_errors(directory, "list"):
        paths = [path for path in directory.iterdir() if not path.name.startswith(".")]
    return sorted(paths, key=lambda path: path.name)


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
