"""What is odd about data: images that are there twice, classes that are rare. Of the images only numbers get out."""

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
    """An image of one part that is, in every pixel, an image of an earlier part too, and what they are called."""

    part: str
    image: str
    earlier_part: str
    earlier_image: str


@dataclass(frozen=True)
class Survey:
    """What the parts of a source hold.

    `counts` are the images of each class, by part; `num_repeated` how many of a part stand in it before, too;
    `num_contradicted` how many have another label than the first image that equals them; `notes` are what makes figures
    other than they look, a sentence each.
    """

    class_names: tuple[str, ...]
    counts: dict[str, list[int]]
    num_repeated: dict[str, int]
    leaks: tuple[Leak, ...]
    num_contradicted: int
    notes: tuple[str, ...] = ()

    def num_leaks(self, part: str) -> int:
        """Return how many images of a part are in an earlier one too."""
        return sum(leak.part == part for leak in self.leaks)


def survey_of(class_names: tuple[str, ...], parts: Mapping[str, ImageSet], known: Sequence[str] = ()) -> Survey:
    """Count classes and equal images in the parts of a source, which come in the order in which they are used.

    `known` are notes that were made while the parts were read.
    """
    images = np.concatenate([part.images.numpy() for part in parts.values()])
    labels = np.concatenate([part.labels.numpy() for part in parts.values()])
    places = [(name, k) for name, part in parts.items() for k in range(len(part))]
    num_repeated, num_contradicted = dict.fromkeys(parts, 0), 0
    leaks = []
    for first, *others in equal_images(images):
        first_name, first_place = places[first]
        seen = {first_name}
        for k in others:
            name, place = places[k]
            if name in seen:
                num_repeated[name] += 1
            if name != first_name:
                leaks.append(Leak(name, parts[name].name_of(place), first_name, parts[first_name].name_of(first_place)))
            seen.add(name)
            num_contradicted += int(labels[k] != labels[first])
    survey = Survey(
        class_names=class_names,
        counts={name: part.labels.bincount(minlength=len(class_names)).tolist() for name, part in parts.items()},
        num_repeated=num_repeated,
        leaks=tuple(leaks),
        num_contradicted=num_contradicted,
    )
    return replace(survey, notes=tuple(dict.fromkeys([*known, *_notes(survey)])))


def equal_images(images: npt.NDArray[np.uint8]) -> list[list[int]]:
    """Return the positions of images that are the same in every pixel, each group in rising order. Shapes: N H W."""
    rows = np.ascontiguousarray(images).reshape(len(images), math.prod(images.shape[1:]))
    sums = np.fromiter((zlib.crc32(row.data) for row in rows), dtype=np.uint32, count=len(rows))
    _, group_of, group_sizes = np.unique(sums, return_inverse=True, return_counts=True)
    groups: dict[bytes, list[int]] = {}
    for k in np.flatnonzero(group_sizes[group_of] > 1).tolist():  # different images may have one sum
        groups.setdefault(rows[k].tobytes(), []).append(k)
    return [group for group in groups.values() if len(group) > 1]


def _notes(survey: Survey) -> Iterator[str]:
    """Say what is in two parts, has two labels, or is rare; not what is twice in one part, which does little harm."""
    names = survey.class_names
    for part, counts in survey.counts.items():
        if num_leaks := survey.num_leaks(part):
            yield (
                f"{num_leaks:,} of {sum(counts):,} {part} images are in an earlier part too, pixel by pixel: the "
                f"{part} figures look better than they are"
            )
    if survey.num_contradicted:
        yield f"{survey.num_contradicted:,} images have another label than an image that equals them pixel by pixel"
    for part, counts in survey.counts.items():
        if missing := [name for name, count in zip(names, counts, strict=True) if count == 0]:
            yield f"the {part} part has no image of {len(missing)} of {len(names)} classes, as {missing[0]}"
    of_class = np.sum(list(survey.counts.values()), axis=0)
    largest, smallest = int(of_class.argmax()), int(of_class.argmin())
    if of_class[largest] > _UNEQUAL * of_class[smallest]:
        yield (
            f"the classes are unequal: {of_class[largest]:,} images of {names[largest]}, {of_class[smallest]:,} of "
            f"{names[smallest]}: read the figures class by class"
        )
