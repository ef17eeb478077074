"""After the lecture's four steps: a trained network, used."""

from pathlib import Path
from typing import Annotated

import typer

from lenet_mnist.cli import flags
from lenet_mnist.cli.flags import chosen_run, console, data_access, parse_path, say, warn

app = typer.Typer()


@app.command(help="Read the digits in your own pictures, a digit each; exit with 3 if one could not be read.")
def predict(
    pictures: Annotated[
        list[Path], typer.Argument(metavar="PICTURE...", help="PNG, JPEG or BMP files, or folders of them.")
    ],
    run: Annotated[str, typer.Option("--run", metavar="RUN", help="A run's path, id or name, or `latest`.")] = "latest",
    show: Annotated[bool, typer.Option("--show", help="Draw the steps, too, into the run.")] = False,
    runs_dir: flags.RunsDir = flags.DEFAULT_RUNS_DIR,
    as_json: flags.AsJson = False,
) -> None:
    from lenet_mnist.inference.predict import read_pictures, require_all_answered
    from lenet_mnist.reporting import picture_steps, predict_summary

    reading = read_pictures(chosen_run(run, runs_dir), pictures)
    for part in predict_summary.reading_json(reading) if as_json else predict_summary.reading_text(reading):
        say(part)
    warn(reading.notes)
    drawn = picture_steps.draw_reading(reading) if show else None
    if drawn:
        console().print(f"steps drawn in {drawn}", highlight=False, soft_wrap=True, markup=False)
    elif show and reading.num_answered:
        console().print("no steps to draw: a network that was not trained on MNIST takes pictures as they are")
    require_all_answered(reading)


@app.command(help="Write a run's network, or what its training recorded, in a form that other programs read.")
def export(
    run: flags.Run,
    format_name: Annotated[
        str,
        typer.Option(
            "--format",
            help="html: a page to draw digits on; onnx, safetensors: the network; tensorboard: the training.",
        ),
    ],
    compare: Annotated[
        str | None, typer.Option("--compare", metavar="RUN", help="html: show a second run beside the first.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            parser=parse_path,
            metavar="<path>",
            help="File to write, or tensorboard's directory; the default is in the run's export/.",
        ),
    ] = None,
    data_dir: flags.DataDir = flags.DEFAULT_DATA_DIR,
    runs_dir: flags.RunsDir = flags.DEFAULT_RUNS_DIR,
    offline: flags.Offline = False,
    as_json: flags.AsJson = False,
) -> None:
    from lenet_mnist.inference.export import export_run
    from lenet_mnist.reporting import export_summary

    compared = None if compare is None else chosen_run(compare, runs_dir)
    access = data_access(data_dir, offline)
    exported = export_run(chosen_run(run, runs_dir), compared, format_name, output, access)
    say(export_summary.export_json(exported) if as_json else export_summary.export_text(exported))
