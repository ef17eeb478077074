"""What all commands share: headings and examples in the help, the flags that many offer, and what they are used for.

A flag that sets a value of the configuration is made from its field in config.py. torch and matplotlib are imported
inside what needs them, so that `lenet --help` answers at once.
"""

import functools
import inspect
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import typer
from typer import Argument, Option
from typer.core import TyperGroup

from lenet_mnist.config import Config, Device
from lenet_mnist.errors import ConfigError
from lenet_mnist.files.storage import user_cache
from lenet_mnist.recipes import recipe_paths
from lenet_mnist.sections import fields_of, flags_of

if TYPE_CHECKING:
    from lenet_mnist.config_file import ResolvedConfig
    from lenet_mnist.data.mnist import DataAccess
    from lenet_mnist.reporting.terminal import TerminalProgress
    from lenet_mnist.runs.manifest import Kind
    from lenet_mnist.runs.run import Run
    from lenet_mnist.training.context import Session

DEFAULT_DATA_DIR = user_cache()
DEFAULT_RUNS_DIR = Path("runs")
_Function = TypeVar("_Function", bound=Callable[..., None])


@dataclass(eq=False)
class Call:
    """One call of a command: what it was given with the flags that many share. Without --offline it is offline."""

    quiet: bool
    verbose: bool
    data_dir: Path = DEFAULT_DATA_DIR
    runs_dir: Path = DEFAULT_RUNS_DIR
    offline: bool = True
    as_json: bool = False
    resolved: "ResolvedConfig" = field(init=False)  # of commands with `settings`
    _runs_meant: list[str] = field(default_factory=list)  # by the names that were given; shown with the result

    def run(self, argument: str, kinds: "Sequence[Kind]" = ("train",), is_written: bool = False) -> "Run":
        """Return the run that is meant (runs/listing.py), which the command may write into only if it says so.

        Where a name alone is given, or the run comes with lenet, `say` says which run it is.
        """
        from lenet_mnist.runs.listing import comes_with_lenet, find_run, own_run

        run = find_run(argument, self.runs_dir, kinds)
        if is_written:
            run = own_run(run, self.runs_dir)
        if comes_with_lenet(run.id):
            self._runs_meant.append(f"{argument}: {run.path if is_written else run.id}, which comes with lenet")
        elif argument != run.id and Path(argument) != run.path:
            self._runs_meant.append(f"{argument}: {run.path}")
        return run

    def access(self) -> "DataAccess":
        """Return where the data are, and whether they may be fetched."""
        from lenet_mnist.data.mnist import DataAccess
        from lenet_mnist.reporting.terminal import FetchProgress, StderrConsole

        return DataAccess(self.data_dir, self.offline, FetchProgress(StderrConsole(self.quiet)))

    @contextmanager
    def session(self) -> "Iterator[Session]":
        """Yield the session of a training. A rank of torchrun that does not lead serves, and ends the command here.

        Raises: ConfigError, on every rank, if not all were started with the same configuration.
        """
        from lenet_mnist.distributed import joined_ranks
        from lenet_mnist.sections import flat_values
        from lenet_mnist.training.context import Session

        with joined_ranks() as ranks:
            session = Session(self.access(), self.progress(), ranks)
            ranks.require_same({key: str(value) for key, value in flat_values(self.resolved.config).items()})
            if ranks.is_first:
                yield session
                return
            ranks.serve(session)
        raise typer.Exit

    def progress(self) -> "TerminalProgress":
        """Return what shows the progress of trainings, on standard error."""
        from lenet_mnist.reporting.terminal import StderrConsole, TerminalProgress

        return TerminalProgress(StderrConsole(self.quiet))

    def note(self, line: str) -> None:
        """Print a line on standard error."""
        self.progress().note(line)

    def warn(self, sentences: Iterable[str]) -> None:
        """Print warnings on standard error."""
        for sentence in sentences:
            self.note(f"warning: {sentence}")

    def say(self, result: Any) -> None:
        """Print a result, as text or JSON; before it, on standard error, which runs are meant by names.

        Raises: StorageError if standard output is a file that cannot be written.
        """
        from lenet_mnist.reporting.text import render

        for line in self._runs_meant:
            self.note(line)
        self._runs_meant.clear()
        print(render(result, self.as_json), flush=True)


def parse_path(text: str) -> Path:
    """Expand ~ in `--data-dir=~/mnist` too, where no shell does it; refuse an empty name."""
    if text == "":
        raise typer.BadParameter("expected the name of a file or directory")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise typer.BadParameter(f"{text}: no such user, or no home directory is known") from None


def run_names(context: typer.Context) -> list[str]:
    """Return what a shell completes a run to: `latest`, names, and ids, the newest first. No run is opened."""
    ids = _run_ids(Path(context.params.get("runs_dir") or DEFAULT_RUNS_DIR))
    shipped = _run_ids(Path(__file__).parents[1] / "networks")
    return ["latest", *dict.fromkeys("-".join(run.split("-")[2:-1]) for run in ids + shipped), *ids]


def _run_ids(directory: Path) -> list[str]:
    with suppress(OSError):
        return sorted((path.name for path in directory.iterdir() if (path / "manifest.json").is_file()), reverse=True)
    return []


