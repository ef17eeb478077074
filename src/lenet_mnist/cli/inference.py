"""After the lecture's four steps: a trained network, used."""

from pathlib import Path
from typing import Annotated

import typer

from lenet_mnist.cli import flags
from lenet_mnist.cli.commands import Call, Commands
from lenet_mnist.config import ExportFormat

app = Commands("A trained network, used")
_BEFORE_ANY_TRAINING = "record"  # the most accurate of the networks that come with lenet


@app.command(
    help="Read the digits in your own pictures, one per picture. Exits with 3 if a picture cannot be read.",
    examples=("lenet predict photo.jpg", "lenet predict scans/ --run relu --show"),
    offers=("runs_dir", "as_json"),
)
def predict(
    call: Call,
    pictures: Annotated[
        list[Path], typer.Argument(metavar="PICTURE...", help="Pictures (HEIC of phones, too), or folders of them.")
    ],
    run: Annotated[str, typer.Option("--run", **flags.RUN, help=flags.RUN_HELP)] = "latest",
    show: Annotated[bool, typer.Option("--show", help="Also draw the steps of the preparation, into the run.")] = False,
) -> None:
    from lenet_mnist.inference.predict import read_pictures
    from lenet_mnist.reporting.gallery import draw_reading
    from lenet_mnist.runs.listing import LATEST, newest_run

    if run == LATEST and newest_run(call.runs_dir) is None:
        run = _BEFORE_ANY_TRAINING
    reading = read_pictures(call.run(run, is_written=show), pictures)
    for part in reading.json_parts() if call.as_json else reading.texts():
        call.say(part)
    call.warn(reading.notes)
    if show and (drawn := draw_reading(reading)):
        call.note(f"steps drawn in {drawn}")
    elif show and reading.num_answered:
        call.note("no steps to draw: a network that was not trained on MNIST takes pictures as they are")
    reading.require_all_answered()


@app.command(
    help="Write a run's network in a form that other programs read.",
    examples=(
        "lenet export latest --format html            # a page to draw on",
        "lenet export relu --format onnx --output relu.onnx",
    ),
)
def export(
    call: Call,
    run: flags.RunName,
    export_format: Annotated[
        ExportFormat,
        typer.Option("--format", help="html: a page to draw digits on; onnx or safetensors: the network."),
    ],
    compare: Annotated[
        str | None, typer.Option("--compare", **flags.RUN, help="html: show a second run next to the first.")
    ] = None,
    output: Annotated[Path | None, flags.output("File to write; by default in the run.")] = None,
) -> None:
    from lenet_mnist.inference.export import export_run

    compared = None if compare is None else call.run(compare)
    access = call.access()
    chosen = call.run(run, is_written=output is None)
    exported = export_run(chosen, compared, export_format, output, access)
    call.say(exported)
