"""Training on disk: from a configuration to one run directory per seed. Here the training loop meets the disk.

configuration -> context -> train -> rows and weights in runs/<id>

Under torchrun rank 0 runs this; the other ranks share its trainings and touch no file of a run.
"""

import signal
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from lenet_mnist import provenance
from lenet_mnist.config import AUTO, Config, Engine
from lenet_mnist.config_file import ResolvedConfig, parse_seeds
from lenet_mnist.data.batches import num_batches
from lenet_mnist.devices import Crowding
from lenet_mnist.errors import ConfigError, DivergedError, InterruptedBySignal
from lenet_mnist.files.storage import prepare_to_write
from lenet_mnist.runs.listing import comes_with_lenet
from lenet_mnist.runs.manifest import COMMANDS, environment
from lenet_mnist.runs.recording import Recorder, restore_newest
from lenet_mnist.runs.run import Run, begin_run
from lenet_mnist.signals import PendingSignal, deferred_signals
from lenet_mnist.study.resume import changes_of, differences_of_data, differences_of_machine, runs_of_job
from lenet_mnist.study.teachers import Teacher, find_teachers, find_teachers_again, teachers_of
from lenet_mnist.training.checkpoint import network_bytes, parse_network, parse_state, state_bytes, weights_digest
from lenet_mnist.training.context import Context, Log, Session
from lenet_mnist.training.loop import StopReason, train
from lenet_mnist.training.probe import Probe
from lenet_mnist.training.rows import EpochRow, StepRow
from lenet_mnist.training.state import TrainState
from lenet_mnist.tuning.auto import Decision, search_rate


def require_all_finished(runs: Sequence[Run]) -> None:
    """Raise InterruptedBySignal or DivergedError if a training did not come to its end."""
    for run in runs:
        if run.interrupted_by is not None:
            what = "interrupted after it had finished" if run.manifest.status == "finished" else "interrupted"
            raise InterruptedBySignal(f"{what}; saved in {run.path}", run.interrupted_by)
    for run in runs:
        manifest = run.manifest
        if manifest.status == "diverged":
            kept = f"the weights of epoch {manifest.best_epoch} are kept" if manifest.best_epoch else "no epoch ended"
            raise DivergedError(f"{run.path}: {manifest.message}; {kept}. Lower the learning rate, as with --lr")


def train_seeds(config: Config, seeds: str | None, session: Session, runs_dir: Path) -> list[Run]:
    """Train one run for each of `seeds` ("0-4", "0,7"), or one with the configuration's own seed.

    Data, engine, teachers and learning rate are the same for all. A run that diverges is a result like others; an
    interruption ends the series. After a restart by torchrun, the runs of before are found and resumed.
    """
    drawn = parse_seeds(seeds) if seeds is not None else [config.seed]
    context = session.context(config)
    note = session.progress.note
    for line in context.data.notes:
        note(f"data: {line}")
    if context.engine.name is Engine.TORCH and config.training.engine is Engine.AUTO:
        note(f"training with the torch engine, the slower one: {context.engine.reason}")
    before = runs_of_job(config, session.ranks, runs_dir)
    if before:  # whatever was left open has been decided then
        config = config.replace({"training": next(iter(before.values())).config.training})
    teachers = find_teachers(config, runs_dir, context.data)
    if teachers:
        if config.training.learning_rate == AUTO:
            raise ConfigError("a search trains without teachers: find the rate first", key="training.learning_rate")
        config = config.replace({"training.teachers": tuple(teacher.name for teacher in teachers)})
        seconds = sum(teacher.record.seconds for teacher in teachers)
        note(f"teachers: {len(teachers)}, whose trainings took {seconds:,.0f} s together")
        for run_id in filter(comes_with_lenet, (teacher.record.run for teacher in teachers)):
            note(f"teacher {run_id} comes with lenet")
    decision = None
    if config.training.learning_rate == AUTO:
        decision = search_rate(config.replace({"seed": drawn[0]}), context, session.access.directory)
        config = config.replace({"training.learning_rate": float(f"{decision.lr:.3g}")})
    runs: list[Run] = []
    for seed in drawn:
        if seed not in before:
            runs.append(train_run(config.replace({"seed": seed}), context, runs_dir, teachers, decision))
        elif before[seed].manifest.status in ("finished", "diverged"):
            runs.append(before[seed])
        else:
            runs.append(resume_run(before[seed], ResolvedConfig(before[seed].config, {}), False, session))
        if runs[-1].interrupted_by is not None:
            break
    if left := ",".join(map(str, drawn[len(runs) :])):
        found = f" --lr {config.training.learning_rate:g}" if decision else ""
        note(f"not begun: seeds {left}. The same command with --seeds {left}{found} trains them")
    return runs


