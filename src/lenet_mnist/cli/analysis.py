"""Step 4 of the lecture, performance analysis: what a trained network does."""

from pathlib import Path
from typing import Annotated

import typer

from lenet_mnist.cli import flags
from lenet_mnist.cli.commands import Call, Commands
from lenet_mnist.cli.flags import EXPERIMENT, MACHINE, configured
from lenet_mnist.config import Split

app = Commands("4. Performance analysis")


@app.command(
    help="Evaluate runs on the test or the validation set. Writes metrics, tables and figures; several runs are also "
    "evaluated as an ensemble.",
    examples=(
        "lenet evaluate latest --split val",
        "lenet evaluate relu --min-accuracy 0.99      # the newest run of this name",
        "lenet evaluate runs/*-relu-*                 # and all of them together",
    ),
)
def evaluate(
    call: Call,
    runs: Annotated[list[str], typer.Argument(**flags.RUNS, help="Paths, ids or names of runs, or `latest`.")],
    split: Annotated[Split, typer.Option("--split", help="The part of the data to evaluate on.")] = Split.TEST,
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", min=1, max=1_000_000, help="Images per batch; does not affect the results."),
    ] = None,
    min_accuracy: Annotated[
        float | None, typer.Option("--min-accuracy", min=0, max=1, help="Exit with 5 if the accuracy is lower.")
    ] = None,
    device: flags.Device = None,
) -> None:
    from lenet_mnist.data.batches import EVALUATION_CHUNK
    from lenet_mnist.reporting.analysis_results import evaluation_result
    from lenet_mnist.reporting.evaluation_plots import draw_evaluation
    from lenet_mnist.reporting.plots import draw_training
    from lenet_mnist.reporting.report import write_report
    from lenet_mnist.study import evaluation

    directories = [call.run(run, is_written=True) for run in runs]
    evaluator = evaluation.Evaluator(call.access(), device, batch_size or EVALUATION_CHUNK)
    seen: evaluation.EvaluatedRun | evaluation.EvaluatedEnsemble
    if len(directories) == 1:
        (seen,) = evaluation.evaluate_runs(directories, split, evaluator)
    else:
        seen = evaluation.evaluate_ensemble(directories, call.runs_dir, split, evaluator)
    draw_evaluation(seen)
    for member in seen.members:
        draw_training(member.run, call.note)
        write_report(member.run)
    call.say(evaluation_result(seen))
    evaluation.require_accuracy(seen.evaluation, min_accuracy)


@app.command(
    help="Check that a run is what it says it is. Recomputes digests and metrics; exits with 5 if one differs.",
    examples=("lenet verify latest", "lenet verify latest --retrain"),
)
def verify(
    call: Call,
    run: flags.RunName,
    retrain: Annotated[bool, typer.Option("--retrain", help="Train it again, too, and compare every row.")] = False,
) -> None:
    from lenet_mnist.reporting.analysis_results import verification_result
    from lenet_mnist.study.verification import require_all_hold, verify_run
    from lenet_mnist.training.context import Session

    session = Session(call.access(), call.progress())
    verified = verify_run(call.run(run), retrain, session)
    call.say(verification_result(verified))
    require_all_hold(verified)


@app.command(
    help="Say what went wrong in a training, and what to do. Names the evidence; of a sweep, reads each loss curve.",
    examples=("lenet diagnose latest", "lenet diagnose lr-sweep                      # the newest sweep"),
    offers=("runs_dir", "as_json"),
)
def diagnose(call: Call, run: flags.RunName) -> None:
    from lenet_mnist.reporting.analysis_results import diagnosis_result, sweep_advice
    from lenet_mnist.study.diagnosis import advise_sweep, diagnose_training

    directory = call.run(run, ("train", "sweep"))
    if directory.manifest.kind == "sweep":
        call.say(sweep_advice(advise_sweep(directory)))
    else:
        call.say(diagnosis_result(diagnose_training(directory)))


