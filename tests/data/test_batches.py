"""Batches: every image once, in an order that depends on seed and epoch alone."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from lenet_mnist.config import Config, DataConfig, TrainingConfig
from lenet_mnist.data.batches import TrainBatches, evaluation_batches, num_batches
from lenet_mnist.data.load import load_test
from lenet_mnist.data.mnist import DataAccess
from lenet_mnist.data.sets import Normalization, TestSet, TrainSet, TrainVal
from lenet_mnist.distributed import SINGLE, Ranks
from lenet_mnist.randomness import Purpose, random_order

CPU = torch.device("cpu")
AS_IT_IS = Normalization(mean=0.0, std=1.0)
NUM_IMAGES = 103


@pytest.fixture(scope="module")
def numbered(small: TrainVal) -> TrainVal:
    """Images that say which they are: pixel and label are the place in the set."""
    places = torch.arange(NUM_IMAGES)
    train = TrainSet(places.to(torch.uint8).reshape(-1, 1, 1).repeat(1, 2, 2), places, places)
    names = tuple(map(str, range(NUM_IMAGES)))
    return replace(small, train=train, class_names=names, normalization=AS_IT_IS)


@pytest.fixture(scope="module")
def test_set(access: DataAccess) -> TestSet:
    return load_test(DataConfig(), access)


def batches_of(data: TrainVal, batch_size: int = 10, seed: int = 0, ranks: Ranks = SINGLE) -> TrainBatches:
    config = Config(seed=seed, training=TrainingConfig(batch_size=batch_size))
    return TrainBatches(data, config, CPU, ranks=ranks)


def order_of(batches: TrainBatches, epoch: int) -> list[int]:
    return [int(label) for batch in batches.of_epoch(epoch) for label in batch.labels]


def test_every_epoch_has_every_image_once(numbered: TrainVal) -> None:
    for batch_size in (1, 7, 102, 103, 104, 100_000):
        batches = batches_of(numbered, batch_size)
        sizes = [len(batch.labels) for batch in batches.of_epoch(2)]
        assert sorted(order_of(batches, 2)) == list(range(NUM_IMAGES))
        assert len(sizes) == len(batches)
        assert set(sizes[:-1]) <= {batch_size}
        assert sizes[-1] == NUM_IMAGES - sum(sizes[:-1])


def test_every_image_keeps_its_label(numbered: TrainVal) -> None:
    for batch in batches_of(numbered).of_epoch(1):
        images, labels = batch.images, batch.labels
        assert images.shape == (len(labels), 1, 2, 2)
        assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
        torch.testing.assert_close(images[:, 0, 1, 1] * 255, labels.float())


def test_every_batch_knows_its_size_and_how_many_come_after_it(numbered: TrainVal) -> None:
    batches = batches_of(numbered)
    told = [(batch.num_images, batch.num_left) for batch in batches.of_epoch(2)]
    count = len(told)
    assert told == [*((10, left) for left in range(count - 1, 0, -1)), (NUM_IMAGES - 10 * (count - 1), 0)]
    assert [(batch.num_images, batch.num_left) for batch in batches.of_epoch(2, start=count - 2)] == told[-2:]


@pytest.mark.parametrize("num_ranks", [2, 3, 7, 12])
def test_ranks_divide_each_batch_as_evenly_as_it_goes(numbered: TrainVal, num_ranks: int) -> None:
    whole = list(batches_of(numbered).of_epoch(3))
    shares = [list(batches_of(numbered, ranks=Ranks(rank, num_ranks)).of_epoch(3)) for rank in range(num_ranks)]
    for batch, parts in zip(whole, zip(*shares, strict=True), strict=True):
        assert torch.equal(torch.cat([part.images for part in parts]), batch.images)
        assert torch.equal(torch.cat([part.labels for part in parts]), batch.labels)
        sizes = [len(part.labels) for part in parts]
        assert max(sizes) - min(sizes) <= 1
        assert {(part.num_images, part.num_left) for part in parts} == {(len(batch.labels), batch.num_left)}


def test_the_images_are_normalised(small: TrainVal) -> None:
    batches = batches_of(small, 64)
    order = torch.from_numpy(random_order(0, Purpose.ORDER, len(small.train), position=1))
    first = next(batches.of_epoch(1))
    assert torch.equal(first.images, small.normalization.apply(small.train.images[order[:64]]))
    assert torch.equal(first.labels, small.train.labels[order[:64]])


def test_the_order_is_shuffled_and_depends_on_epoch_and_seed(numbered: TrainVal) -> None:
    order = order_of(batches_of(numbered), 1)
    assert sum(after == before + 1 for before, after in pairwise(order)) < 10
    orders = {tuple(order_of(batches_of(numbered, seed=seed), epoch)) for seed in range(5) for epoch in range(1, 5)}
    assert len(orders) == 20


def test_the_order_depends_on_nothing_else(numbered: TrainVal) -> None:
    expected = order_of(batches_of(numbered), 3)
    torch.manual_seed(99)
    torch.rand(1000)
    np.random.seed(99)
    batches = batches_of(numbered, batch_size=7)
    for epoch in (5, 1, 3, 2):
        order_of(batches, epoch)
    assert order_of(batches, 3) == expected
    train = numbered.train
    other_pixels = replace(numbered, train=TrainSet(train.images.flip(0), train.labels, train.indices + 1))
    assert order_of(batches_of(other_pixels), 3) == expected


def test_orders_are_the_same_for_ever_and_draw_from_no_global_generator() -> None:
    before = torch.get_rng_state(), str(np.random.get_state())
    for seed, epoch, order in (
        (0, 1, [8, 1, 3, 0, 5, 9, 7, 10, 6, 11, 4, 2]),
        (0, 2, [2, 4, 7, 0, 9, 11, 10, 3, 1, 8, 5, 6]),
        (5, 1, [5, 3, 10, 0, 8, 7, 4, 9, 2, 1, 6, 11]),
    ):
        assert random_order(seed, Purpose.ORDER, 12, position=epoch).tolist() == order
    assert len({tuple(random_order(0, purpose, 50, position=1)) for purpose in Purpose}) == len(Purpose)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert str(np.random.get_state()) == before[1]


def test_an_epoch_can_be_entered_in_the_middle(numbered: TrainVal) -> None:
    whole = list(batches_of(numbered).of_epoch(4))
    for start in range(12):
        rest = list(batches_of(numbered).of_epoch(4, start=start))
        assert len(rest) == 11 - start
        for mine, theirs in zip(rest, whole[start:], strict=True):
            assert torch.equal(mine.images, theirs.images)
            assert torch.equal(mine.labels, theirs.labels)


def test_evaluation_has_every_image_once_in_order(test_set: TestSet) -> None:
    normalization = Normalization(0.13, 0.31)
    images = normalization.apply(test_set.images)
    for batch_size in (7, 999, 10_000, 20_000):
        batches = evaluation_batches(test_set, normalization, CPU, batch_size)
        assert len(batches) == num_batches(10_000, batch_size)
        assert {len(batch.labels) for batch in batches[:-1]} <= {batch_size}
        assert torch.equal(torch.cat([batch.images for batch in batches]), images)
        assert torch.equal(torch.cat([batch.labels for batch in batches]), test_set.labels)
