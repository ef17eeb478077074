"""Step 3 of the lecture, training: the weights, and the learning rate."""

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from lenet_mnist.cli import flags
from lenet_mnist.cli.commands import Commands
from lenet_mnist.cli.flags import EXPERIMENT, MACHINE, chosen_run, configured, data_access, say, session_of, warn
from lenet_mnist.errors import ConfigError

app = Commands("3. Training")


class Log(StrEnum):
    """Where `lenet train --log` writes, besides the files of the run."""

    TENSORBOARD = "tensorboard"


@app.command(
    help="Train a network. The validation set decides when to stop, and which weights are kept. Several seeds give "
    "several runs.",
    examples=(
        "lenet train                                  # the recipe relu",
        "lenet train --config fast --seeds 0-4        # another recipe, five runs",
        "lenet train --activation tanh --lr 0.02 --epochs 5",
        "lenet train --resume latest                  # after a crash or Ctrl-C",
    ),
)
@configured("--lr", "--lr-budget", *EXPERIMENT, "--teacher", *MACHINE)
def train(
    resolved: flags.ResolvedConfig,
    seeds: Annotated[str | None, typer.Option("--seeds", help="One run per seed, as in 0-4 or 0,7.")] = None,
    resume: flags.Resume = None,
    accept_differences: Annotated[
        bool, typer.Option("--accept-differences", help="With --resume: resume even if the result will differ.")
    ] = False,
    log: Annotated[Log | None, typer.Option("--log", help="Also log values while training, for TensorBoard.")] = None,
    data_dir: flags.DataDir = flags.DEFAULT_DATA_DIR,
    runs_dir: flags.RunsDir = flags.DEFAULT_RUNS_DIR,
    offline: flags.Offline = False,
    as_json: flags.AsJson = False,
) -> None:
    if seeds is not None and resolved.origins.get("seed") == "--seed":
        raise ConfigError("--seed and --seeds exclude each other")
    if seeds is not None and resume is not None:
        raise ConfigError("--resume is for one run: --seeds cannot be combined with it")
    if accept_differences and resume is None:
        raise ConfigError("--accept-differences needs --resume")

    from lenet_mnist.reporting.plots import draw_training
    from lenet_mnist.reporting.training_results import training_result
    from lenet_mnist.study import train as training

    with session_of(resolved, data_dir, offline) as session:
        if session is None:
            return
        if log is Log.TENSORBOARD:
            from lenet_mnist.provenance import require_packages
            from lenet_mnist.reporting.tensorboard import TensorBoardLog

            require_packages("--log tensorboard", "tensorboard")
            session = replace(session, open_log=TensorBoardLog)
        if resume is None:
            warn(resolved.notes)
            runs = training.train_seeds(resolved.config, seeds, session, runs_dir)
        else:
            runs = [training.resume_run(chosen_run(resume, runs_dir), resolved, accept_differences, session)]
    for trained in runs:
        draw_training(trained.directory, session.progress.note)
    say(training_result(runs), as_json)
    training.require_all_finished(runs)


