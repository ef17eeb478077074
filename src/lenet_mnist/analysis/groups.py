"""Groups of trainings that differ in their seed only: which, what they are called, and how fast each learns.

How fast is counted in updates to a training loss. The loss of single batches is noisy, so it is smoothed first: over
the logarithm of the step, because a loss that halves within 10 updates at the start takes 1,000 to halve at the end.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from string import ascii_uppercase
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_mnist.analysis.intervals import Estimate, Interval, difference_of
from lenet_mnist.config_file import value_text
from lenet_mnist.training.rows import StepRow

_MAIN_KEYS = ["model.activation", "training.learning_rate"]
_REACH = 1.25  # to both sides; docs/compare.md says how well that works
_MOST = 1e6  # nats; a larger loss is counted as this, or its rounding error would stay in all later sums

Reals = npt.NDArray[np.float64]


def groups_of(settings: Sequence[Mapping[str, Hashable]]) -> list[list[int]]:
    """Return the positions of equal settings, in the order in which they first appear."""
    groups: dict[Hashable, list[int]] = {}
    for position, values in enumerate(settings):
        groups.setdefault(tuple(values.items()), []).append(position)
    return list(groups.values())


def names_of(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name each group by what differs between them: "relu, lr 0.04". All have the same dotted keys.

    A single group is named by its activation and learning rate.
    """
    differing = [key for key in settings[0] if len({values[key] for values in settings}) > 1] or _MAIN_KEYS
    return [", ".join(_words(key, values[key]) for key in differing) for values in settings]


def letter_of(number: int) -> str:
    """Return A, B, ... Z, A2, B2, ..."""
    again, place = divmod(number, len(ascii_uppercase))
    return ascii_uppercase[place] + (str(again + 1) if again else "")


def _words(key: str, value: Any) -> str:
    name = key.rpartition(".")[2]
    match name:
        case "activation" | "optimizer" | "schedule" | "device":
            return str(value)
        case "learning_rate":
            return f"lr {value:.12g}"
        case "max_epochs":
            return f"{value} epoch{'' if value == 1 else 's'}"
    text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else value_text(value)
    return f"{name} {'all' if value is None and name == 'limit_train' else text}"


def smoothed_loss(steps: Sequence[StepRow]) -> tuple[Reals, Reals]:
    """Return steps and smoothed training losses, one point per row. The rows must be in the order of their steps.

    Each point is the mean over the rows within a factor of 1.25, a row weighing as much as the number of updates since
    the previous row. It is placed at the mean logarithm of their steps, so that a fall is not shifted where the rows
    end or thin out.
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
    """Return the step at which the smoothed training loss first falls below `level` nats, or None if it never does.

    Between two points the loss is interpolated linearly in the logarithm of the step.
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


def speed_ratio(steps: Mapping[int, float | None], others: Mapping[int, float | None]) -> Estimate | None:
    """Return how many times fewer steps the first side needs, from the steps to a level by seed of both sides.

    It is the ratio of the geometric means over seeds. None if a training never reached the level.
    """
    logs = {seed: math.log(step) for seed, step in steps.items() if step is not None}
    other_logs = {seed: math.log(step) for seed, step in others.items() if step is not None}
    if len(logs) < len(steps) or len(other_logs) < len(others) or not logs or not other_logs:
        return None
    difference = difference_of(other_logs, logs)
    interval = difference.interval_95 and Interval(*map(math.exp, difference.interval_95))
    return Estimate(math.exp(difference.value), interval, difference.method)
