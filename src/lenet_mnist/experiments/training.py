"""One training on disk: from a configuration to a run directory. Here the training loop meets the disk.

configuration -> load_train_val -> train -> rows and weights in runs/<id>

Under torchrun this is what rank 0 does; the others follow it (experiments/following.py).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import torch

from lenet_mnist.config import Config
from lenet_mnist.config_file import ResolvedConfig
from lenet_mnist.data.batches import num_batches
from lenet_mnist.data.load import load_train_val
from lenet_mnist.data.mnist import DataAccess
from lenet_mnist.data.sets import TrainVal
from lenet_mnist.devices import Crowding, choose_device, set_threads
from lenet_mnist.errors import ConfigError, DivergedError, InterruptedBySignal
from lenet_mnist.experiments.following import begin_together, weights_of
from lenet_mnist.experiments.resuming import (
    differences_of_data,
    differences_of_ranks,
    differences_of_versions,
    resumption,
)
from lenet_mnist.experiments.teachers import (
    NOBODY,
    TaughtBy,
    find_teachers_again,
    teachers_of,
    with_found_names,
)
from lenet_mnist.files.locks import exclusive_lock
from lenet_mnist.files.storage import prepare_to_write
from lenet_mnist.model.engines import ResolvedEngine, resolve_engine
from lenet_mnist.ranks import ALONE, Ranks
from lenet_mnist.runs.checkpoints import restore_newest
from lenet_mnist.runs.directory import RunDirectory, begin_run
from lenet_mnist.runs.manifest import COMMANDS, Manifest, circumstances
from lenet_mnist.runs.recording import Recorder
from lenet_mnist.signals import PendingSignal, deferred_signals
from lenet_mnist.training.loop import EpochRow, start_training, train
from lenet_mnist.training.probe import Probe, ProbeRow
from lenet_mnist.training.updates import StepRow
from lenet_mnist.tuning.auto import Decision


class Spectator(Protocol):
    """Whoever wants to see a training go on. Nothing it does changes a result."""

    def note(self, text: str) -> None:
        """Take one line that the user should know."""

    def begin(self, run: Path, step: int, max_epochs: int, steps_per_epoch: int) -> None:
        """Take which run begins, or continues after `step` updates, and how long it is."""

    def add_step(self, row: StepRow) -> None:
        """Take one update."""

    def add_probe(self, rows: Sequence[ProbeRow]) -> None:
        """Take what was measured inside the network, before the first update and after each epoch."""

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


def require_all_finished(runs: Sequence[TrainedRun]) -> None:
    """Raise InterruptedBySignal or DivergedError if a run did not come to its end."""
    for run in runs:
        if run.signal_number is not None:
            what = "interrupted when it had ended" if run.manifest.status == "finished" else "interrupted"
            raise InterruptedBySignal(f"{what}; saved in {run.directory.path}", run.signal_number)
    diverged = [run for run in runs if run.manifest.status == "diverged"]
    if diverged:
        first = diverged[0]
        kept = (
            f"the weights of epoch {first.manifest.best_epoch} are kept"
            if first.manifest.best_epoch
            else "no epoch was completed"
        )
        raise DivergedError(
            f"{first.directory.path}: {first.manifest.message}; {kept}. Lower the learning rate, as with --lr"
        )


def train_run(
    config: Config,
    data: TrainVal,
    runs_dir: Path,
    device: torch.device,
    engine: ResolvedEngine,
    spectator: Spectator,
    decision: Decision | None = None,
    ranks: Ranks = ALONE,
    taught_by: TaughtBy = NOBODY,
) -> TrainedRun:
    """Train a network into a new directory in `runs_dir`. `decision` is how its learning rate was found, if it was.

    Raises: StorageError if something cannot be written: the run is then marked as failed, and what it holds stays.
    """
    with deferred_signals(is_second_ignored=not ranks.is_alone) as pending:
        threads = set_threads(config.training.threads, ranks)
        state = start_training(config, data, device, engine.network)
        run, manifest = begin_run(runs_dir, config, data, device, threads, engine, ranks=ranks)
        with exclusive_lock(run.path, spectator.note) as require_lock:
            tuning = asdict(decision) if decision is not None else None
            manifest = manifest.model_copy(update={"tuning": tuning, "teachers": taught_by.records})
            run.write_manifest(manifest)
            recorder = Recorder(run, manifest, state, data, require_lock)
            return _train_and_record(config, recorder, spectator, pending, ranks, taught_by)


def resume_run(
    run: RunDirectory,
    wanted: ResolvedConfig,
    is_different_accepted: bool,
    access: DataAccess,
    spectator: Spectator,
    ranks: Ranks = ALONE,
) -> TrainedRun:
    """Go on with a training from its newest intact checkpoint, as if it had never been interrupted.

    What `wanted` names must agree with the run, or be something that changes no result (experiments/resuming.py).

    Raises: ConfigError if it does not, or `run` is no training; DataError if the run is damaged; StorageError if
    another process is at work in it.
    """
    prepare_to_write(run.path)
    with (
        deferred_signals(is_second_ignored=not ranks.is_alone) as pending,
        exclusive_lock(run.path, spectator.note) as require_lock,
    ):
        manifest = run.read_manifest()
        if manifest.kind != "train":
            raise ConfigError(
                f"{run.path}: is a {manifest.kind}: `lenet {COMMANDS[manifest.kind]} --resume` goes on with it"
            )
        how = resumption(run.read_config(), manifest, wanted)
        data = load_train_val(how.config.data, access)
        differences = (
            *how.differences,
            *differences_of_data(manifest, data.fingerprint),
            *differences_of_ranks(manifest, ranks),
            *differences_of_versions(manifest),
        )
        if differences and not is_different_accepted:
            raise ConfigError(
                f"{run.path}: cannot go on as if nothing had happened: {'; '.join(differences)}. "
                "With --accept-differences it goes on all the same, and notes them"
            )
        device = choose_device(how.device, ranks)
        engine = resolve_engine(how.engine, device, data.train.image_size, activation=how.config.model.activation)
        set_threads(how.threads)
        taught_by = find_teachers_again(how.config, run, manifest, data)
        config = with_found_names(how.config, taught_by)
        state = start_training(config, data, device, engine.network)
        for line in restore_newest(run.checkpoints_path, state):
            spectator.note(f"passed over: {line}")
        if state.epoch > config.training.max_epochs or state.stopping.should_stop:
            spectator.note(f"{run.path}: has come to its end already: nothing is left to be trained")
        else:
            spectator.note(f"going on with {run.path} after step {state.step}, in epoch {state.epoch}")
        if differences:
            now = circumstances(data, device, how.threads, engine, ranks)
            if differences_of_data(manifest, data.fingerprint):
                now["splits_before"] = (*manifest.splits_before, manifest.split_sha256)
            manifest = manifest.model_copy(update=now)
        recorder = Recorder(run, manifest, state, data, require_lock)
        recorder.go_on(config, differences)
        return _train_and_record(config, recorder, spectator, pending, ranks, taught_by)


def _train_and_record(
    config: Config,
    recorder: Recorder,
    spectator: Spectator,
    pending: PendingSignal,
    ranks: Ranks,
    taught_by: TaughtBy,
) -> TrainedRun:
    """Train, and let every row reach the files and the spectator. Whatever happens is noted in the run."""
    state, data, training = recorder.state, recorder.data, config.training
    device = next(state.network.parameters()).device
    crowding = Crowding(recorder.manifest.threads if device.type == "cpu" else 1)
    steps_per_epoch, interval = num_batches(len(data.train), training.batch_size), training.checkpoint_every_steps

    def on_step(row: StepRow) -> bool:
        is_due = interval is not None and row.step % interval == 0
        recorder.add_step(row, is_due and state.batches_done < steps_per_epoch)  # an epoch is saved when it is measured
        spectator.add_step(row)
        return pending.has_come

    def on_epoch(row: EpochRow) -> None:
        look = probe.look(state)
        recorder.add_epoch(row, look)
        spectator.add_probe(look)
        spectator.add_epoch(row, is_best=state.stopping.best_epoch == row.epoch)
        if (note := crowding.note()) is not None:
            spectator.note(note)

    try:
        probe = Probe.of(data, config.seed, device)
        spectator.begin(recorder.run.path, state.step, training.max_epochs, steps_per_epoch)
        try:
            if state.step == 0:
                look = probe.look(state)
                recorder.add_look(look)
                spectator.add_probe(look)
            begin_together(ranks, config, recorder.manifest, state, taught_by)
            teachers = teachers_of(taught_by.networks, config, device, state.network.engine)
            result = train(config, data, state, on_step, on_epoch, ranks, teachers)
            ranks.require_same(weights_of(state))
        finally:
            spectator.end()
        recorder.finish(result)
    except BaseException as error:
        recorder.fail(error)
        raise
    return TrainedRun(recorder.run, recorder.manifest, pending.number)
