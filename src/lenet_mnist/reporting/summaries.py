"""Results in words and in JSON: what a command prints on stdout."""

import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

from lenet_mnist.errors import LenetError
from lenet_mnist.experiments.diagnosis import diagnose_training, read_record
from lenet_mnist.experiments.ensemble import EvaluatedEnsemble
from lenet_mnist.experiments.evaluation import EvaluatedRun
from lenet_mnist.experiments.training import TrainedRun
from lenet_mnist.files.locks import is_locked
from lenet_mnist.files.tables import read_json
from lenet_mnist.model.layer_table import LayerRow
from lenet_mnist.provenance import typed
from lenet_mnist.reporting.diagnosis_summary import diagnosis_dict, findings_lines
from lenet_mnist.reporting.text import aligned, to_json
from lenet_mnist.runs.directory import RunDirectory
from lenet_mnist.runs.manifest import Manifest

if TYPE_CHECKING:
    from lenet_mnist.benchmark.run import Benchmark
    from lenet_mnist.benchmark.steps import Timing

_REASONS = {
    "max-epochs": "all epochs done",
    "no-improvement": "the validation loss improved no more",
    "diverged": "diverged",
    "interrupted": "interrupted",
}


def training_text(runs: Sequence[TrainedRun]) -> str:
    """Say how training ended, for one run in lines, for several in a table with mean and spread."""
    if len(runs) > 1:
        return _seeds_text(runs)
    manifest, path = runs[0].manifest, runs[0].directory.path
    lines = [
        f"run         {path}",
        f"stopped     after epoch {manifest.epochs}: {_REASONS[manifest.stop_reason or 'interrupted']}",
    ]
    if manifest.best_epoch is not None:
        lines += [
            f"kept        epoch {manifest.best_epoch}: validation loss {manifest.best_val_loss:.4f}, "
            f"validation accuracy {manifest.best_val_accuracy:.2%}",
        ]
        lowest = min(runs[0].directory.read_history(), key=lambda row: row.val_loss)
        if lowest.epoch != manifest.best_epoch:  # training.keep: last
            lines.append(
                f"not kept    epoch {lowest.epoch}: validation loss {lowest.val_loss:.4f}, "
                f"validation accuracy {lowest.val_accuracy:.2%}"
            )
    pictures = sorted(runs[0].directory.plots_path.glob("*.png"))
    lines += [f"{'' if k else 'pictures':12}{picture}" for k, picture in enumerate(pictures)]
    lines.append(f"next        lenet {_next_step(runs[0])}")
    if manifest.status in ("finished", "diverged"):
        lines += findings_lines(diagnose_training(runs[0].directory))
    return "\n".join(lines)


def _next_step(run: TrainedRun) -> str:
    """Return what to type next. The test set is for the end, and for networks that have learned something."""
    path = typed(run.directory.path)
    if run.manifest.status == "interrupted":
        return f"train --resume {path}"
    has_learned = run.manifest.status == "finished" and read_record(run.directory).has_learned
    return f"evaluate {path} --split val" if has_learned else f"diagnose {path}"


def training_json(runs: Sequence[TrainedRun]) -> str:
    """Return the same as JSON."""
    rows = [
        {
            "run": str(run.directory.path),
            "plots": [str(path) for path in sorted(run.directory.plots_path.glob("*.png"))],
            **run.manifest.model_dump(mode="json"),
            **diagnosis_dict(diagnose_training(run.directory)),
        }
        for run in runs
    ]
    return to_json({"runs": rows, "val_accuracy": _spread([run.manifest.best_val_accuracy for run in runs])})


def evaluation_text(seen: EvaluatedRun) -> str:
    """Say what an evaluation found, and where its files are."""
    evaluation = seen.evaluation
    low, high = evaluation.accuracy_interval
    split, num_looks = seen.split.value, seen.metrics["num_test_looks"]
    worst = min(evaluation.per_class, key=lambda row: row.f1)
    lines = [
        f"{split} accuracy  {evaluation.accuracy:.2%}  ({evaluation.num_correct:,} of {len(evaluation):,}; "
        f"95 % interval {low:.2%} to {high:.2%})",
        f"{split} loss      {evaluation.mean_loss:.4f} nats per image",
        f"calibration    expected calibration error {evaluation.expected_calibration_error:.2%}",
        f"hardest class  {worst.name}: precision {worst.precision:.2%}, recall {worst.recall:.2%}",
        "written to",
        *(f"  {path}" for path in sorted(seen.directory.iterdir())),
        *(f"  {path}" for path in sorted(seen.run.plots_path.glob("*.png"))),
        f"  {seen.run.report_path}",
    ]
    if num_looks is not None and num_looks > 1:
        lines.append(
            f"note: look number {num_looks} at the test set through this run. Choices that follow from the "
            "earlier looks make this figure too good; choose on the validation set (--split val)."
        )
    return "\n".join(lines)