def train_run(
    config: Config,
    context: Context,
    runs_dir: Path,
    teachers: Sequence[Teacher] = (),
    decision: Decision | None = None,
) -> Run:
    """Train a network into a new directory in `runs_dir`. `decision` is how its learning rate was found, if it was.

    Raises: StorageError if something cannot be written: the run is then marked as failed, and what it holds stays.
    """
    with context.caller.deferred(not context.ranks.is_single) as pending:
        state = TrainState.start(config, context)
        with begin_run(runs_dir, config, context).locked(context.progress.note) as run:
            records = tuple(teacher.record for teacher in teachers)
            run.note(tuning=decision and asdict(decision), teachers=records)
            recorder = Recorder(run, state, context.data)
            return _train_and_record(config, context, recorder, pending, teachers)


def resume_run(run: Run, wanted: ResolvedConfig, accept_differences: bool, session: Session) -> Run:
    """Resume a training from its newest intact checkpoint: it comes to the same weights as if never interrupted.

    What `wanted` names must agree with the run, or be something that changes no result (study/resume.py).

    Raises: ConfigError if it does not, or `run` is not a training; DataError if the run is damaged; StorageError if
    another process has its lock.
    """
    if comes_with_lenet(run.id):
        raise ConfigError(f"{run.id}: comes with lenet, without the checkpoints that a resume needs")
    prepare_to_write(run.path)
    with (
        session.caller.deferred(not session.ranks.is_single) as pending,
        run.locked(session.progress.note) as run,
    ):
        manifest = run.manifest
        if manifest.browser is not None:
            raise ConfigError(f"{run.path}: was trained in a browser, without the checkpoints that a resume needs")
        run.require("train", f"`lenet {COMMANDS[manifest.kind]} --resume` resumes it")
        changed, differences = changes_of(run, wanted)
        context = session.context(run.config.replace(manifest.decided | changed))
        of_data = differences_of_data(manifest, context.data.fingerprint)
        differences += of_data + differences_of_machine(manifest, context)
        if differences and not accept_differences:
            raise ConfigError(
                f"{run.path}: cannot resume reproducibly: {'; '.join(differences)}. "
                "With --accept-differences it resumes all the same, and notes them"
            )
        teachers = find_teachers_again(run.config.replace(changed), run, context.data)
        changed["training.teachers"] = tuple(teacher.name for teacher in teachers)
        config = run.config.replace(changed)
        state = TrainState.start(config, context)
        for line in restore_newest(run.checkpoints_path, state):
            session.progress.note(f"skipped: {line}")
        if state.epoch > config.training.max_epochs or state.stopping.should_stop:
            session.progress.note(f"{run.path}: has come to its end already: nothing is left to train")
        else:
            session.progress.note(f"resuming {run.path} after step {state.step}, in epoch {state.epoch}")
        now = environment(context) if differences else {}
        if of_data:
            now["splits_before"] = (*manifest.splits_before, manifest.split_sha256)
        recorder = Recorder(run, state, context.data)
        recorder.resume(config, tuple(differences), now)
        return _train_and_record(config, context, recorder, pending, teachers)


