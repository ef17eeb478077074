"""The comparison of two runtimes: what it lets pass, and what it does not."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.inference.test_page import network_of

from lenet_mnist.config import Activation
from lenet_mnist.data.sets import TrainVal
from lenet_mnist.errors import CheckFailedError, DataError
from lenet_mnist.inference.agreement import TOLERANCE, Answer, Pixels, Reals, compare
from lenet_mnist.training.checkpoint import TrainedNetwork

Change = Callable[[Reals], Reals]
NUM_IMAGES = 51  # a rest of 2 in sevens


@pytest.fixture
def images(small: TrainVal) -> Pixels:
    return small.val.images[:NUM_IMAGES].numpy()


@pytest.fixture
def trained(small: TrainVal) -> TrainedNetwork:
    return network_of(Activation.TANH, small)


def runtime(trained: TrainedNetwork, change: Change, only_batches_of: int | None = None) -> Callable[[Pixels], Answer]:
    """Torch itself, its logits changed."""

    @torch.inference_mode()
    def answer(pixels: Pixels) -> Answer:
        logits = trained.network(trained.normalization.apply(torch.from_numpy(pixels))).numpy()
        changed = change(logits.copy()) if only_batches_of in (None, len(pixels)) else logits
        return Answer(changed, torch.from_numpy(changed).softmax(dim=1).numpy())

    return answer


def times(trained: TrainedNetwork, factor: float) -> TrainedNetwork:
    """The same network with logits so many times as large."""
    with torch.no_grad():
        trained.network.output.weight.mul_(factor)
        trained.network.output.bias.mul_(factor)
    return trained


def test_the_same_network_agrees(trained: TrainedNetwork, images: Pixels) -> None:
    found = compare(trained, runtime(trained, lambda logits: logits), images)
    assert found.holds
    assert (found.num_images, found.num_same, found.num_ties) == (NUM_IMAGES, NUM_IMAGES, 0)
    assert found.largest_logit_difference < 1e-5
    assert found.tolerance == TOLERANCE == 1e-4
    assert 1 < found.largest_logit < 50
    assert str(found).startswith("the same answer to 51 of 51 training images, largest logit difference ")


@pytest.mark.parametrize("only_batches_of", [None, 1, 7, NUM_IMAGES % 7, NUM_IMAGES])
@pytest.mark.parametrize(("difference", "holds"), [(0.5e-4, True), (2e-4, False), (-2e-4, False)])
def test_one_logit_is_enough_at_any_batch_size(
    trained: TrainedNetwork, images: Pixels, difference: float, holds: bool, only_batches_of: int | None
) -> None:
    def change(logits: Reals) -> Reals:
        logits[-1, 3] += difference
        return logits

    found = compare(trained, runtime(trained, change, only_batches_of), images)
    assert found.holds == holds
    assert found.largest_logit_difference == pytest.approx(abs(difference), rel=0.1)


def test_large_logits_may_differ_by_their_rounding_and_no_more(trained: TrainedNetwork, images: Pixels) -> None:
    large = times(trained, 1000)
    most = compare(large, runtime(large, lambda logits: logits), images)
    assert most.tolerance == pytest.approx(2e-6 * most.largest_logit)
    assert most.tolerance > 10 * TOLERANCE
    for share, holds in ((0.5, True), (2.0, False)):
        changed = runtime(large, lambda logits, share=share: logits + np.float32(share * most.tolerance))  # type: ignore[misc]
        assert compare(large, changed, images).holds == holds


def nearly_tied(trained: TrainedNetwork, margin: float) -> TrainedNetwork:
    """A network that answers 3, and 4 by `margin` less, whatever it sees."""
    with torch.no_grad():
        trained.network.output.weight.zero_()
        trained.network.output.bias.zero_()
        trained.network.output.bias[3] = 10
        trained.network.output.bias[4] = 10 - margin
    return trained


@pytest.mark.parametrize(("margin", "num_ties"), [(1e-6, NUM_IMAGES), (0.9e-4, 0)])
def test_another_answer_is_a_tie_only_within_rounding(
    trained: TrainedNetwork, images: Pixels, margin: float, num_ties: int
) -> None:
    tied = nearly_tied(trained, margin)
    found = compare(tied, runtime(tied, lambda logits: logits[:, [0, 1, 2, 4, 3, 5, 6, 7, 8, 9]]), images)
    assert found.largest_logit_difference <= found.tolerance
    assert (found.num_same, found.num_ties) == (0, num_ties)
    assert found.holds == bool(num_ties)
    assert ("51 more as near to a tie as rounding" in str(found)) == bool(num_ties)


@pytest.mark.parametrize("only_batches_of", [1, 7, 2, NUM_IMAGES])
def test_an_answer_counts_as_the_same_if_it_is_at_every_batch_size(
    trained: TrainedNetwork, images: Pixels, only_batches_of: int
) -> None:
    tied = nearly_tied(trained, 1e-6)
    swap = runtime(tied, lambda logits: logits[:, [0, 1, 2, 4, 3, 5, 6, 7, 8, 9]], only_batches_of)
    num_others = {1: NUM_IMAGES, 7: NUM_IMAGES - 2, 2: 2, NUM_IMAGES: NUM_IMAGES}[only_batches_of]
    found = compare(tied, swap, images)
    assert (found.num_same, found.num_ties) == (NUM_IMAGES - num_others, num_others)


def test_other_probabilities_are_noticed(trained: TrainedNetwork, images: Pixels) -> None:
    same = runtime(trained, lambda logits: logits)
    found = compare(
        trained, lambda pixels: same(pixels)._replace(probabilities=np.full((len(pixels), 10), 0.1)), images
    )
    assert found.largest_logit_difference < 1e-5
    assert found.largest_probability_difference > 0.1
    assert not found.holds


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_answers_that_are_no_numbers_are_refused(trained: TrainedNetwork, images: Pixels, value: float) -> None:
    def change(logits: Reals) -> Reals:
        logits[0, 0] = value
        return logits

    with pytest.raises(CheckFailedError, match="no numbers"):
        compare(trained, runtime(trained, change), images)
    with pytest.raises(DataError, match="no numbers"):
        compare(times(trained, np.inf), runtime(trained, lambda logits: logits), images)


def test_images_of_another_size_are_refused(trained: TrainedNetwork, images: Pixels) -> None:
    with pytest.raises(DataError, match="27 pixels wide, but the network was trained on 28"):
        compare(trained, runtime(trained, lambda logits: logits), images[:, 1:, 1:])


def test_agreement_needs_every_answer(trained: TrainedNetwork, images: Pixels) -> None:
    found = compare(trained, runtime(trained, lambda logits: logits), images)
    assert not replace(found, num_same=found.num_same - 1).holds
