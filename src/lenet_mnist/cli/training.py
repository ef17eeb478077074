"""Step 3 of the lecture, training: the weights, and the learning rate."""

from typing import Annotated

import typer

from lenet_mnist.cli.options import (
    DEFAULT_DATA_DIR,
    DEFAULT_RUNS_DIR,
    ActivationName,
    AsJson,
    Assignments,
    BatchSize,
    ConfigPath,
    DataDir,
    DeviceName,
    EngineName,
    Epochs,
    LimitTrain,
    Name,
    Offline,
    Rate,
    RunsDir,
    Seed,
    Threads,
    chosen_run,
    console,
    data_access,
    load_config,
    number,
    say,
    warn,
)
from lenet_mnist.errors import ConfigError

app = typer.Typer()


@app.command(help="Train a network on the training set, and stop and choose by the validation set.")
def train(
    config: ConfigPath = None,
    assignments: Assignments = None,
    lr: Rate = None,
    lr_budget: Annotated[
        float | None, typer.Option("--lr-budget", help="With --lr auto: epochs that the search may cost.")
    ] = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    activation: ActivationName = None,
    seed: Seed = None,
    seeds: Annotated[str | None, typer.Option("--seeds", help="One run a seed, as in 0-4 or 0,7.")] = None,
    limit_train: LimitTrain = None,
    teachers: Annotated[
        list[str] | None, typer.Option("--teacher", metavar="RUN", help="Learn from this finished run; repeatable.")
    ] = None,
    resume: Annotated[str | None, typer.Option("--resume", metavar="RUN", help="Go on with a training.")] = None,
    accept_differences: Annotated[
        bool, typer.Option("--accept-differences", help="With --resume: go on though the result becomes another one.")
    ] = False,
    threads: Threads = None,
    device: DeviceName = None,
    engine: EngineName = None,
    name: Name = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    runs_dir: RunsDir = DEFAULT_RUNS_DIR,
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    if seed is not None and seeds is not None:
        raise ConfigError("--seed and --seeds exclude each other")
    if resume is not None and seeds is not None:
        raise ConfigError("--resume goes on with one run: --seeds does not go with it")
    if accept_differences and resume is None:
        raise ConfigError("--accept-differences belongs to --resume")
    flags = {
        "training.learning_rate": number(lr),
        "training.learning_rate_budget": lr_budget,
        "training.max_epochs": epochs,
        "training.batch_size": batch_size,
        "model.activation": activation,
        "seed": seed,
        "data.limit_train": limit_train,
        "training.teachers": teachers or None,
        "training.threads": threads,
        "training.device": device,
        "training.engine": engine,
        "name": name,
    }
    resolved = load_config(config, assignments, flags)

    from lenet_mnist.experiments import training, training_series
    from lenet_mnist.experiments.following import is_led
    from lenet_mnist.ranks import joined_ranks
    from lenet_mnist.reporting import summaries
    from lenet_mnist.reporting.drawing import draw_training
    from lenet_mnist.reporting.progress import TrainingProgress

    access, progress = data_access(data_dir, offline), TrainingProgress(console())
    with resolved.naming_origins(), joined_ranks() as ranks:
        if is_led(ranks, access, resolved.config):
            return
        if resume is None:
            warn(resolved.notes)
            runs = training_series.train_seeds(resolved.config, seeds, runs_dir, access, progress, ranks)
        else:
            run = chosen_run(resume, runs_dir)
            runs = [training.resume_run(run, resolved, accept_differences, access, progress, ranks)]
    for trained in runs:
        draw_training(trained.directory, progress.note)
    say(summaries.training_json(runs) if as_json else summaries.training_text(runs))
    training.require_all_finished(runs)


@app.command(
    "lr-sweep",
    help="Find the learning rate: train with several, over several seeds, and compare on the validation set.",
)
def lr_sweep(
    config: ConfigPath = None,
    assignments: Assignments = None,
    activation: Annotated[str | None, typer.Option("--activation", help="One, or several as in sigmoid,relu.")] = None,
    optimizer: Annotated[str | None, typer.Option("--optimizer", help="sgd, adam or adamw.")] = None,
    lrs: Annotated[str | None, typer.Option("--lrs", help="Compare these rates, as in 0.01,0.1.")] = None,
    min_lr: Annotated[float | None, typer.Option("--min-lr", help="Smallest rate to try.")] = None,
    max_lr: Annotated[float | None, typer.Option("--max-lr", help="Largest rate to try.")] = None,
    num: Annotated[int | None, typer.Option("--num", help="How many rates.  [default: 8]")] = None,
    seeds: Annotated[
        str | None,
        typer.Option("--seeds", help="Those of the trainings at each rate, as in 0-4.  [default: 0-1]"),
    ] = None,
    epochs: Annotated[float | None, typer.Option("--epochs", help="Of each training.  [default: 0.5]")] = None,
    budget: Annotated[str | None, typer.Option("--budget", help="Time for all, as in 60s or 2m.")] = None,
    limit_train: LimitTrain = None,
    batch_size: BatchSize = None,
    resume: Annotated[str | None, typer.Option("--resume", metavar="RUN", help="Go on with a sweep.")] = None,
    threads: Threads = None,
    device: DeviceName = None,
    engine: EngineName = None,
    name: Name = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    runs_dir: RunsDir = DEFAULT_RUNS_DIR,
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    flags = {
        "model.activation": None if "," in (activation or "") else activation,
        "training.optimizer": optimizer,
        "data.limit_train": limit_train,
        "training.batch_size": batch_size,
        "training.threads": threads,
        "training.device": device,
        "training.engine": engine,
        "name": name,
    }
    resolved = load_config(config, assignments, flags)

    from lenet_mnist.experiments import lr_sweep as sweeping
    from lenet_mnist.experiments.following import is_led
    from lenet_mnist.ranks import joined_ranks
    from lenet_mnist.reporting import sweep_plots, sweep_summary
    from lenet_mnist.reporting.progress import SweepProgress
    from lenet_mnist.tuning.plan import sweep_request

    request = sweep_request(activation, budget, lrs, min_lr, max_lr, num, seeds, epochs)
    access, progress = data_access(data_dir, offline), SweepProgress(console())
    with resolved.naming_origins(), joined_ranks() as ranks:
        if is_led(ranks, access, resolved.config):
            return
        if resume is None:
            swept = sweeping.new_sweep(resolved.config, request, runs_dir, access, progress, ranks)
        else:
            run = chosen_run(resume, runs_dir, ("sweep",))
            swept = sweeping.resumed_sweep(run, resolved, request, access, progress, ranks)
    sweep_plots.draw_swept_run(swept)
    say(sweep_summary.sweep_json(swept) if as_json else sweep_summary.sweep_text(swept))
    sweeping.require_answers(swept)


@app.command(
    help="Measure how fast this machine trains, engine beside engine, and where the time goes: about a minute."
)
def bench(
    batch_size: Annotated[
        list[int] | None, typer.Option("--batch-size", min=1, help="Images in one update; repeatable.")
    ] = None,
    activation: ActivationName = None,
    threads: Threads = None,
    device: DeviceName = None,
    engine: EngineName = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    flags = {
        "model.activation": activation,
        "training.threads": threads,
        "training.device": device,
        "training.engine": engine,
    }
    resolved = load_config(None, None, flags)

    from lenet_mnist.benchmark.run import run_benchmark
    from lenet_mnist.reporting import summaries

    with resolved.naming_origins():
        measured = run_benchmark(
            resolved.config, batch_size or (64, 256), data_access(data_dir, offline), console().print
        )
    say(summaries.benchmark_json(measured) if as_json else summaries.benchmark_text(measured))
