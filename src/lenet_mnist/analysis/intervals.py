"""How sure a figure is: 95 % intervals, and tests of whether two trainings differ.

An interval over seeds says what other seeds would give; one over images, what other images would give. scipy.stats is
imported where it is needed: its import takes half a second, and neither `lenet train` nor `lenet evaluate` needs it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist, fmean, variance
from typing import NamedTuple

SURE = 0.05  # p-values below it tell two networks apart, as 95 % intervals without zero do
_UPPER = 0.975  # the quantile at the upper end of a 95 % interval


class Interval(NamedTuple):
    """Two ends, both included."""

    low: float
    high: float


class Method(StrEnum):
    """How an interval was computed."""

    WILSON = "wilson"
    STUDENT = "student-t"
    PAIRED = "paired-t"
    WELCH = "welch-t"
    NONE = "none"


@dataclass(frozen=True)
class Estimate:
    """A figure, a difference or a ratio, with its 95 % interval if it has one."""

    value: float
    interval_95: Interval | None
    method: Method

    def excludes(self, value: float) -> bool:
        """Whether there is an interval, and `value` is outside it: 0 for a difference, 1 for a ratio.

        One without width comes from seeds that happen to agree, which shows nothing.
        """
        interval = self.interval_95
        return interval is not None and interval.low < interval.high and not interval.low <= value <= interval.high


def wilson_interval(num_successes: int, num_trials: int) -> Interval:
    """Return Wilson's score interval of a fraction. It holds near 0 and 1 too, where accuracies are.

    Raises: ValueError if there is no trial, or the counts are impossible.
    Source: Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22, 1927.
    """
    if not 0 <= num_successes <= num_trials or num_trials == 0:
        raise ValueError(f"no interval for {num_successes} of {num_trials}")
    z = NormalDist().inv_cdf(_UPPER)
    fraction = num_successes / num_trials
    scale = 1 + z**2 / num_trials
    centre = (fraction + z**2 / (2 * num_trials)) / scale
    half = z * math.sqrt(fraction * (1 - fraction) / num_trials + z**2 / (4 * num_trials**2)) / scale
    return Interval(0.0 if num_successes == 0 else centre - half, 1.0 if num_successes == num_trials else centre + half)


def mean_interval(values: Sequence[float]) -> Interval:
    """Return Student's interval of the mean of `values`, one per seed. Raises: ValueError for fewer than two.

    Source: Student, "The probable error of a mean", Biometrika 6, 1908.
    """
    scatter = variance(values)
    return _student(fmean(values), scatter / len(values), len(values) - 1)


def resampled_interval(values: Sequence[float], num_folds: int) -> Interval:
    """Return the interval of a mean over folds. Their training images overlap: Student's would be too narrow.

    Raises: ValueError for fewer than two values.
    Source: Nadeau and Bengio, "Inference for the generalization error", Machine Learning 52, 2003, section 3.4: the
    variance is multiplied by 1/n + (images tested on) / (images trained on), instead of 1/n.
    """
    scatter = variance(values)
    return _student(fmean(values), scatter * (1 / len(values) + 1 / (num_folds - 1)), len(values) - 1)


def difference_interval(values: Sequence[float], others: Sequence[float]) -> Interval:
    """Return Welch's interval of mean(values) - mean(others), which were drawn independently.

    Raises: ValueError if one side has fewer than two values.
    Source: Welch, "The generalization of 'Student's' problem when several different population variances are
    involved", Biometrika 34, 1947.
    """
    squares = [variance(side) / len(side) for side in (values, others)]
    total = sum(squares) or 1.0  # where no side scatters, any freedom will do
    sizes = (len(values), len(others))
    parts = [(square / total) ** 2 / (size - 1) for square, size in zip(squares, sizes, strict=True)]
    return _student(fmean(values) - fmean(others), sum(squares), 1 / (sum(parts) or 1.0))


def mcnemar_p_value(num_fixed: int, num_broken: int) -> float:
    """Return the two-sided p-value of McNemar's exact test.

    If both networks were equally good, each image that only one of them has right would be the toss of a fair coin.

    Source: McNemar, "Note on the sampling error of the difference between correlated proportions or percentages",
    Psychometrika 12, 1947.
    """
    from scipy.stats import binomtest

    return float(binomtest(num_fixed, num_fixed + num_broken).pvalue) if num_fixed != num_broken else 1.0


def mean_of(values: Sequence[float]) -> Estimate:
    """Return the mean over the seeds of a group. A single seed has no interval."""
    if len(values) < 2:
        return Estimate(values[0], None, Method.NONE)
    return Estimate(fmean(values), mean_interval(values), Method.STUDENT)


def difference_of(values: Mapping[int, float], others: Mapping[int, float]) -> Estimate:
    """Return the mean of `values` minus the mean of `others`, both by seed.

    Runs with the same seed see the same images in the same order. So if both sides have the same seeds, the interval is
    that of the differences seed by seed (paired t), otherwise Welch's.
    """
    value = fmean(values.values()) - fmean(others.values())
    if min(len(values), len(others)) < 2:
        return Estimate(value, None, Method.NONE)
    if values.keys() == others.keys():
        return Estimate(value, mean_interval([values[seed] - others[seed] for seed in values]), Method.PAIRED)
    return Estimate(value, difference_interval(list(values.values()), list(others.values())), Method.WELCH)


def _student(middle: float, square: float, freedom: float) -> Interval:
    """Return `middle` +- t * sqrt(square), where `square` is the square of a standard error."""
    from scipy.stats import t  # whose own ttest_ind warns where one side does not scatter

    half = float(t.ppf(_UPPER, freedom)) * math.sqrt(square)
    return Interval(middle - half, middle + half)
