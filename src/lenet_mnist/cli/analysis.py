"""Step 4 of the lecture, performance analysis: what a trained network does."""

from datetime import UTC, datetime
from pathlib import Path
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
    RunName,
    RunsDir,
    Seed,
    Threads,
    chosen_run,
    console,
    data_access,
    load_config,
    number,
    parse_path,
    say,
    warn,
)

app = typer.Typer()


@app.command(
    help="Measure a run on the test set (or the validation set): figures, tables, pictures. Of several, also together."
)
def evaluate(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="A run's path, id or name, or `latest`; several.")
    ],
    split: Annotated[str, typer.Option("--split", help="test or val.")] = "test",
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", min=1, max=1_000_000, help="Changes no figure.")
    ] = None,
    min_accuracy: Annotated[
        float | None, typer.Option("--min-accuracy", min=0, max=1, help="Exit with 5 below this fraction.")
    ] = None,
    device: DeviceName = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    runs_dir: RunsDir = DEFAULT_RUNS_DIR,
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    from lenet_mnist.experiments.ensemble import EvaluatedEnsemble, evaluate_ensemble
    from lenet_mnist.experiments.evaluation import EvaluatedRun, evaluate_run, require_accuracy
    from lenet_mnist.experiments.following import is_led
    from lenet_mnist.ranks import joined_ranks
    from lenet_mnist.reporting import plots, summaries
    from lenet_mnist.reporting.drawing import draw_training
    from lenet_mnist.reporting.progress import TrainingProgress
    from lenet_mnist.reporting.report import write_report

    access = data_access(data_dir, offline)
    with joined_ranks() as ranks:
        if is_led(ranks, access):
            return
        directories = [chosen_run(run, runs_dir) for run in runs]
        common = (access, device, batch_size, ranks)
        if len(directories) == 1:
            seen: EvaluatedRun | EvaluatedEnsemble = evaluate_run(directories[0], split, *common)
        else:
            seen = evaluate_ensemble(directories, split, runs_dir, *common)
    for member in seen.members:
        plots.draw_evaluation(member)
        draw_training(member.run, TrainingProgress(console()).note)
        write_report(member.run)
    if isinstance(seen, EvaluatedEnsemble):
        plots.draw_evaluation(seen)
        say(summaries.ensemble_json(seen) if as_json else summaries.ensemble_text(seen))
    else:
        say(summaries.evaluation_json(seen) if as_json else summaries.evaluation_text(seen))
    require_accuracy(seen.evaluation, min_accuracy)


