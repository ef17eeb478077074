import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lenet_mnist.analysis.intervals import difference_interval, mean_interval, wilson_interval


@st.composite
def counts(draw: st.DrawFn) -> tuple[int, int]:
    num_trials = draw(st.integers(1, 200) | st.integers(1, 1_000_000))
    return draw(st.integers(0, num_trials) | st.sampled_from([0, 1, num_trials - 1, num_trials])), num_trials


@given(counts(), st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.99, 0.999]))
def test_it_is_scipys_wilson_interval(counted: tuple[int, int], confidence: float) -> None:
    expected = stats.binomtest(*counted).proportion_ci(confidence, method="wilson")
    assert wilson_interval(*counted, confidence) == pytest.approx((expected.low, expected.high), rel=0, abs=1e-12)


@given(counts())
def test_it_holds_the_fraction_and_stays_within_zero_and_one(counted: tuple[int, int]) -> None:
    low, high = wilson_interval(*counted)
    assert 0 <= low <= counted[0] / counted[1] <= high <= 1
    assert low < high


@given(counts())
def test_mistakes_are_as_uncertain_as_successes(counted: tuple[int, int]) -> None:
    num_successes, num_trials = counted
    low, high = wilson_interval(num_successes, num_trials)
    mirrored = wilson_interval(num_trials - num_successes, num_trials)
    assert mirrored == pytest.approx((1 - high, 1 - low), rel=0, abs=1e-12)


def test_its_default_is_95_per_cent() -> None:
    assert wilson_interval(9_900, 10_000) == wilson_interval(9_900, 10_000, 0.95)
    assert wilson_interval(9_900, 10_000) == pytest.approx((0.98785, 0.99177), abs=5e-6)


def test_all_right_and_all_wrong_reach_the_end() -> None:
    assert wilson_interval(50, 50).high == 1.0
    assert wilson_interval(0, 50).low == 0.0


@pytest.mark.parametrize(
    ("num_successes", "num_trials", "confidence"),
    [(0, 0, 0.95), (-1, 10, 0.95), (11, 10, 0.95), (-2, -1, 0.95), (5, 10, 0.0), (5, 10, 1.0), (5, 10, math.nan)],
)
def test_impossible_counts_and_confidences_are_refused(num_successes: int, num_trials: int, confidence: float) -> None:
    with pytest.raises(ValueError, match=f"no interval for {num_successes} of {num_trials}"):
        wilson_interval(num_successes, num_trials, confidence)


# Losses, accuracies and logarithms of steps: what is compared over seeds. Coarser than a float, so that no scatter is
# made of rounding alone.
values = st.lists(st.integers(-(10**6), 10**6).map(lambda n: n / 1000), min_size=2, max_size=30).filter(
    lambda draws: len(set(draws)) > 1
)


@given(values, st.sampled_from([0.8, 0.95, 0.99]))
def test_the_interval_of_a_mean_is_scipys(draws: list[float], confidence: float) -> None:
    expected = stats.ttest_1samp(draws, 0).confidence_interval(confidence)
    assert mean_interval(draws, confidence) == pytest.approx((expected.low, expected.high), rel=1e-12, abs=1e-9)


@given(values, values, st.sampled_from([0.8, 0.95, 0.99]))
def test_the_interval_of_a_difference_is_scipys(draws: list[float], others: list[float], confidence: float) -> None:
    expected = stats.ttest_ind(draws, others, equal_var=False).confidence_interval(confidence)
    low_and_high = pytest.approx((expected.low, expected.high), rel=1e-11, abs=1e-9)
    assert difference_interval(draws, others, confidence) == low_and_high


def test_values_without_scatter_have_an_interval_of_one_point() -> None:
    assert mean_interval([0.5, 0.5]) == (0.5, 0.5)
    assert difference_interval([0.5, 0.5], [0.25, 0.25, 0.25]) == (0.25, 0.25)
    low, high = difference_interval([0.5, 0.5], [0.25, 0.26])
    assert (low + high) / 2 == pytest.approx(0.245)
    assert high - low == pytest.approx(2 * stats.t.ppf(0.975, 1) * 0.005)


def test_one_value_has_no_interval() -> None:
    for call in (lambda: mean_interval([1.0]), lambda: difference_interval([1.0], [1.0, 2.0])):
        with pytest.raises(ValueError, match="how far the values scatter"):
            call()
