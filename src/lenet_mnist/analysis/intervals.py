"""How sure a measured fraction is."""

import math
from statistics import NormalDist
from typing import NamedTuple


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
