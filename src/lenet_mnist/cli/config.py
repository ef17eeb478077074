"""`lenet config`: configurations, shown and checked."""

from pathlib import Path
from typing import Annotated

import typer

from lenet_mnist.cli.options import (
    Assignments,
    load_config,
    say,
)

app = typer.Typer(help="Show and check configurations.", no_args_is_help=True)


@app.command("show", help="Print every value and where it comes from, as YAML that `--config` reads.")
def config_show(
    config: Annotated[Path | None, typer.Argument(help="Configuration file; the default is relu's.")] = None,
    assignments: Assignments = None,
) -> None:
    from lenet_mnist.config_file import annotated_yaml

    say(annotated_yaml(load_config(config, assignments, {})).rstrip())


@app.command("check", help="Say whether configuration files are valid.")
def config_check(
    configs: Annotated[list[Path], typer.Argument(help="Configuration files.")],
    assignments: Assignments = None,
) -> None:
    for path in configs:
        load_config(path, assignments, {})
        say(f"ok  {path}")
