"""One cross-validation on disk: from a configuration to a run directory with every fold's figures.

configuration -> folds, each into journal.jsonl as it ends -> tables and metrics.json in runs/<id>

What its manifest says of the split is that of the first fold.
"""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Protocol

from pydantic import TypeAdapter, ValidationError

from lenet_mnist.analysis.cross_validation import (
    CrossValidation,
    Fold,
    FoldResult,
    Folds,
    all_folds,
    fold_of,
    pool,
    require_foldable,
    train_fold,
)
from lenet_mnist.config import Config, Device, Engine
from lenet_mnist.config_file import ResolvedConfig, flat_values
from lenet_mnist.data.load import load_train_val
from lenet_mnist.data.mnist import DataAccess
from lenet_mnist.devices import choose_device, set_threads
from lenet_mnist.errors import ConfigError, DataError, DivergedError, InterruptedBySignal, LenetError
from lenet_mnist.experiments.resuming import differences_of_data, require_same
from lenet_mnist.files.locks import exclusive_lock
from lenet_mnist.files.storage import prepare_to_write
from lenet_mnist.files.tables import Journal, write_csv, write_json
from lenet_mnist.model.engines import resolve_engine
from lenet_mnist.provenance import typed
from lenet_mnist.ranks import ALONE, Ranks
from lenet_mnist.runs.directory import RunDirectory, begin_run
from lenet_mnist.runs.manifest import Manifest, Status
from lenet_mnist.tuning.trial import Workbench
from lenet_mnist.tuning.workers import Crew, Staff

_NUM_FOLDS = 5
_RESULT = TypeAdapter(FoldResult)
_FOLDS = TypeAdapter(Folds)
_FOLD_COLUMNS = ("repeat", "fold", "num_train", "num_images", "num_correct", "accuracy", "loss", "seconds")


class FoldSpectator(Protocol):
    """Whoever wants to see a cross-validation go on. Nothing it does changes a result."""

    def note(self, text: str) -> None:
        """Take one line that the user should know."""

    def begin(self, number: int) -> None:
        """Take the number of trainings that begin."""

    def add_fold(self, result: FoldResult) -> None:
        """Take one training."""

    def end(self) -> None:
        """The trainings have ended, however they did."""


@dataclass(frozen=True)
class CrossValidatedRun:
    """A finished cross-validation."""

    directory: RunDirectory
    manifest: Manifest
    config: Config
    pooled: CrossValidation


def new_cross_validation(
    config: Config,
    num_folds: int | None,
    num_repeats: int | None,
    runs_dir: Path,
    access: DataAccess,
    spectator: FoldSpectator,
    ranks: Ranks = ALONE,
) -> CrossValidatedRun:
    """Cross-validate into a new directory in `runs_dir`: 5 folds once, unless told otherwise. No test image is opened.

    Raises: ConfigError if there are fewer images than folds; DivergedError if a fold's training diverged;
    InterruptedBySignal, with what is finished kept.
    """
    require_foldable(config)
    folds = Folds(num_folds or _NUM_FOLDS, num_repeats or 1, config.data.limit_train)
    bench = _workbench(config, config.training.device, config.training.engine, access, ranks)
    for note in bench.data.notes:
        spectator.note(f"data: {note}")
    first = fold_of(bench.data, Fold(folds, 1, 1), config.data.split_seed)  # before anything is written
    threads = set_threads(config.training.threads, ranks)
    size, activation = bench.data.train.image_size, config.model.activation
    engine = resolve_engine(config.training.engine, bench.device, size, activation=activation)
    run, manifest = begin_run(runs_dir, config, first, bench.device, threads, engine, "cross-validation", ranks)
    with exclusive_lock(run.path, spectator.note) as require_lock:
        journal = Journal(run.journal_path, require_lock)
        journal.add({"folds": asdict(folds)})
        return _go(run, manifest, journal, bench, access, spectator, ranks)


def resumed_cross_validation(
    run: RunDirectory,
    wanted: ResolvedConfig,
    num_folds: int | None,
    num_repeats: int | None,
    access: DataAccess,
    spectator: FoldSpectator,
    ranks: Ranks = ALONE,
) -> CrossValidatedRun:
    """Go on with an interrupted cross-validation; what is asked for now must not contradict what it was begun with.

    Raises: ConfigError if it is none, or of other settings; DataError if its files are damaged, or the data are others;
    StorageError if another process is at work in it.
    """
    prepare_to_write(run.path)
    with exclusive_lock(run.path, spectator.note) as require_lock:
        config, manifest = run.read_config(), run.read_manifest()
        if manifest.kind != "cross-validation":
            raise ConfigError(f"{run.path}: is a {manifest.kind}: this goes on with cross-validations only")
        require_same(run, flat_values(config), {key: flat_values(wanted.config)[key] for key in wanted.origins})
        journal = Journal(run.journal_path, require_lock)
        folds, _ = _read_journal(run, journal)
        asked = {"num_folds": num_folds, "num_repeats": num_repeats}
        require_same(run, asdict(folds), {key: value for key, value in asked.items() if value is not None})
        bench = _workbench(config, Device(manifest.device.partition(":")[0]), Engine(manifest.engine), access, ranks)
        first = fold_of(bench.data, Fold(folds, 1, 1), config.data.split_seed)
        if differences := differences_of_data(manifest, first.fingerprint):
            raise DataError(f"{run.path}: was begun on other data: {'; '.join(differences)}")
        manifest = manifest.model_copy(update={"status": "running", "message": None})
        run.write_manifest(manifest)
        return _go(run, manifest, journal, bench, access, spectator, ranks)


