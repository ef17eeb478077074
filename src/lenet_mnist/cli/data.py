"""Step 2 of the lecture, data: `lenet data`."""

from pathlib import Path
from typing import Annotated

import typer

from lenet_mnist.cli import flags
from lenet_mnist.cli.commands import Call, Commands
from lenet_mnist.cli.flags import configured

app = Commands(help="Download, check, find and show the data.")


@app.command("fetch", help="Download the missing files of MNIST or its relatives.", offers=("data_dir", "offline"))
@configured("--source")
def data_fetch(call: Call, resolved: flags.ResolvedConfig) -> None:
    from lenet_mnist.data.fetch import fetch_missing
    from lenet_mnist.data.load import published_files
    from lenet_mnist.data.mnist import read_verified

    with resolved.naming_origins():
        files = published_files(resolved.config.data)
    fetched = fetch_missing(call.access(), files)
    for file in files:
        path, _ = read_verified(file, call.data_dir)
        call.say(f"{'fetched' if file in fetched else 'was there'}  {path}")


@app.command("check", help="Check the files; count classes and duplicate images.", offers=("data_dir", "as_json"))
@configured("--source")
def data_check(call: Call, resolved: flags.ResolvedConfig) -> None:
    from lenet_mnist.data.load import survey, verified_files
    from lenet_mnist.reporting.training_results import data_result

    with resolved.naming_origins():
        files = verified_files(resolved.config.data, call.data_dir)
        seen = survey(resolved.config.data, call.access())
    call.say(data_result(files, seen))


@app.command("where", help="Print the data directory and what was found in it.", offers=("data_dir",))
@configured("--source")
def data_where(call: Call, resolved: flags.ResolvedConfig) -> None:
    from lenet_mnist.data.load import source_of

    with resolved.naming_origins():
        places = source_of(resolved.config.data, call.access()).places
    call.say(str(call.data_dir))
    for name, path in places:
        call.say(f"  {name}: {path or 'missing'}")


@app.command("show", help="Draw training images, never test images.", offers=("data_dir", "offline"))
@configured("--source", "--seed")
def data_show(
    call: Call,
    resolved: flags.ResolvedConfig,
    augment: Annotated[
        bool, typer.Option("--augment", help="Show each image as the epochs see it, augmented.")
    ] = False,
    epoch: Annotated[int, typer.Option("--epoch", min=1, help="First epoch to show.")] = 1,
    num: Annotated[int, typer.Option("--num", min=1, max=80, help="Number of images.")] = 10,
    output: Annotated[Path, flags.output("PNG file to write.")] = flags.DEFAULT_RUNS_DIR / "training-images.png",
) -> None:
    from lenet_mnist.data.load import load_train_val
    from lenet_mnist.reporting.gallery import EXAMPLE, contact_tiles, draw_contact_sheet

    augmentation = resolved.config.augmentation
    if augment and not augmentation.is_on:
        call.note("the configuration does not augment: showing the example of docs/augmentation.md")
        augmentation = EXAMPLE
    with resolved.naming_origins():
        data = load_train_val(resolved.config.data, call.access())
    tiles, title = contact_tiles(data, augmentation if augment else None, resolved.config.seed, epoch, num)
    draw_contact_sheet(tiles, title, output)
    call.say(str(output))
