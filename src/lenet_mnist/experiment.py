"""One training on disk: from a configuration to a run directory. Here the training loop meets the disk.

configuration -> load_train_val -> train -> rows and weights in runs/<id>
"""

from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import torch

from lenet_mnist import provenance
from lenet_mnist.config import Config, Engine
from lenet_mnist.config_file import parse_seeds
from lenet_mnist.data.batches import num_batches
from lenet_mnist.data.mnist import DataAccess, load_train_val
from lenet_mnist.data.sets import TrainVal
from lenet_mnist.devices import choose_device, set_threads
from lenet_mnist.errors import DivergedError, InterruptedBySignal, LenetError
from lenet_mnist.model.engines import ResolvedEngine, resolve_engine
from lenet_mnist.runs import HistoryWriter, Manifest, RunDirectory, create_run
from lenet_mnist.signals import PendingSignal, deferred_signals
from lenet_mnist.training.checkpoint import TrainedNetwork, weights_digest, write_network, write_state
from lenet_mnist.training.loop import EpochRow, StepRow, StopReason, TrainResult, start_training, train
from lenet_mnist.training.state import TrainState

_STATUS = {
    StopReason.MAX_EPOCHS: "finished",
    StopReason.NO_IMPROVEMENT: "finished",
    StopReason.DIVERGED: "diverged",
    StopReason.INTERRUPTED: "interrupted",
}


class Spectator(Protocol):
    """Whoever wants to see a training go on. Nothing it does changes a result."""

    def note(self, text: str) -> None:
        """Take one line that the user should know."""

    def begin(self, max_epochs: int, steps_per_epoch: int) -> None:
        """Take the length of the training that begins."""

    def add_step(self, row: StepRow) -> None:
        """Take one update."""

    def add_epoch(self, row: EpochRow, is_best: bool) -> None:
        """Take one epoch."""

    def end(self) -> None:
        """The training has ended, however it did."""


@dataclass(frozen=True)
class TrainedRun:
    """A run after training, however it ended; `signal_number` is what interrupted it, if anything did."""

    directory: RunDirectory
    manifest: Manifest
    signal_number: int | None


def train_seeds(
    config: Config, seeds: str | None, runs_dir: Path, access: DataAccess, spectator: Spectator
) -> list[TrainedRun]:
    """Train one run for each of `seeds` ("0-4", "0,7"), or one with the configuration's own seed.

    A run that diverges is a result like others; an interruption ends the series.
    """
    drawn = parse_seeds(seeds) if seeds is not None else [config.seed]
    data = load_train_val(config.data, access)
    device = choose_device(config.training.device)
    engine = resolve_engine(config.training.engine, device, data.train.image_size)
    if engine.name is Engine.TORCH and config.training.engine is Engine.AUTO:
        spectator.note(f"training with the torch engine, the slower one: {engine.reason}")
    runs: list[TrainedRun] = []
    for seed in drawn:
        seeded = config.model_copy(update={"seed": seed})
        runs.append(train_run(seeded, data, runs_dir, device, engine, spectator))
        if runs[-1].signal_number is not None:
            break
    return runs


def require_all_finished(runs: Sequence[TrainedRun]) -> None:
    """Raise InterruptedBySignal or DivergedError if a run did not come to its end."""
    for run in runs:
        if run.signal_number is not None:
            raise InterruptedBySignal(f"interrupted; saved in {run.directory.path}", run.signal_number)
    diverged = [run for run in runs if run.manifest.status == "diverged"]
    if diverged:
        first = diverged[0]
        kept = "the weights of the best epoch are kept" if first.manifest.best_epoch else "no epoch was completed"
        raise DivergedError(
            f"{first.directory.path}: {first.manifest.message}; {kept}. Lower the learning rate, as with --lr"
        )


