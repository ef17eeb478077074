"""What a diagnosis is made of: a training as its files tell it, and findings with their evidence.

The findings themselves: diagnosis.py (learning rate, dead units, gradients) and faults.py (all others).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from lenet_mnist.config import Activation, Config
from lenet_mnist.model.activations import ACTIVATIONS
from lenet_mnist.training.early_stopping import GUESSING
from lenet_mnist.training.probe import flat_word
from lenet_mnist.training.rows import EpochRow, Layer, ProbeRow, StepRow


class Cause(StrEnum):
    """What can be wrong."""

    DEAD_UNITS = "dead units"
    WEIGHT_DECAY = "weight decay"
    LABELS = "labels"
    MOMENTUM = "momentum"
    LEARNING_RATE = "learning rate"
    DIVERGED = "diverged"
    VANISHING_GRADIENTS = "vanishing gradients"
    STUCK_AT_GUESSING = "stuck at guessing"
    OVER_FITTING = "over-fitting"
    STOPPED_TOO_EARLY = "stopped too early"


@dataclass(frozen=True)
class Finding:
    """One thing that goes wrong: what, on what evidence, and what to do about it.

    `next_command` tries the remedy, if a command can; in it {run} and {config} stand for the run and its configuration.
    """

    cause: Cause
    headline: str
    evidence: tuple[str, ...]
    remedy: str
    next_command: str | None = None


@dataclass(frozen=True)
class TrainingRecord:
    """A training as its files tell it. `stop_reason` is None while it goes on, or if it was killed."""

    config: Config
    num_train: int
    num_val: int
    guessing_loss: float
    stop_reason: str | None
    history: Sequence[EpochRow]
    steps: Sequence[StepRow]
    probe: Sequence[ProbeRow]

    @property
    def activation(self) -> Activation:
        return self.config.model.activation

    @property
    def best(self) -> EpochRow:
        """The epoch with the lowest validation loss."""
        return min(self.history, key=lambda row: row.val_loss)

    @property
    def has_learned(self) -> bool:
        """Whether the validation loss ever fell clearly below that of guessing."""
        return bool(self.history) and self.best.val_loss < GUESSING * self.guessing_loss

    @property
    def peak_lr(self) -> float:
        return self.config.training.peak_learning_rate

    @property
    def num_steps(self) -> int:
        """The updates that were planned, as far as is known."""
        of_epoch = self.history[0].step if self.history else self.steps[-1].step if self.steps else 0
        return of_epoch * self.config.training.max_epochs

    @property
    def has_diverged(self) -> bool:
        return self.stop_reason == "diverged"

    @property
    def is_rectifier(self) -> bool:
        """Whether the activation is one, whose units die rather than saturate."""
        return ACTIVATIONS[self.activation].is_rectifier

    @property
    def flat(self) -> str:
        """What an output is called whose activation is flat there."""
        return flat_word(self.activation)

    def look(self, epoch: int) -> dict[Layer, ProbeRow]:
        """Return what the probe saw after `epoch`, or before the first update if it is 0; empty if it did not look."""
        rows = {row.layer: row for row in self.probe if row.epoch == epoch}
        return rows if len(rows) == len(Layer) else {}

    @property
    def last_look(self) -> dict[Layer, ProbeRow]:
        """What the probe saw last, after at least one update."""
        return self.look(max((row.epoch for row in self.probe if row.step > 0), default=-1))
