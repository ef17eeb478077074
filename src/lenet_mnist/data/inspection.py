"""What is unusual about data: duplicate images, rare classes. No image leaves this module, only numbers and names."""

import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from lenet_mnist.data.sets import ImageSet

_UNEQUAL = 1.5  # times the images of the smallest class


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


def survey_of(
    class_names: tuple[str, ...], parts: Mapping[str, ImageSet], notes: Sequence[str] = (), find_duplicates: bool = True
) -> Survey:
    """Count the classes, and find the duplicate images, in the parts of a source, which come in their order of use."""
    counts = {name: part.labels.bincount(minlength=len(class_names)).tolist() for name, part in parts.items()}
    survey = Survey(class_names, counts, dict.fromkeys(parts, 0), leaks=(), num_contradicted=0)
    if find_duplicates:
        survey = _with_duplicates(survey, parts)
    return replace(survey, notes=tuple(dict.fromkeys([*notes, *_notes(survey)])))


def _with_duplicates(survey: Survey, parts: Mapping[str, ImageSet]) -> Survey:
    places = [(name, k) for name, part in parts.items() for k in range(len(part))]
    labels = np.concatenate([part.labels.numpy() for part in parts.values()])
    num_repeated, leaks, num_contradicted = dict.fromkeys(parts, 0), [], 0
    for first, *others in equal_images(np.concatenate([part.images.numpy() for part in parts.values()])):
        first_name, first_place = places[first]
        seen = {first_name}
        for k in others:
            name, place = places[k]
            num_repeated[name] += int(name in seen)
            if name != first_name:
                leaks.append(Leak(name, parts[name].name_of(place), first_name, parts[first_name].name_of(first_place)))
            seen.add(name)
            num_contradicted += int(labels[k] != labels[first])
    return replace(survey, num_repeated=num_repeated, leaks=tuple(leaks), num_contradicted=num_contradicted)


def equal_images(images: npt.NDArray[np.uint8]) -> list[list[int]]:
    """Return the positions of images that are equal in every pixel, each group in rising order. Shapes: N H W."""
    rows = np.ascontiguousarray(images).reshape(len(images), math.prod(images.shape[1:]))
    sums = np.fromiter((zlib.crc32(row.data) for row in rows), dtype=np.uint32, count=len(rows))
    _, group_of, group_sizes = np.unique(sums, return_inverse=True, return_counts=True)
    groups: dict[bytes, list[int]] = {}
    for k in np.flatnonzero(group_sizes[group_of] > 1).tolist():  # different images may share a checksum
        groups.setdefault(rows[k].tobytes(), []).append(k)
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
    if survey.num_contradicted:
        yield f"{survey.num_contradicted:,} images have a different label than an image that equals them pixel by pixel"
    for part, counts in survey.counts.items():
        if missing := [name for name, count in zip(names, counts, strict=True) if count == 0]:
            yield f"the {part} part has no image of {len(missing)} of {len(names)} classes, such as {missing[0]}"
    of_class = np.sum(list(survey.counts.values()), axis=0)
    largest, smallest = int(of_class.argmax()), int(of_class.argmin())
    if of_class[largest] > _UNEQUAL * of_class[smallest]:
        yield (
            f"the classes are imbalanced: {of_class[largest]:,} images of {names[largest]}, {of_class[smallest]:,} of "
            f"{names[smallest]}: look at the figures per class"
        )
