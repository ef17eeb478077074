"""The command line: all commands together, and those that show the network, the data, and what is set here.

Each command parses, calls one function, and prints. Results go to stdout, progress and notes to stderr.
"""

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from lenet_mnist import __version__
from lenet_mnist.cli import analysis, training
from lenet_mnist.cli.commands import CONFIG_HELP, DEFAULT_RUNS_DIR, PATH, RECIPE, Assignments, Call, Commands
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
data_app = Commands(help="Download, check, find and show the data.")
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
        bool, Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
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


@app.command("describe", "--activation", help="Show the network, layer by layer.", offers="data_dir as_json")
def describe(call: Call) -> None:
    from lenet_mnist.data.load import source_of
    from lenet_mnist.data.sets import IMAGE_SIZE
    from lenet_mnist.model.lenet import layer_table
    from lenet_mnist.reporting.training_results import layers_result

    class_names = source_of(call.resolved.config.data, call.access()).class_names()
    rows = layer_table(call.resolved.config.model.activation, len(class_names), IMAGE_SIZE)
    call.say(layers_result(rows))


@data_app.command(
    "fetch", "--source", help="Download the missing files of MNIST or its relatives.", offers="data_dir offline"
)
def data_fetch(call: Call) -> None:
    from lenet_mnist.data.fetch import fetch_missing
    from lenet_mnist.data.load import published_files
    from lenet_mnist.data.mnist import read_verified

    files = published_files(call.resolved.config.data)
    fetched = fetch_missing(call.access(), files)
    for file in files:
        path, _ = read_verified(file, call.data_dir)
        call.say(f"{'fetched' if file in fetched else 'was there'}  {path}")


@data_app.command(
    "check", "--source", help="Check the files; count classes and duplicate images.", offers="data_dir as_json"
)
def data_check(call: Call) -> None:
    from lenet_mnist.data.load import survey, verified_files
    from lenet_mnist.reporting.training_results import data_result

    files = verified_files(call.resolved.config.data, call.data_dir)
    seen = survey(call.resolved.config.data, call.access())
    call.say(data_result(files, seen))


@data_app.command("where", "--source", help="Print the data directory and what was found in it.", offers="data_dir")
def data_where(call: Call) -> None:
    from lenet_mnist.data.load import source_of

    places = source_of(call.resolved.config.data, call.access()).places
    call.say(str(call.data_dir))
    for name, path in places:
        call.say(f"  {name}: {path or 'missing'}")


@data_app.command("show", "--source --seed", help="Draw training images, never test images.", offers="data_dir offline")
def data_show(
    call: Call,
    augment: Annotated[bool, Option("--augment", help="Show each image as the epochs see it, augmented.")] = False,
    epoch: Annotated[int, Option(min=1, help="First epoch to show.")] = 1,
    num: Annotated[int, Option(min=1, max=80, help="Number of images.")] = 10,
    output: Annotated[Path, Option(**PATH, help="PNG file to write.")] = DEFAULT_RUNS_DIR / "training-images.png",
) -> None:
    from lenet_mnist.data.load import load_train_val
    from lenet_mnist.reporting.gallery import EXAMPLE, contact_tiles, draw_contact_sheet

    augmentation = call.resolved.config.augmentation
    if augment and not augmentation.is_on:
        call.note("the configuration does not augment: showing the example of docs/augmentation.md")
        augmentation = EXAMPLE
    data = load_train_val(call.resolved.config.data, call.access())
    tiles, title = contact_tiles(data, augmentation if augment else None, call.resolved.config.seed, epoch, num)
    draw_contact_sheet(tiles, title, output)
    call.say(str(output))


@settings_app.command(
    help="Find out whether a training can run here. Looks at Python, packages, engine, data and disk, and says what to "
    "do about each.",
    examples=("lenet doctor", "lenet doctor --runs-dir /scratch/runs"),
    offers="data_dir runs_dir as_json",
)
def doctor(call: Call) -> None:
    from lenet_mnist.doctor import examine

    examined = examine(call.data_dir, call.runs_dir)
    call.say(examined)
    raise typer.Exit(examined.values["exit_code"])


@settings_app.command(
    help="List the recipes, and the accuracy to expect of each. `--config NAME` uses one.", offers="as_json"
)
def recipes(
    call: Call,
    copy: Annotated[
        str | None, Option(**RECIPE | {"metavar": "NAME"}, help="Write this recipe into ./NAME.yaml, to edit it.")
    ] = None,
) -> None:
    from lenet_mnist.recipes import copy_recipe, list_recipes
    from lenet_mnist.reporting.text import Result

    copied = None if copy is None else copy_recipe(copy)
    call.say(list_recipes() if copied is None else Result({"path": copied}, str(copied)))


@config_app.command("show", help="Print every value and where it comes from, as YAML for --config.", offers="")
def config_show(
    call: Call,
    config: Annotated[str | None, Argument(**RECIPE, help=CONFIG_HELP)] = None,
    assignments: Assignments = None,
) -> None:
    from lenet_mnist.config_file import annotated_yaml, load_config

    call.say(annotated_yaml(load_config(config, assignments or ())).rstrip())


@config_app.command("check", help="Check that configuration files are valid.", offers="")
def config_check(
    call: Call,
    configs: Annotated[list[str], Argument(**RECIPE | {"metavar": "NAME|FILE..."}, help="Recipes, or YAML files.")],
    assignments: Assignments = None,
) -> None:
    from lenet_mnist.config_file import load_config

    for path in configs:
        load_config(path, assignments or ())
        call.say(f"ok  {path}")


@config_app.command("schema", help="Print a JSON schema of configuration files, for editors.", offers="")
def config_schema(call: Call) -> None:
    import json

    from lenet_mnist.config import Config

    call.say(
        json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema"} | Config.model_json_schema(), indent=2)
    )


for part in (training.app, analysis.app, analysis.use_app, settings_app):
    app.add_typer(part)
app.add_typer(data_app, name="data", rich_help_panel="2. Data")
app.add_typer(config_app, name="config", rich_help_panel=_SETTINGS)
