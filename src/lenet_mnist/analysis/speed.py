"""How many updates a training needs to a level of its loss, and how many times fewer one needs than another.

The loss of single batches scatters, so it is smoothed first: in the logarithm of the step, because a training that
falls by half within 10 updates at its start takes 1,000 for it at its end.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lenet_mnist.analysis.compare import Method, difference_of
from lenet_mnist.analysis.intervals import Interval
from lenet_mnist.training.updates import StepRow

_REACH = 1.25  # to both sides; docs/compare.md says what was measured of it
_MOST = 1e6  # nats; a burst above it counts as this, or its rounding would be carried into all later sums

Reals = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Ratio:
    """How many times as many steps one side needs as the other, and where that lies with 95 % confidence.

    `value` is the ratio of the geometric means over seeds; None if a training has never got there.
    """

    value: float | None
    interval: Interval | None
    method: Method

    @property
    def is_sure(self) -> bool:
        """Whether the two can be told apart."""
        return self.interval is not None and not self.interval.low <= 1 <= self.interval.high


def smoothed_loss(steps: Sequence[StepRow]) -> tuple[Reals, Reals]:
    """Return steps and smoothed training losses: a point for each row, which are in the order of their steps.

    Each is the mean over the rows within a factor of 1.25, a row counting for the updates since the one before it; it
    stands at the mean logarithm of their steps, so that a fall is not shifted where the rows end or thin out.
    """
    if not steps:
        return np.empty(0), np.empty(0)
    at = np.array([row.step for row in steps], dtype=float)
    weights = np.diff(at, prepend=0.0)
    first = np.searchsorted(at, at / _REACH, side="left")
    behind = np.searchsorted(at, at * _REACH, side="right")

    def sums(values: Reals) -> Reals:
        running = np.concatenate([[0.0], np.cumsum(weights * values)])
        return np.asarray(running[behind] - running[first])

    total = sums(np.ones(len(at)))
    losses = np.array([min(row.train_loss, _MOST) for row in steps])
    return np.exp(sums(np.log(at)) / total), sums(losses) / total


def steps_to_level(steps: Sequence[StepRow], level: float) -> float | None:
    """Return the step at which the smoothed training loss first falls below `level`, or None if it never does.

    Units: `level` in nats. Between two points the loss is a straight line in the logarithm of the step.
    """
    at, losses = smoothed_loss(steps)
    below = np.flatnonzero(losses < level)
    if len(below) == 0:
        return None
    k = int(below[0])
    if k == 0:
        return float(at[0])
    share = (losses[k - 1] - level) / (losses[k - 1] - losses[k])
    return float(at[k - 1] * (at[k] / at[k - 1]) ** share)


def speed_ratio(steps: Mapping[int, float | None], others: Mapping[int, float | None]) -> Ratio:
    """Return how many times fewer steps the first side needs: the steps to a level by seed, of both sides.

    With the same seeds on both sides they are compared seed by seed; a single training on a side gives no interval.
    """
    logs = {seed: math.log(step) for seed, step in steps.items() if step is not None}
    other_logs = {seed: math.log(step) for seed, step in others.items() if step is not None}
    if len(logs) < len(steps) or len(other_logs) < len(others) or not logs or not other_logs:
        return Ratio(None, None, Method.NONE)
    difference = difference_of(other_logs, logs)
    interval = difference.interval and Interval(math.exp(difference.interval.low), math.exp(difference.interval.high))
    return Ratio(math.exp(difference.value), interval, difference.method)
