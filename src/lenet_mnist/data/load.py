"""Load the data that `data.source` names: a published set, or a directory of your own (docs/data.md).

`load_train_val` returns what trains and validates, `load_test` the test part: two functions, two types. What trains or
tunes imports only the first (lecture points 9 and 10).
"""

import difflib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from lenet_mnist.config import DataConfig, Source
from lenet_mnist.data import idx, mnist, picture_folders
from lenet_mnist.data.fetch import fetch_missing
from lenet_mnist.data.inspection import Survey, survey_of
from lenet_mnist.data.mnist import DataAccess
from lenet_mnist.data.sets import Fingerprint, LoadedPart, Normalization, Part, TestSet, TrainSet, TrainVal, ValSet
from lenet_mnist.data.split import Indices, digest_of_split, limit, split_train_val
from lenet_mnist.errors import ConfigError, DataError

NAMES = tuple(source.value for source in Source)


class DataSource(NamedTuple):
    """Where images come from, as three functions. Raise: DataError, StorageError.

    `load` returns one part, and opens no file that only the other part needs; `class_names` opens no image; `places`
    returns what the source consists of, and where that is, or None where it is missing.
    """

    load: Callable[[Part], LoadedPart]
    class_names: Callable[[], tuple[str, ...]]
    places: Callable[[], list[tuple[str, Path | None]]]


class VerifiedFile(NamedTuple):
    """A file of a published set: its path, the shape of its array, and its SHA-256."""

    path: Path
    shape: tuple[int, ...]
    sha256: str


def source_of(config: DataConfig, access: DataAccess) -> DataSource:
    """Return the source that `data.source` names. Raises: ConfigError if there is none; DataError for a bad path."""
    match config.source:
        case Source.DIGITS:
            return DataSource(
                load=mnist.load_digits,
                class_names=lambda: mnist.CLASS_NAMES[Source.DIGITS],
                places=lambda: [("scikit-learn", _package("sklearn"))],
            )
        case Source.MNIST | Source.FASHION_MNIST | Source.KMNIST as name:
            return DataSource(
                load=lambda part: _load_published(Source(name), part, access),
                class_names=lambda: mnist.CLASS_NAMES[Source(name)],
                places=lambda: [(file.name, mnist.find(file, access.directory)) for file in mnist.FILES[Source(name)]],
            )
    directory = find_directory(config.source, access)
    load, read_class_names = idx.load, idx.read_class_names
    if not idx.is_idx_directory(directory):
        picture_folders.require_folders(directory)
        load, read_class_names = picture_folders.load, picture_folders.read_class_names
    return DataSource(
        load=lambda part: load(directory, part, config),
        class_names=lambda: read_class_names(directory),
        places=lambda: [(config.source, directory)],
    )


def is_verified(config: DataConfig) -> bool:
    """Whether every byte is compared with a digest known here: such data never change."""
    return config.source in NAMES


def published_files(config: DataConfig) -> tuple[mnist.IdxFile, ...]:
    """Return the files of a published set. Raises: ConfigError for other sources, which are not downloaded."""
    if config.source not in [*mnist.FILES]:
        raise ConfigError(f"{config.source}: only {', '.join(mnist.FILES)} are downloaded", key="data.source")
    return mnist.FILES[Source(config.source)]


def verified_files(config: DataConfig, directory: Path) -> list[VerifiedFile]:
    """Verify the files of a published set, and return them; none for other sources. Raises: DataError."""
    files = published_files(config) if config.source in [*mnist.FILES] else ()
    read = [(file, *mnist.read_verified(file, directory)) for file in files]
    return [VerifiedFile(path, array.shape, file.sha256) for file, path, array in read]


def load_train_val(config: DataConfig, access: DataAccess) -> TrainVal:
    """Return the training and the validation part. No file is opened that holds only test images.

    The notes mention duplicate images; not those of published sets, which never change.

    Raises: DataError if data are missing or damaged; ConfigError if there is no such source, or the split does not fit.
    """
    return _split(config, source_of(config, access).load(Part.TRAIN_VAL), find_duplicates=not is_verified(config))


