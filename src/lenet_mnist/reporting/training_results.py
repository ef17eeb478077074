"""What the commands about data, architecture and training print, cross-validate included."""

import re
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from lenet_mnist.config import Activation
from lenet_mnist.data.load import Survey, VerifiedFile
from lenet_mnist.errors import one_line
from lenet_mnist.model.lenet import LayerRow
from lenet_mnist.provenance import typed
from lenet_mnist.reporting.analysis_results import diagnosis_values, findings_lines, hardest_class
from lenet_mnist.reporting.text import Result, aligned, counted
from lenet_mnist.runs.run import Run
from lenet_mnist.study.cross_validation import CrossValidation
from lenet_mnist.study.diagnosis import Diagnosis, diagnose_training
from lenet_mnist.study.lr_sweep import Answer, SweptRun, best_name
from lenet_mnist.tuning.best_rate import Ranking, exponent_of, rate_for
from lenet_mnist.tuning.plan import epochs_text

STOP_REASONS = {
    "max-epochs": "all epochs done",
    "no-improvement": "early stopping: the validation loss stopped improving",
    "diverged": "diverged",
    "interrupted": "interrupted",
}
_MOST_LEAKS = 10


def layers_result(layers: Sequence[LayerRow]) -> Result:
    """Return the layer table, with its sums."""
    sums = {name: sum(getattr(row, name) for row in layers) for name in ("num_parameters", "num_multiply_adds")}
    table = [
        (row.name, row.operation, "x".join(map(str, row.output_shape)), row.num_parameters, row.num_multiply_adds)
        for row in layers
    ]
    cells = [
        (*words, f"{parameters:,}", f"{adds:,}")
        for *words, parameters, adds in (*table, ("total", "", "", *sums.values()))
    ]
    header = ("layer", "operation", "output", "parameters", "multiply-adds")
    kinds = {row.formula: re.match("[a-z ]*", row.operation) for row in layers}  # each once, for 80 columns
    formulas = [(kind[0].strip() if kind else "", formula) for formula, kind in kinds.items()]
    text = f"{aligned(header, cells, right=(3, 4))}\n\n{aligned(('operation', 'formula'), formulas)}"
    return Result({"layers": layers, **sums}, text)


def data_result(files: Sequence[VerifiedFile], survey: Survey) -> Result:
    """Return what `lenet data check` found: the published files that are there, and what the images are."""
    rows = [
        [one_line(name), *(f"{counts[k]:,}" for counts in survey.counts.values())]
        for k, name in enumerate(survey.class_names)
    ]
    rows.append(["total", *(f"{sum(counts):,}" for counts in survey.counts.values())])
    repeated = ", ".join(f"{part} {number:,}" for part, number in survey.num_repeated.items())
    leaks = [
        one_line(f"  {leak.part} image {leak.image} is {leak.earlier_part} image {leak.earlier_image}")
        for leak in survey.leaks[:_MOST_LEAKS]
    ]
    if len(survey.leaks) > _MOST_LEAKS:
        leaks.append(f"  and {len(survey.leaks) - _MOST_LEAKS:,} more; --json lists them all")
    lines = [
        *(f"ok  {file.path}  {' x '.join(map(str, file.shape))}  sha256 {file.sha256}" for file in files),
        aligned(["class", *survey.counts], rows, right=range(1, len(rows[0]))),
        f"duplicate images: within {repeated}; across parts {len(survey.leaks):,}",
        *leaks,
        *(f"warning: {one_line(note)}" for note in survey.notes),
    ]
    return Result({"files": files, **vars(survey)}, "\n".join(lines))


