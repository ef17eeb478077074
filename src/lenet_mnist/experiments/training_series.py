"""One training for each seed of a configuration: what they share is read, found and decided once.

data, engine, teachers, learning rate -> a run of each seed (experiments/training.py)
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lenet_mnist.config import AUTO, Config, Engine
from lenet_mnist.config_file import ResolvedConfig, parse_seeds
from lenet_mnist.data.load import load_train_val
from lenet_mnist.data.mnist import DataAccess
from lenet_mnist.devices import choose_device, set_threads
from lenet_mnist.errors import ConfigError, DataError
from lenet_mnist.experiments.teachers import find_teachers, with_found_names
from lenet_mnist.experiments.training import Spectator, TrainedRun, resume_run, train_run
from lenet_mnist.model.engines import resolve_engine
from lenet_mnist.ranks import ALONE, Ranks
from lenet_mnist.runs.directory import RunDirectory
from lenet_mnist.runs.listing import list_runs
from lenet_mnist.tuning.auto import Decision, Search, decide_rate
from lenet_mnist.tuning.plan import epochs_text
from lenet_mnist.tuning.trial import Trial, TrialResult, Workbench, compared_schedule, train_trial
from lenet_mnist.tuning.workers import Crew, Staff


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
    engine = resolve_engine(config.training.engine, device, data.train.image_size, activation=config.model.activation)
    if engine.name is Engine.TORCH and config.training.engine is Engine.AUTO:
        spectator.note(f"training with the torch engine, the slower one: {engine.reason}")
    before = _runs_of_job(ranks, config, runs_dir)
    if before:  # whatever was left open has been decided then
        config = config.model_copy(update={"training": next(iter(before.values())).read_config().training})
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


def _runs_of_job(ranks: Ranks, config: Config, runs_dir: Path) -> dict[int, RunDirectory]:
    """Return, by seed, what these ranks have trained of `config` before torchrun started them again.

    An earlier job may have had the same name: the newest run counts.
    """
    if ranks.restarts == 0:
        return {}
    found: dict[int, RunDirectory] = {}
    for run in list_runs(runs_dir):
        with suppress(DataError):  # a damaged run, of whomever, is none of these
            if run.read_manifest().job == ranks.job and _is_of(config, trained := run.read_config()):
                found.setdefault(trained.seed, run)
    return found


def _is_of(config: Config, trained: Config) -> bool:
    """Whether a run's configuration is `config` with some seed, and with what that left open decided.

    That is a learning rate of `auto`, and who is meant by the teachers' names: `latest` is another run by now.
    """
    decided: dict[str, Any] = {}
    if config.training.learning_rate == AUTO:
        decided["learning_rate"] = trained.training.learning_rate
    if len(config.training.teachers) == len(trained.training.teachers):
        decided["teachers"] = trained.training.teachers
    training = config.training.model_copy(update=decided)
    return trained == config.model_copy(update={"seed": trained.seed, "training": training})


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
    if compared_schedule(bench.config) is not training.schedule:
        sure = f"not sure: searched with schedule {compared_schedule(bench.config)}, not {training.schedule}"
    spectator.note(
        f"learning_rate auto: {decision.lr:.3g} for {epochs_text(training.max_epochs)} ({sure}), found in "
        f"{decision.cost_epochs:.1f}, and scaled to that length (docs/learning-rate.md)"
    )
    return decision
