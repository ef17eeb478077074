"""The command line: each command parses, calls, and prints. Results go to stdout, progress and notes to stderr.

torch and matplotlib are imported inside the commands that need them, so that `lenet --help` answers at once.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import platformdirs
import typer

from lenet_mnist import __version__
from lenet_mnist.errors import ConfigError, InterruptedBySignal, LenetError, StorageError, one_line
from lenet_mnist.signals import raise_on_signals

if TYPE_CHECKING:
    from rich.console import Console

    from lenet_mnist.config_file import ResolvedConfig
    from lenet_mnist.data.mnist import DataAccess

app = typer.Typer(
    name="lenet",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(help="Fetch, check and find the MNIST files.", no_args_is_help=True)
config_app = typer.Typer(help="Show and check configurations.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(config_app, name="config")


def _directory(path: Path) -> Path:
    """Let ~ mean the home directory in `--data-dir=~/mnist` too, where no shell expands it."""
    if not path.name and not path.is_absolute():
        raise typer.BadParameter("the name of a directory is expected, not nothing")
    return path.expanduser()


# Options that several commands share.
ConfigPath = Annotated[Path | None, typer.Option("--config", "-c", help="Configuration file; the default is relu's.")]
Assignments = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set one value; repeatable.")]
Rate = Annotated[str | None, typer.Option("--lr", help="Peak learning rate, or auto, which searches for it first.")]
Epochs = Annotated[int | None, typer.Option("--epochs", help="Passes over the training images, at most.")]
BatchSize = Annotated[int | None, typer.Option("--batch-size", help="Images in one update.")]
ActivationName = Annotated[str | None, typer.Option("--activation", help="sigmoid, tanh or relu.")]
Seed = Annotated[int | None, typer.Option("--seed", help="Draws the starting weights and the order of the images.")]
LimitTrain = Annotated[int | None, typer.Option("--limit-train", help="Train on this many images only.")]
Threads = Annotated[int | None, typer.Option("--threads", help="CPU threads; the default is one a core.")]
EngineName = Annotated[str | None, typer.Option("--engine", help="auto, torch or native.")]
Name = Annotated[str | None, typer.Option("--name", help="Part of the run's directory name.")]
DeviceName = Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda or mps.")]
DataDir = Annotated[
    Path,
    typer.Option(
        "--data-dir",
        callback=_directory,
        envvar="LENET_DATA_DIR",
        show_default="the user's cache",
        help="Where MNIST lies.",
    ),
]
RunsDir = Annotated[
    Path, typer.Option("--runs-dir", callback=_directory, envvar="LENET_RUNS_DIR", help="Where runs are kept.")
]
Offline = Annotated[bool, typer.Option("--offline", help="Never touch the network.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="A run's path or id, or `latest`.")]

DEFAULT_DATA_DIR = platformdirs.user_cache_path("lenet-mnist", appauthor=False)
DEFAULT_RUNS_DIR = Path("runs")


def main() -> None:
    """Run the command line, and turn what the user should know into one line and an exit code."""
    raise_on_signals()
    try:
        app()
    except (LenetError, InterruptedBySignal) as error:
        prefix = "error: " if isinstance(error, LenetError) else ""
        print(prefix + one_line(str(error)), file=sys.stderr)
        sys.exit(error.exit_code)
    except ImportError as error:
        if (error.name or "").startswith("lenet_mnist"):
            raise  # a bug of ours, and no matter of installation
        print(
            f"error: a package is missing or does not fit: {error}. Install lenet-mnist again.",
            file=sys.stderr,
        )
        sys.exit(6)


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        _say(f"lenet {__version__}")
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Train, tune and understand LeNet on MNIST."""