@app.command(help="Compute a run's digests and metrics again, and say what holds; exit with 5 if something does not.")
def verify(
    run: RunName,
    retrain: Annotated[bool, typer.Option("--retrain", help="Train it again, too, and compare every row.")] = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    runs_dir: RunsDir = DEFAULT_RUNS_DIR,
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    from lenet_mnist.experiments.verification import require_all_hold, verify_run
    from lenet_mnist.reporting import verification_summary

    access = data_access(data_dir, offline)
    verified = verify_run(chosen_run(run, runs_dir), retrain, access, console().print)
    say(verification_summary.as_json(verified) if as_json else verification_summary.as_text(verified))
    require_all_hold(verified)


@app.command(
    help="Say what went wrong in a training, on what evidence, and what to do next; of a sweep, what each curve says."
)
def diagnose(run: RunName, runs_dir: RunsDir = DEFAULT_RUNS_DIR, as_json: AsJson = False) -> None:
    from lenet_mnist.experiments import diagnosis
    from lenet_mnist.reporting import diagnosis_summary as summary

    directory = chosen_run(run, runs_dir, ("train", "sweep"))
    if directory.read_manifest().kind == "sweep":
        advised = diagnosis.advise_sweep(directory)
        say(summary.sweep_json(advised) if as_json else summary.sweep_text(advised))
    else:
        found = diagnosis.diagnose_training(directory)
        say(summary.diagnosis_json(found) if as_json else summary.diagnosis_text(found))


@app.command(
    help="Lay runs side by side: curves, a table with intervals, seeds grouped; of two runs, what each alone has right."
)
def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Paths, ids or names of two or more runs.")],
    split: Annotated[str, typer.Option("--split", help="val or test; test counts as a look in each run.")] = "val",
    speed_ratio: Annotated[
        list[str] | None,
        typer.Option("--speed-ratio", metavar="loss=NUMBER", help="Compare steps to that training loss; repeatable."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", parser=parse_path, metavar="<path>", help="A new directory for what is written."),
    ] = None,
    device: DeviceName = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    runs_dir: RunsDir = DEFAULT_RUNS_DIR,
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    from lenet_mnist.experiments import comparison, comparison_tables
    from lenet_mnist.reporting import compare_plots, compare_summary

    comparison_tables.require_free(output)
    levels = [comparison.parse_level(text) for text in speed_ratio or ()]
    directories = [chosen_run(run, runs_dir) for run in runs]
    compared = comparison.compare_runs(directories, split, levels, data_access(data_dir, offline), device)
    directory = comparison_tables.write_comparison(compared, runs_dir, output, datetime.now(UTC))
    compare_plots.draw_comparison(compared, directory)
    written = compare_summary.comparison_json if as_json else compare_summary.comparison_text
    say(written(compared, directory))


@app.command(
    "cross-validate",
    help="Train on all folds but one, test on that one, fold after fold: for few images. The test set is not opened.",
)
def cross_validate(
    config: ConfigPath = None,
    assignments: Assignments = None,
    folds: Annotated[
        int | None, typer.Option("--folds", min=2, max=1000, help="Parts, each tested on in turn.  [default: 5]")
    ] = None,
    repeats: Annotated[
        int | None, typer.Option("--repeats", min=1, max=1000, help="Divide anew so often.  [default: 1]")
    ] = None,
    lr: Annotated[str | None, typer.Option("--lr", help="Peak learning rate.")] = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    activation: ActivationName = None,
    seed: Seed = None,
    limit_train: LimitTrain = None,
    resume: Annotated[str | None, typer.Option("--resume", metavar="RUN", help="Go on with one.")] = None,
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
        "training.learning_rate": number(lr),
        "training.max_epochs": epochs,
        "training.batch_size": batch_size,
        "model.activation": activation,
        "seed": seed,
        "data.limit_train": limit_train,
        "training.threads": threads,
        "training.device": device,
        "training.engine": engine,
        "name": name,
    }
    resolved = load_config(config, assignments, flags)

    from lenet_mnist.experiments import cross_validation
    from lenet_mnist.experiments.following import is_led
    from lenet_mnist.ranks import joined_ranks
    from lenet_mnist.reporting import cross_validation_plots, cross_validation_summary
    from lenet_mnist.reporting.progress import FoldProgress

    access, progress = data_access(data_dir, offline), FoldProgress(console())
    with resolved.naming_origins(), joined_ranks() as ranks:
        if is_led(ranks, access, resolved.config):
            return
        if resume is None:
            warn(resolved.notes)
            validated = cross_validation.new_cross_validation(
                resolved.config, folds, repeats, runs_dir, access, progress, ranks
            )
        else:
            run = chosen_run(resume, runs_dir, ("cross-validation",))
            validated = cross_validation.resumed_cross_validation(
                run, resolved, folds, repeats, access, progress, ranks
            )
    cross_validation_plots.draw_cross_validated_run(validated)
    summary = cross_validation_summary
    say(summary.cross_validation_json(validated) if as_json else summary.cross_validation_text(validated))


@app.command(help="Write all that a run's files tell into one page, report.html; the run may still be training.")
def report(run: RunName, runs_dir: RunsDir = DEFAULT_RUNS_DIR, as_json: AsJson = False) -> None:
    from lenet_mnist.reporting.report import write_report
    from lenet_mnist.reporting.text import to_json

    path = write_report(chosen_run(run, runs_dir))
    say(to_json({"run": str(path.parent), "report": str(path)}) if as_json else str(path))


@app.command(help="List the runs, newest first.")
def runs(
    runs_dir: RunsDir = DEFAULT_RUNS_DIR,
    test: Annotated[bool, typer.Option("--test", help="Show the test accuracy too, where it was measured.")] = False,
    as_json: AsJson = False,
) -> None:
    from lenet_mnist.reporting import summaries
    from lenet_mnist.reporting.text import to_json
    from lenet_mnist.runs.listing import list_runs

    rows = [summaries.run_row(run, with_test=test) for run in list_runs(runs_dir)]
    say(to_json({"runs": rows}) if as_json else summaries.runs_text(rows, runs_dir))
