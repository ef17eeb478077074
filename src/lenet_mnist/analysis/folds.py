"""Cross-validation: every image is tested on once, by a network that was not trained on it.

Each fold is trained on by a network for all other folds together: the whole schedule, and the last weights. Nothing is
chosen by the fold that is then tested on, so that its figures are not flattered; there is no early stopping.

Source: lecture point 11, where the data are too few for a validation part of their own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, stdev
from typing import Any

import numpy as np

from lenet_mnist.analysis.intervals import Interval, resampled_interval
from lenet_mnist.analysis.metrics import Counts, Scored
from lenet_mnist.training.rows import EpochRow


@dataclass(frozen=True)
class Folds:
    """The folds of `num_images`, or of all: `num_folds`, divided differently in each of `num_repeats`."""

    num_folds: int
    num_repeats: int
    num_images: int | None


@dataclass(frozen=True)
class Fold:
    """One training: on all but fold `number` of `repeat`. Both are counted from 1."""

    folds: Folds
    repeat: int
    number: int


@dataclass(frozen=True)
class FoldResult:
    """What a network said of the fold that it was not trained on, or nothing if its training diverged.

    `indices`, `labels` and `predictions` hold one number per image; `loss_sum` is in nats.
    """

    fold: Fold
    num_train: int
    indices: tuple[int, ...]
    labels: tuple[int, ...]
    predictions: tuple[int, ...]
    loss_sum: float
    history: tuple[EpochRow, ...]
    seconds: float
    has_diverged: bool = False

    @property
    def num_correct(self) -> int:
        """Images whose prediction is their label."""
        return sum(one == other for one, other in zip(self.labels, self.predictions, strict=True))

    @property
    def accuracy(self) -> float:
        return self.num_correct / len(self.labels)

    @property
    def mean_loss(self) -> float:
        """Mean cross-entropy, in nats per image."""
        return self.loss_sum / len(self.labels)


@dataclass(frozen=True)
class CrossValidation(Scored):
    """All folds together. Its counts are over all repeats."""

    folds: Folds
    class_names: tuple[str, ...]
    results: tuple[FoldResult, ...]

    @property
    def accuracies(self) -> list[float]:
        return [result.accuracy for result in self.results]

    @property
    def mean_loss(self) -> float:
        """Mean cross-entropy, in nats per image."""
        return sum(result.loss_sum for result in self.results) / self.num_images

    @property
    def deviation(self) -> float:
        """Standard deviation of the folds' accuracies."""
        return stdev(self.accuracies)

    @property
    def accuracy_interval(self) -> Interval:
        """95 % interval of the accuracy on new images, of networks trained on as many images, cut off at 0 and 1."""
        low, high = resampled_interval(self.accuracies, self.folds.num_folds)
        return Interval(max(low, 0.0), min(high, 1.0))

    @cached_property
    def confusion_matrix(self) -> Counts:
        matrix = np.zeros((len(self.class_names), len(self.class_names)), dtype=np.int64)
        for result in self.results:
            np.add.at(matrix, (np.array(result.labels), np.array(result.predictions)), 1)
        return matrix

    def metrics(self) -> dict[str, Any]:
        low, high = self.accuracy_interval
        return {
            "num_folds": self.folds.num_folds,
            "num_repeats": self.folds.num_repeats,
            "num_images": self.num_images // self.folds.num_repeats,
            "num_train": self.results[0].num_train,
            "accuracy": self.accuracy,
            "accuracy_interval_95": {"method": "nadeau-bengio", "low": low, "high": high},
            "fold_accuracy_mean": fmean(self.accuracies),
            "fold_accuracy_deviation": self.deviation,
            "loss": self.mean_loss,
            "per_class": [row.as_dict() for row in self.per_class],
        }


def pool(folds: Folds, class_names: tuple[str, ...], results: Sequence[FoldResult]) -> CrossValidation:
    """Put all folds together, in their order."""
    ordered = sorted(results, key=lambda result: (result.fold.repeat, result.fold.number))
    return CrossValidation(folds, class_names, tuple(ordered))
