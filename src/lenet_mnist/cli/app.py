"""The command line: all commands together, and those that show a configuration and its network.

Each command parses, calls one function, and prints. Results go to stdout, progress and notes to stderr.
"""

from pathlib import Path
from typing import Annotated

import typer

from lenet_mnist import __version__
from lenet_mnist.cli import analysis, data, flags, inference, training
from lenet_mnist.cli.commands import Call, Commands
from lenet_mnist.cli.flags import configured
from lenet_mnist.cores import torchrun_rank
from lenet_mnist.errors import ConfigError, StorageError

_IN_SEVERAL_PROCESSES = ("train", "lr-sweep", "cross-validate")

_SETTINGS = "Configuration and this machine"

app = Commands(
    "1. Architecture",
    name="lenet",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
config_app = Commands(help="Show and check configurations.")
settings_app = Commands(_SETTINGS)


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        print(f"lenet {__version__}", flush=True)
        raise typer.Exit


@app.callback(help="Train, tune and understand LeNet on MNIST.")
def options(
    context: typer.Context,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Refuse what no command can do here."""
    try:
        Path.cwd()
    except FileNotFoundError:
        raise StorageError("the current directory has been removed: change into another one") from None
    if torchrun_rank() is not None and context.invoked_subcommand not in _IN_SEVERAL_PROCESSES:
        raise ConfigError(
            f"lenet {context.invoked_subcommand} cannot run under torchrun; {', '.join(_IN_SEVERAL_PROCESSES)} can"
        )


@app.command(help="Show the network, layer by layer.", offers=("data_dir", "as_json"))
@configured("--activation")
def describe(call: Call, resolved: flags.ResolvedConfig) -> None:
    from lenet_mnist.data.load import source_of
    from lenet_mnist.data.sets import IMAGE_SIZE
    from lenet_mnist.model.lenet import layer_table
    from lenet_mnist.reporting.training_results import layers_result

    with resolved.naming_origins():
        class_names = source_of(resolved.config.data, call.access()).class_names()
    rows = layer_table(resolved.config.model.activation, len(class_names), IMAGE_SIZE)
    call.say(layers_result(rows))


@settings_app.command(
    help="Find out whether a training can run here. Looks at Python, packages, engine, data and disk, and says what to "
    "do about each.",
    examples=("lenet doctor", "lenet doctor --runs-dir /scratch/runs"),
    offers=("data_dir", "runs_dir", "as_json"),
)
def doctor(call: Call) -> None:
    from lenet_mnist.doctor import examine

    examined = examine(call.data_dir, call.runs_dir)
    call.say(examined)
    raise typer.Exit(examined.values["exit_code"])


@settings_app.command(
    help="List the recipes, and the accuracy to expect of each. `--config NAME` uses one.", offers=("as_json",)
)
def recipes(
    call: Call,
    copy: Annotated[
        str | None,
        typer.Option(
            "--copy", **flags.RECIPE | {"metavar": "NAME"}, help="Write this recipe into ./NAME.yaml, to edit it."
        ),
    ] = None,
) -> None:
    from lenet_mnist.recipes import copy_recipe, list_recipes
    from lenet_mnist.reporting.text import Result

    copied = None if copy is None else copy_recipe(copy)
    call.say(list_recipes() if copied is None else Result({"path": copied}, str(copied)))


@config_app.command("show", help="Print every value and where it comes from, as YAML for --config.", offers=())
def config_show(
    call: Call,
    config: Annotated[str | None, typer.Argument(**flags.RECIPE, help=flags.CONFIG_HELP)] = None,
    assignments: flags.Assignments = None,
) -> None:
    from lenet_mnist.config_file import annotated_yaml, load_config

    call.say(annotated_yaml(load_config(config, assignments or ())).rstrip())


@config_app.command("check", help="Check that configuration files are valid.", offers=())
def config_check(
    call: Call,
    configs: Annotated[
        list[str],
        typer.Argument(**flags.RECIPE | {"metavar": "NAME|FILE..."}, help="Recipes, or YAML files."),
    ],
    assignments: flags.Assignments = None,
) -> None:
    from lenet_mnist.config_file import load_config

    for path in configs:
        load_config(path, assignments or ())
        call.say(f"ok  {path}")


@config_app.command("schema", help="Print a JSON schema of configuration files, for editors.", offers=())
def config_schema(call: Call) -> None:
    import json

    from lenet_mnist.config import Config

    call.say(
        json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema"} | Config.model_json_schema(), indent=2)
    )


for part in (training.app, analysis.app, inference.app, settings_app):
    app.add_typer(part)
app.add_typer(data.app, name="data", rich_help_panel="2. Data")
app.add_typer(config_app, name="config", rich_help_panel=_SETTINGS)