def _workbench(config: Config, device: Device, engine: Engine, access: DataAccess, ranks: Ranks) -> Workbench:
    """Return what all folds share. All images are loaded: which of them are taken, is for the folds to say."""
    config = config.model_copy(update={"data": config.data.model_copy(update={"limit_train": None})})
    chosen, data = choose_device(device, ranks), load_train_val(config.data, access)
    resolved = resolve_engine(engine, chosen, data.train.image_size, activation=config.model.activation)
    return Workbench(config, data, chosen, resolved.network)


def _go(
    run: RunDirectory,
    manifest: Manifest,
    journal: Journal,
    bench: Workbench,
    access: DataAccess,
    spectator: FoldSpectator,
    ranks: Ranks,
) -> CrossValidatedRun:
    """Train on the folds that the journal does not hold, and write what all say."""
    folds, results = _read_journal(run, journal)
    missing = [fold for fold in all_folds(folds) if fold not in results]
    try:
        spectator.begin(len(missing))
        try:
            for result in _trained(folds, missing, manifest, bench, access, ranks):
                journal.add({"fold": _RESULT.dump_python(result, mode="json")})
                results[result.fold] = result
                spectator.add_fold(result)
        finally:
            spectator.end()
        diverged = [fold for fold, result in results.items() if result.has_diverged]
        if diverged:
            raise DivergedError(f"{run.path}: {len(diverged)} of {len(results)} trainings diverged: lower the rate")
        pooled = pool(folds, bench.data.class_names, list(results.values()))
        _write_tables(run, pooled)
        figures = {"best_val_loss": pooled.mean_loss, "best_val_accuracy": pooled.accuracy}
        manifest = manifest.model_copy(update={"status": "finished", **figures})
        run.write_manifest(manifest)
    except InterruptedBySignal as signal:
        _note_end(run, manifest, journal, "interrupted", "interrupted")
        raise InterruptedBySignal(
            f"interrupted; {len(results)} folds are kept. To go on: lenet cross-validate --resume {typed(run.path)}",
            signal.exit_code - 128,
        ) from None
    except BaseException as error:
        status: Status = "diverged" if isinstance(error, DivergedError) else "failed"
        _note_end(run, manifest, journal, status, (str(error) or type(error).__name__).replace(str(run.path), run.id))
        raise
    return CrossValidatedRun(run, manifest, run.read_config(), pooled)


def _trained(
    folds: Folds, missing: list[Fold], manifest: Manifest, bench: Workbench, access: DataAccess, ranks: Ranks
) -> Iterable[FoldResult]:
    """Yield the result of each missing fold as its training ends.

    The threads are shared out as for all folds, also if few are missing: the last bits depend on it.
    """
    num_images = len(bench.data.train) + len(bench.data.val)
    num_images = min(num_images, folds.num_images or num_images)
    num_folds = len(all_folds(folds))
    seen = num_folds * num_images * bench.config.training.max_epochs
    staff = Staff.of(manifest.threads, num_folds, seen, bench.device, ranks)
    with Crew(bench, Engine(manifest.engine), access.directory, staff, ranks) as crew:
        yield from crew.run(train_fold, missing)


def _read_journal(run: RunDirectory, journal: Journal) -> tuple[Folds, dict[Fold, FoldResult]]:
    """Return what was asked for, and the folds that are done. Raises: DataError if an entry is damaged."""
    try:
        documents = journal.documents()
        folds = _FOLDS.validate_python(next(documents)["folds"])
        done = [_RESULT.validate_python(document["fold"]) for document in documents]
    except (KeyError, StopIteration, TypeError, ValidationError):
        raise DataError(f"{run.journal_path}: is not the journal of a cross-validation") from None
    return folds, {result.fold: result for result in done}


def _write_tables(run: RunDirectory, pooled: CrossValidation) -> None:
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


def _note_end(run: RunDirectory, manifest: Manifest, journal: Journal, status: Status, message: str) -> None:
    """Note, where the disk still allows it, that it came to no end."""
    with suppress(LenetError):  # the first error is the one to report
        journal.require_lock()
        run.write_manifest(manifest.model_copy(update={"status": status, "message": message}))