@app.command(
    help="Compare runs: curves, accuracies and their intervals. Runs that differ only in their seed form a group; of "
    "two runs, shows the images that only one of them gets right.",
    examples=("lenet compare relu sigmoid", "lenet compare runs/*-relu-* runs/*-tanh-* --speed-ratio loss=0.1"),
)
def compare(
    call: Call,
    runs: Annotated[list[str], typer.Argument(**flags.RUNS, help="Paths, ids or names of two or more runs.")],
    split: Annotated[
        Split, typer.Option("--split", help="Data to compare on; test counts as a test evaluation of each run.")
    ] = Split.VAL,
    speed_ratio: Annotated[
        list[str] | None,
        typer.Option("--speed-ratio", metavar="loss=NUMBER", help="Compare updates to this training loss. Repeatable."),
    ] = None,
    output: Annotated[Path | None, flags.output("A new directory to write to.")] = None,
    device: flags.Device = None,
) -> None:
    from lenet_mnist.reporting import compare_plots
    from lenet_mnist.reporting.analysis_results import comparison_result
    from lenet_mnist.study import comparison
    from lenet_mnist.study.evaluation import Evaluator

    comparison.require_free(output)
    levels = [comparison.parse_level(text) for text in speed_ratio or ()]
    directories = [call.run(run, is_written=split is Split.TEST) for run in runs]
    evaluator = Evaluator(call.access(), device)
    compared = comparison.compare_runs(directories, split, levels, evaluator)
    directory = comparison.write_comparison(compared, call.runs_dir, output)
    compare_plots.draw_comparison(compared, directory)
    call.say(comparison_result(compared, directory))


@app.command(
    "cross-validate",
    help="Train on all folds but one, test on that one, in turn. For small data; the test set is not opened.",
    examples=(
        "lenet cross-validate --limit-train 1000",
        "lenet cross-validate --config digits --folds 10 --repeats 3",
    ),
)
@configured("--lr", *EXPERIMENT, *MACHINE)
def cross_validate(
    call: Call,
    resolved: flags.ResolvedConfig,
    folds: Annotated[
        int | None, typer.Option("--folds", min=2, max=1000, help="Number of folds.  [default: 5]")
    ] = None,
    repeats: Annotated[
        int | None,
        typer.Option("--repeats", min=1, max=1000, help="Cross-validations, each with a new split.  [default: 1]"),
    ] = None,
    resume: flags.Resume = None,
) -> None:
    from lenet_mnist.reporting.evaluation_plots import draw_cross_validation
    from lenet_mnist.reporting.training_results import cross_validation_result
    from lenet_mnist.study import cross_validation

    with call.session(resolved) as session:
        call.warn(resolved.notes if resume is None else ())
        place = call.runs_dir if resume is None else call.run(resume, ("cross-validation",))
        pooled = cross_validation.cross_validate(place, resolved, folds, repeats, session)
    draw_cross_validation(pooled)
    call.say(cross_validation_result(pooled))


@app.command(
    help="Write a run's report.html, one page with all results. The run may still be training.",
    offers=("runs_dir", "as_json"),
)
def report(call: Call, run: flags.RunName) -> None:
    from lenet_mnist.reporting.report import write_report
    from lenet_mnist.reporting.text import Result

    path = write_report(call.run(run, is_written=True))
    call.say(Result({"run": path.parent, "report": path}, str(path)))


@app.command(help="List the runs, newest first.", offers=("runs_dir", "as_json"))
def runs(call: Call, test: Annotated[bool, typer.Option("--test", help="Show test accuracies, too.")] = False) -> None:
    from lenet_mnist.reporting.analysis_results import runs_result
    from lenet_mnist.runs.listing import list_runs, row_of

    rows = [row_of(run, with_test=test) for run in list_runs(call.runs_dir)]
    call.say(runs_result(rows, call.runs_dir))
