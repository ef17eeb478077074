import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lenet_mnist.config import Keep
from lenet_mnist.data.sets import TrainVal
from lenet_mnist.training.early_stopping import EarlyStopping, guessing_loss, label_entropy

LN10 = math.log(10)
LOSS = st.sampled_from([0.1, 0.2, 0.2001, 1.0, 2.0, 2.25, 2.26, LN10, 2.34, 2.36, math.nan, math.inf]) | st.floats(0, 5)
LOSSES = st.lists(LOSS, max_size=40)


def after(
    losses: Sequence[float], patience: int | None = 3, min_delta: float = 0.0, keep: Keep = Keep.BEST
) -> EarlyStopping:
    stopping = EarlyStopping(patience, min_delta, LN10, keep)
    for epoch, loss in enumerate(losses, start=1):
        stopping = stopping.after(epoch, loss)
    return stopping


def best(losses: Sequence[float]) -> tuple[int, float]:
    """The naive reference: look at all of them, and take the first of the smallest."""
    smallest = min((loss for loss in losses if loss < math.inf), default=math.inf)
    return (losses.index(smallest) + 1 if smallest < math.inf else 0), smallest


def num_waiting(losses: Sequence[float], min_delta: float) -> int:
    """The naive reference: epochs since the last improvement, without those of rest at guessing before any learning."""
    improvements = [-1]
    level = math.inf
    for place, loss in enumerate(losses):
        if loss < level - min_delta:
            improvements.append(place)
            level = loss

    def is_rest_at_guessing(place: int) -> bool:
        has_learnt = any(loss < 0.98 * LN10 for loss in losses[: place + 1])
        return not has_learnt and 0.98 * LN10 <= losses[place] <= 1.02 * LN10

    return sum(not is_rest_at_guessing(place) for place in range(improvements[-1] + 1, len(losses)))


@given(LOSSES, st.sampled_from([0.0, 0.05, 1.0]))
def test_the_best_epoch_is_the_first_of_the_smallest_loss(losses: list[float], min_delta: float) -> None:
    known = after(losses, min_delta=min_delta)
    assert (known.best_epoch, known.best_loss) == best(losses)


@given(LOSSES)
def test_kept_is_the_best_epoch_or_the_last_of_which_the_loss_is_a_number(losses: list[float]) -> None:
    assert after(losses).kept_epoch == best(losses)[0]
    last = max((epoch for epoch, loss in enumerate(losses, start=1) if math.isfinite(loss)), default=0)
    known = after(losses, keep=Keep.LAST)
    assert (known.kept_epoch, known.best_epoch, known.num_waiting) == (last, best(losses)[0], after(losses).num_waiting)


@given(LOSSES, st.integers(1, 6), st.sampled_from([0.0, 0.05, 1.0]))
def test_patience_is_used_up_as_in_the_naive_reference(losses: list[float], patience: int, min_delta: float) -> None:
    for length in range(len(losses) + 1):
        expected = num_waiting(losses[:length], min_delta)
        known = after(losses[:length], patience, min_delta)
        assert known.num_waiting == expected
        assert known.should_stop == (expected >= patience)


@given(LOSSES)
def test_without_patience_it_never_stops(losses: list[float]) -> None:
    known = after(losses, patience=None)
    assert not known.should_stop
    assert (known.best_epoch, known.best_loss) == best(losses)


def test_cases_by_hand() -> None:
    """(losses, patience, least improvement) -> (best epoch, epochs that patience has waited, whether it stops)"""
    inf, nan = math.inf, math.nan
    for losses, patience, min_delta, expected in (
        ([], 3, 0, (0, 0, False)),
        ([0.5, 0.2, 0.2, 0.3, 0.2], 3, 0, (2, 3, True)),  # the first of equal losses
        ([1.0, 0.5, 0.6, 0.6], 3, 0, (2, 2, False)),
        ([1.0, 1.1, 1.1, 0.9, 1.1, 1.1], 3, 0, (4, 2, False)),  # an improvement renews the patience
        ([1.0, 0.96, 0.92], 2, 0.1, (3, 2, True)),  # too small a fall uses it up
        ([1.0, 0.96, 0.92, 0.88], 3, 0.1, (4, 0, False)),  # small falls add up
        ([LN10, *[LN10 + 0.001] * 50], 2, 0, (1, 0, False)),  # resting at chance level before learning
        ([LN10, 2.0, LN10, LN10], 2, 0, (2, 2, True)),  # and after it
        *(([LN10, loss, loss], 2, 0, (1, 2, True)) for loss in (1.03 * LN10, 3.0, inf, nan)),
        *(([loss, 0.5, loss], 2, 0, (2, 1, False)) for loss in (inf, nan)),
        *(([loss, loss], 2, 0, (0, 2, True)) for loss in (inf, nan)),
    ):
        known = after(losses, patience, min_delta)
        assert (known.best_epoch, known.num_waiting, known.should_stop) == expected, losses


def test_a_value_is_left_as_it_was() -> None:
    start = EarlyStopping(3, 0.0, LN10)
    start.after(1, 0.5)
    assert start == EarlyStopping(3, 0.0, LN10)


def test_entropy_of_labels() -> None:
    for counts, entropy in (
        ([10] * 10, LN10),
        ([500], 0.0),
        ([0, 7, 0], 0.0),
        ([1, 1, 0], math.log(2)),
        ([3, 1], 2 * math.log(2) - 0.75 * math.log(3)),
    ):
        assert label_entropy(counts) == pytest.approx(entropy, abs=1e-15)


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=12).filter(any))
def test_entropy_lies_between_none_and_that_of_equal_counts(counts: list[int]) -> None:
    assert -1e-12 <= label_entropy(counts) <= math.log(len(counts)) + 1e-12


def test_a_validation_part_of_one_class_does_not_make_guessing_free(small: TrainVal) -> None:
    """Nothing comes near a loss of 0: a network that is right everywhere would count as one that guesses."""
    ones = small.val.part(torch.nonzero(small.val.labels == 1)[:, 0])
    of_train = label_entropy(small.train.labels.bincount().tolist())
    assert guessing_loss(replace(small, val=ones)) == pytest.approx(of_train)
    assert guessing_loss(small) == pytest.approx(label_entropy(small.val.labels.bincount().tolist()))
