"""Cross-validation: each image is tested once, by a network that has not seen it.

configuration -> folds, each into journal.jsonl as it ends -> tables and metrics.json in runs/<id>

Each fold is trained on by a network for all other folds together: the whole schedule, and the last weights. Nothing is
chosen by the fold that is then tested, so that its figures are not flattered; there is no early stopping. What the
manifest says of the split is that of the first fold.

Source: lecture point 11, where the data are too few for a validation part of their own.
"""

import time
from dataclasses import asdict, astuple, dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import torch

from lenet_mnist.analysis.intervals import Interval, resampled_interval
from lenet_mnist.analysis.metrics import Counts, Scored, evaluate
from lenet_mnist.config import AUTO, MAX_SEED, Config, Schedule
from lenet_mnist.config_file import ResolvedConfig
from lenet_mnist.data.sets import Normalization, TrainSet, TrainVal, ValSet
from lenet_mnist.data.split import digest_of_split, limit, stratified_folds
from lenet_mnist.errors import ConfigError, DivergedError
from lenet_mnist.files.tables import write_csv
from lenet_mnist.randomness import Purpose, random_keys
from lenet_mnist.runs.results import write_figures
from lenet_mnist.runs.run import Run
from lenet_mnist.study.study import StudyKind, study_under_way
from lenet_mnist.training.checkpoint import TrainedNetwork
from lenet_mnist.training.context import Context, Session
from lenet_mnist.training.loop import StopReason, train
from lenet_mnist.training.rows import EpochRow
from lenet_mnist.training.state import TrainState
from lenet_mnist.training.workers import PoolSize

_FOLD_COLUMNS = ("repeat", "fold", "num_train", "num_images", "num_correct", "accuracy", "loss", "seconds")


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
    """All folds of a run together, in their order. Its counts are over all repeats."""

    run: Run
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


def cross_validate(
    place: Path | Run, wanted: ResolvedConfig, num_folds: int | None, num_repeats: int | None, session: Session
) -> CrossValidation:
    """Cross-validate into a new directory in `place`, 5 folds once unless told otherwise, or resume the run `place`.

    No test image is opened.

    Raises: as `study_under_way`; ConfigError if there are fewer images than folds; DivergedError if a fold's training
    diverged.
    """
    asked = {"num_folds": num_folds, "num_repeats": num_repeats}
    with study_under_way(CROSS_VALIDATION, place, wanted, asked, session) as study:
        folds: Folds = study.journal.request
        config, data = _with_all_images(study.config), study.context.data
        trials = [Fold(folds, r + 1, k + 1) for r in range(folds.num_repeats) for k in range(folds.num_folds)]
        num_images = folds.num_images or len(data.train) + len(data.val)
        # The threads are shared out as for all folds, also if few are missing: the last bits depend on it.
        size = PoolSize.of(study.context, len(trials), len(trials) * num_images * config.training.max_epochs)
        with study.pool(config, size) as workers:
            study.run_trials(workers, train_fold, trials, _fold_line)
        results = sorted(study.journal.results.values(), key=lambda result: (result.fold.repeat, result.fold.number))
        if num_diverged := sum(result.has_diverged for result in results):
            lost = f"{num_diverged} of {len(results)} trainings diverged"
            raise DivergedError(f"{study.run.path}: {lost}: lower the rate")
        pooled = CrossValidation(study.run, folds, data.class_names, tuple(results))
        _write_tables(study.run, pooled)
        best = {"best_val_loss": pooled.mean_loss, "best_val_accuracy": pooled.accuracy}
        study.run.note(status="finished", message=None, **best)
        return pooled


def _with_all_images(config: Config) -> Config:
    """Return the configuration that loads every image: which of them are taken is for the folds to say."""
    return config.replace({"data.limit_train": None})


def _contexts(config: Config, folds: Folds, session: Session) -> tuple[Context, Context]:
    require_foldable(config)
    if folds.num_repeats < 1:
        raise ConfigError(f"{folds.num_repeats} repeats: at least 1 is needed")
    context = session.context(_with_all_images(config))
    return context, replace(context, data=fold_of(context.data, Fold(folds, 1, 1), config.data.split_seed))


CROSS_VALIDATION = StudyKind(
    "cross-validation",
    {"folds": Folds, "fold": FoldResult},
    trial="fold",
    defaults=lambda config: {"num_folds": 5, "num_repeats": 1, "num_images": config.data.limit_train},
    contexts=_contexts,
)