def load_test(config: DataConfig, access: DataAccess) -> TestSet:
    """Return the test part: the official one, or the fifth that no option changes. Raises: DataError, ConfigError."""
    loaded = source_of(config, access).load(Part.TEST)
    for note in loaded.notes:
        access.progress.note(f"data: {note}")
    return _test_set(loaded)


def survey(config: DataConfig, access: DataAccess) -> Survey:
    """Count the classes and find duplicate images in all three parts. Raises: DataError, ConfigError."""
    source = source_of(config, access)
    rest, test = source.load(Part.TRAIN_VAL), source.load(Part.TEST)
    data = _split(config, rest, find_duplicates=False)
    parts = {"training": data.train, "validation": data.val, "test": _test_set(test)}
    return survey_of(rest.class_names, parts, [*_notes_of(config, rest), *test.notes])


def find_directory(source: str, access: DataAccess) -> Path:
    """Return the directory that `data.source` names: the path as written, or else its last name in the data directory.

    So --data-dir lets a run be evaluated where its data have moved.

    Raises: ConfigError for a name that is neither that of a source nor of a directory; DataError for a path to nothing.
    """
    try:
        path = Path(source).expanduser()
    except RuntimeError as error:  # no such user
        raise DataError(f"{source}: data.source: {error}") from error
    in_data_dir = access.directory / path.name
    try:
        if path.is_dir():
            return path
        if source.lower() not in NAMES and path.name not in ("", "..") and in_data_dir.is_dir():
            return in_data_dir
        if path.exists():
            raise DataError(f"{path}: data.source: is a file; a directory is expected, or one of {', '.join(NAMES)}")
    except OSError as error:  # no permission; a name too long
        raise DataError(f"{path}: data.source: cannot be opened: {error.strerror}") from error
    if path.name != source or source.startswith("."):
        raise DataError(f"{path}: data.source: no such directory, nor {in_data_dir}")
    near = difflib.get_close_matches(source.lower(), NAMES, n=1)
    hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(NAMES)}, or a directory"
    raise ConfigError(f"{source}: no such source, and no such directory: {hint}", key="data.source")


def _package(name: str) -> Path | None:
    spec = find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else None


def _load_published(source: Source, part: Part, access: DataAccess) -> LoadedPart:
    if any(mnist.find(file, access.directory) is None for file in mnist.files_of(source, part)):
        fetch_missing(access, mnist.FILES[source])
    return mnist.load(source, part, access.directory)


def _split(config: DataConfig, loaded: LoadedPart, find_duplicates: bool) -> TrainVal:
    """Return the training and the validation part of all that is not the test part."""
    if loaded.num_val:
        train_part, val_part = np.split(np.arange(len(loaded.labels)), [-loaded.num_val])
    else:
        train_part, val_part = split_train_val(loaded.labels, config.train_size, config.val_size, config.split_seed)
    train_part = limit(train_part, loaded.labels, config.limit_train, config.split_seed)
    train, val = TrainSet(*_chosen(loaded, train_part)), ValSet(*_chosen(loaded, val_part))
    parts = {"training": train, "validation": val}
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
        notes=survey_of(loaded.class_names, parts, _notes_of(config, loaded), find_duplicates).notes,
    )


def _notes_of(config: DataConfig, loaded: LoadedPart) -> list[str]:
    notes = list(loaded.notes)
    if loaded.num_val and (config.train_size, config.val_size) != (0.75, 0.25):
        notes.append("the source has a validation part of its own: data.train_size and data.val_size have no effect")
    return notes


def _test_set(loaded: LoadedPart) -> TestSet:
    return TestSet(*_chosen(loaded, np.arange(len(loaded.labels))))


def _chosen(loaded: LoadedPart, positions: Indices) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, tuple[str, ...]]:
    """Return copies of the chosen images, labels, indices and names: the arguments of an ImageSet."""
    return (
        torch.from_numpy(loaded.images[positions]),
        torch.from_numpy(loaded.labels[positions]),
        torch.from_numpy(loaded.indices[positions]),
        tuple(loaded.names[k] for k in positions) if loaded.names else (),
    )
