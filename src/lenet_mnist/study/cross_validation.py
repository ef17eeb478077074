"""One cross-validation on disk: each image is tested once, by a network that has not seen it.

configuration -> folds, each into journal.jsonl as it ends -> tables and metrics.json in runs/<id>

Nothing is chosen by the fold that is then tested: there is no early stopping. What the manifest says of the split is
that of the first fold.

Source: lecture point 11, where the data are too few for a validation part of their own.
"""

import time
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from lenet_mnist.analysis.folds import CrossValidation, Fold, FoldResult, Folds, pool
from lenet_mnist.analysis.metrics import evaluate
from lenet_mnist.config import AUTO, MAX_SEED, Config, Schedule
from lenet_mnist.config_file import ResolvedConfig
from lenet_mnist.data.sets import Normalization, TrainSet, TrainVal, ValSet
from lenet_mnist.data.split import digest_of_split, limit, stratified_folds
from lenet_mnist.errors import ConfigError, DivergedError
from lenet_mnist.files.tables import write_csv, write_json
from lenet_mnist.randomness import Purpose, random_keys
from lenet_mnist.runs.manifest import Manifest
from lenet_mnist.runs.run import Run
from lenet_mnist.study.study import Study, StudyKind, begun_study, resumed_study
from lenet_mnist.training.checkpoint import TrainedNetwork
from lenet_mnist.training.context import Context, Session
from lenet_mnist.training.loop import StopReason, train
from lenet_mnist.training.state import TrainState
from lenet_mnist.training.workers import PoolSize, TrialPool

CROSS_VALIDATION = StudyKind("cross-validation", {"folds": Folds, "fold": FoldResult}, trial="fold")
_NUM_FOLDS = 5
_FOLD_COLUMNS = ("repeat", "fold", "num_train", "num_images", "num_correct", "accuracy", "loss", "seconds")


@dataclass(frozen=True)
class CrossValidatedRun:
    """A finished cross-validation."""

    directory: Run
    pooled: CrossValidation

    @property
    def manifest(self) -> Manifest:
        return self.directory.manifest

    @property
    def config(self) -> Config:
        return self.directory.config


def new_cross_validation(
    config: Config, num_folds: int | None, num_repeats: int | None, session: Session, runs_dir: Path
) -> CrossValidatedRun:
    """Cross-validate into a new directory in `runs_dir`: 5 folds once, unless told otherwise. No test image is opened.

    Raises: ConfigError if there are fewer images than folds; DivergedError if a fold's training diverged;
    InterruptedBySignal, with what is finished kept.
    """
    require_foldable(config)
    folds = Folds(num_folds or _NUM_FOLDS, num_repeats or 1, config.data.limit_train)
    context = session.context(_with_all_images(config))
    for line in context.data.notes:
        session.progress.note(f"data: {line}")
    first = fold_of(context.data, Fold(folds, 1, 1), config.data.split_seed)
    with (
        begun_study(CROSS_VALIDATION, folds, config, replace(context, data=first), runs_dir) as study,
        study.under_way(),
    ):
        return _cross_validate(study, context, session)


def resumed_cross_validation(
    run: Run, wanted: ResolvedConfig, num_folds: int | None, num_repeats: int | None, session: Session
) -> CrossValidatedRun:
    """Resume an interrupted cross-validation; what is asked for now must not contradict what it was begun with.

    Raises: ConfigError if it does, or `run` is not one; DataError if its files are damaged, or the data differ;
    StorageError if another process has its lock.
    """
    asked = {"num_folds": num_folds, "num_repeats": num_repeats}
    with resumed_study(CROSS_VALIDATION, run, wanted, asked, session) as study:
        context = session.context(_with_all_images(study.config.replace(study.run.manifest.decided)))
        first = fold_of(context.data, Fold(study.journal.request, 1, 1), study.config.data.split_seed)
        study.require_same_data(first.fingerprint)
        with study.under_way():
            return _cross_validate(study, context, session)


def _with_all_images(config: Config) -> Config:
    """Return the configuration that loads every image: which of them are taken is for the folds to say."""
    return config.replace({"data.limit_train": None})


