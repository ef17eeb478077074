"""What a training looks like when something goes wrong in it.

Source: lecture points 5 (vanishing gradients), 6 (dead neurons), 9 (over-fitting) and 12 (the learning rate).
"""

import math
from collections.abc import Mapping

from lenet_mnist.analysis.findings import Cause, Finding, TrainingRecord
from lenet_mnist.config import Activation
from lenet_mnist.training.early_stopping import GUESSING
from lenet_mnist.training.probe import Layer, ProbeRow
from lenet_mnist.tuning.advice import Direction, Verdict, advise

_VANISHED = 50.0  # times: the gradient at the output to that at C1
_DEAD = 0.5  # of a layer's units
_GAP = 0.05  # of the training accuracy above the validation accuracy
_TURNED = 1.25  # times its lowest value: a validation loss that has risen
_LOSS_SCATTER = 4.0  # standard deviation, over images, of a loss's change in an epoch: times the mean loss
_IMPATIENT = 3  # epochs without improvement that chance alone can bring about, one after the other
_SURE = 2.0  # standard errors
_STILL_FALLING = 0.95  # of the training loss of the epoch before
_NOT_ANNEALED = 0.1  # of the peak rate
_LOOKS = {
    Verdict.FALLS_SLOWLY: "falls slowly",
    Verdict.DOES_NOT_FALL: "does not fall",
    Verdict.OSCILLATES: "oscillates",
    Verdict.DIVERGED: "diverged",
    Verdict.CUT_OFF: "stands still, because C1 is cut off from learning",
    Verdict.RESTS: "rests at guessing",
}


def learning_rate(record: TrainingRecord) -> Finding | None:
    """Apply the lecture's rules (tuning/advice.py)."""
    advice, lr = advise(record.curve), record.curve.peak_lr
    if advice.direction not in (Direction.RAISE, Direction.LOWER):
        return None
    factor = advice.factor if advice.direction is Direction.RAISE else 1 / advice.factor
    if advice.verdict is Verdict.DIVERGED:
        cause, headline = Cause.DIVERGED, f"the training diverged at learning rate {lr:.3g}"
    else:
        level = "low" if advice.direction is Direction.RAISE else "high"
        cause, headline = Cause.LEARNING_RATE, f"the learning rate {lr:.3g} is too {level}"
    evidence = (f"the loss {_LOOKS[advice.verdict]}", *advice.evidence)
    return Finding(cause, headline, evidence, advice.direction.value, f"--lr {lr * factor:.2g}")


def vanishing_gradients(record: TrainingRecord) -> Finding | None:
    """The weights near the input get next to no gradient, and the loss rests at guessing meanwhile.

    Not asked of ReLU, whose slope is 1: its gradients are small at first because its output layer starts at zero.
    """
    if record.activation is Activation.RELU:
        return None
    resting = [row.epoch for row in record.history if row.val_loss > GUESSING * record.guessing_loss]
    looks = {epoch: look for epoch in resting if (look := record.look(epoch))}
    if 3 * len(resting) < len(record.history) or not looks:
        return None
    worst = max(looks, key=lambda epoch: _times_smaller(looks[epoch]))
    times = _times_smaller(looks[worst])
    if times < _VANISHED or any(row.dead >= _DEAD for row in looks[worst].values()):  # of dead units, see below
        return None
    evidence = (
        f"after epoch {worst} the gradient at C1 was {times:,.0f} times smaller than at the output (expected: less "
        f"than {_VANISHED:g} times)",
        f"the loss rested at guessing for {len(resting)} of {len(record.history)} epochs",
    )
    headline = "the gradients vanish on their way to C1"
    remedy = "take an activation whose slope does not vanish, a higher learning rate, or more epochs"
    return Finding(Cause.VANISHING_GRADIENTS, headline, evidence, remedy, "--activation relu")


