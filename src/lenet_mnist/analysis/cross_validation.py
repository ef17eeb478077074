"""Cross-validation: every image is tested on once, by a network that was not trained on it.

Each fold is trained on by a network for all other folds together: the whole schedule, and the last weights. Nothing is
chosen by the fold that is then tested on, so that its figures are not flattered; there is no early stopping.

Source: lecture point 11, where the data are too few for a validation part of their own.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean, stdev
from typing import Any

import numpy as np
import torch

from lenet_mnist.analysis.intervals import Interval, resampled_interval
from lenet_mnist.analysis.metrics import ClassScores, Counts, evaluate, scores_of
from lenet_mnist.config import AUTO, MAX_SEED, Config, Schedule
from lenet_mnist.data.sets import Normalization, TrainSet, TrainVal, ValSet
from lenet_mnist.data.split import digest_of_split, limit, stratified_folds
from lenet_mnist.errors import ConfigError
from lenet_mnist.randomness import Purpose, random_keys
from lenet_mnist.training.checkpoint import TrainedNetwork
from lenet_mnist.training.loop import EpochRow, StopReason, start_training, train
from lenet_mnist.tuning.trial import Workbench


@dataclass(frozen=True)
class Folds:
    """How the images are divided: into `num_folds`, anew for each of `num_repeats`, from `num_images` or all."""

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

    `indices`, `labels` and `predictions` hold one number an image; `loss_sum` is in nats.
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
        """Fraction of the fold that was right."""
        return self.num_correct / len(self.labels)

    @property
    def mean_loss(self) -> float:
        """Mean cross-entropy, in nats an image."""
        return self.loss_sum / len(self.labels)


@dataclass(frozen=True)
class CrossValidation:
    """All folds together."""

    folds: Folds
    class_names: tuple[str, ...]
    results: tuple[FoldResult, ...]

    @property
    def num_images(self) -> int:
        """Images, each of which was tested on once a repeat."""
        return sum(len(result.labels) for result in self.results) // self.folds.num_repeats

    @property
    def accuracies(self) -> list[float]:
        """One a fold."""
        return [result.accuracy for result in self.results]

    @property
    def accuracy(self) -> float:
        """Fraction of all images that were right, over all repeats."""
        return sum(result.num_correct for result in self.results) / sum(len(result.labels) for result in self.results)

    @property
    def mean_loss(self) -> float:
        """Mean cross-entropy over all images and repeats, in nats."""
        return sum(result.loss_sum for result in self.results) / sum(len(result.labels) for result in self.results)

    @property
    def deviation(self) -> float:
        """Standard deviation of the folds' accuracies."""
        return stdev(self.accuracies)

    @property
    def interval(self) -> Interval:
        """95 % interval of the accuracy on new images, of networks trained on so many; it ends at 0 and 1."""
        low, high = resampled_interval(self.accuracies, self.folds.num_folds)
        return Interval(max(low, 0.0), min(high, 1.0))

    @cached_property
    def confusion_matrix(self) -> Counts:
        """Images of class `row` that were called `column`, over all repeats. Shape: K K."""
        matrix = np.zeros((len(self.class_names), len(self.class_names)), dtype=np.int64)
        for result in self.results:
            np.add.at(matrix, (np.array(result.labels), np.array(result.predictions)), 1)
        return matrix

    @property
    def per_class(self) -> list[ClassScores]:
        """One row a class, from the pooled matrix."""
        return scores_of(self.confusion_matrix, self.class_names)

    def metrics(self) -> dict[str, Any]:
        """Return the figures as plain values for JSON."""
        low, high = self.interval
        return {
            "num_folds": self.folds.num_folds,
            "num_repeats": self.folds.num_repeats,
            "num_images": self.num_images,
            "num_train": self.results[0].num_train,
            "accuracy": self.accuracy,
            "accuracy_interval_95": {"method": "nadeau-bengio", "low": low, "high": high},
            "fold_accuracy_mean": fmean(self.accuracies),
            "fold_accuracy_deviation": self.deviation,
            "loss": self.mean_loss,
            "per_class": [row.as_dict() for row in self.per_class],
        }


