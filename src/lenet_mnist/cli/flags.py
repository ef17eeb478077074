"""Flags: those that set a value of the configuration, made from config.py, and those that several commands share.

torch and matplotlib are imported inside the commands that need them, so that `lenet --help` answers at once.
"""

import functools
import inspect
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

import typer

from lenet_mnist.config import Config
from lenet_mnist.config import Device as DeviceName
from lenet_mnist.errors import ConfigError
from lenet_mnist.files.storage import user_cache
from lenet_mnist.sections import fields_of, flags_of

if TYPE_CHECKING:
    from rich.console import Console

    from lenet_mnist.config_file import ResolvedConfig as ResolvedConfig
    from lenet_mnist.data.mnist import DataAccess
    from lenet_mnist.reporting.terminal import TerminalProgress
    from lenet_mnist.runs.manifest import Kind
    from lenet_mnist.runs.run import Run
    from lenet_mnist.training.context import Session
else:  # imports YAML, which `lenet --help` does without
    ResolvedConfig = Any

DEFAULT_DATA_DIR = user_cache()
DEFAULT_RUNS_DIR = Path("runs")
runs_meant: list[str] = []  # by the names that this command was given; shown with its result
_is_quiet = False


def parse_path(text: str) -> Path:
    """Expand ~ in `--data-dir=~/mnist` too, where no shell does it; refuse an empty name."""
    if text == "":
        raise typer.BadParameter("expected the name of a file or directory")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise typer.BadParameter(f"{text}: no such user, or no home directory is known") from None


def recipe_names() -> list[str]:
    """Return what a shell completes --config to."""
    from lenet_mnist.recipes import recipe_paths

    return [*recipe_paths()]


def run_names(context: typer.Context) -> list[str]:
    """Return what a shell completes a run to: `latest`, names, and ids, the newest first. No run is opened."""
    ids = _run_ids(Path(context.params.get("runs_dir") or DEFAULT_RUNS_DIR))
    shipped = _run_ids(Path(__file__).parents[1] / "networks")
    return ["latest", *dict.fromkeys("-".join(run.split("-")[2:-1]) for run in ids + shipped), *ids]


def _run_ids(directory: Path) -> list[str]:
    with suppress(OSError):
        return sorted((path.name for path in directory.iterdir() if (path / "manifest.json").is_file()), reverse=True)
    return []