def _cross_validate(study: Study, context: Context, session: Session) -> CrossValidatedRun:
    """Train the folds that the journal lacks, and write what all say.

    The threads are shared out as for all folds, also if few are missing: the last bits depend on it.
    """
    folds: Folds = study.journal.request
    config, trials = _with_all_images(study.config), all_folds(folds)
    num_images = len(context.data.train) + len(context.data.val)
    num_images = min(num_images, folds.num_images or num_images)
    size = PoolSize.of(context, len(trials), len(trials) * num_images * config.training.max_epochs)
    with TrialPool(config, context, session.access.directory, size) as pool_:
        study.run_trials(pool_, train_fold, trials, _fold_line)
    results = list(study.journal.results.values())
    if num_diverged := sum(result.has_diverged for result in results):
        raise DivergedError(f"{study.run.path}: {num_diverged} of {len(results)} trainings diverged: lower the rate")
    pooled = pool(folds, context.data.class_names, results)
    _write_tables(study.run, pooled)
    study.note(status="finished", message=None, best_val_loss=pooled.mean_loss, best_val_accuracy=pooled.accuracy)
    return CrossValidatedRun(study.run, pooled)


def _fold_line(result: FoldResult) -> str:
    fold = result.fold
    repeat = f"repeat {fold.repeat}  " if fold.folds.num_repeats > 1 else ""
    ended = "diverged" if result.has_diverged else f"accuracy {result.accuracy:.2%}  loss {result.mean_loss:.4f}"
    return f"{repeat}fold {fold.number}/{fold.folds.num_folds}  {ended}  {result.seconds:.1f} s"


def require_foldable(config: Config) -> None:
    """Raise ConfigError if something in `config` would be chosen by the fold that is tested on."""
    if config.training.learning_rate == AUTO:
        raise ConfigError(
            "a search would use the images that are tested on: find the rate first, with lenet lr-sweep",
            key="training.learning_rate",
        )
    if config.training.teachers:
        raise ConfigError("teachers have seen the images that are tested on: leave them out", key="training.teachers")
    if config.training.schedule is Schedule.PLATEAU:
        raise ConfigError(
            "this schedule follows the loss on the images that are tested on: choose a different one",
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


def train_fold(config: Config, context: Context, fold: Fold) -> FoldResult:
    """Train on all folds but one, and test on that one. Each repeat has a seed, and a division, of its own."""
    started = time.perf_counter()
    seed = (config.seed + fold.repeat - 1) % (MAX_SEED + 1)
    config = config.replace({"training.patience": None, "seed": seed})
    data = fold_of(context.data, fold, config.data.split_seed)
    context = replace(context, data=data)
    state = TrainState.start(config, context)
    ended = train(config, context, state)
    history = tuple(state.histories.history)
    if ended.stop_reason is not StopReason.MAX_EPOCHS:
        seconds = time.perf_counter() - started
        return FoldResult(fold, len(data.train), (), (), (), 0.0, history, seconds, has_diverged=True)
    trained = TrainedNetwork(state.network, data.normalization, data.class_names, config.training.max_epochs)
    seen = evaluate(trained, data.val, context.device)
    return FoldResult(
        fold=fold,
        num_train=len(data.train),
        indices=tuple(seen.indices.tolist()),
        labels=tuple(seen.labels.tolist()),
        predictions=tuple(seen.predictions.tolist()),
        loss_sum=seen.loss_sum,
        history=history,
        seconds=time.perf_counter() - started,
    )


def _write_tables(run: Run, pooled: CrossValidation) -> None:
    """Write metrics.json, folds.csv, fold_history.csv, predictions.csv, per_class.csv and confusion_matrix.csv."""
    names, metrics = pooled.class_names, pooled.metrics()
    write_json(run.path / "metrics.json", metrics)
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
    per_class = metrics["per_class"]
    write_csv(run.path / "per_class.csv", list(per_class[0]), [list(row.values()) for row in per_class])
    matrix = pooled.confusion_matrix.tolist()
    counts = [[name, *row] for name, row in zip(names, matrix, strict=True)]
    write_csv(run.path / "confusion_matrix.csv", ["true \\ predicted", *names], counts)
