import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.tiny import config_of, trained

from lenet_mnist.data.batches import CPU, Batch, evaluation_batches
from lenet_mnist.data.sets import ImageSet, TrainVal
from lenet_mnist.errors import DataError
from lenet_mnist.model.lenet import LeNet
from lenet_mnist.tally import Tally, count

TALLIES = st.builds(Tally, st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 2**40).map(float))


@pytest.fixture(scope="module")
def network(small: TrainVal) -> LeNet:
    """A network that knows some digits and errs on others."""
    return trained(config_of(max_epochs=2), small).state.network


def batches_of(image_set: ImageSet, data: TrainVal, batch_size: int) -> list[Batch]:
    return evaluation_batches(image_set, data.normalization, CPU, batch_size)


def test_any_batch_size_gives_the_same_counts(network: LeNet, small: TrainVal) -> None:
    """The losses differ in their last bits: a convolution's sums are ordered by the size of the batch."""
    reference = count(network, batches_of(small.val, small, 250))
    assert 250 < reference.num_correct < 500
    for batch_size in (1, 7, 64, 499, 10_000):
        tally = count(network, iter(batches_of(small.val, small, batch_size)))  # they may come one at a time
        assert (tally.num_images, tally.num_correct) == (500, reference.num_correct)
        assert tally.loss_sum == pytest.approx(reference.loss_sum, rel=1e-6)


def test_it_counts_what_the_definitions_say(network: LeNet, small: TrainVal) -> None:
    with torch.no_grad():
        logits = network(small.normalization.apply(small.val.images)).double()
    of_the_labels = logits.exp()[torch.arange(500), small.val.labels] / logits.exp().sum(dim=1)
    tally = count(network, batches_of(small.val, small, 64))
    assert tally.num_correct == sum(
        max(range(10), key=row.__getitem__) == label
        for row, label in zip(logits.tolist(), small.val.labels.tolist(), strict=True)
    )
    assert tally.loss_sum == pytest.approx(float(-of_the_labels.log().sum()), rel=1e-6)


def test_the_counts_of_two_sets_add_up_to_those_of_both(network: LeNet, small: TrainVal) -> None:
    first, second = batches_of(small.train, small, 250), batches_of(small.val, small, 250)
    counts, both = (count(network, first), count(network, second)), count(network, first + second)
    assert [each.num_images for each in counts] == [2000, 500]
    assert counts[0].mean_loss != counts[1].mean_loss
    total = counts[0] + counts[1]
    assert (total.num_images, total.num_correct) == (both.num_images, both.num_correct)
    assert total.loss_sum == pytest.approx(both.loss_sum, rel=1e-12)


def test_no_batch_and_no_image_are_data_errors(network: LeNet, small: TrainVal) -> None:
    for batches in ([], batches_of(small.val.part(slice(0)), small, 250)):
        with pytest.raises(DataError):
            count(network, batches)


def test_counting_leaves_weights_and_gradients_alone(network: LeNet, small: TrainVal) -> None:
    before = [parameter.detach().clone() for parameter in network.parameters()]
    network.zero_grad()
    count(network, batches_of(small.val, small, 250))
    assert all(torch.equal(old, new) for old, new in zip(before, network.parameters(), strict=True))
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_loss_that_is_no_number_is_not_hidden(network: LeNet, small: TrainVal) -> None:
    (batch,) = batches_of(small.val, small, 500)
    images = batch.images.clone()
    images[17] = math.nan
    assert math.isnan(count(network, [batch._replace(images=images)]).mean_loss)


@given(TALLIES, TALLIES, TALLIES)
def test_tallies_add_in_any_order(a: Tally, b: Tally, c: Tally) -> None:
    assert a + b == b + a
    assert (a + b) + c == a + (b + c)
    assert a + Tally() == a


def test_sums_are_added_and_means_are_taken_over_images() -> None:
    assert Tally(10, 9, 0.5) + Tally(3, 1, 2.25) == Tally(13, 10, 2.75)
    tally = Tally(num_images=8, num_correct=6, loss_sum=2.0)
    assert (tally.mean_loss, tally.accuracy) == (0.25, 0.75)