def train_run(
    config: Config, data: TrainVal, runs_dir: Path, device: torch.device, engine: ResolvedEngine, spectator: Spectator
) -> TrainedRun:
    """Train a network into a new directory in `runs_dir`.

    Raises: StorageError if something cannot be written: the run is then marked as failed, and what it holds stays.
    """
    with deferred_signals() as pending:
        run, manifest = _begin_run(config, data, runs_dir, device, engine)
        state = start_training(config, data, device, engine.network)
        recorder = _Recorder(run, manifest, state, data)
        try:
            result = _train_and_record(config, data, state, recorder, spectator, pending)
            recorder.finish(result)
        except BaseException as error:
            recorder.fail(error)
            raise
    return TrainedRun(run, recorder.manifest, pending.number)


def _begin_run(
    config: Config, data: TrainVal, runs_dir: Path, device: torch.device, engine: ResolvedEngine
) -> tuple[RunDirectory, Manifest]:
    """Make the run's directory, with its configuration and the first form of its manifest."""
    threads = set_threads(config.training.threads)
    now = datetime.now(UTC)
    run = create_run(runs_dir, config, now)
    manifest = Manifest(
        command=provenance.current_command(),
        created=now.isoformat(timespec="microseconds"),
        data_source=data.fingerprint.source,
        data_files=data.fingerprint.files,
        split_sha256=data.fingerprint.split,
        versions=provenance.versions(),
        git=provenance.git_state(),
        machine=provenance.machine(),
        device=str(device),
        threads=threads,
        engine=engine.name.value,
        engine_reason=engine.reason.replace(str(Path.home()), "~"),  # nothing of a run names a home
    )
    run.write_manifest(manifest)
    return run, manifest


def _train_and_record(
    config: Config,
    data: TrainVal,
    state: TrainState,
    recorder: "_Recorder",
    spectator: Spectator,
    pending: PendingSignal,
) -> TrainResult:
    """Train, and let every row reach the files and the spectator."""
    with closing(HistoryWriter(recorder.run)) as history:

        def on_step(row: StepRow) -> bool:
            history.add_step(row)
            spectator.add_step(row)
            return pending.has_come

        def on_epoch(row: EpochRow) -> None:
            history.add_epoch(row)
            recorder.add_epoch(row)
            spectator.add_epoch(row, is_best=state.stopping.best_epoch == row.epoch)

        spectator.begin(config.training.max_epochs, num_batches(len(data.train), config.training.batch_size))
        try:
            return train(config, data, state, on_step, on_epoch)
        finally:
            spectator.end()


class _Recorder:
    """Keeps weights, state and manifest of a run up to date."""

    def __init__(self, run: RunDirectory, manifest: Manifest, state: TrainState, data: TrainVal) -> None:
        self.run = run
        self.manifest = manifest
        self.state = state
        self.data = data

    def add_epoch(self, row: EpochRow) -> None:
        """Save the state, and the weights if they are the best so far."""
        changes: dict[str, Any] = {"epochs": row.epoch, "seconds": self.manifest.seconds + row.seconds}
        if self.state.stopping.best_epoch == row.epoch:
            network = self.state.best_network()
            assert network is not None  # an epoch has just ended
            trained = TrainedNetwork(network, self.data.normalization, self.data.class_names)
            write_network(self.run.model_path, trained)
            changes |= {
                "best_epoch": row.epoch,
                "best_val_loss": row.val_loss,
                "best_val_accuracy": row.val_accuracy,
                "weights_sha256": weights_digest(network.state_dict()),
            }
        write_state(self.run.state_path, self.state)
        self._update(**changes)

    def finish(self, result: TrainResult) -> None:
        """Note how training ended. A diverged state is not saved over the last good one."""
        if result.stop_reason is StopReason.INTERRUPTED:
            write_state(self.run.state_path, self.state)
        self._update(
            status=_STATUS[result.stop_reason],
            stop_reason=result.stop_reason.value,
            message=str(result.divergence) if result.divergence else None,
        )

    def fail(self, error: BaseException) -> None:
        """Note, where the disk still allows it, that the run came to no end."""
        message = str(error) or type(error).__name__
        with suppress(LenetError):  # the disk may refuse this too; the first error is the one to report
            self._update(status="failed", message=message.replace(str(self.run.path), self.run.id))

    def _update(self, **changes: Any) -> None:
        self.manifest = self.manifest.model_copy(update=changes)
        self.run.write_manifest(self.manifest)
