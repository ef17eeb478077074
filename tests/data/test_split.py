"""The split: frozen, exact, disjoint, stratified."""

import hashlib
import struct

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lenet_mnist.config import DataConfig, Source
from lenet_mnist.data.load import load_train_val
from lenet_mnist.data.mnist import FILES, DataAccess, read_verified
from lenet_mnist.data.split import digest_of_split, limit, split_train_val, take_stratified
from lenet_mnist.errors import ConfigError
from lenet_mnist.randomness import Purpose, random_keys

# No change of the program may change these: runs of all times share their validation images.
DEFAULT_DIGEST = "eed627f768baee3263b5d4476aa31fe5b8f98aa33580c327d87a76bcd8305304"
OTHER_DIGEST = "50a3cdc8856d4930cb3935fd0b94cd1fc95bbd813c306654a93008b1c9b46ab2"  # 1,000 and 500 with seed 7

Labels = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def labels(access: DataAccess) -> Labels:
    return read_verified(FILES[Source.MNIST][1], access.directory)[1]


def class_sizes(labels: Labels) -> npt.NDArray[np.int64]:
    return np.bincount(labels, minlength=10)


# Frozen.


def test_splits_are_the_same_for_ever(labels: Labels, access: DataAccess) -> None:
    config = DataConfig()
    train, val = split_train_val(labels, config.train_size, config.val_size, config.split_seed)
    assert val[:12].tolist() == [49, 59, 64, 69, 81, 108, 111, 116, 123, 133, 138, 141]
    assert train[45:52].tolist() == [45, 46, 47, 48, 50, 51, 52]
    assert digest_of_split(train, val) == DEFAULT_DIGEST
    assert load_train_val(config, access).fingerprint.split == DEFAULT_DIGEST
    assert limit(train, labels, 100, 0)[:6].tolist() == [325, 704, 991, 1548, 1609, 1996]
    train, val = split_train_val(labels, 1000, 500, 7)
    assert train[:6].tolist() == [218, 257, 283, 337, 519, 520]
    assert digest_of_split(train, val) == OTHER_DIGEST


