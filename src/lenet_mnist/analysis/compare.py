"""Trainings side by side: what is one group, what its figure is and how sure, which of two is better.

Seeds are what scatters: an interval over several seeds tells what other seeds would give. A single training tells only
what other images would give.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean
from typing import Any

import numpy as np

from lenet_mnist.analysis.evaluate import Counts, Evaluation
from lenet_mnist.analysis.intervals import Interval, difference_interval, mean_interval, wilson_interval
from lenet_mnist.config_file import value_text
from lenet_mnist.errors import DataError

SURE = 0.05  # p-values below it tell two networks apart, as 95 % intervals without zero do
_MAIN_KEYS = ["model.activation", "training.learning_rate"]


class Method(StrEnum):
    """What an interval was made by."""

    WILSON = "wilson"
    STUDENT = "student-t"
    PAIRED = "paired-t"
    WELCH = "welch-t"
    NONE = "none"


@dataclass(frozen=True)
class Estimate:
    """A figure of one group, and where it lies with 95 % confidence."""

    value: float
    interval: Interval | None
    method: Method


@dataclass(frozen=True)
class Difference:
    """The mean of one group less that of another, and where it lies with 95 % confidence."""

    value: float
    interval: Interval | None
    method: Method

    @property
    def is_sure(self) -> bool:
        """Whether the two can be told apart."""
        return self.interval is not None and not self.interval.low <= 0 <= self.interval.high


@dataclass(frozen=True, eq=False)
class PairedAnswers:
    """Two networks' answers to the same images.

    Shapes: fixed, broken: positions of the images that only the first, or only the second, has right; those come first
    of which the one that errs is most sure.
    """

    fixed: Counts
    broken: Counts
    num_both_right: int
    num_both_wrong: int

    @property
    def p_value(self) -> float:
        """How often two networks that err equally often would differ by as much."""
        return mcnemar_p_value(len(self.fixed), len(self.broken))

    @property
    def is_sure(self) -> bool:
        """Whether the two can be told apart."""
        return self.p_value < SURE


def groups_of(settings: Sequence[Mapping[str, Hashable]]) -> list[list[int]]:
    """Return the positions of those with equal settings, together, in the order in which they first appear."""
    groups: dict[Hashable, list[int]] = {}
    for position, values in enumerate(settings):
        groups.setdefault(tuple(values.items()), []).append(position)
    return list(groups.values())


def names_of(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name each by what differs between them: "relu, lr 0.04". All have the same dotted keys in the same order.

    Where there is but one, activation and learning rate say what it is.
    """
    differing = [key for key in settings[0] if len({values[key] for values in settings}) > 1] or _MAIN_KEYS
    return [", ".join(_words(key, values[key]) for key in differing) for values in settings]


def accuracy_of_one(evaluation: Evaluation) -> Estimate:
    """Return a single training's accuracy; its interval is over images."""
    interval = wilson_interval(evaluation.num_correct, len(evaluation))
    return Estimate(evaluation.accuracy, interval, Method.WILSON)


def mean_of(values: Sequence[float]) -> Estimate:
    """Return the mean over the seeds of a group; a single one has no interval."""
    if len(values) < 2:
        return Estimate(values[0], None, Method.NONE)
    return Estimate(fmean(values), mean_interval(values), Method.STUDENT)


def difference_of(values: Mapping[int, float], others: Mapping[int, float]) -> Difference:
    """Return how far the mean of `values` lies above that of `others`, both by seed.

    Equal seeds see the same images in the same order: where both have the same ones, the differences seed by seed count
    (paired t), otherwise each side's own scatter (Welch).
    """
    value = fmean(values.values()) - fmean(others.values())
    if min(len(values), len(others)) < 2:
        return Difference(value, None, Method.NONE)
    if values.keys() == others.keys():
        return Difference(value, mean_interval([values[seed] - others[seed] for seed in values]), Method.PAIRED)
    return Difference(value, difference_interval(list(values.values()), list(others.values())), Method.WELCH)


def pair_answers(first: Evaluation, second: Evaluation) -> PairedAnswers:
    """Return which images the one has right and the other wrong. Raises: DataError if they are not the same images."""
    is_same = np.array_equal(first.indices, second.indices) and np.array_equal(first.labels, second.labels)
    if not is_same or first.class_names != second.class_names:
        raise DataError("the two networks have answered for other images or classes")
    first_right, second_right = first.predictions == first.labels, second.predictions == second.labels
    return PairedAnswers(
        fixed=_most_confident(second, first_right & ~second_right),
        broken=_most_confident(first, second_right & ~first_right),
        num_both_right=int((first_right & second_right).sum()),
        num_both_wrong=int((~first_right & ~second_right).sum()),
    )


def mcnemar_p_value(num_fixed: int, num_broken: int) -> float:
    """Return the two-sided p-value of McNemar's exact test, in whole numbers up to the last division.

    Source: McNemar, "Note on the sampling error of the difference between correlated proportions or percentages",
    Psychometrika 12, 1947; a fair coin decides each image on which the two differ.
    """
    if num_fixed == num_broken:
        return 1.0
    num_differing, ways, term = num_fixed + num_broken, 0, 1
    for k in range(min(num_fixed, num_broken) + 1):
        ways += term
        term = term * (num_differing - k) // (k + 1)
    return min(1.0, float(2 * ways / 2**num_differing))


def _most_confident(wrong: Evaluation, chosen: Any) -> Counts:
    """Return the chosen positions, those first where the wrong network is most sure."""
    positions = np.flatnonzero(chosen)
    return positions[np.argsort(-wrong.confidences[positions], kind="stable")]


def _words(key: str, value: Any) -> str:
    """Say in a few words what a setting is."""
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