def training_result(runs: Sequence[Run]) -> Result:
    """Return how `lenet train` ended: one run, or one per seed, with the spread over the seeds."""
    found = [diagnose_training(run) for run in runs]
    values = [
        {
            "run": run.path,
            "plots": _pictures(run),
            **run.manifest.model_dump(mode="json"),
            **diagnosis_values(diagnosis),
        }
        for run, diagnosis in zip(runs, found, strict=True)
    ]
    known = [run.manifest.best_val_accuracy for run in runs if run.manifest.best_val_accuracy is not None]
    deviation = stdev(known) if len(known) > 1 else None
    spread = {"mean": mean(known), "standard_deviation": deviation, "num_seeds": len(known)} if known else None
    lines = _run_lines(runs[0], found[0])
    if len(runs) > 1:
        columns = ("seed", "run", "status", "kept epoch", "val loss", "val accuracy")
        lines = [aligned(columns, [_seed_row(run) for run in runs], right=(0, 3, 4, 5))]
        if deviation is not None:
            accuracy = f"validation accuracy: mean {mean(known):.3%}"
            lines.append(f"{accuracy}, standard deviation over {len(known)} seeds {deviation:.3%}")
    return Result({"runs": values, "val_accuracy": spread}, "\n".join(lines))


def _seed_row(run: Run) -> tuple[str, ...]:
    manifest, kept = run.manifest, ("-", "-", "-")
    if manifest.best_epoch is not None:
        kept = (str(manifest.best_epoch), f"{manifest.best_val_loss:.4f}", f"{manifest.best_val_accuracy:.2%}")
    return str(run.config.seed), str(run.path), manifest.status, *kept


def _run_lines(run: Run, found: Diagnosis) -> list[str]:
    manifest = run.manifest
    reason = STOP_REASONS[manifest.stop_reason or "interrupted"]
    lines = [f"run         {run.path}", f"stopped     after epoch {manifest.epochs}: {reason}"]
    if manifest.best_epoch is not None:
        lowest = min(run.history, key=lambda row: row.val_loss)
        kept = ("kept", manifest.best_epoch, manifest.best_val_loss, manifest.best_val_accuracy)
        epochs = {manifest.best_epoch: kept}
        epochs.setdefault(lowest.epoch, ("not kept", lowest.epoch, lowest.val_loss, lowest.val_accuracy))  # keep: last
        lines += [
            f"{word:12}epoch {epoch}: validation loss {loss:.4f}, validation accuracy {accuracy:.2%}"
            for word, epoch, loss, accuracy in epochs.values()
        ]
    lines += [f"{'' if k else 'pictures':12}{picture}" for k, picture in enumerate(_pictures(run))]
    lines.append(f"next        lenet {_next_step(run)}")
    return [*lines, *findings_lines(found)] if manifest.status in ("finished", "diverged") else lines


def _pictures(run: Run) -> list[str]:
    return [str(path) for path in sorted(run.plots_path.glob("*.png"))]


def _next_step(run: Run) -> str:
    """Return what to type next. The test set is for the end, and for networks that have learned something."""
    path = typed(run.path)
    if run.manifest.status == "interrupted":
        return f"train --resume {path}"
    has_learned = run.manifest.status == "finished" and run.record.has_learned
    return f"evaluate {path} --split val" if has_learned else f"diagnose {path}"


def sweep_result(swept: SweptRun) -> Result:
    """Return what `lenet lr-sweep` found: the rates, the best of them, how sure that is, and what to do next."""
    answers: dict[str, Any] = {}
    found: dict[str, Path] = {}
    blocks = [f"run  {swept.directory.path}"]
    for activation, answer in swept.answers.items():
        best = swept.directory.path / best_name(activation, len(swept.answers))
        next_command = f"lenet train --config {typed(best)}"
        answers[activation.value] = {
            **{name: getattr(answer, name) for name in ("bracket", "ranking", "choice")},
            "next": next_command if answer.choice else None,
        }
        if answer.choice:
            found[activation.value] = best
        lines = _sweep_lines(swept, activation, answer) + [f"next    {next_command}"] * bool(answer.choice)
        blocks += [_rates_table(answer.ranking), "\n".join(lines)]
    values = {"run": swept.directory.path, "status": swept.directory.manifest.status, "best": found}
    return Result({**values, "activations": answers}, "\n\n".join(blocks))