def require_foldable(config: Config) -> None:
    """Raise ConfigError if something in `config` would be chosen by the fold that is tested on."""
    if config.training.learning_rate == AUTO:
        raise ConfigError(
            "a search would look at the images that are tested on: find the rate first, with lenet lr-sweep",
            key="training.learning_rate",
        )
    if config.training.teachers:
        raise ConfigError("teachers have seen the images that are tested on: leave them out", key="training.teachers")
    if config.training.schedule is Schedule.PLATEAU:
        raise ConfigError(
            "this schedule follows the loss on the images that are tested on: take another one",
            key="training.schedule",
        )


def all_folds(folds: Folds) -> list[Fold]:
    """Return every training that `folds` asks for."""
    return [
        Fold(folds, repeat, number)
        for repeat in range(1, folds.num_repeats + 1)
        for number in range(1, folds.num_folds + 1)
    ]


def fold_of(data: TrainVal, fold: Fold, split_seed: int) -> TrainVal:
    """Return `data`, the training and the validation part together, divided for one fold, which becomes `val`.

    Which images are taken, and into which fold each goes, does not depend on how they were divided before.

    Raises: ConfigError if there are too few images.
    """
    images, labels, indices = (
        torch.cat([getattr(data.train, name), getattr(data.val, name)]) for name in ("images", "labels", "indices")
    )
    order = indices.argsort()
    images, labels, indices = images[order], labels[order], indices[order]
    numbers = labels.numpy()
    chosen = limit(np.arange(len(numbers)), numbers, fold.folds.num_images, split_seed)
    keys = random_keys(split_seed, Purpose.FOLDS, len(numbers), position=fold.repeat)[chosen]
    is_held_out = stratified_folds(numbers[chosen], fold.folds.num_folds, keys) == fold.number - 1
    train_part, val_part = (torch.from_numpy(chosen[held_out]) for held_out in (~is_held_out, is_held_out))
    train_set = TrainSet(images[train_part], labels[train_part], indices[train_part])
    return replace(
        data,
        train=train_set,
        val=ValSet(images[val_part], labels[val_part], indices[val_part]),
        normalization=Normalization.of(train_set),
        fingerprint=replace(
            data.fingerprint, split=digest_of_split(indices[train_part].numpy(), indices[val_part].numpy())
        ),
    )


def train_fold(bench: Workbench, fold: Fold) -> FoldResult:
    """Train on all folds but one, and test on that one. Each repeat has a seed, and a division, of its own."""
    started = time.perf_counter()
    training = bench.config.training.model_copy(update={"patience": None})
    config = bench.config.model_copy(
        update={"training": training, "seed": (bench.config.seed + fold.repeat - 1) % (MAX_SEED + 1)}
    )
    data = fold_of(bench.data, fold, config.data.split_seed)
    state = start_training(config, data, bench.device, bench.engine)
    history: list[EpochRow] = []
    ended = train(config, data, state, lambda _row: False, history.append)
    if ended.stop_reason is not StopReason.MAX_EPOCHS:
        seconds = time.perf_counter() - started
        return FoldResult(fold, len(data.train), (), (), (), 0.0, tuple(history), seconds, has_diverged=True)
    trained = TrainedNetwork(state.network, data.normalization, data.class_names, training.max_epochs)
    seen = evaluate(trained, data.val, bench.device)
    return FoldResult(
        fold=fold,
        num_train=len(data.train),
        indices=tuple(seen.indices.tolist()),
        labels=tuple(seen.labels.tolist()),
        predictions=tuple(seen.predictions.tolist()),
        loss_sum=seen.loss_sum,
        history=tuple(history),
        seconds=time.perf_counter() - started,
    )


def pool(folds: Folds, class_names: tuple[str, ...], results: Sequence[FoldResult]) -> CrossValidation:
    """Put all folds together, in their order."""
    ordered = sorted(results, key=lambda result: (result.fold.repeat, result.fold.number))
    return CrossValidation(folds, class_names, tuple(ordered))
