"""Where images come from: `data.source` is a name, or a directory of one of two kinds (docs/data.md).

`load_train_val` hands out what trains and validates, `load_test` the test part: two functions, two types. What trains
or tunes imports only the first (lecture points 9 and 10).
"""

import difflib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from lenet_mnist.config import DataConfig, Source
from lenet_mnist.data import digits, idx_directory, mnist, picture_folders
from lenet_mnist.data.inspection import Survey, survey_of
from lenet_mnist.data.mnist import DataAccess
from lenet_mnist.data.sets import Fingerprint, LoadedPart, Normalization, Part, TestSet, TrainSet, TrainVal, ValSet
from lenet_mnist.data.split import Indices, digest_of_split, limit, split_train_val
from lenet_mnist.errors import ConfigError, DataError


class VerifiedFile(NamedTuple):
    """A file of a published set: where it lies, the shape of its array, and its SHA-256."""

    path: Path
    shape: tuple[int, ...]
    sha256: str


NAMES = tuple(source.value for source in Source)


def load_train_val(config: DataConfig, access: DataAccess) -> TrainVal:
    """Return the training and the validation part. No file is opened that holds test images only.

    Raises: DataError if data are damaged, or missing and not to be had; ConfigError if there is no such source, or the
    split does not fit.
    """
    return _divided(config, _load(config, Part.TRAIN_VAL, access))


def _divided(config: DataConfig, loaded: LoadedPart) -> TrainVal:
    """Return the training and the validation part of what is not the test part."""
    if loaded.num_val:
        train_part, val_part = np.split(np.arange(len(loaded.labels)), [-loaded.num_val])
    else:
        train_part, val_part = split_train_val(loaded.labels, config.train_size, config.val_size, config.split_seed)
    train_part = limit(train_part, loaded.labels, config.limit_train, config.split_seed)
    train, val = TrainSet(*_chosen(loaded, train_part)), ValSet(*_chosen(loaded, val_part))
    return TrainVal(
        train=train,
        val=val,
        class_names=loaded.class_names,
        normalization=Normalization.of(train),
        fingerprint=Fingerprint(
            source=loaded.source,
            files=loaded.files,
            split=digest_of_split(loaded.indices[train_part], loaded.indices[val_part]),
        ),
        notes=survey_of(loaded.class_names, {"training": train, "validation": val}, _notes_of(config, loaded)).notes,
    )


def _notes_of(config: DataConfig, loaded: LoadedPart) -> list[str]:
    """Return what was noted of a part while it was read, and which settings it has no use for."""
    notes = list(loaded.notes)
    if loaded.num_val and (config.train_size, config.val_size) != (0.75, 0.25):
        notes.append("the source has a validation part of its own: data.train_size and data.val_size change nothing")
    return notes


def load_test(config: DataConfig, access: DataAccess) -> TestSet:
    """Return the test part: the official one, or the fifth that no option changes.

    Raises: DataError if data are damaged, or missing and not to be had; ConfigError if there is no such source.
    """
    loaded = _load(config, Part.TEST, access)
    for note in loaded.notes:
        access.listener.note(f"data: {note}")
    return _undivided(loaded)


def _undivided(loaded: LoadedPart) -> TestSet:
    """Return the test part, which is not divided."""
    return TestSet(*_chosen(loaded, np.arange(len(loaded.labels))))


def survey(config: DataConfig, access: DataAccess) -> Survey:
    """Count classes and equal images in all three parts. No image is handed out.

    Raises: as `load_train_val` and `load_test`.
    """
    rest, test = _load(config, Part.TRAIN_VAL, access), _load(config, Part.TEST, access)
    data = _divided(config, rest)
    parts = {"training": data.train, "validation": data.val, "test": _undivided(test)}
    return survey_of(rest.class_names, parts, [*_notes_of(config, rest), *test.notes])


def verified_files(config: DataConfig, directory: Path) -> list[VerifiedFile]:
    """Verify the files of a published set, and say what they are; of other sources no digest is known beforehand.

    Raises: DataError if one is missing, or not the published one to the last byte.
    """
    if config.source not in list(mnist.PUBLISHED):
        return []
    read = [(file, *mnist.read_verified(file, directory)) for file in published_files(config)]
    return [VerifiedFile(path, array.shape, file.sha256) for file, path, array in read]