def _fold_line(result: FoldResult) -> str:
    fold = result.fold
    repeat = f"repeat {fold.repeat}  " if fold.folds.num_repeats > 1 else ""
    ended = "diverged" if result.has_diverged else f"accuracy {result.accuracy:.2%}  loss {result.mean_loss:.4f}"
    return f"{repeat}fold {fold.number}/{fold.folds.num_folds}  {ended}  {result.seconds:.1f} s"


def require_foldable(config: Config) -> None:
    """Raise ConfigError if something in `config` would be chosen by the fold that is tested on."""
    training, tested = config.training, "the images that are tested on"
    if training.learning_rate == AUTO:
        advice = "find the rate first, with lenet lr-sweep"
        raise ConfigError(f"a search would use {tested}: {advice}", key="training.learning_rate")
    if training.teachers:
        raise ConfigError(f"teachers have seen {tested}: leave them out", key="training.teachers")
    if training.schedule is Schedule.PLATEAU:
        raise ConfigError(f"it follows the loss on {tested}: choose a different one", key="training.schedule")


def fold_of(data: TrainVal, fold: Fold, split_seed: int) -> TrainVal:
    """Return `data`, the training and the validation part together, divided for one fold, which becomes `val`.

    Which images are taken, and into which fold each goes, does not depend on how they were divided before.

    Raises: ConfigError if there are too few images.
    """
    first, second = data.train, data.val
    images, indices = torch.cat([first.images, second.images]), torch.cat([first.indices, second.indices])
    joined = TrainSet(images, torch.cat([first.labels, second.labels]), indices).part(indices.argsort())
    labels = joined.labels.numpy()
    chosen = limit(np.arange(len(labels)), labels, fold.folds.num_images, split_seed)
    keys = random_keys(split_seed, Purpose.FOLDS, len(labels), position=fold.repeat)[chosen]
    is_held_out = stratified_folds(labels[chosen], fold.folds.num_folds, keys) == fold.number - 1
    train_set, held_out = (joined.part(torch.from_numpy(chosen[these])) for these in (~is_held_out, is_held_out))
    split = digest_of_split(train_set.indices.numpy(), held_out.indices.numpy())
    return replace(
        data,
        train=train_set,
        val=ValSet(held_out.images, held_out.labels, held_out.indices),
        normalization=Normalization.of(train_set),
        fingerprint=replace(data.fingerprint, split=split),
    )


def train_fold(config: Config, context: Context, fold: Fold) -> FoldResult:
    """Train on all folds but one, and test on that one. Each repeat has a seed, and a division, of its own."""
    started = time.perf_counter()
    seed = (config.seed + fold.repeat - 1) % (MAX_SEED + 1)
    config = config.replace({"training.patience": None, "seed": seed})
    data = fold_of(context.data, fold, config.data.split_seed)
    context = replace(context, data=data)
    state = TrainState.start(config, context)
    has_diverged = train(config, context, state).stop_reason is not StopReason.MAX_EPOCHS
    answers: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], float] = ((), (), (), 0.0)
    if not has_diverged:
        trained = TrainedNetwork(state.network, data.normalization, data.class_names, config.training.max_epochs)
        seen = evaluate(trained, data.val, context.device)
        indices, labels, predictions = (tuple(c.tolist()) for c in (seen.indices, seen.labels, seen.predictions))
        answers = indices, labels, predictions, seen.loss_sum
    history, seconds = tuple(state.histories.history), time.perf_counter() - started
    return FoldResult(fold, len(data.train), *answers, history, seconds, has_diverged)


def _write_tables(run: Run, pooled: CrossValidation) -> None:
    """Write metrics.json, folds.csv, fold_history.csv, predictions.csv, per_class.csv and confusion_matrix.csv."""
    names = pooled.class_names
    write_figures(run.path, pooled, pooled.metrics())
    rows = [
        [r.fold.repeat, r.fold.number, r.num_train, len(r.labels), r.num_correct, r.accuracy, r.mean_loss, r.seconds]
        for r in pooled.results
    ]
    write_csv(run.path / "folds.csv", _FOLD_COLUMNS, rows)
    epochs = [[r.fold.repeat, r.fold.number, *astuple(row)] for r in pooled.results for row in r.history]
    columns = list(asdict(pooled.results[0].history[0]))
    write_csv(run.path / "fold_history.csv", ["repeat", "fold", *columns], epochs)
    answers = [
        [r.fold.repeat, r.fold.number, index, names[label], names[prediction]]
        for r in pooled.results
        for index, label, prediction in zip(r.indices, r.labels, r.predictions, strict=True)
    ]
    write_csv(run.path / "predictions.csv", ["repeat", "fold", "index", "label", "prediction"], answers)
