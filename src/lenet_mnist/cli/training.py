"""Step 3 of the lecture, training: the weights, and the learning rate."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

from lenet_mnist.cli.commands import EXPERIMENT, MACHINE, PATH, Call, Commands, Resume
from lenet_mnist.errors import ConfigError

app = Commands("3. Training")


@app.command(
    help="Train a network. The validation set decides when to stop, and which weights are kept. Several seeds give "
    "several runs.",
    examples=(
        "lenet train                                  # the recipe relu",
        "lenet train --config fast --seeds 0-4        # another recipe, five runs",
        "lenet train --activation tanh --lr 0.02 --epochs 5",
        "lenet train --resume latest                  # after a crash or Ctrl-C",
    ),
    settings=f"--lr --lr-budget {EXPERIMENT} --teacher {MACHINE}",
)
def train(
    call: Call,
    seeds: Annotated[str | None, Option(help="One run per seed, as in 0-4 or 0,7.")] = None,
    resume: Resume = None,
    accept_differences: Annotated[
        bool, Option("--accept-differences", help="With --resume: resume even if the result will differ.")
    ] = False,
    log: Annotated[
        Literal["tensorboard"] | None, Option(help="Also log values while training, for TensorBoard.")
    ] = None,
) -> None:
    if seeds is not None and call.resolved.origins.get("seed") == "--seed":
        raise ConfigError("--seed and --seeds exclude each other")
    if seeds is not None and resume is not None:
        raise ConfigError("--resume is for one run: --seeds cannot be combined with it")
    if accept_differences and resume is None:
        raise ConfigError("--accept-differences needs --resume")

    from lenet_mnist.reporting import plots, training_results
    from lenet_mnist.study import train as training

    with call.session() as session:
        if log is not None:
            from lenet_mnist.provenance import require_packages
            from lenet_mnist.reporting.tensorboard import TensorBoardLog

            require_packages("--log tensorboard", "tensorboard")
            session = replace(session, open_log=TensorBoardLog)
        if resume is None:
            call.warn(call.resolved.notes)
            runs = training.train_seeds(call.resolved.config, seeds, session, call.runs_dir)
        else:
            runs = [training.resume_run(call.run(resume), call.resolved, accept_differences, session)]
    for trained in runs:
        plots.draw_training(trained, session.progress.note)
    call.say(training_results.training_result(runs))
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
    settings=f"--optimizer --batch-size --limit-train {MACHINE} --name",
)
def lr_sweep(
    call: Call,
    activation: Annotated[str | None, Option(help="One activation, or several as in sigmoid,relu.")] = None,
    lrs: Annotated[str | None, Option(help="Compare these rates, as in 0.01,0.1.")] = None,
    min_lr: Annotated[float | None, Option(help="Smallest rate to try.")] = None,
    max_lr: Annotated[float | None, Option(help="Largest rate to try.")] = None,
    num: Annotated[int | None, Option(help="Number of rates.  [default: 8]")] = None,
    seeds: Annotated[str | None, Option(help="Seeds to train at each rate, as in 0-4.  [default: 0-1]")] = None,
    epochs: Annotated[float | None, Option(help="Epochs per training.  [default: 0.5]")] = None,
    budget: Annotated[str | None, Option(help="Time for the whole sweep, as in 60s or 2m.")] = None,
    resume: Resume = None,
) -> None:
    from lenet_mnist.reporting import study_plots, training_results
    from lenet_mnist.study.lr_sweep import require_answers, sweep
    from lenet_mnist.tuning.plan import sweep_request

    rates = {"lrs": lrs, "min_lr": min_lr, "max_lr": max_lr, "num": num}
    request = sweep_request({"activation": activation, **rates, "seeds": seeds, "epochs": epochs, "budget": budget})
    if request.activations is not None and len(request.activations) == 1:
        call.resolved = call.resolved.with_flag("model.activation", request.activations[0])
    with call.session() as session:
        place = call.runs_dir if resume is None else call.run(resume, ("sweep",))
        swept = sweep(place, call.resolved, request, session)
    study_plots.draw_swept_run(swept)
    call.say(training_results.sweep_result(swept))
    require_answers(swept)


@app.command(
    help="Measure how fast this machine trains. Shows each engine, and where the time goes. Takes about a minute.",
    offers="data_dir offline as_json",
    settings=f"--activation {MACHINE}",
)
def bench(
    call: Call,
    batch_size: Annotated[
        list[int] | None, Option(min=1, metavar="<int>", help="Images per update; repeatable.")
    ] = None,
) -> None:
    from lenet_mnist.bench import run_benchmark

    measured = run_benchmark(call.resolved.config, batch_size or (64, 256), call.access())
    call.say(measured)


@app.command(
    help="Open the lab, a page in which LeNet trains. It is one file with engine and images, which needs no server and "
    "no network. Its images are those of `lenet train --limit-train 10000 --set data.val_size=2000`.",
    examples=(
        "lenet lab                                # 10,000 training images of MNIST",
        "lenet lab --images all --output all.html",
        "lenet lab --source fashion-mnist",
    ),
    offers="data_dir offline as_json",
    settings="--source",
)
def lab(
    call: Call,
    images: Annotated[
        str, Option(metavar="<int|all>", help="Training images; a fifth of that to validate and test.")
    ] = "10000",
    output: Annotated[Path, Option(**PATH, help="HTML file to write.")] = Path("lenet-lab.html"),
    no_open: Annotated[bool, Option("--no-open", help="Do not open it in the browser.")] = False,
) -> None:
    from lenet_mnist.lab.page import open_lab, parse_images, write_lab
    from lenet_mnist.reporting.text import Result

    num_images = parse_images(images)
    write_lab(call.resolved.config.data, num_images, output, call.access())
    call.say(Result({"path": output}, str(output)))
    if not no_open:
        open_lab(output)


@app.command(
    "import",
    help="Make a run of the zip that the lab saves. Every command reads the run but --resume and verify --retrain.",
    examples=("lenet import lenet-lab-run.zip",),
    offers="runs_dir as_json",
)
def import_zip(
    call: Call,
    saved: Annotated[Path, Argument(metavar="ZIP", help="The zip, or the directory that it was unpacked into.")],
) -> None:
    from lenet_mnist.lab.exchange import import_run
    from lenet_mnist.reporting import plots, training_results

    run = import_run(saved, call.runs_dir)
    plots.draw_training(run, call.note)
    call.say(training_results.training_result([run]))
