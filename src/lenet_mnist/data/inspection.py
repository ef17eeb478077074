"""What is unusual about data: duplicate images, rare classes. No image leaves this module, only numbers and names."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

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
