"""What all commands share: headings and examples in the help, the flags that many offer, and what they are used for.

torch and matplotlib are imported inside what needs them, so that `lenet --help` answers at once.
"""

import inspect
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer
from typer.core import TyperGroup

from lenet_mnist.cli import flags
from lenet_mnist.errors import ConfigError

if TYPE_CHECKING:
    from lenet_mnist.config_file import ResolvedConfig
    from lenet_mnist.data.mnist import DataAccess
    from lenet_mnist.reporting.terminal import TerminalProgress
    from lenet_mnist.runs.manifest import Kind
    from lenet_mnist.runs.run import Run
    from lenet_mnist.training.context import Session

_Function = TypeVar("_Function", bound=flags.Command)
# Fields of a Call, and the flags that give them.
_SHARED: dict[str, tuple[Any, Any]] = {
    "data_dir": (flags.DataDir, flags.DEFAULT_DATA_DIR),
    "runs_dir": (flags.RunsDir, flags.DEFAULT_RUNS_DIR),
    "offline": (flags.Offline, False),
    "as_json": (flags.AsJson, False),
    "quiet": (flags.Quiet, False),
    "verbose": (flags.Verbose, False),
}
_ALL = ("data_dir", "runs_dir", "offline", "as_json")


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a command: what it was given with the flags that many share. Without --offline it is offline."""

    quiet: bool
    verbose: bool
    data_dir: Path = flags.DEFAULT_DATA_DIR
    runs_dir: Path = flags.DEFAULT_RUNS_DIR
    offline: bool = True
    as_json: bool = False
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
    def session(self, resolved: "ResolvedConfig") -> "Iterator[Session]":
        """Yield the session of a training. A rank of torchrun that does not lead serves, and ends the command here.

        Raises: ConfigError, on every rank, if not all were started with the same configuration.
        """
        from lenet_mnist.distributed import joined_ranks
        from lenet_mnist.sections import flat_values
        from lenet_mnist.training.context import Session

        with resolved.naming_origins(), joined_ranks() as ranks:
            session = Session(self.access(), self.progress(), ranks)
            ranks.require_same({key: str(value) for key, value in flat_values(resolved.config).items()})
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


class _Notes(logging.Handler):
    """Shows what is decided."""

    def __init__(self, call: Call) -> None:
        super().__init__()
        self._call = call

    def emit(self, record: logging.LogRecord) -> None:
        self._call.note(record.getMessage())


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
        self, *name: Any, offers: Sequence[str] = _ALL, examples: Sequence[str] = (), **options: Any
    ) -> Callable[[_Function], _Function]:
        """Add a command; of the shared flags it has those that it `offers`; `examples` are lines one could type."""
        epilog = "\b\nExamples:\n  " + "\n  ".join(examples) if examples else None
        add: Any = super().command(*name, epilog=epilog, rich_help_panel=self._heading, **options)
        return lambda command: add(_called(command, (*offers, "quiet", "verbose")))


def _called(command: flags.Command, offers: Sequence[str]) -> flags.Command:
    def run(**given: Any) -> None:
        call = Call(**{name: given.pop(name) for name in offers})
        if call.quiet and call.verbose:
            raise ConfigError("--quiet and --verbose exclude each other")
        logger = logging.getLogger("lenet_mnist")
        logger.setLevel(logging.INFO if call.verbose else logging.WARNING)
        logger.handlers = [_Notes(call)] if call.verbose else []
        command(call=call, **given)

    own = [each for each in inspect.signature(command).parameters.values() if each.name != "call"]
    return flags.taking(run, command, own + [flags.parameter(name, *_SHARED[name]) for name in offers])