CONFIG_HELP = "A recipe (`lenet recipes`), or a YAML file; by default, the recipe relu."
RECIPE: dict[str, Any] = {"metavar": "NAME|FILE", "autocompletion": recipe_names}
ConfigName = Annotated[str | None, typer.Option("--config", "-c", **RECIPE, help=CONFIG_HELP)]
Assignments = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set any value (docs/options.md); repeatable.")
]
RUN: dict[str, Any] = {"metavar": "RUN", "autocompletion": run_names}
RUNS = RUN | {"metavar": "RUN..."}
RUN_HELP = "A run's path, id or name, or `latest`."
RunName = Annotated[str, typer.Argument(**RUN, help=RUN_HELP)]
Resume = Annotated[str | None, typer.Option("--resume", **RUN, help="Resume an interrupted run.")]
Device = Annotated[DeviceName | None, typer.Option("--device", help="Where to compute; by default, as in training.")]
DataDir = Annotated[
    Path,
    typer.Option(
        "--data-dir",
        parser=parse_path,
        metavar="<path>",
        envvar="LENET_DATA_DIR",
        show_default="the user's cache",
        help="Where the data are.",
    ),
]
RunsDir = Annotated[
    Path,
    typer.Option("--runs-dir", parser=parse_path, metavar="<path>", envvar="LENET_RUNS_DIR", help="Where runs are."),
]
Offline = Annotated[bool, typer.Option("--offline", help="Never use the network.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def output(help_text: str) -> Any:
    """Return the option --output."""
    return typer.Option("--output", parser=parse_path, metavar="<path>", help=help_text)


_KEYS = {flag: key for key, flag in flags_of(Config).items()}
EXPERIMENT = ("--activation", "--epochs", "--batch-size", "--limit-train", "--seed", "--name")
MACHINE = ("--threads", "--device", "--engine")


def configured(*flags: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the configuration that --config, --set and some flags of config.py make, as its `resolved`."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def run(config: str | None, assignments: list[str] | None, **given: Any) -> None:
            from lenet_mnist.config_file import load_config

            typed = {flag: given.pop(_parameter_name(flag)) for flag in flags}
            values = {_KEYS[flag]: _value(flag, words) for flag, words in typed.items() if words not in (None, [])}
            command(resolved=load_config(config, assignments or (), values), **given)

        kinds = {"config": ConfigName, "assignments": Assignments} | {_parameter_name(f): _option(f) for f in flags}
        offered = [inspect.Parameter(name, _KEYWORD, default=None, annotation=kind) for name, kind in kinds.items()]
        own = [each.replace(kind=_KEYWORD) for each in inspect.signature(command).parameters.values()]
        parameters = offered + [each for each in own if each.name != "resolved"]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        return run

    return decorate


_KEYWORD = inspect.Parameter.KEYWORD_ONLY
_TYPES = ("int", "float", "str", "bool")


def _parameter_name(flag: str) -> str:
    return flag.removeprefix("--").replace("-", "_")


def _option(flag: str) -> Any:
    """Return a flag of config.py as typer wants it. It takes any text: the configuration says what is wrong with it."""
    field = fields_of(Config)[_KEYS[flag]]
    is_list = get_origin(field.annotation) is tuple
    about = f"{field.description}{' Repeatable.' * is_list}"
    words = _words(field.annotation)
    completed = run_names if flag == "--teacher" else lambda: [word for word in words if word not in _TYPES]
    option = typer.Option(flag, metavar=f"<{'|'.join(words)}>", autocompletion=completed, help=about)
    return Annotated[(list[str] if is_list else str) | None, option]


def _value(flag: str, words: Any) -> Any:
    """Return what was typed: YAML, unless the value is text. Nothing is text, too, not null."""
    from lenet_mnist.config_file import parse_yaml

    is_text = words == "" or "str" in _words(fields_of(Config)[_KEYS[flag]].annotation)
    return words if is_text else parse_yaml(words, flag)


def _words(kind: Any) -> list[str]:
    """Return what a value may be: the names of types, and words."""
    if get_origin(kind) is Literal:
        return list(get_args(kind))
    if get_origin(kind) in (Annotated, tuple):
        return _words(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return [word for part in get_args(kind) if part is not NoneType for word in _words(part)]
    return list(kind) if issubclass(kind, StrEnum) else [kind.__name__]


def chosen_run(argument: str, runs_dir: Path, kinds: "Sequence[Kind]" = ("train",), is_written: bool = False) -> "Run":
    """Return the run that is meant (runs/listing.py), which the command may write into only if it says so.

    Where a name alone is given, or the run comes with lenet, `say` says which run it is.
    """
    from lenet_mnist.runs.listing import comes_with_lenet, find_run, own_run

    run = find_run(argument, runs_dir, kinds)
    if is_written:
        run = own_run(run, runs_dir)
    if comes_with_lenet(run.id):
        runs_meant.append(f"{argument}: {run.path if is_written else run.id}, which comes with lenet")
    elif argument != run.id and Path(argument) != run.path:
        runs_meant.append(f"{argument}: {run.path}")
    return run


def set_loudness(quiet: bool, verbose: bool) -> None:
    """Let standard error show errors only, or also what is decided. Raises: ConfigError for both."""
    global _is_quiet
    if quiet and verbose:
        raise ConfigError("--quiet and --verbose exclude each other")
    _is_quiet = quiet
    logger = logging.getLogger("lenet_mnist")
    logger.setLevel(logging.INFO if verbose else logging.WARNING)
    logger.handlers = [_Notes()] if verbose else []


class _Notes(logging.Handler):
    """Shows what is decided."""

    def emit(self, record: logging.LogRecord) -> None:
        note(record.getMessage())


def warn(sentences: Iterable[str]) -> None:
    """Print warnings on standard error."""
    for sentence in sentences:
        note(f"warning: {sentence}")


def note(line: str) -> None:
    """Print a line on standard error."""
    console().print(line, highlight=False, soft_wrap=True, markup=False)


def data_access(data_dir: Path, offline: bool) -> "DataAccess":
    """Return where the data are, and whether they may be fetched."""
    from lenet_mnist.data.mnist import DataAccess
    from lenet_mnist.reporting.terminal import FetchProgress

    return DataAccess(data_dir, offline, FetchProgress(console()))


@contextmanager
def session_of(resolved: ResolvedConfig, data_dir: Path, offline: bool) -> "Iterator[Session | None]":
    """Yield the session of a command that trains; None on a rank of torchrun that does not lead, which has then served.

    Raises: ConfigError, on every rank, if not all were started with the same configuration.
    """
    from lenet_mnist.distributed import joined_ranks
    from lenet_mnist.sections import flat_values
    from lenet_mnist.training.context import Session

    with resolved.naming_origins(), joined_ranks() as ranks:
        session = Session(data_access(data_dir, offline), progress(), ranks)
        ranks.require_same({key: str(value) for key, value in flat_values(resolved.config).items()})
        if ranks.is_first:
            yield session
        else:
            ranks.serve(session)
            yield None


def progress() -> "TerminalProgress":
    """Return what shows the progress of trainings, on stderr."""
    from lenet_mnist.reporting.terminal import TerminalProgress

    return TerminalProgress(console())


def console() -> "Console":
    """Return where progress and notes are shown."""
    from lenet_mnist.reporting.terminal import StderrConsole

    return StderrConsole(_is_quiet)


def say(result: Any, as_json: bool = False) -> None:
    """Print a result, as text or JSON; before it, on standard error, which runs it is of, where names were given.

    Raises: StorageError if standard output is a file that cannot be written.
    """
    from lenet_mnist.reporting.text import render

    for line in runs_meant:
        note(line)
    runs_meant.clear()
    print(render(result, as_json), flush=True)
