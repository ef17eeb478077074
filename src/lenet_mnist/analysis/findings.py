"""A training as its files tell it, and most of what can be found wrong in it.

Weight decay, momentum, labels, over-fitting, a stop by chance. The learning rate, dead units and vanishing gradients
are in faults.py, which asks for all of these.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median

from lenet_mnist.config import Activation, Config, Optimizer
from lenet_mnist.model.activations import ACTIVATIONS
from lenet_mnist.training.early_stopping import GUESSING
from lenet_mnist.training.rows import EpochRow, Layer, ProbeRow, StepRow

# The thresholds were set and scored with those of faults.py.
HIDDEN = (Layer.C1, Layer.C3, Layer.C5, Layer.F6)
_SHRUNK = 0.2  # of their norm at the start: weights that decay has taken away
_PULL = 0.1  # of the gradient: the pull of a weight decay that does harm
_LONG_MEMORY = 0.99  # momentum from here on
_CLEARLY = 0.01  # of the loss at chance level, below it
_COSTLY_MISTAKE = 3.7  # nats of loss for each mistake; of a network that is unsure for good reason, about 3.2
_MISTAKES = (0.03, 0.45)  # shares of mistakes between which that figure means something
_ENOUGH_MISTAKES = 100
_MOVED = 0.004  # of a layer's weights in one update: a training that never changed them by so much has hardly begun
_GAP = 0.05  # of the training accuracy above the validation accuracy
TURNED = 1.25  # times its lowest value: a validation loss that has risen
_LOSS_SCATTER = 4.0  # standard deviation, over images, of a loss's change in an epoch: times the mean loss
_IMPATIENT = 3  # epochs without improvement that chance alone can bring about, one after the other
_SURE = 2.0  # standard errors
_STILL_FALLING = 0.95  # of the training loss of the epoch before
NOT_ANNEALED = 0.1  # of the peak rate
_LOOK_AT_MISTAKES = "look at the mistakes that the network is surest of"
_EVALUATE = "lenet evaluate {run} --split val"


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
        return ACTIVATIONS[self.activation].flat_word

    def look(self, epoch: int) -> dict[Layer, ProbeRow]:
        """Return what the probe saw after `epoch`, or before the first update if it is 0; empty if it did not look."""
        rows = {row.layer: row for row in self.probe if row.epoch == epoch}
        return rows if len(rows) == len(Layer) else {}

    @property
    def last_look(self) -> dict[Layer, ProbeRow]:
        """What the probe saw last, after at least one update."""
        return self.look(max((row.epoch for row in self.probe if row.step > 0), default=-1))


def weight_decay(record: TrainingRecord) -> Finding | None:
    """Weight decay that pulls harder than the gradient pushes.

    In a network that has died, any decay shrinks the weights in time: there it is no cause.
    """
    start, last, training = record.look(0), record.last_look, record.config.training
    decay = training.weight_decay
    if decay == 0 or not last or any(start[layer].weight_norm == 0 for layer in HIDDEN):
        return None
    kept = max(last[layer].weight_norm / start[layer].weight_norm for layer in HIDDEN)
    gradient = median(row.gradient_norm for row in record.steps[:20]) if record.steps else math.inf
    pull = decay * math.hypot(*(start[layer].weight_norm for layer in HIDDEN))
    if kept >= _SHRUNK or pull < _PULL * gradient:
        return None
    evidence = (
        f"with weight decay {decay:g} the weights of all hidden layers shrank to {kept:.1g} of their first size or "
        f"less (expected: more than {_SHRUNK})"
    )
    options = f"lenet train --config {{config}} --set training.weight_decay={min(decay / 100, 0.001):.1g}"
    return Finding(Cause.WEIGHT_DECAY, "the weight decay is too strong", (evidence,), "lower it", options)


def momentum(record: TrainingRecord, curve: tuple[str, ...]) -> Finding | None:
    """Momentum that adds up a thousand gradients makes steps a hundred times as large as the usual ten.

    `curve` is the evidence of the loss curve for a rate that is too high.
    """
    training = record.config.training
    if training.optimizer is not Optimizer.SGD or training.momentum < _LONG_MEMORY:
        return None
    times = 1 / (1 - training.momentum)
    evidence = (
        f"with momentum {training.momentum:g} each gradient counts {times:,.0f} times: the steps are those of learning "
        f"rate {training.peak_learning_rate * times:.3g} without momentum (expected: momentum below {_LONG_MEMORY})"
    )
    command = "lenet train --config {config} --set training.momentum=0.9"
    return Finding(Cause.MOMENTUM, "the momentum is too high", (evidence, *curve), "lower it", command)


def meaningless_labels(record: TrainingRecord) -> Finding | None:
    """Labels that have nothing to do with the images can be learned by heart, and no other way."""
    if record.has_learned or not record.history:
        return None
    last, guessing = record.history[-1], record.guessing_loss
    if not (last.train_loss < (1 - _CLEARLY) * guessing and last.val_loss > guessing):
        return None
    evidence = (
        f"the training loss fell to {last.train_loss:.3f} nats, below chance level ({guessing:.3f}), and the "
        f"validation loss stayed above it, at {last.val_loss:.3f}: what was learned holds for the training images only"
    )
    headline = "the labels have nothing to do with the images"
    return Finding(Cause.LABELS, headline, (evidence,), _LOOK_AT_MISTAKES, _EVALUATE)


def wrong_labels(record: TrainingRecord) -> Finding | None:
    """Where labels contradict their images, the network is sure and still wrong, for the same share of them to the end.

    So is a network that has hardly moved from its first weights, and it is not meant here.
    """
    half = record.history[len(record.history) // 2 :]
    moved = max((row.update_ratio for row in record.probe if row.layer is not Layer.OUTPUT), default=0.0)
    if len(half) < 2 or moved < _MOVED:
        return None
    train, val = 1 - half[-1].train_accuracy, 1 - half[-1].val_accuracy
    fewest, most = _MISTAKES
    has_enough = min(train * record.num_train, val * record.num_val) >= _ENOUGH_MISTAKES
    if not (has_enough and fewest <= min(train, val) and max(train, val) <= most):
        return None
    of_train = median(row.train_loss / max(1 - row.train_accuracy, fewest) for row in half)
    of_val = median(row.val_loss / max(1 - row.val_accuracy, fewest) for row in half)
    if min(of_train, of_val) < _COSTLY_MISTAKE:
        return None
    evidence = (
        f"{train:.1%} of the training and {val:.1%} of the validation images are wrong to the end, and each of these "
        f"mistakes costs {of_train:.1f} and {of_val:.1f} nats: the network is sure of another label (expected: about "
        f"3.2, below {_COSTLY_MISTAKE})"
    )
    return Finding(Cause.LABELS, "some of the labels are wrong", (evidence,), _LOOK_AT_MISTAKES, _EVALUATE)


def over_fitting(record: TrainingRecord) -> Finding | None:
    """The training images are learned by heart."""
    if not record.has_learned:
        return None
    last, best = record.history[-1], record.best
    num_val = record.num_val
    by_chance = _SURE * math.sqrt(last.val_accuracy * (1 - last.val_accuracy) / num_val)
    gap = last.train_accuracy - last.val_accuracy - by_chance
    turn = max(TURNED, 1 + chance_of(record))
    has_risen = min(row.val_loss for row in record.history[-2:]) >= turn * best.val_loss  # and stayed there
    has_turned = has_risen and last.train_loss < best.train_loss
    if gap < _GAP and not has_turned:
        return None
    evidence = [
        f"at the end {last.train_accuracy:.1%} of the training images are right, and {last.val_accuracy:.1%} of the "
        f"validation images (expected: less than {100 * (_GAP + by_chance):.1f} points apart)"
    ]
    if has_turned:
        evidence.append(
            f"the validation loss was lowest after epoch {best.epoch}, at {best.val_loss:.3g}, and rose to "
            f"{last.val_loss:.3g} while the training loss fell (expected: less than {turn:.3g} times the lowest)"
        )
    is_limited = record.config.data.limit_train is not None
    distort = "" if record.config.augmentation.is_on else "distort them (docs/augmentation.md), "
    remedy = f"take more images than {record.num_train:,}, {distort}more weight decay, or fewer epochs"
    command = "lenet train --config {config} --set data.limit_train=null" if is_limited else None
    return Finding(Cause.OVER_FITTING, "the network over-fits", tuple(evidence), remedy, command)


def stopped_too_early(record: TrainingRecord) -> Finding | None:
    """Early stopping took chance in the validation loss for its turning point."""
    if record.stop_reason != "no-improvement" or not record.has_learned or len(record.history) < 2:
        return None
    before, last = record.history[-2:]
    best, peak_lr, training = record.best, record.peak_lr, record.config.training
    num_val, chance = record.num_val, chance_of(record)
    may_be_chance = (training.patience or 0) <= _IMPATIENT and last.val_loss <= (1 + chance) * best.val_loss
    falls_on = last.lr > NOT_ANNEALED * peak_lr and last.train_loss <= _STILL_FALLING * before.train_loss
    if not (may_be_chance and falls_on):
        return None
    evidence = (
        f"it stopped after epoch {last.epoch} of {training.max_epochs}, at {last.lr / peak_lr:.0%} of the peak rate, "
        f"while the training loss fell, from {before.train_loss:.3g} to {last.train_loss:.3g} nats, in the last epoch",
        f"the validation loss had risen from {best.val_loss:.3g} to {last.val_loss:.3g}; on {num_val:,} images, "
        f"{chance:.0%} of it may be chance",
    )
    command = f"lenet train --config {{config}} --set training.patience={max(5, 2 * (training.patience or 0))}"
    remedy = "more patience, and enough validation images"
    return Finding(Cause.STOPPED_TOO_EARLY, "the training stopped too early", evidence, remedy, command)


def chance_of(record: TrainingRecord) -> float:
    """Return by what fraction the validation loss may rise in an epoch by chance."""
    return _SURE * _LOSS_SCATTER / math.sqrt(record.num_val)
