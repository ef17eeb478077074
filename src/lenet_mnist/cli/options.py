"""Options that several commands share, and what every command does with them.

torch and matplotlib are imported inside the commands that need them, so that `lenet --help` answers at once.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lenet_mnist.files.storage import user_cache

if TYPE_CHECKING:
    from rich.console import Console

    from lenet_mnist.config_file import ResolvedConfig
    from lenet_mnist.data.mnist import DataAccess
    from lenet_mnist.runs.directory import RunDirectory
    from lenet_mnist.runs.manifest import Kind


def parse_path(text: str) -> Path:
    """Let ~ mean the home directory in `--data-dir=~/mnist` too, where no shell expands it; nothing is no directory."""
    if text == "":
        raise typer.BadParameter("the name of a file or directory is expected, not nothing")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise typer.BadParameter(f"{text}: there is no such user, or nobody knows your home directory") from None


ConfigPath = Annotated[Path | None, typer.Option("--config", "-c", help="Configuration file; the default is relu's.")]
Assignments = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set one value; repeatable.")]
Rate = Annotated[str | None, typer.Option("--lr", help="Peak learning rate, or auto, which searches for it first.")]
Epochs = Annotated[int | None, typer.Option("--epochs", help="Passes over the training images, at most.")]
BatchSize = Annotated[int | None, typer.Option("--batch-size", help="Images in one update.")]
ActivationName = Annotated[str | None, typer.Option("--activation", help="sigmoid, tanh or relu.")]
Seed = Annotated[int | None, typer.Option("--seed", help="Draws starting weights, order and distortions of images.")]
LimitTrain = Annotated[int | None, typer.Option("--limit-train", help="Train on this many images only.")]
Threads = Annotated[
    int | None, typer.Option("--threads", help="CPU threads; the default is OMP_NUM_THREADS or one a core.")
]
EngineName = Annotated[str | None, typer.Option("--engine", help="auto, torch or native.")]
Name = Annotated[str | None, typer.Option("--name", help="Part of the run's directory name.")]
DeviceName = Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda or mps.")]
DataDir = Annotated[
    Path,
    typer.Option(
        "--data-dir",
        parser=parse_path,
        metavar="<path>",
        envvar="LENET_DATA_DIR",
        show_default="the user's cache",
        help="Where the data lie.",
    ),
]
SourceName = Annotated[
    str | None, typer.Option("--source", help="mnist, fashion-mnist, kmnist, digits or a directory.")
]
RunsDir = Annotated[
    Path,
    typer.Option(
        "--runs-dir", parser=parse_path, metavar="<path>", envvar="LENET_RUNS_DIR", help="Where runs are kept."
    ),
]
Offline = Annotated[bool, typer.Option("--offline", help="Never touch the network.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="A run's path, id or name, or `latest`.")]

DEFAULT_DATA_DIR = user_cache()
runs_meant: list[str] = []  # by the names that this command was given; said with its result
DEFAULT_RUNS_DIR = Path("runs")


def load_config(path: Path | None, assignments: list[str] | None, flags: Mapping[str, Any]) -> "ResolvedConfig":
    """Return the configuration that a file, `--set` and flags make together. Raises: ConfigError, DataError."""
    from lenet_mnist.config_file import load_config

    return load_config(path, assignments or (), flags)


def number(text: str | None) -> float | str | None:
    """Return what a word means where a number is expected; the configuration says what is wrong with others."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


def chosen_run(argument: str, runs_dir: Path, kinds: "Sequence[Kind]" = ("train",)) -> "RunDirectory":
    """Return the run that is meant (runs/listing.py). Where a name alone is given, `say` says which run it is."""
    from lenet_mnist.runs.listing import find_run

    run = find_run(argument, runs_dir, kinds)
    if argument != run.id and Path(argument) != run.path:
        runs_meant.append(f"{argument}: {run.path}")
    return run


def warn(sentences: Iterable[str]) -> None:
    """Say on stderr what the user should know."""
    for sentence in sentences:
        console().print(f"warning: {sentence}", highlight=False, soft_wrap=True, markup=False)


def data_access(data_dir: Path, offline: bool) -> "DataAccess":
    """Return where the data lie, and whether they may be fetched."""
    from lenet_mnist.data.mnist import DataAccess
    from lenet_mnist.reporting.progress import FetchProgress

    return DataAccess(data_dir, offline, FetchProgress(console()))


def console() -> "Console":
    """Return where progress and notes are shown."""
    from lenet_mnist.reporting.progress import StderrConsole

    return StderrConsole()


def say(text: str) -> None:
    """Print a result, and first, on stderr, which runs it is of, where names were given.

    Raises: StorageError if standard output is a file that cannot be written.
    """
    for line in runs_meant:
        console().print(line, highlight=False, soft_wrap=True, markup=False)
    runs_meant.clear()
    print(text, flush=True)
