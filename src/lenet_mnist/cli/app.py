"""The command line: each command parses, calls, and prints. Results go to stdout, progress and notes to stderr."""

from pathlib import Path
from typing import Annotated

import typer

from lenet_mnist import __version__
from lenet_mnist.cli import analysis, architecture, config, data, inference, training
from lenet_mnist.cli.options import runs_meant, say
from lenet_mnist.errors import ConfigError, StorageError
from lenet_mnist.torchrun import torchrun_rank

_IN_SEVERAL_PROCESSES = ("train", "lr-sweep", "cross-validate", "evaluate")

app = typer.Typer(
    name="lenet",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for room in (architecture, training, analysis, inference):
    app.add_typer(room.app)
app.add_typer(data.app, name="data")
app.add_typer(config.app, name="config")


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        say(f"lenet {__version__}")
        raise typer.Exit


@app.callback(help="Train, tune and understand LeNet on MNIST.")
def options(
    context: typer.Context,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Refuse what no command can do here."""
    runs_meant.clear()
    try:
        Path.cwd()
    except FileNotFoundError:
        raise StorageError("the current directory has been removed: change into another one") from None
    if torchrun_rank() is not None and context.invoked_subcommand not in _IN_SEVERAL_PROCESSES:
        raise ConfigError(
            f"lenet {context.invoked_subcommand} is no work for several processes: torchrun is for "
            f"{', '.join(_IN_SEVERAL_PROCESSES)}"
        )
