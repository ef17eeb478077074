import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats

from lenet_mnist.analysis.intervals import wilson_interval

every_time_the_same = settings(
    derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


@st.composite
def counts(draw: st.DrawFn) -> tuple[int, int]:
    num_trials = draw(st.integers(1, 200) | st.integers(1, 1_000_000))
    return draw(st.integers(0, num_trials) | st.sampled_from([0, 1, num_trials - 1, num_trials])), num_trials


@every_time_the_same
@given(counts(), st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.99, 0.999]))
def test_it_is_scipys_wilson_interval(counted: tuple[int, int], confidence: float) -> None:
    expected = stats.binomtest(*counted).proportion_ci(confidence, method="wilson")
    assert wilson_interval(*counted, confidence) == pytest.approx((expected.low, expected.high), rel=0, abs=1e-12)


@every_time_the_same
@given(counts())
def test_it_holds_the_fraction_and_stays_within_zero_and_one(counted: tuple[int, int]) -> None:
    low, high = wilson_interval(*counted)
    assert 0 <= low <= counted[0] / counted[1] <= high <= 1
    assert low < high


@every_time_the_same
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
