"""One training on disk: from a configuration to a run directory. Here the training loop meets the disk.

configuration -> load_train_val -> train -> rows and weights in runs/<id>

Under torchrun this is what rank 0 does; the others follow it (experiments/following.py).
"""

from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import torch

from lenet_mnist.config import AUTO, Config, Engine
from lenet_mnist.config_file import ResolvedConfig, parse_seeds
from lenet_mnist.data.batches import num_batches
from lenet_mnist.data.mnist import DataAccess
from lenet_mnist.data.sets import TrainVal
from lenet_mnist.data.sources import load_train_val
from lenet_mnist.devices import choose_device, set_threads
from lenet_mnist.errors import ConfigError, DataError, DivergedError, InterruptedBySignal
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
    find_teachers,
    find_teachers_again,
    teachers_of,
    with_found_names,
)
from lenet_mnist.files.locks import exclusive_lock
from lenet_mnist.files.storage import refuse_links
from lenet_mnist.model.engines import ResolvedEngine, resolve_engine
from lenet_mnist.ranks import ALONE, Ranks
from lenet_mnist.runs.checkpoints import restore_newest
from lenet_mnist.runs.directory import RunDirectory, begin_run
from lenet_mnist.runs.listing import list_runs
from lenet_mnist.runs.manifest import COMMANDS, Manifest, circumstances
from lenet_mnist.runs.recording import Recorder
from lenet_mnist.signals import PendingSignal, deferred_signals
from lenet_mnist.training.loop import EpochRow, start_training, train
from lenet_mnist.training.probe import Probe
from lenet_mnist.training.updates import StepRow
from lenet_mnist.tuning.auto import Decision, Search, decide_rate
from lenet_mnist.tuning.plan import epochs_text
from lenet_mnist.tuning.trial import Trial, TrialResult, Workbench, train_trial
from lenet_mnist.tuning.workers import Crew, Staff


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
    config: Config, seeds: str | None, runs_dir: Path, access: DataAccess, spectator: Spectator, ranks: Ranks = ALONE
) -> list[TrainedRun]:
    """Train one run for each of `seeds` ("0-4", "0,7"), or one with the configuration's own seed.

    A run that diverges is a result like others; an interruption ends the series. Where torchrun has started the ranks
    again, what they trained before is found, and gone on with.
    """
    drawn = parse_seeds(seeds) if seeds is not None else [config.seed]
    data = load_train_val(config.data, access)
    for note in data.notes:
        spectator.note(f"data: {note}")
    device = choose_device(config.training.device, ranks)
    engine = resolve_engine(config.training.engine, device, data.train.image_size)
    if engine.name is Engine.TORCH and config.training.engine is Engine.AUTO:
        spectator.note(f"training with the torch engine, the slower one: {engine.reason}")
    before = _runs_of_job(ranks, runs_dir)
    if before:  # whatever was left open has been decided then
        training = next(iter(before.values())).read_config().training
        config = config.model_copy(update={"training": training})
    taught_by = find_teachers(config, runs_dir, data)
    if taught_by.networks:
        if config.training.learning_rate == AUTO:
            raise ConfigError("a search trains without teachers: find the rate first", key="training.learning_rate")
        config = with_found_names(config, taught_by)
        spectator.note(f"teachers: {len(taught_by.networks)}, whose trainings took {taught_by.seconds:,.0f} s together")
    decision = None
    if config.training.learning_rate == AUTO:
        bench = Workbench(config.model_copy(update={"seed": drawn[0]}), data, device, engine.network)
        decision = search_rate(bench, engine.name, access, spectator, ranks)
        training = config.training.model_copy(update={"learning_rate": float(f"{decision.lr:.3g}")})
        config = config.model_copy(update={"training": training})
    runs: list[TrainedRun] = []
    for seed in drawn:
        if seed in before:
            runs.append(_again(before[seed], access, spectator, ranks))
        else:
            seeded = config.model_copy(update={"seed": seed})
            runs.append(train_run(seeded, data, runs_dir, device, engine, spectator, decision, ranks, taught_by))
        if runs[-1].signal_number is not None:
            break
    return runs


