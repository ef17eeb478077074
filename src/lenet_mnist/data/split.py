"""Stratified splits: each part holds the classes in the proportions of the whole.

Source: lecture points 9 and 10 (MNIST's 60,000: 55,000 for training, 5,000 for validation; other data: 60/20/20).
"""

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_mnist.errors import ConfigError
from lenet_mnist.randomness import Purpose, random_keys

Indices = npt.NDArray[np.int64]
Labels = npt.NDArray[np.integer[Any]]

_TEST_SHARE = 0.2
_TEST_SEED = 0  # no option changes it: what has tested once must never train


def cut_off_test(labels: Labels) -> tuple[Indices, Indices]:
    """Return all images but a test part, and the test part: a fifth, stratified, always the same; in rising order."""
    keys = random_keys(_TEST_SEED, Purpose.TEST_PART, len(labels))
    test, rest = take_stratified(np.arange(len(labels)), labels, round(_TEST_SHARE * len(labels)), keys)
    return rest, test


def split_train_val(labels: Labels, train_size: float, val_size: float, split_seed: int) -> tuple[Indices, Indices]:
    """Draw the training and the validation part from `labels`; return their indices, each in rising order.

    An integer is a count of images, a number between 0 and 1 a fraction of `labels`. The validation part is drawn
    first, so for one `split_seed` it does not depend on `train_size`.

    Raises: ConfigError if the two parts exceed the data, or one of them is empty.
    """
    num_train = _count("data.train_size", train_size, len(labels))
    num_val = _count("data.val_size", val_size, len(labels))
    if num_train + num_val > len(labels):
        asked = f"{num_train:,} training and {num_val:,} validation images, but the data have {len(labels):,}"
        raise ConfigError(f"{asked}: make data.train_size or data.val_size smaller", key="data.train_size")
    keys = random_keys(split_seed, Purpose.SPLIT, len(labels))
    val, rest = take_stratified(np.arange(len(labels)), labels, num_val, keys)
    train, _ = take_stratified(rest, labels, num_train, keys)
    return train, val


def limit(indices: Indices, labels: Labels, num_images: int | None, split_seed: int) -> Indices:
    """Return a stratified subset of `num_images` of `indices`; None takes all. Raises: ConfigError for too many."""
    if num_images is None:
        return indices
    if num_images > len(indices):
        raise ConfigError(f"{num_images:,} images, but the training part has {len(indices):,}", key="data.limit_train")
    keys = random_keys(split_seed, Purpose.SUBSET, len(labels))
    subset, _ = take_stratified(indices, labels, num_images, keys)
    return subset


def take_stratified(
    indices: Indices, labels: Labels, num_take: int, keys: npt.NDArray[np.uint64]
) -> tuple[Indices, Indices]:
    """Divide `indices` into `num_take` of them and the rest, per class, smallest keys first.

    Each class gives its share of `num_take`, rounded by the largest remainders so that the sum is exact.
    """
    classes, class_sizes = np.unique(labels[indices], return_counts=True)
    shares = class_sizes * num_take // len(indices)
    remainders = class_sizes * num_take % len(indices)
    largest_first = np.argsort(-remainders, kind="stable")
    shares[largest_first[: num_take - shares.sum()]] += 1
    taken, left = [], []
    for label, share in zip(classes, shares, strict=True):
        members = indices[labels[indices] == label]
        members = members[np.argsort(keys[members], kind="stable")]
        taken.append(members[:share])
        left.append(members[share:])
    return np.sort(np.concatenate(taken)), np.sort(np.concatenate(left))


def stratified_folds(labels: Labels, num_folds: int, keys: npt.NDArray[np.uint64]) -> Indices:
    """Return the fold of each image, from 0. Shapes: labels, keys and the result N.

    The sizes of two folds differ by at most one image, in total and per class.

    Raises: ConfigError if there are fewer than two folds, or a class has fewer images than there are folds.
    """
    classes, class_sizes = np.unique(labels, return_counts=True)
    if num_folds < 2:
        raise ConfigError(f"{num_folds} folds: at least 2 are needed, to train on one and measure on the other")
    if num_folds > class_sizes.min():
        smallest = f"class {classes[class_sizes.argmin()]} has {class_sizes.min()} images"
        raise ConfigError(f"{num_folds} folds, but {smallest}, and each fold needs one: use fewer folds")
    folds = np.empty(len(labels), dtype=np.int64)
    folds[np.lexsort((keys, labels))] = np.arange(len(labels)) % num_folds
    return folds


def digest_of_split(train: Indices, val: Indices) -> str:
    """Return the SHA-256 of both index lists, as 64-bit little-endian numbers, each after its length."""
    hasher = hashlib.sha256()
    for indices in (train, val):
        hasher.update(np.array(len(indices), dtype="<i8").tobytes())
        hasher.update(indices.astype("<i8").tobytes())
    return hasher.hexdigest()


def _count(key: str, size: float, num_images: int) -> int:
    """Turn a count or a fraction into a count of at least 1."""
    count = size if isinstance(size, int) else round(size * num_images)
    if count < 1:
        raise ConfigError(f"{size} of {num_images:,} images is less than one image", key=key)
    return count