@app.command(
    "lr-sweep",
    help="Find the learning rate. Trains briefly at several rates, over several seeds, and compares the validation "
    "losses.",
    examples=(
        "lenet lr-sweep --activation sigmoid,relu",
        "lenet lr-sweep --lrs 0.01,0.03,0.1 --seeds 0-4 --epochs 2",
        "lenet lr-sweep --limit-train 10000 --budget 60s",
    ),
)
@configured("--optimizer", "--batch-size", "--limit-train", *MACHINE, "--name")
def lr_sweep(
    resolved: flags.ResolvedConfig,
    activation: Annotated[
        str | None, typer.Option("--activation", help="One activation, or several as in sigmoid,relu.")
    ] = None,
    lrs: Annotated[str | None, typer.Option("--lrs", help="Compare these rates, as in 0.01,0.1.")] = None,
    min_lr: Annotated[float | None, typer.Option("--min-lr", help="Smallest rate to try.")] = None,
    max_lr: Annotated[float | None, typer.Option("--max-lr", help="Largest rate to try.")] = None,
    num: Annotated[int | None, typer.Option("--num", help="Number of rates.  [default: 8]")] = None,
    seeds: Annotated[
        str | None, typer.Option("--seeds", help="Seeds to train at each rate, as in 0-4.  [default: 0-1]")
    ] = None,
    epochs: Annotated[float | None, typer.Option("--epochs", help="Epochs per training.  [default: 0.5]")] = None,
    budget: Annotated[str | None, typer.Option("--budget", help="Time for the whole sweep, as in 60s or 2m.")] = None,
    resume: flags.Resume = None,
    data_dir: flags.DataDir = flags.DEFAULT_DATA_DIR,
    runs_dir: flags.RunsDir = flags.DEFAULT_RUNS_DIR,
    offline: flags.Offline = False,
    as_json: flags.AsJson = False,
) -> None:
    from lenet_mnist.reporting import sweep_plots
    from lenet_mnist.reporting.training_results import sweep_result
    from lenet_mnist.study.lr_sweep import require_answers, sweep
    from lenet_mnist.tuning.plan import sweep_request

    rates = {"lrs": lrs, "min_lr": min_lr, "max_lr": max_lr, "num_rates": num}
    request = sweep_request(
        {"activations": activation, **rates, "seeds": seeds, "epochs": epochs, "budget_seconds": budget}
    )
    if request.activations is not None and len(request.activations) == 1:
        resolved = resolved.with_flag("model.activation", request.activations[0])
    with session_of(resolved, data_dir, offline) as session:
        if session is None:
            return
        place = runs_dir if resume is None else chosen_run(resume, runs_dir, ("sweep",))
        swept = sweep(place, resolved, request, session)
    sweep_plots.draw_swept_run(swept)
    say(sweep_result(swept), as_json)
    require_answers(swept)


@app.command(
    help="Measure how fast this machine trains. Shows each engine, and where the time goes. Takes about a minute."
)
@configured("--activation", *MACHINE)
def bench(
    resolved: flags.ResolvedConfig,
    batch_size: Annotated[
        list[int] | None, typer.Option("--batch-size", min=1, metavar="<int>", help="Images per update; repeatable.")
    ] = None,
    data_dir: flags.DataDir = flags.DEFAULT_DATA_DIR,
    offline: flags.Offline = False,
    as_json: flags.AsJson = False,
) -> None:
    from lenet_mnist.bench import run_benchmark

    with resolved.naming_origins():
        measured = run_benchmark(resolved.config, batch_size or (64, 256), data_access(data_dir, offline))
    say(measured, as_json)


@app.command(
    help="Open the lab, a page in which LeNet trains. It is one file with engine and images, which needs no server and "
    "no network. Its images are those of `lenet train --limit-train 10000 --set data.val_size=2000`.",
    examples=(
        "lenet lab                                # 10,000 training images of MNIST",
        "lenet lab --images all --output all.html",
        "lenet lab --source fashion-mnist",
    ),
)
@configured("--source")
def lab(
    resolved: flags.ResolvedConfig,
    images: Annotated[
        str,
        typer.Option("--images", metavar="<int|all>", help="Training images; a fifth of that to validate and test."),
    ] = "10000",
    output: Annotated[Path, flags.output("HTML file to write.")] = Path("lenet-lab.html"),
    no_open: Annotated[bool, typer.Option("--no-open", help="Do not open it in the browser.")] = False,
    data_dir: flags.DataDir = flags.DEFAULT_DATA_DIR,
    offline: flags.Offline = False,
    as_json: flags.AsJson = False,
) -> None:
    from lenet_mnist.lab.page import open_lab, parse_images, write_lab
    from lenet_mnist.reporting.text import Result

    num_images = parse_images(images)
    with resolved.naming_origins():
        write_lab(resolved.config.data, num_images, output, data_access(data_dir, offline))
    say(Result({"path": output}, str(output)), as_json)
    if not no_open:
        open_lab(output)


@app.command(
    "import",
    help="Make a run of the zip that the lab saves. Every command reads the run but --resume and verify --retrain.",
    examples=("lenet import lenet-lab-run.zip",),
)
def import_zip(
    saved: Annotated[Path, typer.Argument(metavar="ZIP", help="The zip, or the directory that it was unpacked into.")],
    runs_dir: flags.RunsDir = flags.DEFAULT_RUNS_DIR,
    as_json: flags.AsJson = False,
) -> None:
    from lenet_mnist.lab.exchange import import_run
    from lenet_mnist.reporting.plots import draw_training
    from lenet_mnist.reporting.training_results import training_result
    from lenet_mnist.study.train import TrainedRun

    run = import_run(saved, runs_dir)
    draw_training(run, flags.progress().note)
    say(training_result([TrainedRun(run, None)]), as_json)
