"""Step 2 of the lecture, data: `lenet data`."""

from pathlib import Path
from typing import Annotated

import typer

from lenet_mnist.cli.options import (
    DEFAULT_DATA_DIR,
    DEFAULT_RUNS_DIR,
    AsJson,
    Assignments,
    ConfigPath,
    DataDir,
    Offline,
    Seed,
    SourceName,
    console,
    data_access,
    load_config,
    parse_path,
    say,
)

app = typer.Typer(help="Fetch, check, find and look at the data.", no_args_is_help=True)


@app.command("fetch", help="Fetch the files of MNIST (or its kin) that are missing; what is there is left as it is.")
def data_fetch(source: SourceName = None, data_dir: DataDir = DEFAULT_DATA_DIR, offline: Offline = False) -> None:
    resolved = load_config(None, None, {"data.source": source})

    from lenet_mnist.data import mnist
    from lenet_mnist.data.sources import published_files

    with resolved.naming_origins():
        files = published_files(resolved.config.data)
    fetched = mnist.fetch_missing(data_access(data_dir, offline), files)
    for file in files:
        path, _ = mnist.read_verified(file, data_dir)
        say(f"{'fetched' if file in fetched else 'was there'}  {path}")


@app.command(
    "check", help="Verify every byte that is known, count each class, and look for images that are there twice."
)
def data_check(
    source: SourceName = None,
    config: ConfigPath = None,
    assignments: Assignments = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    as_json: AsJson = False,
) -> None:
    resolved = load_config(config, assignments, {"data.source": source})

    from lenet_mnist.data.sources import survey, verified_files
    from lenet_mnist.reporting import data_summary

    with resolved.naming_origins():
        files = verified_files(resolved.config.data, data_dir)
        seen = survey(resolved.config.data, data_access(data_dir, offline=True))
    say(data_summary.survey_json(files, seen) if as_json else data_summary.survey_text(files, seen))


@app.command("where", help="Print the directory that is looked in, and what lies there.")
def data_where(source: SourceName = None, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    resolved = load_config(None, None, {"data.source": source})

    from lenet_mnist.data.sources import whereabouts

    with resolved.naming_origins():
        places = whereabouts(resolved.config.data, data_access(data_dir, offline=True))
    say(str(data_dir))
    for name, path in places:
        say(f"  {name}: {path or 'missing'}")


@app.command("show", help="Draw training images, never test images, as the network sees them.")
def data_show(
    config: ConfigPath = None,
    assignments: Assignments = None,
    augment: Annotated[
        bool,
        typer.Option("--augment", help="Show what the epochs see of each image, as the configuration distorts it."),
    ] = False,
    seed: Seed = None,
    epoch: Annotated[int, typer.Option("--epoch", min=1, help="The (first) epoch whose images are shown.")] = 1,
    num: Annotated[int, typer.Option("--num", min=1, max=80, help="How many images.")] = 10,
    output: Annotated[
        Path, typer.Option("--output", parser=parse_path, metavar="<path>", help="PNG file to write.")
    ] = DEFAULT_RUNS_DIR / "training-images.png",
    data_dir: DataDir = DEFAULT_DATA_DIR,
    offline: Offline = False,
) -> None:
    resolved = load_config(config, assignments, {"seed": seed})

    from lenet_mnist.data.sources import load_train_val
    from lenet_mnist.reporting.contact_sheet import EXAMPLE, draw_contact_sheet

    augmentation = resolved.config.augmentation
    if augment and not augmentation.is_on:
        console().print("the configuration distorts nothing: shown is the example of docs/augmentation.md")
        augmentation = EXAMPLE
    with resolved.naming_origins():
        data = load_train_val(resolved.config.data, data_access(data_dir, offline))
    draw_contact_sheet(data, augmentation if augment else None, resolved.config.seed, epoch, num, output)
    say(str(output))
