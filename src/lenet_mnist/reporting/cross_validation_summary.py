"""What a cross-validation says, in words and in JSON."""

from statistics import fmean

from lenet_mnist.analysis.cross_validation import Fold
from lenet_mnist.experiments.cross_validation import CrossValidatedRun
from lenet_mnist.reporting.text import aligned, to_json


def cross_validation_text(validated: CrossValidatedRun) -> str:
    """Say how each fold did, what all say together, and what the interval means."""
    pooled, folds = validated.pooled, validated.pooled.folds
    rows = [
        (_name(r.fold), f"{r.num_train:,}", f"{len(r.labels):,}", f"{r.accuracy:.2%}", f"{r.mean_loss:.4f}")
        for r in pooled.results
    ]
    header = ("fold", "trained on", "tested on", "accuracy", "loss")
    low, high = pooled.interval
    num_train = pooled.results[0].num_train
    each = "once" if folds.num_repeats == 1 else f"{folds.num_repeats} times"
    num_tested = sum(len(result.labels) for result in pooled.results)
    num_correct = sum(result.num_correct for result in pooled.results)
    worst = min(pooled.per_class, key=lambda row: row.f1)
    return "\n".join(
        [
            f"run  {validated.directory.path}",
            "",
            aligned(header, rows, right=tuple(range(len(header)))),
            "",
            f"accuracy       {pooled.accuracy:.2%}  ({num_correct:,} of {num_tested:,})",
            f"               each image was tested on {each}, by a network that had not seen it",
            f"over folds     mean {fmean(pooled.accuracies):.2%}, standard deviation {pooled.deviation:.2%}",
            f"95 % interval  {low:.2%} to {high:.2%}, for new images and networks trained on {num_train:,}",
            "               (Nadeau and Bengio's: the folds share training images, Student's would be too narrow)",
            f"hardest class  {worst.name}: precision {worst.precision:.2%}, recall {worst.recall:.2%}",
        ]
    )


def _name(fold: Fold) -> str:
    return f"{fold.number}" if fold.folds.num_repeats == 1 else f"{fold.repeat}.{fold.number}"


def cross_validation_json(validated: CrossValidatedRun) -> str:
    """Return the same as JSON."""
    folds = [
        {
            "repeat": result.fold.repeat,
            "fold": result.fold.number,
            "num_train": result.num_train,
            "num_images": len(result.labels),
            "accuracy": result.accuracy,
            "loss": result.mean_loss,
        }
        for result in validated.pooled.results
    ]
    figures = validated.pooled.metrics()
    return to_json(
        {"run": str(validated.directory.path), "status": validated.manifest.status, **figures, "folds": folds}
    )
