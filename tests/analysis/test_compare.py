import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lenet_mnist.analysis.compare import (
    Method,
    accuracy_of_one,
    difference_of,
    groups_of,
    mcnemar_p_value,
    mean_of,
    names_of,
    pair_answers,
)
from lenet_mnist.analysis.evaluate import Evaluation
from lenet_mnist.analysis.intervals import wilson_interval
from lenet_mnist.errors import DataError


def evaluation(labels: list[int], predictions: list[int], confidences: list[float] | None = None) -> Evaluation:
    probabilities = np.zeros((len(labels), 3))
    probabilities[np.arange(len(labels)), predictions] = confidences or [0.9] * len(labels)
    indices = np.arange(100, 100 + len(labels))
    return Evaluation(("a", "b", "c"), indices, np.array(labels), np.array(predictions), probabilities, 1.0)


@given(st.integers(0, 300) | st.integers(0, 5000), st.integers(0, 300) | st.integers(0, 5000))
def test_the_p_value_is_scipys(num_fixed: int, num_broken: int) -> None:
    if num_fixed + num_broken:
        expected = stats.binomtest(num_fixed, num_fixed + num_broken, 0.5).pvalue
        assert mcnemar_p_value(num_fixed, num_broken) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_p_values_of_whole_numbers_are_exact() -> None:
    assert mcnemar_p_value(0, 0) == 1.0
    assert mcnemar_p_value(7, 7) == 1.0
    assert mcnemar_p_value(0, 5) == mcnemar_p_value(5, 0) == 2 / 2**5
    assert mcnemar_p_value(1, 5) == 2 * (1 + 6) / 2**6
    assert 0 < mcnemar_p_value(0, 1000) == 2.0**-999
    assert mcnemar_p_value(0, 10_000) == 0.0  # smaller than any float
    assert mcnemar_p_value(30_000, 30_200) == pytest.approx(stats.binomtest(30_000, 60_200).pvalue, abs=1e-12)


def test_what_the_first_fixes_is_what_only_it_has_right() -> None:
    labels = [0, 0, 1, 1, 2, 2]
    first = evaluation(labels, [0, 0, 0, 1, 0, 2], [0.9, 0.9, 0.6, 0.9, 0.8, 0.9])
    second = evaluation(labels, [0, 1, 1, 0, 1, 2], [0.9, 0.5, 0.9, 0.7, 0.9, 0.9])
    paired = pair_answers(first, second)
    assert paired.fixed.tolist() == [3, 1]  # the one of which the second network was most sure comes first
    assert paired.broken.tolist() == [2]
    assert (paired.num_both_right, paired.num_both_wrong) == (2, 1)
    assert paired.p_value == mcnemar_p_value(2, 1)
    swapped = pair_answers(second, first)
    assert set(swapped.fixed.tolist()) == {2}
    assert set(swapped.broken.tolist()) == {1, 3}


@given(st.lists(st.tuples(*[st.integers(0, 2)] * 3), min_size=1, max_size=50))
def test_every_image_is_in_one_cell(answers: list[tuple[int, int, int]]) -> None:
    labels, first, second = (list(column) for column in zip(*answers, strict=True))
    paired = pair_answers(evaluation(labels, first), evaluation(labels, second))
    cells = (len(paired.fixed), len(paired.broken), paired.num_both_right, paired.num_both_wrong)
    assert sum(cells) == len(labels)
    assert len(paired.fixed) - len(paired.broken) == sum(a == y for y, a, _ in answers) - sum(
        b == y for y, _, b in answers
    )


def test_answers_to_other_images_are_no_pair() -> None:
    first, other = evaluation([0, 1], [0, 1]), evaluation([0, 2], [0, 1])
    with pytest.raises(DataError, match="other images or classes"):
        pair_answers(first, other)
    with pytest.raises(DataError, match="other images or classes"):
        pair_answers(first, evaluation([0, 1, 2], [0, 1, 2]))


def settings_of(**values: object) -> dict[str, object]:
    known = {"model.activation": "relu", "data.limit_train": None, "training.learning_rate": 0.04}
    return {**known, "training.max_epochs": 8, "training.batch_size": 64, **values}


def test_equal_settings_are_one_group_in_the_order_of_their_first() -> None:
    tanh, relu = settings_of(**{"model.activation": "tanh"}), settings_of()
    assert groups_of([tanh, relu, dict(tanh), dict(relu)]) == [[0, 2], [1, 3]]
    assert groups_of([relu]) == [[0]]


def test_names_say_what_differs_and_nothing_else() -> None:
    relu = settings_of()
    sigmoid = settings_of(**{"model.activation": "sigmoid", "training.learning_rate": 0.2})
    assert names_of([relu, sigmoid]) == ["relu, lr 0.04", "sigmoid, lr 0.2"]
    small = settings_of(**{"data.limit_train": 11_000, "training.max_epochs": 1, "training.batch_size": 1024})
    assert names_of([relu, small]) == [
        "limit_train all, 8 epochs, batch_size 64",
        "limit_train 11,000, 1 epoch, batch_size 1,024",
    ]


def test_rates_that_are_nearly_equal_have_different_names() -> None:
    near = [settings_of(**{"training.learning_rate": lr}) for lr in (0.04, 0.040001, 1e-6)]
    assert names_of(near) == ["lr 0.04", "lr 0.040001", "lr 1e-06"]


def test_one_group_is_named_by_what_it_is() -> None:
    assert names_of([settings_of()]) == ["relu, lr 0.04"]


def test_one_training_is_uncertain_over_images_and_several_over_seeds() -> None:
    one = accuracy_of_one(evaluation([0, 1, 2, 2], [0, 1, 2, 1]))
    assert (one.value, one.interval, one.method) == (0.75, wilson_interval(3, 4), Method.WILSON)
    several = mean_of([0.97, 0.98, 0.99])
    assert several.method is Method.STUDENT
    assert several.value == pytest.approx(0.98)
    assert several.interval == pytest.approx((0.98 - 4.302652730 * 0.01 / 3**0.5, 0.98 + 4.302652730 * 0.01 / 3**0.5))
    assert mean_of([0.5]).interval is None


def test_the_same_seeds_are_compared_seed_by_seed() -> None:
    low, high = {0: 0.90, 1: 0.95, 2: 0.99}, {2: 0.995, 0: 0.906, 1: 0.9545}
    paired = difference_of(high, low)
    assert paired.method is Method.PAIRED
    assert paired.is_sure
    assert paired.value == pytest.approx(0.0155 / 3)
    welch = difference_of({5: 0.906, 6: 0.9545, 7: 0.995}, low)
    assert welch.method is Method.WELCH
    assert welch.value == pytest.approx(paired.value)
    assert not welch.is_sure  # what differs from seed to seed hides it
    assert difference_of({0: 0.9}, low).interval is None
    assert not difference_of({0: 0.5}, low).is_sure
