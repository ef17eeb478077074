"""Step 4 of the lecture, performance analysis: what a trained network does; and what it is used for after that."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from lenet_mnist.cli.commands import EXPERIMENT, MACHINE, PATH, RUN, RUNS, Call, Commands, DeviceName, Resume, RunName
from lenet_mnist.config import ExportFormat, Split

app = Commands("4. Performance analysis")
use_app = Commands("A trained network, used")
_BEFORE_ANY_TRAINING = "record"  # the most accurate of the networks that come with lenet


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
    runs: Annotated[list[str], Argument(**RUNS)],
    split: Annotated[Split, Option(help="The part of the data to evaluate on.")] = Split.TEST,
    batch_size: Annotated[
        int | None, Option(min=1, max=1_000_000, help="Images per batch; does not affect the results.")
    ] = None,
    min_accuracy: Annotated[float | None, Option(min=0, max=1, help="Exit with 5 if the accuracy is lower.")] = None,
    device: DeviceName = None,
) -> None:
    from lenet_mnist.data.batches import EVALUATION_CHUNK
    from lenet_mnist.reporting import analysis_results, evaluation_plots, plots, report
    from lenet_mnist.study import evaluation

    directories = [call.run(run, is_written=True) for run in runs]
    evaluator = evaluation.Evaluator(call.access(), device, batch_size or EVALUATION_CHUNK)
    seen: evaluation.EvaluatedRun | evaluation.EvaluatedEnsemble
    if len(directories) == 1:
        (seen,) = evaluation.evaluate_runs(directories, split, evaluator)
    else:
        seen = evaluation.evaluate_ensemble(directories, call.runs_dir, split, evaluator)
    evaluation_plots.draw_evaluation(seen)
    for member in seen.members:
        plots.draw_training(member.run, call.note)
        report.write_report(member.run)
    call.say(analysis_results.evaluation_result(seen))
    evaluation.require_accuracy(seen.evaluation, min_accuracy)


@app.command(
    help="Check that a run is what it says it is. Recomputes digests and metrics; exits with 5 if one differs.",
    examples=("lenet verify latest", "lenet verify latest --retrain"),
)
def verify(
    call: Call,
    run: RunName,
    retrain: Annotated[bool, Option("--retrain", help="Train it again, too, and compare every row.")] = False,
) -> None:
    from lenet_mnist.reporting.analysis_results import verification_result
    from lenet_mnist.study.verification import require_all_hold, verify_run
    from lenet_mnist.training.context import Session

    session = Session(call.access(), call.progress())
    verified = call.run(run)
    checks = verify_run(verified, retrain, session)
    call.say(verification_result(verified, checks))
    require_all_hold(verified, checks)


@app.command(
    help="Say what went wrong in a training, and what to do. Names the evidence; of a sweep, reads each loss curve.",
    examples=("lenet diagnose latest", "lenet diagnose lr-sweep                      # the newest sweep"),
    offers="runs_dir as_json",
)
def diagnose(call: Call, run: RunName) -> None:
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
    runs: Annotated[list[str], Argument(**RUNS | {"help": "Paths, ids or names of two or more runs."})],
    split: Annotated[
        Split, Option(help="Data to compare on; test counts as a test evaluation of each run.")
    ] = Split.VAL,
    speed_ratio: Annotated[
        list[str] | None, Option(metavar="loss=NUMBER", help="Compare updates to this training loss. Repeatable.")
    ] = None,
    output: Annotated[Path | None, Option(**PATH, help="A new directory to write to.")] = None,
    device: DeviceName = None,
) -> None:
    from lenet_mnist.reporting import analysis_results, study_plots
    from lenet_mnist.study import comparison, evaluation

    comparison.require_free(output)
    levels = [comparison.parse_level(text) for text in speed_ratio or ()]
    directories = [call.run(run, is_written=split is Split.TEST) for run in runs]
    evaluator = evaluation.Evaluator(call.access(), device)
    compared = comparison.compare_runs(directories, split, levels, evaluator)
    directory = comparison.write_comparison(compared, call.runs_dir, output)
    study_plots.draw_comparison(compared, directory)
    call.say(analysis_results.comparison_result(compared, directory))


@app.command(
    "cross-validate",
    help="Train on all folds but one, test on that one, in turn. For small data; the test set is not opened.",
    examples=(
        "lenet cross-validate --limit-train 1000",
        "lenet cross-validate --config digits --folds 10 --repeats 3",
    ),
    settings=f"--lr {EXPERIMENT} {MACHINE}",
)
def cross_validate(
    call: Call,
    folds: Annotated[int | None, Option(min=2, max=1000, help="Number of folds.  [default: 5]")] = None,
    repeats: Annotated[
        int | None, Option(min=1, max=1000, help="Cross-validations, each with a new split.  [default: 1]")
    ] = None,
    resume: Resume = None,
) -> None:
    from lenet_mnist.reporting import evaluation_plots, training_results
    from lenet_mnist.study import cross_validation

    with call.session() as session:
        call.warn(call.resolved.notes if resume is None else ())
        place = call.runs_dir if resume is None else call.run(resume, ("cross-validation",))
        pooled = cross_validation.cross_validate(place, call.resolved, folds, repeats, session)
    evaluation_plots.draw_cross_validation(pooled)
    call.say(training_results.cross_validation_result(pooled))


@app.command(
    help="Write a run's report.html, one page with all results. The run may still be training.",
    offers="runs_dir as_json",
)
def report(call: Call, run: RunName) -> None:
    from lenet_mnist.reporting.report import write_report
    from lenet_mnist.reporting.text import Result

    path = write_report(call.run(run, is_written=True))
    call.say(Result({"run": path.parent, "report": path}, str(path)))


@app.command(help="List the runs, newest first.", offers="runs_dir as_json")
def runs(call: Call, test: Annotated[bool, Option("--test", help="Show test accuracies, too.")] = False) -> None:
    from lenet_mnist.reporting.analysis_results import runs_result
    from lenet_mnist.runs.listing import list_runs, row_of

    rows = [row_of(run, with_test=test) for run in list_runs(call.runs_dir)]
    call.say(runs_result(rows, call.runs_dir))


@use_app.command(
    help="Read the digits in your own pictures, one per picture. Exits with 3 if a picture cannot be read.",
    examples=("lenet predict photo.jpg", "lenet predict scans/ --run relu --show"),
    offers="runs_dir as_json",
)
def predict(
    call: Call,
    pictures: Annotated[
        list[Path], Argument(metavar="PICTURE...", help="Pictures (HEIC of phones, too), or folders of them.")
    ],
    run: Annotated[str, Option(**RUN)] = "latest",
    show: Annotated[bool, Option("--show", help="Also draw the steps of the preparation, into the run.")] = False,
) -> None:
    from lenet_mnist.inference.predict import read_pictures
    from lenet_mnist.reporting.gallery import draw_reading
    from lenet_mnist.runs.listing import LATEST, comes_with_lenet, newest_run

    if run == LATEST and ((newest := newest_run(call.runs_dir)) is None or comes_with_lenet(newest.id)):
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


@use_app.command(
    help="Write a run's network in a form that other programs read.",
    examples=(
        "lenet export latest --format html            # a page to draw on",
        "lenet export relu --format onnx --output relu.onnx",
    ),
)
def export(
    call: Call,
    run: RunName,
    export_format: Annotated[
        ExportFormat, Option("--format", help="html: a page to draw digits on; onnx or safetensors: the network.")
    ],
    compare: Annotated[str | None, Option(**RUN | {"help": "html: show a second run next to the first."})] = None,
    output: Annotated[Path | None, Option(**PATH, help="File to write; by default in the run.")] = None,
) -> None:
    from lenet_mnist.inference.export import export_run

    compared = None if compare is None else call.run(compare)
    access = call.access()
    chosen = call.run(run, is_written=output is None)
    exported = export_run(chosen, compared, export_format, output, access)
    call.say(exported)