def _sweep_lines(swept: SweptRun, activation: Activation, answer: Answer) -> list[str]:
    ranking, choice, max_epochs = answer.ranking, answer.choice, swept.directory.config.training.max_epochs
    epochs, best = epochs_text(ranking.epochs), ranking.best
    if best is None:
        return ["training diverged at every learning rate: try smaller ones, with --max-lr"]
    if choice is None:
        rest = " A sigmoid network stays there at first, at any rate." if activation is Activation.SIGMOID else ""
        longer = max(1, round(4 * ranking.epochs))
        return [f"in {epochs} no rate got better than chance level.{rest} Train longer: --epochs {longer}"]
    others = [f"{lr:.3g}" for lr in ranking.equals if lr != best.lr]
    told = f"{' and '.join(others)} not clearly worse" if others else "no other rate is as good"
    lines = [f"best    {best.lr:.3g} for {epochs}; {told} (seeds scatter by {ranking.noise:.0%})"]
    if ranking.is_at_lower_edge or ranking.is_at_upper_edge:
        lower = ranking.is_at_lower_edge
        edge, end, factor = ("smallest", "--min-lr", 0.1) if lower else ("largest", "--max-lr", 10)
        lines.append(f"edge    it is the {edge} rate that was tried: try {best.lr * factor:.2g} too ({end} or --lrs)")
    interval = f"about 95 % sure: {choice.low:.2g} to {choice.high:.2g}"
    sure = interval if choice.is_fitted else "by the lowest loss alone"
    lines.append(f"chosen  {choice.lr:.3g} for the {epochs_text(max_epochs)} of a whole training ({sure})")
    shift = rate_for(1.0, ranking.epochs, max_epochs, exponent_of(swept.directory.config, activation))
    if not 0.8 < shift < 1.25:
        higher = "higher" if shift > 1 else "lower"
        lines.append(f"        {shift:.2g} times the best of short schedules: longer ones need {higher} rates here")
    return lines


def _rates_table(ranking: Ranking) -> str:
    header = (f"{ranking.activation}: learning rate", "validation loss", "range of the seeds", "")
    rows = []
    for rate in ranking.rates:
        loss, span = "diverged", ""
        if rate.low is not None:
            loss = f"{rate.num_diverged} diverged" if rate.mean_loss is None else f"{rate.mean_loss:.4f}"
            span = f"{rate.low:.4f} to {rate.high:.4f}"
        mark = "not clearly worse" if rate.lr in ranking.equals else ""
        rows.append((f"{rate.lr:.3g}", loss, span, "best" if rate == ranking.best else mark))
    seeds = counted(max(rate.num_trials for rate in ranking.rates), "seed")
    footer = f"mean over {seeds}, {epochs_text(ranking.epochs)} each, annealed to zero"
    return aligned(header, rows, right=(0, 1, 2)) + "\n" + footer


def cross_validation_result(pooled: CrossValidation) -> Result:
    """Return how each fold did, what all folds say together, and what the interval means."""
    path, num_repeats, results = pooled.run.path, pooled.folds.num_repeats, pooled.results
    columns = ("repeat", "fold", "num_train", "num_images", "accuracy", "loss")
    folds = [(r.fold.repeat, r.fold.number, r.num_train, len(r.labels), r.accuracy, r.mean_loss) for r in results]
    rows = [
        (f"{repeat}." * (num_repeats > 1) + f"{number}", f"{train:,}", f"{tested:,}", f"{accuracy:.2%}", f"{loss:.4f}")
        for repeat, number, train, tested, accuracy, loss in folds
    ]
    low, high = pooled.accuracy_interval
    each = "once" if num_repeats == 1 else f"{num_repeats} times"
    lines = [
        f"run  {path}",
        "",
        aligned(("fold", "trained on", "tested on", "accuracy", "loss"), rows, right=range(5)),
        "",
        f"accuracy       {pooled.accuracy:.2%}  ({pooled.num_correct:,} of {pooled.num_images:,})",
        f"               each image was tested {each}, by a network that had not seen it",
        f"over folds     mean {mean(pooled.accuracies):.2%}, standard deviation {pooled.deviation:.2%}",
        f"95 % interval  {low:.2%} to {high:.2%}, for new images and networks trained on {results[0].num_train:,}",
        "               (Nadeau and Bengio's: the folds share training images, Student's would be too narrow)",
        hardest_class(pooled),
    ]
    values = {"run": path, "status": pooled.run.manifest.status, **pooled.metrics()}
    return Result(values | {"folds": [dict(zip(columns, fold, strict=True)) for fold in folds]}, "\n".join(lines))
