"""Intervals and tests against scipy's own, and against figures worked out by hand."""

import math
from statistics import fmean, variance

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lenet_mnist.analysis.intervals import (
    Method,
    difference_interval,
    difference_of,
    mcnemar_p_value,
    mean_interval,
    mean_of,
    resampled_interval,
    wilson_interval,
)

# Coarser than a float, so that no scatter is made of rounding alone.
VALUES = st.lists(st.integers(-(10**6), 10**6).map(lambda n: n / 1000), min_size=2, max_size=30).filter(
    lambda draws: len(set(draws)) > 1
)


@st.composite
def counts(draw: st.DrawFn) -> tuple[int, int]:
    num_trials = draw(st.integers(1, 200) | st.integers(1, 1_000_000))
    return draw(st.integers(0, num_trials) | st.sampled_from([0, 1, num_trials - 1, num_trials])), num_trials


@given(counts())
def test_wilsons_interval_is_scipys(counted: tuple[int, int]) -> None:
    expected = stats.binomtest(*counted).proportion_ci(0.95, method="wilson")
    low, high = wilson_interval(*counted)
    assert (low, high) == pytest.approx((expected.low, expected.high), rel=0, abs=1e-12)
    assert 0 <= low <= counted[0] / counted[1] <= high <= 1


def test_wilsons_interval_reaches_the_ends_and_refuses_impossible_counts() -> None:
    assert wilson_interval(9_900, 10_000) == pytest.approx((0.98785, 0.99177), abs=5e-6)
    assert wilson_interval(50, 50).high == 1.0
    assert wilson_interval(0, 50).low == 0.0
    for arguments in ((0, 0), (-1, 10), (11, 10), (-2, -1)):
        with pytest.raises(ValueError, match="no interval"):
            wilson_interval(*arguments)


@given(VALUES, VALUES)
def test_the_intervals_of_means_are_scipys(draws: list[float], others: list[float]) -> None:
    mean = stats.ttest_1samp(draws, 0).confidence_interval(0.95)
    assert mean_interval(draws) == pytest.approx((mean.low, mean.high), rel=1e-11, abs=1e-9)
    welch = stats.ttest_ind(draws, others, equal_var=False).confidence_interval(0.95)
    assert difference_interval(draws, others) == pytest.approx((welch.low, welch.high), rel=1e-11, abs=1e-9)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=30), st.integers(2, 10))
def test_the_interval_over_folds_is_nadeau_and_bengios(values: list[float], num_folds: int) -> None:
    half = stats.t.ppf(0.975, len(values) - 1) * math.sqrt((1 / len(values) + 1 / (num_folds - 1)) * variance(values))
    expected = fmean(values) - half, fmean(values) + half
    assert resampled_interval(values, num_folds) == pytest.approx(expected, abs=1e-12)


def test_values_without_scatter_have_an_interval_of_one_point_and_one_value_has_none() -> None:
    assert mean_interval([0.5, 0.5]) == (0.5, 0.5)
    assert difference_interval([0.5, 0.5], [0.25, 0.25, 0.25]) == (0.25, 0.25)
    low, high = difference_interval([0.5, 0.5], [0.25, 0.26])
    assert (low + high) / 2 == pytest.approx(0.245)
    assert high - low == pytest.approx(2 * 12.7062047 * 0.005)  # Student's table, one degree of freedom
    for call in (
        lambda: mean_interval([1.0]),
        lambda: difference_interval([1.0], [1.0, 2.0]),
        lambda: mean_interval([]),
    ):
        with pytest.raises(ValueError, match="two data points"):
            call()


def test_mcnemars_p_values_worked_out_by_hand() -> None:
    for fixed, broken, expected in ((0, 0, 1), (7, 7, 1), (0, 5, 2 / 2**5), (5, 0, 2 / 2**5), (1, 5, 2 * 7 / 2**6)):
        assert mcnemar_p_value(fixed, broken) == pytest.approx(expected, rel=1e-12)
    assert mcnemar_p_value(0, 1000) == pytest.approx(2.0**-999, rel=1e-9)
    assert mcnemar_p_value(30_000, 30_200) == pytest.approx(0.41736, abs=1e-4)


def test_several_runs_are_uncertain_over_seeds_and_one_is_not() -> None:
    several = mean_of([0.97, 0.98, 0.99])
    half = 4.302652730 * 0.01 / 3**0.5
    assert (several.method, several.value) == (Method.STUDENT, pytest.approx(0.98))
    assert several.interval_95 == pytest.approx((0.98 - half, 0.98 + half))
    assert mean_of([0.5]).interval_95 is None


def test_the_same_seeds_are_compared_seed_by_seed() -> None:
    low, high = {0: 0.90, 1: 0.95, 2: 0.99}, {2: 0.995, 0: 0.906, 1: 0.9545}
    paired = difference_of(high, low)
    assert (paired.method, paired.value) == (Method.PAIRED, pytest.approx(0.0155 / 3))
    assert paired.excludes(0)
    welch = difference_of({5: 0.906, 6: 0.9545, 7: 0.995}, low)
    assert (welch.method, welch.value) == (Method.WELCH, pytest.approx(paired.value))
    assert not welch.excludes(0)  # the scatter of the seeds hides it
    assert not difference_of({0: 0.6, 1: 0.6}, {0: 0.5, 1: 0.5}).excludes(0)  # no seed scatters
    single = difference_of({0: 0.9}, low)
    assert (single.interval_95, single.excludes(0)) == (None, False)
