"""What the commands of performance analysis print: evaluate, verify, diagnose, cross-validate, report, runs."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from lenet_mnist.analysis.advice import Direction
from lenet_mnist.errors import LenetError
from lenet_mnist.files.locks import is_locked
from lenet_mnist.files.tables import plain, read_json
from lenet_mnist.provenance import typed
from lenet_mnist.reporting.text import aligned
from lenet_mnist.runs.manifest import Manifest
from lenet_mnist.runs.run import Run
from lenet_mnist.study.cross_validation import CrossValidatedRun
from lenet_mnist.study.diagnosis import Diagnosis, TrialAdvice
from lenet_mnist.study.ensemble import EvaluatedEnsemble
from lenet_mnist.study.evaluation import EvaluatedRun
from lenet_mnist.study.verification import Verified


@dataclass(frozen=True)
class EvaluationResult:
    """What one evaluation found, of a run or of an ensemble, and where its files are."""

    seen: EvaluatedRun | EvaluatedEnsemble

    def plain(self) -> dict[str, Any]:
        """Return metrics.json, and the directory of the files."""
        return {**self.seen.metrics, "directory": str(self.seen.directory)}

    def __str__(self) -> str:
        seen = self.seen
        lines = _ensemble_lines(seen) if isinstance(seen, EvaluatedEnsemble) else _evaluation_lines(seen)
        lines += ["written to", *(f"  {path}" for path in sorted(seen.directory.iterdir()))]
        if isinstance(seen, EvaluatedRun):
            lines += [f"  {path}" for path in (*sorted(seen.run.plots_path.glob("*.png")), seen.run.report_path)]
        elif seen.note is not None:
            lines.append(f"note: {seen.note}")
        return "\n".join([*lines, *test_note([member.metrics["num_test_looks"] for member in seen.members])])


def _evaluation_lines(seen: EvaluatedRun) -> list[str]:
    evaluation, split = seen.evaluation, seen.split.value
    low, high = evaluation.accuracy_interval
    worst = min(evaluation.per_class, key=lambda row: row.f1)
    return [
        f"{split} accuracy  {evaluation.accuracy:.2%}  ({evaluation.num_correct:,} of {len(evaluation):,}; "
        f"95 % interval {low:.2%} to {high:.2%})",
        f"{split} loss      {evaluation.mean_loss:.4f} nats per image",
        f"calibration    expected calibration error {evaluation.expected_calibration_error:.2%}",
        f"hardest class  {worst.name}: precision {worst.precision:.2%}, recall {worst.recall:.2%}",
    ]


def _ensemble_lines(seen: EvaluatedEnsemble) -> list[str]:
    evaluation, split = seen.evaluation, seen.split.value
    low, high = evaluation.accuracy_interval
    found = [*((member.run.id, member.evaluation) for member in seen.members), ("ensemble", evaluation)]
    rows = [(name, f"{each.accuracy:.2%}", f"{each.mean_loss:.4f}") for name, each in found]
    return [
        aligned(("run", f"{split} accuracy", f"{split} loss"), rows, right=(1, 2)),
        f"ensemble: {evaluation.num_correct:,} of {len(evaluation):,} right; 95 % interval {low:.2%} to {high:.2%}",
    ]


def test_note(numbers: Sequence[int | None]) -> list[str]:
    """Return a warning if a run has had more than one test evaluation."""
    most = max((number for number in numbers if number is not None), default=0)
    if most < 2:
        return []
    of_run = "this run" if len(numbers) == 1 else "one of these runs"
    return [
        f"note: test evaluation no. {most} of {of_run}. If earlier ones influenced your choices, this accuracy is "
        "biased upwards; choose on the validation set (--split val)."
    ]


@dataclass(frozen=True)
class VerificationResult:
    """What `lenet verify` found, one line per check."""

    verified: Verified

    def plain(self) -> dict[str, Any]:
        return {"run": str(self.verified.run.path), "checks": plain(self.verified.checks)}

    def __str__(self) -> str:
        rows = [("ok" if check.holds else "FAILED", check.what, check.seen) for check in self.verified.checks]
        return aligned(("", str(self.verified.run.path), "seen"), rows)


@dataclass(frozen=True)
class DiagnosisResult:
    """What is wrong with a training, why, and what to do; or that nothing was found."""

    found: Diagnosis

    def plain(self) -> dict[str, Any]:
        return {"run": str(self.found.run.path), **diagnosis_values(self.found)}

    def __str__(self) -> str:
        lines, advice = findings_lines(self.found), self.found.advice
        if not lines:
            lines = ["nothing wrong found", *(f"  {each}" for each in advice.evidence)]
            if advice.direction is Direction.UNKNOWN:
                config = typed(self.found.run.config_path)
                lines.append(f"  to judge the learning rate {self.found.lr:.3g}: lenet lr-sweep --config {config}")
        if self.found.unfinished is not None:
            lines = [f"unfinished: {self.found.unfinished}", "so far:", *lines]
        return "\n".join(lines)


def diagnosis_values(found: Diagnosis) -> dict[str, Any]:
    """Return a diagnosis for JSON, without its run."""
    return {
        "unfinished": found.unfinished,
        "findings": [asdict(each) | {"next_command": found.next_command(each)} for each in found.findings],
        "caveat": found.caveat,
        "advice": plain(found.advice),
    }


def findings_lines(found: Diagnosis) -> list[str]:
    """Return all findings, line by line."""
    lines = []
    for finding in found.findings:
        lines += [f"{finding.cause}: {finding.headline}", *(f"  because {each}" for each in finding.evidence)]
        lines.append(f"  what to do: {finding.remedy}")
        if (command := found.next_command(finding)) is not None:
            lines.append(f"  next: {command}")
    return lines if found.caveat is None else [*lines, found.caveat]


@dataclass(frozen=True)
class SweepAdvice:
    """What the loss curve of each training of a sweep looks like, and what it says of the learning rate."""

    trainings: Sequence[TrialAdvice]

    def __str__(self) -> str:
        rows = [
            (each.activation.value, f"{each.lr:.3g}", str(each.seed), each.advice.verdict, each.advice.direction)
            for each in self.trainings
        ]
        return aligned(("activation", "learning rate", "seed", "the loss", "advice"), rows, right=(1, 2))


@dataclass(frozen=True)
class CrossValidationResult:
    """How each fold did, what all folds say together, and what the interval means."""

    validated: CrossValidatedRun

    def plain(self) -> dict[str, Any]:
        folds = [
            {
                "repeat": result.fold.repeat,
                "fold": result.fold.number,
                "num_train": result.num_train,
                "num_images": len(result.labels),
                "accuracy": result.accuracy,
                "loss": result.mean_loss,
            }
            for result in self.validated.pooled.results
        ]
        known = {"run": str(self.validated.directory.path), "status": self.validated.manifest.status}
        return {**known, **self.validated.pooled.metrics(), "folds": folds}

    def __str__(self) -> str:
        pooled = self.validated.pooled
        num_repeats, results = pooled.folds.num_repeats, pooled.results
        rows = [
            (
                f"{result.fold.repeat}.{result.fold.number}" if num_repeats > 1 else str(result.fold.number),
                f"{result.num_train:,}",
                f"{len(result.labels):,}",
                f"{result.accuracy:.2%}",
                f"{result.mean_loss:.4f}",
            )
            for result in results
        ]
        low, high = pooled.accuracy_interval
        each = "once" if num_repeats == 1 else f"{num_repeats} times"
        num_tested, num_correct = sum(len(r.labels) for r in results), sum(r.num_correct for r in results)
        worst = min(pooled.per_class, key=lambda row: row.f1)
        return "\n".join(
            [
                f"run  {self.validated.directory.path}",
                "",
                aligned(("fold", "trained on", "tested on", "accuracy", "loss"), rows, right=range(5)),
                "",
                f"accuracy       {pooled.accuracy:.2%}  ({num_correct:,} of {num_tested:,})",
                f"               each image was tested {each}, by a network that had not seen it",
                f"over folds     mean {fmean(pooled.accuracies):.2%}, standard deviation {pooled.deviation:.2%}",
                f"95 % interval  {low:.2%} to {high:.2%}, for new images and networks trained on "
                f"{results[0].num_train:,}",
                "               (Nadeau and Bengio's: the folds share training images, Student's would be too narrow)",
                f"hardest class  {worst.name}: precision {worst.precision:.2%}, recall {worst.recall:.2%}",
            ]
        )


@dataclass(frozen=True)
class ReportResult:
    """Where a report is."""

    run: Path
    report: Path

    def __str__(self) -> str:
        return str(self.report)


@dataclass(frozen=True)
class RunsResult:
    """The list of runs, newest first."""

    runs: Sequence[dict[str, Any]]
    runs_dir: Path

    def plain(self) -> dict[str, Any]:
        return {"runs": self.runs}

    def __str__(self) -> str:
        if not self.runs:
            return f"no runs in {self.runs_dir}. `lenet train` makes one"
        columns = ["run", "kind", "status", "best_epoch", "val_accuracy"]
        columns += ["test_accuracy"] if any("test_accuracy" in row for row in self.runs) else []
        columns += ["lr"] if any(row.get("lr") for row in self.runs) else []
        table = [[_cell(row.get(column), column) for column in columns] for row in self.runs]
        headers = [{"best_epoch": "kept epoch"}.get(column, column.replace("_", " ")) for column in columns]
        return aligned(headers, table, right=range(3, len(columns)))


def run_row(run: Run, with_test: bool) -> dict[str, Any]:
    """Return what the list of runs says of one run. One that cannot be read is listed as damaged."""
    row: dict[str, Any] = {"run": run.id}
    try:
        manifest = run.manifest
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


def _tuned_rate(manifest: Manifest) -> str | None:
    tuning = manifest.tuning
    if not tuning:
        return None
    if manifest.kind == "train":
        return f"{float(tuning['lr']):.3g} (auto, {float(tuning['cost_epochs']):.1f} epochs)"
    return ", ".join(f"{float(choice['lr']):.3g}" for choice in tuning.values())


def _fraction(value: Any) -> float:
    """Return a number between 0 and 1 from a file, or raise ValueError."""
    if not 0 <= float(value) <= 1:
        raise ValueError(f"{value} is not a fraction")
    return float(value)


def _cell(value: Any, column: str) -> str:
    if value is None:
        return "-"
    return f"{value:.2%}" if "accuracy" in column else str(value)
