"""How sure a measured figure is: a fraction of images, a mean over seeds, a difference of two means."""

import math
from collections.abc import Sequence
from statistics import NormalDist, fmean, variance
from typing import NamedTuple

from lenet_mnist.student import t_quantile


class Interval(NamedTuple):
    """Two ends, both included."""

    low: float
    high: float


def wilson_interval(num_successes: int, num_trials: int, confidence: float = 0.95) -> Interval:
    """Return Wilson's score interval of a fraction: fair also near 0 and 1, where accuracies lie.

    Raises: ValueError if there is no trial, or the counts or the confidence are impossible.
    Source: Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22, 1927.
    """
    if not 0 <= num_successes <= num_trials or num_trials == 0 or not 0 < confidence < 1:
        raise ValueError(f"no interval for {num_successes} of {num_trials} at confidence {confidence}")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    fraction = num_successes / num_trials
    scale = 1 + z**2 / num_trials
    centre = (fraction + z**2 / (2 * num_trials)) / scale
    half = z * math.sqrt(fraction * (1 - fraction) / num_trials + z**2 / (4 * num_trials**2)) / scale
    low = 0.0 if num_successes == 0 else centre - half
    high = 1.0 if num_successes == num_trials else centre + half
    return Interval(low, high)


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Return Student's interval of the mean that `values`, one a seed, were drawn around.

    Raises: ValueError if there are fewer than two values.
    Source: Student, "The probable error of a mean", Biometrika 6, 1908.
    """
    if len(values) < 2:
        raise ValueError("one value does not tell how far the values scatter")
    half = t_quantile((1 + confidence) / 2, len(values) - 1) * math.sqrt(variance(values) / len(values))
    return Interval(fmean(values) - half, fmean(values) + half)


def resampled_interval(values: Sequence[float], num_folds: int, confidence: float = 0.95) -> Interval:
    """Return the interval of a mean over folds, `values`, whose training parts overlap: Student's would be too narrow.

    Raises: ValueError if there are fewer than two values.
    Source: Nadeau and Bengio, "Inference for the generalization error", Machine Learning 52, 2003, section 3.4: the
    variance is taken times 1/n + (images tested on) / (images trained on), instead of 1/n.
    """
    if len(values) < 2:
        raise ValueError("one value does not tell how far the values scatter")
    scale = 1 / len(values) + 1 / (num_folds - 1)
    half = t_quantile((1 + confidence) / 2, len(values) - 1) * math.sqrt(variance(values) * scale)
    return Interval(fmean(values) - half, fmean(values) + half)


def difference_interval(values: Sequence[float], others: Sequence[float], confidence: float = 0.95) -> Interval:
    """Return Welch's interval of mean(values) - mean(others), drawn independently and with scatters of their own.

    Raises: ValueError if there are fewer than two values on a side.
    Source: Welch, "The generalization of 'Student's' problem when several different population variances are
    involved", Biometrika 34, 1947.
    """
    if min(len(values), len(others)) < 2:
        raise ValueError("one value does not tell how far the values scatter")
    difference = fmean(values) - fmean(others)
    squares = [variance(side) / len(side) for side in (values, others)]
    if sum(squares) == 0:
        return Interval(difference, difference)
    shares = [square / sum(squares) for square in squares]
    freedom = 1 / sum(share**2 / (len(side) - 1) for share, side in zip(shares, (values, others), strict=True))
    half = t_quantile((1 + confidence) / 2, freedom) * math.sqrt(sum(squares))
    return Interval(difference - half, difference + half)
