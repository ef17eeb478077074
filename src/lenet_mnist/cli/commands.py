"""What all commands share: a heading and examples in the help, and -q and -v."""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperGroup

from lenet_mnist.cli.flags import set_loudness

_Command = TypeVar("_Command", bound=Callable[..., None])
_KEYWORD = inspect.Parameter.KEYWORD_ONLY
_LOUDNESS = {
    "quiet": Annotated[bool, typer.Option("--quiet", "-q", help="Show results and errors only.")],
    "verbose": Annotated[bool, typer.Option("--verbose", "-v", help="Show what is decided: engine, threads, files.")],
}


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
    """Commands under one heading of the help. Each takes -q and -v."""

    def __init__(self, heading: str | None = None, **options: Any) -> None:
        super().__init__(cls=_Help, no_args_is_help=True, rich_markup_mode=None, **options)
        self._heading = heading

    def command(self, *name: Any, examples: Sequence[str] = (), **options: Any) -> Callable[[_Command], _Command]:
        """Add a command; `examples` are lines that one could type."""
        epilog = "\b\nExamples:\n  " + "\n  ".join(examples) if examples else None
        add: Any = super().command(*name, epilog=epilog, rich_help_panel=self._heading, **options)
        return lambda function: add(_with_loudness(function))


def _with_loudness(command: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(command)
    def run(quiet: bool, verbose: bool, **given: Any) -> None:
        set_loudness(quiet, verbose)
        command(**given)

    own = [each.replace(kind=_KEYWORD) for each in inspect.signature(command).parameters.values()]
    added = [inspect.Parameter(name, _KEYWORD, default=False, annotation=kind) for name, kind in _LOUDNESS.items()]
    run.__signature__ = inspect.Signature(own + added)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in own + added}
    return run
