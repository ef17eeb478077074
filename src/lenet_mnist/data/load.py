"""Load the data that `data.source` names, a published set or a directory of your own, and find what is unusual in them.

`load_train_val` returns what trains and validates, `load_test` the test part: two functions, two types. What trains or
tunes imports only the first (lecture points 9 and 10). What may be odd: duplicate images, rare classes (docs/data.md).
"""

import difflib
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lenet_mnist.config import DataConfig, Source
from lenet_mnist.data import idx, mnist, picture_folders
from lenet_mnist.data.fetch import fetch_missing
from lenet_mnist.data.mnist import DataAccess
from lenet_mnist.data.sets import (
    Fingerprint,
    ImageSet,
    LoadedPart,
    Normalization,
    Part,
    TestSet,
    TrainSet,
    TrainVal,
    ValSet,
)
from lenet_mnist.data.split import digest_of_split, limit, split_train_val
from lenet_mnist.errors import ConfigError, DataError

NAMES = tuple(source.value for source in Source)
_UNEQUAL = 1.5  # times the images of the smallest class


class DataSource(NamedTuple):
    """Where images come from.

    `load` returns one part, and opens no file that only the other part needs; `class_names` opens no image; `places`
    are what the source consists of, and where that is, or None where it is missing.
    """

    load: Callable[[Part], LoadedPart]
    class_names: Callable[[], tuple[str, ...]]
    places: list[tuple[str, Path | None]]


class VerifiedFile(NamedTuple):
    """A file of a published set: its path, the shape of its array, and its SHA-256."""

    path: Path
    shape: tuple[int, ...]
    sha256: str


@dataclass(frozen=True)
class Leak:
    """An image of one part that equals, pixel by pixel, an image of an earlier part."""

    part: str
    image: str
    earlier_part: str
    earlier_image: str


@dataclass(frozen=True)
class Survey:
    """What the parts of a source hold.

    `counts` are the images per class, by part; `num_repeated` how many images of a part equal an earlier one of the
    same part; `num_contradicted` how many have a different label than the first image that equals them; `notes` are
    sentences about what biases the figures.
    """

    class_names: tuple[str, ...]
    counts: dict[str, list[int]]
    num_repeated: dict[str, int]
    leaks: tuple[Leak, ...]
    num_contradicted: int
    notes: tuple[str, ...] = ()


def source_of(config: DataConfig, access: DataAccess) -> DataSource:
    """Return the source that `data.source` names. Raises: ConfigError if there is none; DataError for a bad path."""
    if config.source == Source.DIGITS:
        return DataSource(mnist.load_digits, lambda: mnist.CLASS_NAMES[Source.DIGITS], [("scikit-learn", _sklearn())])
    if config.source in mnist.FILES:
        source = Source(config.source)
        return DataSource(
            load=lambda part: _load_published(source, part, access),
            class_names=lambda: mnist.CLASS_NAMES[source],
            places=[(file.name, mnist.find(file, access.directory)) for file in mnist.FILES[source]],
        )
    directory = find_directory(config.source, access)
    kind = idx if idx.is_idx_directory(directory) else picture_folders
    return DataSource(
        load=lambda part: kind.load(directory, part, config),
        class_names=lambda: kind.read_class_names(directory),
        places=[(config.source, directory)],
    )


def is_verified(config: DataConfig) -> bool:
    """Whether every byte is compared with a digest known here: such data never change."""
    return config.source in NAMES


def published_files(config: DataConfig) -> tuple[mnist.IdxFile, ...]:
    """Return the files of a published set. Raises: ConfigError for other sources, which are not downloaded."""
    if config.source not in mnist.FILES:
        raise ConfigError(f"{config.source}: only {', '.join(mnist.FILES)} are downloaded", key="data.source")
    return mnist.FILES[Source(config.source)]


def verified_files(config: DataConfig, directory: Path) -> list[VerifiedFile]:
    """Verify the files of a published set, and return them; none for other sources. Raises: DataError."""
    files = published_files(config) if config.source in mnist.FILES else ()
    read = [(file, *mnist.read_verified(file, directory)) for file in files]
    return [VerifiedFile(path, array.shape, file.sha256) for file, path, array in read]


def load_train_val(config: DataConfig, access: DataAccess) -> TrainVal:
    """Return the training and the validation part. No file is opened that holds only test images.

    The notes mention duplicate images; not those of published sets, which never change.

    Raises: DataError if data are missing or damaged; ConfigError if there is no such source, or the split does not fit.
    """
    loaded = source_of(config, access).load(Part.TRAIN_VAL)
    train, val, notes = _split(config, loaded)
    parts = {"training": train, "validation": val}
    seen = survey_of(loaded.class_names, parts, notes, find_duplicates=not is_verified(config))
    return TrainVal(
        train=train,
        val=val,
        class_names=loaded.class_names,
        normalization=Normalization.of(train),
        fingerprint=Fingerprint(
            source=loaded.source,
            files=loaded.files,
            split=digest_of_split(train.indices.numpy(), val.indices.numpy()),
        ),
        notes=seen.notes,
    )


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
    train, val, notes = _split(config, rest)
    parts = {"training": train, "validation": val, "test": _test_set(test)}
    return survey_of(rest.class_names, parts, [*notes, *test.notes])


