"""Step 2 of the lecture, data: `lenet data`."""

from pathlib import Path
from typing import Annotated

import typer

from lenet_mnist.cli.options import (
    DEFAULT_DATA_DIR,
    Assignments,
    ConfigPath,
    DataDir,
    Offline,
    Seed,
    console,
    data_access,
    load_config,
    say,
)

app = typer.Typer(help="Fetch, check, find and look at the MNIST files.", no_args_is_help=True)


@app.command("fetch")
def data_fetch(data_dir: DataDir = DEFAULT_DATA_DIR, offline: Offline = False) -> None:
    """Fetch the MNIST files that are missing; what is there is left as it is."""
    from lenet_mnist.data import mnist

    fetched = mnist.fetch_missing(data_access(data_dir, offline))
    for file in mnist.ALL_FILES:
        path, _ = mnist.read_verified(file, data_dir)
        say(f"{'fetched' if file in fetched else 'was there'}  {path}")


@app.command("check")
def data_check(data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Verify every byte of the four files by SHA-256."""
    from lenet_mnist.data import mnist

    for file in mnist.ALL_FILES:
        path, array = mnist.read_verified(file, data_dir)
        say(f"ok  {path}  {' x '.join(map(str, array.shape))}  sha256 {file.sha256}")


@app.command("where")
def data_where(data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Print the directory that is looked in, and what lies there."""
    from lenet_mnist.data import mnist

    say(str(data_dir))
    for file in mnist.ALL_FILES:
        say(f"  {file.name}: {mnist.find(file, data_dir) or 'missing'}")


@app.command("show")
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
    output: Annotated[Path, typer.Option("--output", help="PNG file to write.")] = Path("training-images.png"),
    data_dir: DataDir = DEFAULT_DATA_DIR,
    offline: Offline = False,
) -> None:
    """Draw training images, never test images, as the network sees them."""
    resolved = load_config(config, assignments, {"seed": seed})

    from lenet_mnist.data.mnist import load_train_val
    from lenet_mnist.reporting.contact_sheet import EXAMPLE, draw_contact_sheet

    augmentation = resolved.config.augmentation
    if augment and not augmentation.is_on:
        console().print("the configuration distorts nothing: shown is the example of docs/augmentation.md")
        augmentation = EXAMPLE
    with resolved.naming_origins():
        data = load_train_val(resolved.config.data, data_access(data_dir, offline))
    draw_contact_sheet(data, augmentation if augment else None, resolved.config.seed, epoch, num, output)
    say(str(output))