def evaluation_json(seen: EvaluatedRun) -> str:
    """Return the same as JSON: metrics.json, and the directory of the files."""
    return to_json({**seen.metrics, "directory": str(seen.directory)})


def ensemble_text(seen: EvaluatedEnsemble) -> str:
    """Say what several runs found each, and together."""
    evaluation, split = seen.evaluation, seen.split.value
    low, high = evaluation.accuracy_interval
    rows = [
        (member.run.id, f"{member.evaluation.accuracy:.2%}", f"{member.evaluation.mean_loss:.4f}")
        for member in seen.members
    ]
    rows.append(("together", f"{evaluation.accuracy:.2%}", f"{evaluation.mean_loss:.4f}"))
    lines = [
        aligned(("run", f"{split} accuracy", f"{split} loss"), rows, right=(1, 2)),
        f"together: {evaluation.num_correct:,} of {len(evaluation):,} right; 95 % interval {low:.2%} to {high:.2%}",
        "written to",
        *(f"  {path}" for path in sorted(seen.directory.iterdir())),
    ]
    if seen.note is not None:
        lines.append(f"note: {seen.note}")
    looks = [looks for member in seen.members if (looks := member.metrics["num_test_looks"]) is not None]
    if looks and max(looks) > 1:
        lines.append(
            f"note: the test set has been looked at up to {max(looks)} times through these runs. Choices that follow "
            "from the earlier looks make these figures too good; choose on the validation set (--split val)."
        )
    return "\n".join(lines)


def ensemble_json(seen: EvaluatedEnsemble) -> str:
    """Return the same as JSON: metrics.json of the ensemble, and where it lies."""
    return to_json({**seen.metrics, "directory": str(seen.directory)})


def layers_text(rows: Sequence[LayerRow]) -> str:
    """Return the layer table."""
    table = [
        (
            row.name,
            row.operation,
            "x".join(map(str, row.output_shape)),
            f"{row.num_parameters:,}",
            f"{row.num_multiply_adds:,}",
        )
        for row in rows
    ]
    parameters = sum(row.num_parameters for row in rows)
    multiply_adds = sum(row.num_multiply_adds for row in rows)
    table.append(("total", "", "", f"{parameters:,}", f"{multiply_adds:,}"))
    kinds = {row.formula: re.match("[a-z ]*", row.operation) for row in rows}  # once each: a terminal is 80 wide
    formulas = [(kind[0].strip() if kind else "", formula) for formula, kind in kinds.items()]
    layers = aligned(("layer", "operation", "output", "parameters", "multiply-adds"), table, right=(3, 4))
    return f"{layers}\n\n{aligned(('operation', 'formula'), formulas)}"


def layers_json(rows: Sequence[LayerRow]) -> str:
    """Return the layer table as JSON."""
    return to_json(
        {
            "layers": [asdict(row) for row in rows],
            "num_parameters": sum(row.num_parameters for row in rows),
            "num_multiply_adds": sum(row.num_multiply_adds for row in rows),
        }
    )


def run_row(run: RunDirectory, with_test: bool) -> dict[str, Any]:
    """Return what the list of runs says of one run. A run that cannot be read is listed as that."""
    row: dict[str, Any] = {"run": run.id}
    try:
        manifest = run.read_manifest()
        row |= {
            "kind": manifest.kind,
            "status": "killed" if manifest.status == "running" and not is_locked(run.path) else manifest.status,
            "best_epoch": manifest.best_epoch,
            "val_accuracy": manifest.best_val_accuracy,
            "lr": _tuned_rate(manifest),
        }
        metrics = run.evaluation_path("test") / "metrics.json"
        if with_test:
            row["test_accuracy"] = _fraction(read_json(metrics)["accuracy"]) if metrics.is_file() else None
    except (LenetError, KeyError, TypeError, ValueError):
        row["status"] = "damaged"
    return row