@app.command()
def train(
    config: ConfigPath = None,
    assignments: Assignments = None,
    lr: Rate = None,
    lr_budget: Annotated[
        float | None, typer.Option("--lr-budget", help="With --lr auto: epochs that the search may cost.")
    ] = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    activation: ActivationName = None,
    seed: Seed = None,
    seeds: Annotated[str | None, typer.Option("--seeds", help="One run a seed, as in 0-4 or 0,7.")] = None,
    limit_train: LimitTrain = None,
    resume: Annotated[str | None, typer.Option("--resume", metavar="RUN", help="Go on with a training.")] = None,
    accept_differences: Annotated[
        bool, typer.Option("--accept-differences", help="With --resume: go on though the result becomes another one.")
    ] = False,
    threads: Threads = None,
    device: DeviceName = None,
    engine: EngineName = None,
    name: Name = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    runs_dir: RunsDir = DEFAULT_RUNS_DIR,
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    """Train a network on the training set, stop by the validation set, and keep the best weights."""
    if seed is not None and seeds is not None:
        raise ConfigError("--seed and --seeds exclude each other")
    if resume is not None and seeds is not None:
        raise ConfigError("--resume goes on with one run: --seeds does not go with it")
    if accept_differences and resume is None:
        raise ConfigError("--accept-differences belongs to --resume")
    flags = {
        "training.learning_rate": _number(lr),
        "training.learning_rate_budget": lr_budget,
        "training.max_epochs": epochs,
        "training.batch_size": batch_size,
        "model.activation": activation,
        "seed": seed,
        "data.limit_train": limit_train,
        "training.threads": threads,
        "training.device": device,
        "training.engine": engine,
        "name": name,
    }
    resolved = _load_config(config, assignments, flags)

    from lenet_mnist import experiment
    from lenet_mnist.reporting import summaries
    from lenet_mnist.reporting.progress import TrainingProgress
    from lenet_mnist.runs import find_run

    access, progress = _access(data_dir, offline), TrainingProgress(_console())
    with resolved.naming_origins():
        if resume is None:
            runs = experiment.train_seeds(resolved.config, seeds, runs_dir, access, progress)
        else:
            run = find_run(resume, runs_dir)
            runs = [experiment.resume_run(run, resolved, accept_differences, access, progress)]
    _say(summaries.training_json(runs) if as_json else summaries.training_text(runs))
    experiment.require_all_finished(runs)


@app.command("lr-sweep")
def lr_sweep(
    config: ConfigPath = None,
    assignments: Assignments = None,
    activation: Annotated[str | None, typer.Option("--activation", help="One, or several as in sigmoid,relu.")] = None,
    optimizer: Annotated[str | None, typer.Option("--optimizer", help="sgd, adam or adamw.")] = None,
    lrs: Annotated[str | None, typer.Option("--lrs", help="Compare these rates, as in 0.01,0.1.")] = None,
    min_lr: Annotated[float | None, typer.Option("--min-lr", help="Smallest rate to try.")] = None,
    max_lr: Annotated[float | None, typer.Option("--max-lr", help="Largest rate to try.")] = None,
    num: Annotated[int | None, typer.Option("--num", help="How many rates.  [default: 8]")] = None,
    seeds: Annotated[str | None, typer.Option("--seeds", help="Trainings at each rate.  [default: 0-1]")] = None,
    epochs: Annotated[float | None, typer.Option("--epochs", help="Of each training.  [default: 0.5]")] = None,
    budget: Annotated[str | None, typer.Option("--budget", help="Time for all, as in 60s or 2m.")] = None,
    limit_train: LimitTrain = None,
    batch_size: BatchSize = None,
    resume: Annotated[str | None, typer.Option("--resume", metavar="RUN", help="Go on with a sweep.")] = None,
    threads: Threads = None,
    device: DeviceName = None,
    engine: EngineName = None,
    name: Name = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    runs_dir: RunsDir = DEFAULT_RUNS_DIR,
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    """Find the learning rate: train with several, over several seeds, and compare on the validation set."""
    flags = {
        "model.activation": None if "," in (activation or "") else activation,
        "training.optimizer": optimizer,
        "data.limit_train": limit_train,
        "training.batch_size": batch_size,
        "training.threads": threads,
        "training.device": device,
        "training.engine": engine,
        "name": name,
    }
    resolved = _load_config(config, assignments, flags)

    from lenet_mnist import lr_sweep as sweeping
    from lenet_mnist.reporting import sweep_plots, sweep_summary
    from lenet_mnist.reporting.progress import SweepProgress
    from lenet_mnist.runs import find_run
    from lenet_mnist.tuning.plan import sweep_request

    request = sweep_request(activation, budget, lrs, min_lr, max_lr, num, seeds, epochs)
    access, progress = _access(data_dir, offline), SweepProgress(_console())
    with resolved.naming_origins():
        if resume is None:
            swept = sweeping.new_sweep(resolved.config, request, runs_dir, access, progress)
        else:
            run = find_run(resume, runs_dir, "sweep")
            swept = sweeping.resumed_sweep(run, resolved, request, access, progress)
    sweep_plots.draw_swept_run(swept)
    _say(sweep_summary.sweep_json(swept) if as_json else sweep_summary.sweep_text(swept))
    sweeping.require_answers(swept)


@app.command()
def evaluate(
    run: RunName,
    split: Annotated[str, typer.Option("--split", help="test or val.")] = "test",
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", min=1, max=1_000_000, help="Changes no figure.")
    ] = None,
    min_accuracy: Annotated[
        float | None, typer.Option("--min-accuracy", min=0, max=1, help="Exit with 5 below this fraction.")
    ] = None,
    device: DeviceName = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    runs_dir: RunsDir = DEFAULT_RUNS_DIR,
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    """Measure a run on the test set (or again on the validation set): figures, tables, pictures."""
    from lenet_mnist import evaluation
    from lenet_mnist.reporting import plots, summaries
    from lenet_mnist.runs import find_run

    directory = find_run(run, runs_dir)
    seen = evaluation.evaluate_run(directory, split, _access(data_dir, offline), device, batch_size)
    plots.draw_evaluated_run(seen)
    _say(summaries.evaluation_json(seen) if as_json else summaries.evaluation_text(seen))
    evaluation.require_accuracy(seen, min_accuracy)


@app.command()
def verify(
    run: RunName,
    retrain: Annotated[bool, typer.Option("--retrain", help="Train it again, too, and compare every row.")] = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    runs_dir: RunsDir = DEFAULT_RUNS_DIR,
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    """Compute a run's digests and metrics again, and say what holds; exit with 5 if something does not."""
    from lenet_mnist.reporting import verification_summary
    from lenet_mnist.runs import find_run
    from lenet_mnist.verification import require_all_hold, verify_run

    access = _access(data_dir, offline)
    verified = verify_run(find_run(run, runs_dir), retrain, access, _console().print)
    _say(verification_summary.as_json(verified) if as_json else verification_summary.as_text(verified))
    require_all_hold(verified)


@app.command()
def diagnose(run: RunName, runs_dir: RunsDir = DEFAULT_RUNS_DIR, as_json: AsJson = False) -> None:
    """Say what a run's loss curve tells of its learning rate, on what evidence, and what to do next."""
    from lenet_mnist.diagnosis import diagnose_run
    from lenet_mnist.reporting import diagnosis_summary
    from lenet_mnist.runs import find_run

    diagnoses = diagnose_run(find_run(run, runs_dir))
    _say(diagnosis_summary.diagnosis_json(diagnoses) if as_json else diagnosis_summary.diagnosis_text(diagnoses))


@app.command()
def describe(
    config: ConfigPath = None,
    assignments: Assignments = None,
    activation: ActivationName = None,
    as_json: AsJson = False,
) -> None:
    """Show every layer of the network: formula, output shape, parameters, multiply-adds."""
    resolved = _load_config(config, assignments, {"model.activation": activation})

    from lenet_mnist.data.mnist import CLASS_NAMES, IMAGE_SIZE
    from lenet_mnist.model.layer_table import layer_table
    from lenet_mnist.reporting import summaries

    rows = layer_table(resolved.config.model.activation, len(CLASS_NAMES), IMAGE_SIZE)
    _say(summaries.layers_json(rows) if as_json else summaries.layers_text(rows))


@app.command()
def bench(
    batch_size: Annotated[
        list[int] | None, typer.Option("--batch-size", min=1, help="Images in one update; repeatable.")
    ] = None,
    activation: ActivationName = None,
    threads: Threads = None,
    device: DeviceName = None,
    engine: EngineName = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    """Measure how fast this machine trains, engine beside engine, and where the time goes: about a minute."""
    flags = {
        "model.activation": activation,
        "training.threads": threads,
        "training.device": device,
        "training.engine": engine,
    }
    resolved = _load_config(None, None, flags)

    from lenet_mnist.benchmark.run import run_benchmark
    from lenet_mnist.reporting import summaries

    with resolved.naming_origins():
        measured = run_benchmark(resolved.config, batch_size or (64, 256), _access(data_dir, offline))
    _say(summaries.benchmark_json(measured) if as_json else summaries.benchmark_text(measured))


@app.command()
def runs(
    runs_dir: RunsDir = DEFAULT_RUNS_DIR,
    test: Annotated[bool, typer.Option("--test", help="Show the test accuracy too, where it was measured.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the runs, newest first."""
    from lenet_mnist.reporting import summaries
    from lenet_mnist.runs import list_runs

    rows = [summaries.run_row(run, with_test=test) for run in list_runs(runs_dir)]
    _say(summaries.to_json({"runs": rows}) if as_json else summaries.runs_text(rows, runs_dir))


@data_app.command("fetch")
def data_fetch(data_dir: DataDir = DEFAULT_DATA_DIR, offline: Offline = False) -> None:
    """Fetch the MNIST files that are missing; what is there is left as it is."""
    from lenet_mnist.data import mnist

    fetched = mnist.fetch_missing(_access(data_dir, offline))
    for file in mnist.ALL_FILES:
        path, _ = mnist.read_verified(file, data_dir)
        _say(f"{'fetched' if file in fetched else 'was there'}  {path}")


@data_app.command("check")
def data_check(data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Verify every byte of the four files by SHA-256."""
    from lenet_mnist.data import mnist

    for file in mnist.ALL_FILES:
        path, array = mnist.read_verified(file, data_dir)
        _say(f"ok  {path}  {' x '.join(map(str, array.shape))}  sha256 {file.sha256}")


@data_app.command("where")
def data_where(data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Print the directory that is looked in, and what lies there."""
    from lenet_mnist.data import mnist

    _say(str(data_dir))
    for file in mnist.ALL_FILES:
        _say(f"  {file.name}: {mnist.find(file, data_dir) or 'missing'}")


@config_app.command("show")
def config_show(
    config: Annotated[Path | None, typer.Argument(help="Configuration file; the default is relu's.")] = None,
    assignments: Assignments = None,
) -> None:
    """Print every value and where it comes from, as YAML that `--config` reads."""
    from lenet_mnist.config_file import annotated_yaml

    _say(annotated_yaml(_load_config(config, assignments, {})).rstrip())


@config_app.command("check")
def config_check(
    configs: Annotated[list[Path], typer.Argument(help="Configuration files.")],
    assignments: Assignments = None,
) -> None:
    """Say whether configuration files are valid."""
    for path in configs:
        _load_config(path, assignments, {})
        _say(f"ok  {path}")


def _load_config(path: Path | None, assignments: list[str] | None, flags: Mapping[str, Any]) -> "ResolvedConfig":
    from lenet_mnist.config_file import load_config

    return load_config(path, assignments or (), flags)


def _number(text: str | None) -> float | str | None:
    """Return what a word means where a number is expected; the configuration says what is wrong with others."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


def _access(data_dir: Path, offline: bool) -> "DataAccess":
    from lenet_mnist.data.mnist import DataAccess
    from lenet_mnist.reporting.progress import FetchProgress

    return DataAccess(data_dir, offline, FetchProgress(_console()))


def _console() -> "Console":
    from lenet_mnist.reporting.progress import StderrConsole

    return StderrConsole()


def _say(text: str) -> None:
    """Print a result. A reader that has gone away (`lenet runs | head -1`) is no failure of ours.

    Raises: StorageError if standard output is a file that cannot be written.
    """
    try:
        print(text, flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would try again at its exit
        if not isinstance(error, BrokenPipeError):
            raise StorageError(f"standard output: cannot write: {error.strerror}") from error