def class_names_of(config: DataConfig, access: DataAccess) -> tuple[str, ...]:
    """Return what the classes of a source are called; no image is looked at. Raises: ConfigError, DataError."""
    match config.source:
        case Source.MNIST | Source.FASHION_MNIST | Source.KMNIST as name:
            return mnist.PUBLISHED[Source(name)].class_names
        case Source.DIGITS:
            return digits.CLASS_NAMES
    directory = find_directory(config.source, access)
    if _holds_idx(directory):
        return idx_directory.read_class_names(directory)
    return picture_folders.read_class_names(directory)


def published_files(config: DataConfig) -> tuple[mnist.IdxFile, ...]:
    """Return the files of a published set. Raises: ConfigError for other sources, which are not fetched."""
    match config.source:
        case Source.MNIST | Source.FASHION_MNIST | Source.KMNIST as name:
            return mnist.PUBLISHED[Source(name)].files
        case Source.DIGITS:
            raise ConfigError("digits are part of scikit-learn, and not fetched", key="data.source")
    raise ConfigError(f"{config.source}: a directory of your own is not fetched", key="data.source")


def whereabouts(config: DataConfig, access: DataAccess) -> list[tuple[str, Path | None]]:
    """Return what a source consists of and where it lies, None for what is missing. Raises: ConfigError, DataError."""
    match config.source:
        case Source.MNIST | Source.FASHION_MNIST | Source.KMNIST:
            return [(file.name, mnist.find(file, access.directory)) for file in published_files(config)]
        case Source.DIGITS:
            return [("scikit-learn", digits.package_path())]
    return [(config.source, find_directory(config.source, access))]


def is_verified(config: DataConfig) -> bool:
    """Whether every byte is compared with a digest known here: such data are always the same."""
    return config.source in NAMES


def find_directory(source: str, access: DataAccess) -> Path:
    """Return where the directory is that `data.source` names: as it is written, or else in the data directory.

    There it goes by its last name alone: so --data-dir lets a run be evaluated where its data lie elsewhere.

    Raises: ConfigError for a name that is neither that of a source nor of a directory; DataError for a path to nothing.
    """
    try:
        path = Path(source).expanduser()
    except RuntimeError as error:  # there is no such user
        raise DataError(f"{source}: data.source: {error}") from error
    beside = access.directory / path.name
    try:
        if path.is_dir():
            return path
        if source.lower() not in NAMES and path.name not in ("", "..") and beside.is_dir():
            return beside
        if path.exists():
            raise DataError(f"{path}: data.source: is a file; a directory is expected, or one of {', '.join(NAMES)}")
    except OSError as error:  # no permission; a name too long
        raise DataError(f"{path}: data.source: cannot be looked at: {error.strerror}") from error
    if path.name != source or source.startswith("."):
        raise DataError(f"{path}: data.source: no such directory, nor {beside}")
    near = difflib.get_close_matches(source.lower(), NAMES, n=1)
    hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(NAMES)}, or a directory"
    raise ConfigError(f"{source}: no such source, and no such directory: {hint}", key="data.source")


def _load(config: DataConfig, part: Part, access: DataAccess) -> LoadedPart:
    """Return one part of the source."""
    match config.source:
        case Source.MNIST | Source.FASHION_MNIST | Source.KMNIST as name:
            return mnist.load(Source(name), part, access)
        case Source.DIGITS:
            return digits.load(part)
    directory = find_directory(config.source, access)
    if _holds_idx(directory):
        return idx_directory.load(directory, part, config)
    return picture_folders.load(directory, part, config)


def _holds_idx(directory: Path) -> bool:
    """Whether a directory is of IDX files, and not of pictures. Raises: DataError if it is of neither."""
    if idx_directory.is_idx_directory(directory):
        return True
    if picture_folders.is_picture_directory(directory):
        return False
    if pictures := picture_folders.pictures_beside(directory):
        raise DataError(
            f"{directory}: holds {len(pictures):,} pictures, as {pictures[0]}, but no folder for each class: put them "
            "into folders that are called as their classes"
        )
    raise DataError(
        f"{directory}: holds neither IDX files (train-images-idx3-ubyte, train-labels-idx1-ubyte) nor a folder of "
        "pictures for each class"
    )


def _chosen(loaded: LoadedPart, positions: Indices) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, tuple[str, ...]]:
    """Return copies of the chosen images, their labels, places in the source and names, as an ImageSet wants them."""
    return (
        torch.from_numpy(loaded.images[positions]),
        torch.from_numpy(loaded.labels[positions]),
        torch.from_numpy(loaded.indices[positions]),
        tuple(loaded.names[k] for k in positions) if loaded.names else (),
    )