def runs_text(rows: Sequence[dict[str, Any]], runs_dir: Path) -> str:
    """Return the list of runs as a table."""
    if not rows:
        return f"no runs in {runs_dir}. `lenet train` makes one"
    columns = ["run", "kind", "status", "best_epoch", "val_accuracy"]
    columns += ["test_accuracy"] if any("test_accuracy" in row for row in rows) else []
    columns += ["lr"] if any(row.get("lr") for row in rows) else []
    table = [[_cell(row.get(column), column) for column in columns] for row in rows]
    headers = [{"best_epoch": "kept epoch"}.get(column, column.replace("_", " ")) for column in columns]
    return aligned(headers, table, right=range(3, len(columns)))


def _seeds_text(runs: Sequence[TrainedRun]) -> str:
    rows = [
        (
            run.directory.read_config().seed,
            run.directory.path,
            run.manifest.status,
            run.manifest.best_epoch,
            run.manifest.best_val_loss,
            run.manifest.best_val_accuracy,
        )
        for run in runs
    ]
    columns = ("seed", "run", "status", "kept epoch", "val loss", "val accuracy")
    table = [[_cell(value, column) for value, column in zip(row, columns, strict=True)] for row in rows]
    spread = _spread([run.manifest.best_val_accuracy for run in runs])
    lines = [aligned(columns, table, right=(0, 3, 4, 5))]
    if spread is not None and spread["standard_deviation"] is not None:
        lines.append(
            f"validation accuracy: mean {spread['mean']:.3%}, standard deviation over {spread['num_seeds']} seeds "
            f"{spread['standard_deviation']:.3%}"
        )
    return "\n".join(lines)


def _tuned_rate(manifest: Manifest) -> str | None:
    """Say which learning rate a sweep or a search has chosen."""
    tuning = manifest.tuning
    if not tuning:
        return None
    if manifest.kind == "train":
        return f"{float(tuning['lr']):.3g} (auto, {float(tuning['cost_epochs']):.1f} epochs)"
    return ", ".join(f"{float(choice['lr']):.3g}" for choice in tuning.values())


def _fraction(value: Any) -> float:
    """Return a number between 0 and 1 out of a file, or raise ValueError."""
    if not 0 <= float(value) <= 1:
        raise ValueError(f"{value} is no fraction")
    return float(value)


def _spread(values: Sequence[float | None]) -> dict[str, Any] | None:
    """Return mean and sample standard deviation of the values that are there."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    deviation = stdev(known) if len(known) > 1 else None
    return {"mean": mean(known), "standard_deviation": deviation, "num_seeds": len(known)}


def _cell(value: Any, column: str) -> str:
    """Write one value of a table."""
    if value is None:
        return "-"
    if "accuracy" in column:
        return f"{value:.2%}"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def benchmark_text(measured: "Benchmark") -> str:
    """Say how fast each engine is, and where the time goes."""
    lines = [
        f"machine  {measured.machine}; {measured.device}, {measured.threads} threads; "
        f"torch {measured.versions['torch']}",
        f"engine   {measured.engine}: {measured.engine_reason}",
    ]
    if measured.peak is not None:
        lines.append(f"peak     {measured.peak / 1e9:.0f} GFLOP/s of float32 multiply-adds, measured")
    lines += ["", "engine  batch   ms a step (range)         images/s  x torch  of peak"]
    for row in measured.steps:
        low, middle, high = _milliseconds(row.step)
        share = "" if row.peak_share is None else f"{row.peak_share:.0%}"
        lines.append(
            f"{row.engine:6} {row.batch_size:6,}  {middle:7.3f} ({low:.3f} to {high:.3f})  "
            f"{row.images_per_second:10,.0f}  {row.ratio_to_torch:7.2f}  {share:>7}"
        )
    lines += ["", "where a step's time goes, ms"]
    for row in measured.steps:
        parts = ", ".join(f"{part} {1000 * seconds:.3f}" for part, seconds in row.parts.items())
        lines.append(f"{row.engine:6} {row.batch_size:6,}  {parts}")
    lines += ["", "evaluation of 10,000 images, ms (range)"]
    for timing in measured.evaluations:
        low, middle, high = _milliseconds(timing.seconds)
        lines.append(f"{timing.engine:6}  {middle:.0f} ({low:.0f} to {high:.0f})")
    lines += ["", "start-up of a training in a fresh process, s"]
    lines += [f"{part:24} {seconds:.2f}" for part, seconds in measured.startup_seconds.items()]
    return "\n".join(lines)


def _milliseconds(timing: "Timing") -> tuple[float, float, float]:
    return 1000 * timing.low, 1000 * timing.median, 1000 * timing.high


def benchmark_json(measured: "Benchmark") -> str:
    """Return the same as JSON, times in seconds."""
    return to_json(asdict(measured))