def find_directory(source: str, access: DataAccess) -> Path:
    """Return the directory that `data.source` names: the path as written, or else its last name in the data directory.

    So --data-dir lets a run be evaluated where its data have moved.

    Raises: ConfigError for a name that is neither that of a source nor of a directory; DataError for a path to nothing.
    """
    try:
        path = Path(source).expanduser()
        in_data_dir = access.directory / path.name
        if path.is_dir():
            return path
        if source.lower() not in NAMES and path.name not in ("", "..") and in_data_dir.is_dir():
            return in_data_dir
        is_path = path.name != source or source.startswith(".") or path.exists()
    except (OSError, RuntimeError) as error:  # no permission; a name too long; no such user
        raise DataError(f"{source}: data.source: cannot be opened: {error}") from error
    if is_path:
        raise DataError(f"{path}: data.source: no such directory, nor {in_data_dir}")
    near = difflib.get_close_matches(source.lower(), NAMES, n=1)
    hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(NAMES)}, or a directory"
    raise ConfigError(f"{source}: no such source, and no such directory: {hint}", key="data.source")


def _sklearn() -> Path | None:
    spec = find_spec("sklearn")
    return Path(spec.origin).parent if spec and spec.origin else None


def _load_published(source: Source, part: Part, access: DataAccess) -> LoadedPart:
    if any(mnist.find(file, access.directory) is None for file in mnist.files_of(source, part)):
        fetch_missing(access, mnist.FILES[source])
    return mnist.load(source, part, access.directory)


def _split(config: DataConfig, loaded: LoadedPart) -> tuple[TrainSet, ValSet, list[str]]:
    """Return the training and the validation part of all that is not the test part, and notes."""
    notes = list(loaded.notes)
    if loaded.num_val:
        train, val = np.split(np.arange(len(loaded.labels)), [-loaded.num_val])
        if (config.train_size, config.val_size) != (0.75, 0.25):
            notes.append("the source has its own validation part: data.train_size and data.val_size have no effect")
    else:
        train, val = split_train_val(loaded.labels, config.train_size, config.val_size, config.split_seed)
    train = limit(train, loaded.labels, config.limit_train, config.split_seed)
    return TrainSet.of(loaded, train), ValSet.of(loaded, val), notes


def _test_set(loaded: LoadedPart) -> TestSet:
    return TestSet.of(loaded, np.arange(len(loaded.labels)))


def survey_of(
    class_names: tuple[str, ...], parts: Mapping[str, ImageSet], notes: Sequence[str] = (), find_duplicates: bool = True
) -> Survey:
    """Count the classes, and find the duplicate images, in the parts of a source, which come in their order of use."""
    counts = {name: part.labels.bincount(minlength=len(class_names)).tolist() for name, part in parts.items()}
    num_repeated, leaks, num_contradicted = dict.fromkeys(parts, 0), [], 0
    for (first, place), *others in equal_images(parts) if find_duplicates else []:
        seen = {first}
        for name, k in others:
            num_repeated[name] += int(name in seen)
            seen.add(name)
            if name != first:
                leaks.append(Leak(name, parts[name].name_of(k), first, parts[first].name_of(place)))
            num_contradicted += int(parts[name].labels[k] != parts[first].labels[place])
    survey = Survey(class_names, counts, num_repeated, tuple(leaks), num_contradicted)
    return replace(survey, notes=tuple(dict.fromkeys([*notes, *_notes(survey)])))


def equal_images(parts: Mapping[str, ImageSet]) -> list[list[tuple[str, int]]]:
    """Return the images that are equal in every pixel, in groups: the part of each, and its position there."""
    groups: dict[bytes, list[tuple[str, int]]] = {}
    for name, part in parts.items():
        for k, image in enumerate(part.images.numpy()):
            digest = hashlib.blake2b(image.tobytes(), digest_size=16).digest()
            groups.setdefault(digest, []).append((name, k))
    return [group for group in groups.values() if len(group) > 1]


def _notes(survey: Survey) -> Iterator[str]:
    """Mention leaks, contradicting labels and rare classes; not duplicates within one part, which do little harm."""
    names = survey.class_names
    for part, counts in survey.counts.items():
        if num_leaks := sum(leak.part == part for leak in survey.leaks):
            yield (
                f"{num_leaks:,} of {sum(counts):,} {part} images are in an earlier part too, pixel by pixel: the "
                f"{part} figures are biased upwards"
            )
        if missing := [name for name, count in zip(names, counts, strict=True) if count == 0]:
            yield f"the {part} part has no image of {len(missing)} of {len(names)} classes, such as {missing[0]}"
    if survey.num_contradicted:
        yield f"{survey.num_contradicted:,} images have a different label than an image that equals them pixel by pixel"
    of_class = np.sum(list(survey.counts.values()), axis=0)
    largest, smallest = int(of_class.argmax()), int(of_class.argmin())
    if of_class[largest] > _UNEQUAL * of_class[smallest]:
        yield (
            f"the classes are imbalanced: {of_class[largest]:,} images of {names[largest]}, {of_class[smallest]:,} of "
            f"{names[smallest]}: look at the figures per class"
        )
