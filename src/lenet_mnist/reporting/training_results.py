"""What the commands about data, architecture and training print: describe, data check, train, lr-sweep, bench."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from lenet_mnist.config import Activation
from lenet_mnist.data.inspection import Survey
from lenet_mnist.data.load import VerifiedFile
from lenet_mnist.errors import one_line
from lenet_mnist.files.tables import plain
from lenet_mnist.model.layer_table import LayerRow
from lenet_mnist.provenance import typed
from lenet_mnist.reporting.analysis_results import diagnosis_values, findings_lines
from lenet_mnist.reporting.text import aligned, counted
from lenet_mnist.study.diagnosis import diagnose_training
from lenet_mnist.study.lr_sweep import SweptRun, best_name
from lenet_mnist.study.train import TrainedRun
from lenet_mnist.tuning.best_rate import exponent_of, rate_for
from lenet_mnist.tuning.plan import epochs_text
from lenet_mnist.tuning.ranking import Answer, Ranking, RateSummary

STOP_REASONS = {
    "max-epochs": "all epochs done",
    "no-improvement": "early stopping: the validation loss stopped improving",
    "diverged": "diverged",
    "interrupted": "interrupted",
}
_MOST_LEAKS = 10


@dataclass(frozen=True)
class LayersResult:
    """The layer table."""

    layers: Sequence[LayerRow]
    num_parameters: int
    num_multiply_adds: int

    @classmethod
    def of(cls, rows: Sequence[LayerRow]) -> "LayersResult":
        return cls(rows, sum(row.num_parameters for row in rows), sum(row.num_multiply_adds for row in rows))

    def __str__(self) -> str:
        cells = [
            (row.name, row.operation, "x".join(map(str, row.output_shape)), row.num_parameters, row.num_multiply_adds)
            for row in self.layers
        ]
        cells.append(("total", "", "", self.num_parameters, self.num_multiply_adds))
        table = [(*words, f"{parameters:,}", f"{adds:,}") for *words, parameters, adds in cells]
        kinds = {row.formula: re.match("[a-z ]*", row.operation) for row in self.layers}  # each once, for 80 columns
        formulas = [(kind[0].strip() if kind else "", formula) for formula, kind in kinds.items()]
        layers = aligned(("layer", "operation", "output", "parameters", "multiply-adds"), table, right=(3, 4))
        return f"{layers}\n\n{aligned(('operation', 'formula'), formulas)}"


@dataclass(frozen=True)
class DataResult:
    """What `lenet data check` found: the published files that are there, and what the images are."""

    files: Sequence[VerifiedFile]
    survey: Survey

    def plain(self) -> dict[str, Any]:
        return {"files": plain(self.files), **plain(vars(self.survey))}

    def __str__(self) -> str:
        survey = self.survey
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
        return "\n".join(
            [
                *(f"ok  {file.path}  {' x '.join(map(str, file.shape))}  sha256 {file.sha256}" for file in self.files),
                aligned(["class", *survey.counts], rows, right=range(1, len(rows[0]))),
                f"duplicate images: within {repeated}; across parts {len(survey.leaks):,}",
                *leaks,
                *(f"warning: {one_line(note)}" for note in survey.notes),
            ]
        )


@dataclass(frozen=True)
class TrainingResult:
    """How `lenet train` ended: one run, or one per seed."""

    runs: Sequence[TrainedRun]

    def plain(self) -> dict[str, Any]:
        """Return the same for JSON: each manifest with its diagnosis, and the spread over the seeds."""
        rows = [
            {
                "run": str(run.directory.path),
                "plots": [str(path) for path in sorted(run.directory.plots_path.glob("*.png"))],
                **run.manifest.model_dump(mode="json"),
                **diagnosis_values(diagnose_training(run.directory)),
            }
            for run in self.runs
        ]
        return {"runs": rows, "val_accuracy": self._spread()}

    def __str__(self) -> str:
        return self._of_seeds() if len(self.runs) > 1 else "\n".join(_run_lines(self.runs[0]))

    def _of_seeds(self) -> str:
        table = []
        for run in self.runs:
            manifest, kept = run.manifest, ("-", "-", "-")
            if manifest.best_epoch is not None:
                figures = f"{manifest.best_val_loss:.4f}", f"{manifest.best_val_accuracy:.2%}"
                kept = (str(manifest.best_epoch), *figures)
            seed = str(run.directory.config.seed)
            table.append((seed, str(run.directory.path), manifest.status, *kept))
        columns = ("seed", "run", "status", "kept epoch", "val loss", "val accuracy")
        text = aligned(columns, table, right=(0, 3, 4, 5))
        spread = self._spread()
        if spread is not None and spread["standard_deviation"] is not None:
            text += (
                f"\nvalidation accuracy: mean {spread['mean']:.3%}, standard deviation over {spread['num_seeds']} "
                f"seeds {spread['standard_deviation']:.3%}"
            )
        return text

    def _spread(self) -> dict[str, Any] | None:
        """Return mean and sample standard deviation of the accuracies that are known."""
        known = [run.manifest.best_val_accuracy for run in self.runs if run.manifest.best_val_accuracy is not None]
        deviation = stdev(known) if len(known) > 1 else None
        return {"mean": mean(known), "standard_deviation": deviation, "num_seeds": len(known)} if known else None


def _run_lines(run: TrainedRun) -> list[str]:
    manifest, directory = run.manifest, run.directory
    reason = STOP_REASONS[manifest.stop_reason or "interrupted"]
    lines = [f"run         {directory.path}", f"stopped     after epoch {manifest.epochs}: {reason}"]
    if manifest.best_epoch is not None:
        lowest = min(directory.history, key=lambda row: row.val_loss)
        kept = ("kept", manifest.best_epoch, manifest.best_val_loss, manifest.best_val_accuracy)
        epochs = {manifest.best_epoch: kept}
        epochs.setdefault(lowest.epoch, ("not kept", lowest.epoch, lowest.val_loss, lowest.val_accuracy))  # keep: last
        lines += [
            f"{word:12}epoch {epoch}: validation loss {loss:.4f}, validation accuracy {accuracy:.2%}"
            for word, epoch, loss, accuracy in epochs.values()
        ]
    pictures = sorted(directory.plots_path.glob("*.png"))
    lines += [f"{'' if k else 'pictures':12}{picture}" for k, picture in enumerate(pictures)]
    lines.append(f"next        lenet {_next_step(run)}")
    has_ended = manifest.status in ("finished", "diverged")
    return [*lines, *findings_lines(diagnose_training(directory))] if has_ended else lines


def _next_step(run: TrainedRun) -> str:
    """Return what to type next. The test set is for the end, and for networks that have learned something."""
    path = typed(run.directory.path)
    if run.manifest.status == "interrupted":
        return f"train --resume {path}"
    has_learned = run.manifest.status == "finished" and run.directory.record.has_learned
    return f"evaluate {path} --split val" if has_learned else f"diagnose {path}"


@dataclass(frozen=True)
class SweepResult:
    """What `lenet lr-sweep` found: which rates were tried, which is best, how sure that is, and what to do next."""

    swept: SweptRun

    def plain(self) -> dict[str, Any]:
        answers = {
            activation.value: {
                **{name: plain(getattr(answer, name)) for name in ("bracket", "ranking", "choice")},
                "next": self._next(activation) if answer.choice else None,
            }
            for activation, answer in self.swept.answers.items()
        }
        swept = self.swept
        return {"run": str(swept.directory.path), "status": swept.manifest.status, "activations": answers}

    def __str__(self) -> str:
        blocks = [f"run  {self.swept.directory.path}"]
        for activation, answer in self.swept.answers.items():
            blocks += [_rates_table(answer.ranking), "\n".join(self._words(activation, answer))]
        return "\n\n".join(blocks)

    def _words(self, activation: Activation, answer: Answer) -> list[str]:
        ranking, choice, max_epochs = answer.ranking, answer.choice, self.swept.config.training.max_epochs
        epochs, best = epochs_text(ranking.epochs), ranking.best
        if best is None:
            return ["training diverged at every learning rate: try smaller ones, with --max-lr"]
        if choice is None:
            rest = " A sigmoid network stays there at first, at any rate." if activation is Activation.SIGMOID else ""
            longer = max(1, round(4 * ranking.epochs))
            return [f"in {epochs} no rate got better than chance level.{rest} Train longer: --epochs {longer}"]
        lines = [f"best    {best.lr:.3g} for {epochs}; {_certainty(ranking)}"]
        if ranking.is_at_lower_edge or ranking.is_at_upper_edge:
            lower = ranking.is_at_lower_edge
            edge, end, factor = ("smallest", "--min-lr", 0.1) if lower else ("largest", "--max-lr", 10)
            lines.append(f"edge    it is the {edge} rate that was tried: extend with {end} {best.lr * factor:.2g}")
        interval = f"about 95 % sure: {choice.low:.2g} to {choice.high:.2g}"
        sure = interval if choice.is_fitted else "by the lowest loss alone"
        lines.append(f"chosen  {choice.lr:.3g} for the {epochs_text(max_epochs)} of a whole training ({sure})")
        shift = rate_for(1.0, ranking.epochs, max_epochs, exponent_of(self.swept.config, activation))
        if not 0.8 < shift < 1.25:
            higher = "higher" if shift > 1 else "lower"
            lines.append(f"        {shift:.2g} times the best of short schedules: longer ones need {higher} rates here")
        return [*lines, f"next    {self._next(activation)}"]

    def _next(self, activation: Activation) -> str:
        best = self.swept.directory.path / best_name(activation, len(self.swept.answers))
        return f"lenet train --config {typed(best)}"


def _rates_table(ranking: Ranking) -> str:
    header = (f"{ranking.activation}: learning rate", "validation loss", "range of the seeds", "")
    rows = [(f"{rate.lr:.3g}", *_losses(rate), _mark(ranking, rate)) for rate in ranking.rates]
    seeds = counted(max(rate.num_trials for rate in ranking.rates), "seed")
    footer = f"mean over {seeds}, {epochs_text(ranking.epochs)} each, annealed to zero"
    return aligned(header, rows, right=(0, 1, 2)) + "\n" + footer


def _losses(rate: RateSummary) -> tuple[str, str]:
    if rate.low is None or rate.high is None:
        return "diverged", ""
    mean_loss = f"{rate.num_diverged} diverged" if rate.mean_loss is None else f"{rate.mean_loss:.4f}"
    return mean_loss, f"{rate.low:.4f} to {rate.high:.4f}"


def _mark(ranking: Ranking, rate: RateSummary) -> str:
    if rate == ranking.best:
        return "best"
    return "not clearly worse" if rate.lr in ranking.equals else ""


def _certainty(ranking: Ranking) -> str:
    others = [f"{lr:.3g}" for lr in ranking.equals if ranking.best is not None and lr != ranking.best.lr]
    told = f"{' and '.join(others)} not clearly worse" if others else "no other rate is as good"
    return f"{told} (seeds scatter by {ranking.noise:.0%})"