def test_the_split_can_be_derived_from_raw_keys_by_hand(labels: Labels) -> None:
    keys = np.random.Philox(np.random.SeedSequence((0, 1, 0))).random_raw(60_000).tolist()
    members = [sorted(np.flatnonzero(labels == digit).tolist(), key=keys.__getitem__) for digit in range(10)]
    shares = [len(places) * 5000 // 60_000 for places in members]
    by_remainder = sorted(range(10), key=lambda digit: -(len(members[digit]) * 5000 % 60_000))
    for digit in by_remainder[: 5000 - sum(shares)]:
        shares[digit] += 1
    val = sorted(place for places, share in zip(members, shares, strict=True) for place in places[:share])
    assert split_train_val(labels, 55_000, 5_000, 0)[1].tolist() == val


def test_the_digest_is_a_sha_256_of_lengths_and_numbers() -> None:
    expected = hashlib.sha256(struct.pack("<7q", 3, 1, 2, 3, 2, 7, 8)).hexdigest()
    assert digest_of_split(np.array([1, 2, 3]), np.array([7, 8])) == expected
    assert digest_of_split(np.array([1, 2]), np.array([3, 7, 8])) != expected
    assert digest_of_split(np.array([1, 2, 3], dtype=">i4"), np.array([7, 8], dtype=np.int16)) == expected


# Exact, disjoint, stratified.


def test_the_parts_are_exact_disjoint_and_stratified(labels: Labels) -> None:
    for train_size, val_size, num_train, num_val in (
        (59_999, 1, 59_999, 1),
        (12_345, 6_789, 12_345, 6_789),
        (1 / 3, 2 / 3, 20_000, 40_000),
        (0.00002, 5_000, 1, 5_000),
    ):
        train, val = split_train_val(labels, train_size, val_size, 3)
        assert (len(train), len(val)) == (num_train, num_val)
        assert len(np.union1d(train, val)) == num_train + num_val
        for part in (train, val):
            assert part.dtype == np.int64
            assert (np.diff(part) > 0).all()
            assert 0 <= part[0] <= part[-1] < 60_000
        all_sizes, val_sizes, train_sizes = class_sizes(labels), class_sizes(labels[val]), class_sizes(labels[train])
        assert (np.abs(val_sizes - all_sizes * num_val / 60_000) < 1).all()
        left_sizes = all_sizes - val_sizes
        assert (np.abs(train_sizes - left_sizes * num_train / (60_000 - num_val)) < 1).all()


def test_the_validation_part_depends_on_its_seed_and_not_on_the_size_of_the_training_part(labels: Labels) -> None:
    parts = [split_train_val(labels, train_size, 5_000, 0)[1] for train_size in (1, 0.3, 54_999, 55_000)]
    assert all((part == parts[0]).all() for part in parts)
    digests = {digest_of_split(*split_train_val(labels, 1000, 1000, seed)) for seed in (0, 1, 2, 2**63 - 1)}
    assert len(digests) == 4
    _, val = split_train_val(np.zeros(1000, dtype=np.uint8), 500, 500, 0)  # nor is it the file's beginning
    assert val.tolist() != list(range(500))
    assert 400 < val.mean() < 600


def test_a_limit_is_a_stratified_subset_drawn_apart_from_the_split(labels: Labels) -> None:
    train, _ = split_train_val(labels, 55_000, 5_000, 0)
    assert limit(train, labels, None, 0) is train
    assert (limit(train, labels, 55_000, 0) == train).all()
    for num_images in (1, 9, 10, 1000, 54_999):
        subset = limit(train, labels, num_images, 0)
        assert len(subset) == num_images
        assert (np.diff(subset) > 0).all()
        assert np.isin(subset, train).all()
        shares = class_sizes(labels[train]) * num_images / 55_000
        assert (np.abs(class_sizes(labels[subset]) - shares) < 1).all()
    everything = np.arange(60_000)
    by_split, _ = take_stratified(everything, labels, 1000, random_keys(0, Purpose.SPLIT, 60_000))
    assert len(np.intersect1d(limit(everything, labels, 1000, 0), by_split)) < 100
    assert len(np.intersect1d(limit(everything, labels, 1000, 0), limit(everything, labels, 1000, 1))) < 100


def test_parts_that_do_not_fit_are_refused_with_their_key(labels: Labels) -> None:
    for train_size, val_size, key in (
        (55_001, 5_000, "data.train_size"),
        (0.9, 0.2, "data.train_size"),
        (10**400, 1, "data.train_size"),
        (0.99999, 2, "data.train_size"),
        (0.000001, 1, "data.train_size"),
        (1, 0.000001, "data.val_size"),
    ):
        with pytest.raises(ConfigError, match="60,000") as caught:
            split_train_val(labels, train_size, val_size, 0)
        assert caught.value.key == key
    for num_images in (11, 10**30):
        with pytest.raises(ConfigError, match=r"the training part has 10$") as caught:
            limit(np.arange(10), labels, num_images, 0)
        assert caught.value.key == "data.limit_train"


# The division itself.


@settings(max_examples=300)
@given(data=st.data())
def test_any_division_is_exact_and_takes_the_smallest_keys_of_each_class(data: st.DataObject) -> None:
    labels = np.array(data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=60)), dtype=np.uint8)
    indices = np.array(sorted(data.draw(st.sets(st.integers(0, len(labels) - 1), min_size=1))))
    num_take = data.draw(st.integers(0, len(indices)))
    keys = random_keys(data.draw(st.integers(0, 2**63 - 1)), Purpose.SPLIT, len(labels))
    taken, left = take_stratified(indices, labels, num_take, keys)
    assert len(taken) == num_take
    assert sorted([*taken, *left]) == indices.tolist()
    assert (np.diff(taken) > 0).all()
    assert (np.diff(left) > 0).all()
    for label in np.unique(labels[indices]):
        mine, others = taken[labels[taken] == label], left[labels[left] == label]
        assert abs(len(mine) - (len(mine) + len(others)) * num_take / len(indices)) < 1
        if len(mine) and len(others):
            assert keys[mine].max() < keys[others].min()


def test_equal_remainders_go_to_the_first_classes() -> None:
    labels = np.array([0, 1, 2, 3] * 5, dtype=np.uint8)
    taken, _ = take_stratified(np.arange(20), labels, 6, random_keys(0, Purpose.SPLIT, 20))
    assert class_sizes(labels[taken])[:4].tolist() == [2, 2, 1, 1]