PATH: dict[str, Any] = {"parser": parse_path, "metavar": "<path>"}
_DATA: dict[str, Any] = {"show_default": "the user's cache", "help": "Where the data are."}
CONFIG_HELP = "A recipe (`lenet recipes`), or a YAML file; by default, the recipe relu."
RECIPE: dict[str, Any] = {"metavar": "NAME|FILE", "autocompletion": recipe_paths}
ConfigName = Annotated[str | None, Option("--config", "-c", **RECIPE, help=CONFIG_HELP)]
Assignments = Annotated[
    list[str] | None, Option("--set", metavar="KEY=VALUE", help="Set any value (docs/options.md); repeatable.")
]
_RUN_HELP = "A run's path, id or name, or `latest`."
RUN: dict[str, Any] = {"metavar": "RUN", "autocompletion": run_names, "help": _RUN_HELP}
RUNS = RUN | {"metavar": "RUN...", "help": "Paths, ids or names of runs, or `latest`."}
RunName = Annotated[str, Argument(**RUN)]
Resume = Annotated[str | None, Option("--resume", **RUN | {"help": "Resume an interrupted run."})]
DeviceName = Annotated[Device | None, Option("--device", help="Where to compute; by default, as in training.")]

# Fields of a Call, and the flags that give them.
_SHARED: dict[str, tuple[Any, Any]] = {
    "data_dir": (Path, Option(DEFAULT_DATA_DIR, **PATH, envvar="LENET_DATA_DIR", **_DATA)),
    "runs_dir": (Path, Option(DEFAULT_RUNS_DIR, **PATH, envvar="LENET_RUNS_DIR", help="Where runs are.")),
    "offline": (bool, Option(False, "--offline", help="Never use the network.")),
    "as_json": (bool, Option(False, "--json", help="Print the result as JSON.")),
    "quiet": (bool, Option(False, "--quiet", "-q", help="Show results and errors only.")),
    "verbose": (bool, Option(False, "--verbose", "-v", help="Show what is decided: engine, threads, files.")),
}
_ALL = "data_dir runs_dir offline as_json"
EXPERIMENT = "--activation --epochs --batch-size --limit-train --seed --name"
MACHINE = "--threads --device --engine"


class _Help(TyperGroup):
    """Lists the commands under their headings, in alphabetical order of these: the lecture's steps have numbers."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        names = self.list_commands(ctx)
        width, headings = max(map(len, names)), dict[str, list[tuple[str, str]]]()
        for name in names:
            command: Any = self.get_command(ctx, name)
            row = (name.ljust(width), command.get_short_help_str(formatter.width - width - 6))
            headings.setdefault(command.rich_help_panel or "Commands", []).append(row)
        for heading, rows in sorted(headings.items()):
            with formatter.section(heading):
                formatter.write_dl(rows)


class Commands(typer.Typer):
    """Commands under one heading of the help. Each takes -q and -v, and is given its Call as `call`."""

    def __init__(self, heading: str | None = None, **options: Any) -> None:
        super().__init__(cls=_Help, no_args_is_help=True, rich_markup_mode=None, **options)
        self._heading = heading

    def command(
        self,
        name: str | None = None,
        settings: str = "",
        offers: str = _ALL,
        examples: Sequence[str] = (),
        **options: Any,
    ) -> Callable[[_Function], _Function]:
        """Add a command. `examples` are lines one could type; of the shared flags it has those that it `offers`.

        With `settings`, flags of config.py, its Call has the configuration that these, --config and --set make.
        """
        epilog = "\b\nExamples:\n  " + "\n  ".join(examples) if examples else None
        add: Any = super().command(name, epilog=epilog, rich_help_panel=self._heading, **options)
        return lambda command: add(_called(command, settings.split(), [*offers.split(), "quiet", "verbose"]))


def _called(command: _Function, settings: Sequence[str], offers: Sequence[str]) -> Any:
    """Return what typer calls for `command`: it has all flags as parameters, and makes the Call of them."""

    def run(**given: Any) -> None:
        call = Call(**{name: given.pop(name) for name in offers})
        if call.quiet and call.verbose:
            raise ConfigError("--quiet and --verbose exclude each other")
        logger = logging.getLogger("lenet_mnist")
        logger.setLevel(logging.INFO if call.verbose else logging.WARNING)
        logger.handlers = [logging.StreamHandler()] if call.verbose else []
        if not settings:
            command(call=call, **given)
            return
        from lenet_mnist.config_file import load_config

        typed = {flag: given.pop(_parameter_name(flag)) for flag in settings}
        values = {_KEYS[flag]: _value(flag, words) for flag, words in typed.items() if words not in (None, [])}
        call.resolved = load_config(given.pop("config"), given.pop("assignments") or (), values)
        with call.resolved.naming_origins():
            command(call=call, **given)

    def flag(name: str, kind: Any, default: Any = None) -> inspect.Parameter:
        return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)

    own = [each for each in inspect.signature(command).parameters.values() if each.name != "call"]
    parameters = [flag("config", ConfigName), flag("assignments", Assignments)] if settings else []
    parameters += [flag(_parameter_name(each), _option(each)) for each in settings]
    parameters += [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own]
    parameters += [flag(name, *_SHARED[name]) for name in offers]
    functools.update_wrapper(run, command)
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run


# Flags of config.py.

_KEYS = {flag: key for key, flag in flags_of(Config).items()}
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
    option = Option(flag, metavar=f"<{'|'.join(words)}>", autocompletion=completed, help=about)
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
