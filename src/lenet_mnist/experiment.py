"""One training on disk: from a configuration to a run directory. Here the training loop meets the disk.

configuration -> load_train_val -> train -> rows and weights in runs/<id>
"""

from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from lenet_mnist.config import AUTO, Config, Engine
from lenet_mnist.config_file import parse_seeds
from lenet_mnist.data.batches import num_batches
from lenet_mnist.data.mnist import DataAccess, load_train_val
from lenet_mnist.data.sets import TrainVal
from lenet_mnist.devices import choose_device, set_threads
from lenet_mnist.errors import DivergedError, InterruptedBySignal, LenetError
from lenet_mnist.model.engines import ResolvedEngine, resolve_engine
from lenet_mnist.runs import HistoryWriter, Manifest, RunDirectory, begin_run
from lenet_mnist.signals import PendingSignal, deferred_signals
from lenet_mnist.training.checkpoint import TrainedNetwork, weights_digest, write_network, write_state
from lenet_mnist.training.loop import EpochRow, StepRow, StopReason, TrainResult, start_training, train
from lenet_mnist.training.state import TrainState
from lenet_mnist.tuning.auto import Decision, Search, decide_rate
from lenet_mnist.tuning.plan import epochs_text
from lenet_mnist.tuning.trial import Trial, TrialResult, Workbench, train_trial
from lenet_mnist.tuning.workers import Crew, Staff

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
    decision = None
    if config.training.learning_rate == AUTO:
        bench = Workbench(config.model_copy(update={"seed": drawn[0]}), data, device, engine.network)
        decision = search_rate(bench, engine.name, access, spectator)
        training = config.training.model_copy(update={"learning_rate": float(f"{decision.lr:.3g}")})
        config = config.model_copy(update={"training": training})
    runs: list[TrainedRun] = []
    for seed in drawn:
        seeded = config.model_copy(update={"seed": seed})
        runs.append(train_run(seeded, data, runs_dir, device, engine, spectator, decision))
        if runs[-1].signal_number is not None:
            break
    return runs


def search_rate(bench: Workbench, engine: Engine, access: DataAccess, spectator: Spectator) -> Decision:
    """Search for the learning rate of a configuration that leaves it open, and say what is found on the way."""
    training, num_images = bench.config.training, len(bench.data.train)
    budget = Search.of(training, num_images).budget
    spectator.note(f"learning_rate auto: a search of at most {epochs_text(budget)}, by the validation loss")
    staff = Staff.of(set_threads(training.threads), 3, budget * num_images, bench.device)
    with Crew(bench, engine, access.directory, staff) as crew:

        def run_trials(trials: Sequence[Trial]) -> Iterator[TrialResult]:
            for result in crew.run(train_trial, trials):
                ended = "diverged" if result.val_loss is None else f"val loss {result.val_loss:.4f}"
                spectator.note(f"  lr {result.trial.lr:<8.3g}  {epochs_text(result.trial.epochs)}  {ended}")
                yield result

        decision = decide_rate(bench, run_trials)
    sure = f"about 95 % sure: {decision.low:.2g} to {decision.high:.2g}" if decision.is_fitted else "not sure"
    spectator.note(
        f"learning_rate auto: {decision.lr:.3g} for {epochs_text(training.max_epochs)} ({sure}), found in "
        f"{decision.cost_epochs:.1f}, and scaled to that length (docs/learning-rate.md)"
    )
    return decision


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
    config: Config,
    data: TrainVal,
    runs_dir: Path,
    device: torch.device,
    engine: ResolvedEngine,
    spectator: Spectator,
    decision: Decision | None = None,
) -> TrainedRun:
    """Train a network into a new directory in `runs_dir`. `decision` is how its learning rate was found, if it was.

    Raises: StorageError if something cannot be written: the run is then marked as failed, and what it holds stays.
    """
    with deferred_signals() as pending:
        threads = set_threads(config.training.threads)
        run, manifest = begin_run(runs_dir, config, data, device, threads, engine)
        if decision is not None:
            manifest = manifest.model_copy(update={"tuning": asdict(decision)})
        state = start_training(config, data, device, engine.network)
        recorder = _Recorder(run, manifest, state, data)
        try:
            result = _train_and_record(config, data, state, recorder, spectator, pending)
            recorder.finish(result)
        except BaseException as error:
            recorder.fail(error)
            raise
    return TrainedRun(run, recorder.manifest, pending.number)


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
