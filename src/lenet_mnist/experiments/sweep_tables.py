"""The tables of a sweep: range_test.csv and sweep.csv."""

from collections.abc import Iterable, Iterator
from dataclasses import astuple
from typing import Any

from lenet_mnist.tuning.sweep import Answer

RANGE_COLUMNS = ("activation", "seed", "lr", "train_loss")
SWEEP_COLUMNS = ("activation", "lr", "seed", "epochs", "epoch", "train_loss", "val_loss", "val_accuracy", "diverged")


def range_rows(answers: Iterable[Answer]) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of range_test.csv."""
    return (astuple(point) for answer in answers for point in answer.range_points)


def sweep_rows(answers: Iterable[Answer]) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of sweep.csv: every rate, seed and epoch; where training diverged, one without losses."""
    for answer in answers:
        for result in answer.results:
            trial = result.trial
            head = (trial.activation.value, trial.lr, trial.seed, trial.epochs)
            for row in result.history:
                yield (*head, row.epoch, row.train_loss, row.val_loss, row.val_accuracy, 0)
            if result.val_loss is None:
                yield (*head, len(result.history) + 1, "", "", "", 1)