def _runs_of_job(ranks: Ranks, runs_dir: Path) -> dict[int, RunDirectory]:
    """Return, by seed, what these ranks have trained before torchrun started them again."""
    if ranks.restarts == 0:
        return {}
    found: dict[int, RunDirectory] = {}
    for run in list_runs(runs_dir):
        with suppress(DataError):  # a damaged run, of whomever, is none of these
            if run.read_manifest().job == ranks.job:
                found[run.read_config().seed] = run
    return found


def _again(run: RunDirectory, access: DataAccess, spectator: Spectator, ranks: Ranks) -> TrainedRun:
    """Go on with a run of the same job, or take it as it is if it has come to an end."""
    manifest = run.read_manifest()
    if manifest.status in ("finished", "diverged"):
        return TrainedRun(run, manifest, None)
    return resume_run(run, ResolvedConfig(run.read_config(), {}), False, access, spectator, ranks)


def search_rate(
    bench: Workbench, engine: Engine, access: DataAccess, spectator: Spectator, ranks: Ranks = ALONE
) -> Decision:
    """Search for the learning rate of a configuration that leaves it open, and say what is found on the way."""
    training, num_images = bench.config.training, len(bench.data.train)
    budget = Search.of(training, num_images).budget
    spectator.note(f"learning_rate auto: a search of at most {epochs_text(budget)}, by the validation loss")
    staff = Staff.of(set_threads(training.threads, ranks), 3, budget * num_images, bench.device, ranks)
    with Crew(bench, engine, access.directory, staff, ranks) as crew:

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
    ranks: Ranks = ALONE,
    taught_by: TaughtBy = NOBODY,
) -> TrainedRun:
    """Train a network into a new directory in `runs_dir`. `decision` is how its learning rate was found, if it was.

    Raises: StorageError if something cannot be written: the run is then marked as failed, and what it holds stays.
    """
    with deferred_signals(is_second_ignored=not ranks.is_alone) as pending:
        threads = set_threads(config.training.threads, ranks)
        run, manifest = begin_run(runs_dir, config, data, device, threads, engine, ranks=ranks)
        with exclusive_lock(run.path):
            tuning = asdict(decision) if decision is not None else None
            manifest = manifest.model_copy(update={"tuning": tuning, "teachers": taught_by.records})
            run.write_manifest(manifest)
            state = start_training(config, data, device, engine.network)
            recorder = Recorder(run, manifest, state, data)
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
    refuse_links(run.path)
    with deferred_signals(is_second_ignored=not ranks.is_alone) as pending, exclusive_lock(run.path):
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
        engine = resolve_engine(how.engine, device, data.train.image_size)
        set_threads(how.threads)
        taught_by = find_teachers_again(how.config, run, manifest, data)
        config = with_found_names(how.config, taught_by)
        state = start_training(config, data, device, engine.network)
        marks, passed_over = restore_newest(run.checkpoints_path, run.history_headers, state)
        for line in passed_over:
            spectator.note(f"passed over: {line}")
        if state.epoch > config.training.max_epochs or state.stopping.should_stop:
            spectator.note(f"{run.path}: has come to its end already: nothing is left to be trained")
        else:
            spectator.note(f"going on with {run.path} after step {state.step}, in epoch {state.epoch}")
        if differences:
            now = circumstances(data, device, how.threads, engine, ranks)
            if now["split_sha256"] != manifest.split_sha256:
                now["splits_before"] = (*manifest.splits_before, manifest.split_sha256)
            manifest = manifest.model_copy(update=now)
        recorder = Recorder(run, manifest, state, data, marks)
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
    probe = Probe.of(data, config.seed, next(state.network.parameters()).device)

    def on_step(row: StepRow) -> bool:
        recorder.add_step(row, training.checkpoint_every_steps)
        spectator.add_step(row)
        return pending.has_come

    def on_epoch(row: EpochRow) -> None:
        recorder.add_epoch(row, probe.look(state))
        spectator.add_epoch(row, is_best=state.stopping.best_epoch == row.epoch)

    with closing(recorder):
        try:
            spectator.begin(training.max_epochs, num_batches(len(data.train), training.batch_size))
            try:
                if state.step == 0:
                    recorder.add_look(probe.look(state))
                begin_together(ranks, config, recorder.manifest, state, taught_by)
                device = next(state.network.parameters()).device
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
