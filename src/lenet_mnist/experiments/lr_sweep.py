"""One sweep on disk, begun or gone on with: what `lenet lr-sweep` does.

configuration -> range tests -> plan -> trials, each into journal.jsonl as it ends -> tables and best.yaml in runs/<id>
(experiments/sweep_course.py)
"""

import time
from dataclasses import asdict, replace
from pathlib import Path

from lenet_mnist.config import Config, Device, Engine
from lenet_mnist.config_file import ResolvedConfig, flat_values
from lenet_mnist.data.load import load_train_val
from lenet_mnist.data.mnist import DataAccess
from lenet_mnist.devices import choose_device, set_threads
from lenet_mnist.errors import ConfigError, DataError, DivergedError
from lenet_mnist.experiments.resuming import differences_of_data, require_same
from lenet_mnist.experiments.sweep_course import SweepCourse, SweepSpectator, SweptRun
from lenet_mnist.experiments.sweep_journal import SweepJournal
from lenet_mnist.files.locks import exclusive_lock
from lenet_mnist.files.storage import prepare_to_write
from lenet_mnist.model.engines import resolve_engine
from lenet_mnist.ranks import ALONE, Ranks
from lenet_mnist.runs.directory import RunDirectory, begin_run
from lenet_mnist.tuning.plan import SweepRequest
from lenet_mnist.tuning.trial import Workbench, compared_schedule


def new_sweep(
    config: Config,
    request: SweepRequest,
    runs_dir: Path,
    access: DataAccess,
    spectator: SweepSpectator,
    ranks: Ranks = ALONE,
) -> SweptRun:
    """Sweep into a new directory in `runs_dir`.

    Raises: ConfigError if the plan does not fit the budget; InterruptedBySignal, with what is finished kept.
    """
    started = time.monotonic()
    if config.training.teachers:
        raise ConfigError("a sweep trains without teachers: leave them out", key="training.teachers")
    data = load_train_val(config.data, access)
    for note in data.notes:
        spectator.note(f"data: {note}")
    schedule = compared_schedule(config)
    if schedule is not config.training.schedule:
        spectator.note(
            f"rates are compared with schedule {schedule}, in best.yaml too: {config.training.schedule} does not fall "
            "by itself, and may want another rate"
        )
    device = choose_device(config.training.device, ranks)
    activations = request.activations or (config.model.activation,)
    engines = [
        resolve_engine(config.training.engine, device, data.train.image_size, activation=each) for each in activations
    ]
    engine = next((each for each in engines if each.name is Engine.TORCH), engines[0])  # one for all
    threads = set_threads(config.training.threads, ranks)
    run, manifest = begin_run(runs_dir, config, data, device, threads, engine, "sweep", ranks)
    bench = Workbench(config, data, device, engine.network)
    with exclusive_lock(run.path, spectator.note) as require_lock:
        journal = SweepJournal(run.journal_path, require_lock)
        journal.add(replace(request, activations=activations))
        return SweepCourse(run, manifest, journal, bench, engine.name, access, spectator, ranks).go(started)


def resumed_sweep(
    run: RunDirectory,
    wanted: ResolvedConfig,
    request: SweepRequest,
    access: DataAccess,
    spectator: SweepSpectator,
    ranks: Ranks = ALONE,
) -> SweptRun:
    """Go on with an interrupted sweep: what it was begun with holds, and what is asked for now must not contradict it.

    A budget counts anew.

    Raises: ConfigError if it is no sweep, or of another configuration or request; DataError if its files are damaged
    or the data are others; StorageError if another process is at work in it.
    """
    started = time.monotonic()
    prepare_to_write(run.path)
    with exclusive_lock(run.path, spectator.note) as require_lock:
        config, manifest = run.read_config(), run.read_manifest()
        if manifest.kind != "sweep":
            raise ConfigError(f"{run.path}: is no sweep, and `lenet lr-sweep` goes on with sweeps only")
        require_same(run, flat_values(config), {key: flat_values(wanted.config)[key] for key in wanted.origins})
        journal = SweepJournal(run.journal_path, require_lock)
        if journal.request is None:
            raise DataError(f"{run.journal_path}: does not say what was asked for")
        require_same(run, asdict(journal.request), {k: v for k, v in asdict(request).items() if v is not None})
        data = load_train_val(config.data, access)
        if differences := differences_of_data(manifest, data.fingerprint):
            raise DataError(f"{run.path}: the sweep was begun on other data: {'; '.join(differences)}")
        device = choose_device(Device(manifest.device.partition(":")[0]), ranks)
        engine = resolve_engine(Engine(manifest.engine), device, data.train.image_size)
        set_threads(manifest.threads)
        manifest = manifest.model_copy(update={"status": "running", "message": None})
        run.write_manifest(manifest)
        bench = Workbench(config, data, device, engine.network)
        return SweepCourse(run, manifest, journal, bench, engine.name, access, spectator, ranks).go(started)


def require_answers(swept: SweptRun) -> None:
    """Raise DivergedError if some activation diverged at every rate, ConfigError if none learned anything at any."""
    for activation, answer in swept.answers.items():
        if answer.ranking.best is None:
            raise DivergedError(f"{swept.directory.path}: {activation}: no rate without a divergence: look lower")
    if all(answer.choice is None for answer in swept.answers.values()):
        raise ConfigError(f"{swept.directory.path}: nothing was learned at any rate: give more --epochs or look higher")