def dead_units(record: TrainingRecord) -> Finding | None:
    """Units that have died while training."""
    start, last = record.look(0), record.last_look
    dead = [layer for layer, row in last.items() if start and start[layer].dead < _DEAD <= row.dead]
    if not dead:
        return None
    evidence = tuple(
        f"{last[layer].dead:.0%} of the units of {layer} are {record.flat} on every image of the probe; at the start "
        f"{start[layer].dead:.0%} were (expected: less than {_DEAD:.0%})"
        for layer in dead
    )
    remedy = "train again with a lower learning rate: hardly an update reaches a dead unit"
    return Finding(Cause.DEAD_UNITS, "units have died", evidence, remedy, f"--lr {record.curve.peak_lr / 10:.2g}")


def stuck_at_guessing(record: TrainingRecord) -> Finding | None:
    """Nothing was learned at all."""
    if record.has_learned or not record.history:
        return None
    evidence = (
        f"the lowest validation loss is {record.best.val_loss:.3g} nats, and {record.guessing_loss:.3g} is what a "
        f"network has that does not look at the image (expected: less than {GUESSING:.0%} of it)"
    )
    headline = "the network does no better than guessing"
    return Finding(
        Cause.STUCK_AT_GUESSING, headline, (evidence,), "see the other findings, or try other learning rates"
    )


def over_fitting(record: TrainingRecord) -> Finding | None:
    """The training images are learned by heart."""
    if not record.has_learned:
        return None
    last, best = record.history[-1], record.best
    num_val = record.num_val
    by_chance = _SURE * math.sqrt(last.val_accuracy * (1 - last.val_accuracy) / num_val)
    gap = last.train_accuracy - last.val_accuracy - by_chance
    turn = max(_TURNED, 1 + _chance(record))
    has_turned = last.val_loss >= turn * best.val_loss and last.train_loss < best.train_loss
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
    options = "--set data.limit_train=null" if is_limited else None
    return Finding(Cause.OVER_FITTING, "the network over-fits", tuple(evidence), remedy, options)


def stopped_too_early(record: TrainingRecord) -> Finding | None:
    """Early stopping took chance in the validation loss for its turning point."""
    if record.stop_reason != "no-improvement" or not record.has_learned or len(record.history) < 2:
        return None
    before, last = record.history[-2:]
    best, peak_lr, training = record.best, record.curve.peak_lr, record.config.training
    num_val, chance = record.num_val, _chance(record)
    may_be_chance = (training.patience or 0) <= _IMPATIENT and last.val_loss <= (1 + chance) * best.val_loss
    falls_on = last.lr > _NOT_ANNEALED * peak_lr and last.train_loss <= _STILL_FALLING * before.train_loss
    if not (may_be_chance and falls_on):
        return None
    evidence = (
        f"it stopped after epoch {last.epoch} of {training.max_epochs}, at {last.lr / peak_lr:.0%} of the peak rate, "
        f"while the training loss fell, from {before.train_loss:.3g} to {last.train_loss:.3g} nats, in the last epoch",
        f"the validation loss had risen from {best.val_loss:.3g} to {last.val_loss:.3g}; on {num_val:,} images, "
        f"{chance:.0%} of it may be chance",
    )
    options = f"--set training.patience={max(5, 2 * (training.patience or 0))}"
    remedy = "more patience, and enough validation images"
    return Finding(Cause.STOPPED_TOO_EARLY, "the training stopped too early", evidence, remedy, options)


def _chance(record: TrainingRecord) -> float:
    """Return by what fraction the validation loss may rise in an epoch by chance."""
    return _SURE * _LOSS_SCATTER / math.sqrt(record.num_val)


def _times_smaller(look: Mapping[Layer, ProbeRow]) -> float:
    """Return how many times smaller the gradient is at C1 than at the output."""
    return look[Layer.OUTPUT].gradient_norm / max(look[Layer.C1].gradient_norm, 1e-30)