def _train_and_record(
    config: Config, context: Context, recorder: Recorder, pending: PendingSignal, teachers: Sequence[Teacher]
) -> Run:
    """Train, and pass every row on to the files, the progress and the log. Whatever happens is noted in the run."""
    state, training, progress = recorder.state, config.training, context.progress
    crowding = Crowding(context.threads if context.device.type == "cpu" else 1)
    steps_per_epoch = num_batches(len(context.data.train), training.batch_size)
    interval = training.checkpoint_every_steps
    log: Log | None = None

    def on_step(row: StepRow) -> bool:
        if interval is not None and row.step % interval == 0 and state.batches_done < steps_per_epoch:
            recorder.save()  # at the end of an epoch, the state is saved when the epoch has been measured
        if log is not None and row.is_recorded:
            log.write()
        progress.advance(1, f"epoch {row.epoch}  loss {row.train_loss:.3f}")
        return pending.has_come

    def on_epoch(row: EpochRow) -> None:
        state.histories.probe.extend(probe.look(state))
        recorder.add_epoch(row)
        if log is not None:
            log.write()
        progress.note(_epoch_line(row, training.max_epochs, is_best=state.stopping.best_epoch == row.epoch))
        if (line := crowding.note()) is not None:
            progress.note(line)

    try:
        probe = Probe.of(context.data, config.seed, context.device)
        progress.begin("training", training.max_epochs * steps_per_epoch)
        try:
            progress.advance(state.step)
            if context.open_log is not None:
                log = context.open_log(recorder.run.path, state.histories, progress.note)
            if state.step == 0:
                state.histories.probe.extend(probe.look(state))
            _begin_on_all_ranks(config, context, state, teachers)
            networks = [teacher.network for teacher in teachers]
            taught = replace(context, teachers=teachers_of(networks, config, context))
            result = train(config, taught, state, on_step, on_epoch)
            _require_same_weights(context, state)
        finally:
            progress.end()
            if log is not None:
                log.close()
        recorder.finish(result)
    except BaseException as error:
        recorder.run.note_failure(error)
        raise
    ended_by_another_rank = signal.SIGTERM if result.stop_reason is StopReason.INTERRUPTED else None
    return Run(recorder.run.path, interrupted_by=pending.number or ended_by_another_rank)


def _epoch_line(row: EpochRow, max_epochs: int, is_best: bool) -> str:
    return (
        f"epoch {row.epoch:>{len(str(max_epochs))}}/{max_epochs}  "
        f"train loss {row.train_loss:.4f}  val loss {row.val_loss:.4f}  val accuracy {row.val_accuracy:.2%}  "
        f"lr {row.lr:.2g}  {row.seconds:.1f} s{'  best' if is_best else ''}"
    )


def _begin_on_all_ranks(config: Config, context: Context, state: TrainState, teachers: Sequence[Teacher]) -> None:
    """Let the other ranks begin the training that rank 0 is about to begin, from its state.

    Raises: ConfigError, on every rank, if they do not see the same data, or do not have the same torch.
    """
    if not context.ranks.is_single:
        contents = tuple(network_bytes(teacher.network) for teacher in teachers)
        decided = config.replace(context.decided)
        context.ranks.call(_share_training, config, decided, state_bytes(state), contents)
        _require_same_surroundings(context)


def _share_training(
    config: Config, decided: Config, state_content: bytes, networks: tuple[bytes, ...], session: Session
) -> None:
    """Take this rank's share of a training that rank 0 began."""
    with deferred_signals(is_second_ignored=True) as pending:
        context = session.context(decided)
        _require_same_surroundings(context)
        state = TrainState.start(config, context)
        saved = parse_state(state_content, Path("the state of rank 0"), state)
        state.restore(saved.tensors, saved.scalars, saved.histories)
        trained = [parse_network(content, Path("a teacher of rank 0")) for content in networks]
        context = replace(context, teachers=teachers_of(trained, config, context))
        train(config, context, state, on_step=lambda _row: pending.has_come)
        _require_same_weights(context, state)


def _require_same_surroundings(context: Context) -> None:
    context.ranks.require_same(
        {
            "the SHA-256 of the data's split": context.data.fingerprint.split,
            "torch": provenance.versions()["torch"],
        }
    )


def _require_same_weights(context: Context, state: TrainState) -> None:
    context.ranks.require_same({"the SHA-256 of the weights": weights_digest(state.network.state_dict())})
