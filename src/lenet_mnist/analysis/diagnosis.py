"""What went wrong in a training, if anything did: each cause with its evidence, its remedy and the next command.

Every cause has one function, which reads what the run's files tell: the configuration, the loss curve, and what the
probe saw inside the layers. A learning rate that is too high comes first: it breaks a network in ways that look like
wrong labels or too much weight decay. The thresholds were set on some seeds and scored on others, at rates up to 16
times the best, on trainings broken on purpose and on healthy ones: scripts/measure_diagnosis.py, docs/diagnosis.md.

Source: lecture points 5 (vanishing gradients), 6 (dead neurons), 9 (over-fitting) and 12 (the learning rate).
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from statistics import median

from lenet_mnist.analysis.findings import Cause, Finding, TrainingRecord
from lenet_mnist.config import Activation, Optimizer
from lenet_mnist.training.early_stopping import GUESSING
from lenet_mnist.training.rows import Layer, ProbeRow
from lenet_mnist.tuning.advice import Advice, Direction, Verdict, advise

_HIDDEN = (Layer.C1, Layer.C3, Layer.C5, Layer.F6)
_DEAD = 0.5  # of a layer's units
# Of a hidden layer's outputs, the median of the four, whatever the optimizer and the schedule. More flat ones come from
# a rate that is too high: large steps drive the weights far out.
_FLAT = {Activation.RELU: 0.8, Activation.SIGMOID: 0.67, Activation.TANH: 0.5}
_BACK = 4.0  # times lower: a rate that let the network learn, but broke it in part
_FAR_BACK = 10.0  # times lower: one at which nothing was learned
_SHRUNK = 0.2  # of their norm at the start: weights that decay has taken away
_PULL = 0.1  # of the gradient: the pull of a weight decay that does harm
_LONG_MEMORY = 0.99  # momentum from here on
_CLEARLY = 0.01  # of the loss at chance level, below it
_COSTLY_MISTAKE = 3.7  # nats of loss for each mistake; of a network that is unsure for good reason, about 3.2
_MISTAKES = (0.03, 0.45)  # shares of mistakes between which that figure means something
_ENOUGH_MISTAKES = 100
_MOVED = 0.004  # of a layer's weights in one update: a training that never changed them by so much has hardly begun
_VANISHED = 50.0  # times: the gradient at the output to that at C1
_GAP = 0.05  # of the training accuracy above the validation accuracy
_NEGLIGIBLE = 0.01  # of chance level: a validation loss that nothing needs to be done about
_TURNED = 1.25  # times its lowest value: a validation loss that has risen
_LOSS_SCATTER = 4.0  # standard deviation, over images, of a loss's change in an epoch: times the mean loss
_IMPATIENT = 3  # epochs without improvement that chance alone can bring about, one after the other
_SURE = 2.0  # standard errors
_STILL_FALLING = 0.95  # of the training loss of the epoch before
_NOT_ANNEALED = 0.1  # of the peak rate
_CURVES = {
    Verdict.FALLS_SLOWLY: "the loss falls slowly",
    Verdict.DOES_NOT_FALL: "the loss does not fall",
    Verdict.OSCILLATES: "the loss oscillates",
    Verdict.DIVERGED: "the loss diverged",
    Verdict.CUT_OFF: "the loss does not fall, because no gradient reaches C1",
    Verdict.RESTS: "the loss rests at chance level",
}
_LOOK_AT_MISTAKES = "look at the mistakes that the network is surest of"
_EVALUATE = "lenet evaluate {run} --split val"


def diagnose(record: TrainingRecord) -> list[Finding]:
    """Return everything that is found to be wrong, the likeliest cause first. Nothing wrong found: an empty list.

    Where the validation images are all of one class, their loss tells nothing, and nothing is found.
    """
    if record.guessing_loss == 0:
        return []
    advice, signs = advise(record.curve), signs_of_a_high_rate(record)
    if record.history and record.history[-1].val_loss < _NEGLIGIBLE * record.guessing_loss:
        advice, signs = replace(advice, direction=Direction.KEEP), ()  # whatever the rate did, it did no harm
    is_too_high = bool(signs) or advice.direction is Direction.LOWER
    roots = [weight_decay(record), momentum(record, advice) if is_too_high else None]
    if not is_too_high:
        roots += [meaningless_labels(record), wrong_labels(record)]
    found = [
        *roots,
        learning_rate(record, advice, signs) if not any(roots) else None,
        dead_units(record) if not any(roots) else None,
        vanishing_gradients(record),
        stuck_at_guessing(record),
        over_fitting(record) if not signs else None,
        stopped_too_early(record),
    ]
    return [finding for finding in found if finding is not None]


def signs_of_a_high_rate(record: TrainingRecord) -> tuple[str, ...]:
    """Return what a learning rate that is too high has done: dead units, too many flat outputs, a loss that jumps."""
    last, start = record.last_look, record.look(0)
    signs = [
        f"{last[layer].dead:.0%} of the units of {layer} are {record.flat} for every image of the probe"
        for layer in _HIDDEN
        if last and last[layer].dead >= _DEAD and (not start or start[layer].dead < _DEAD)
    ]
    if last and (most := _FLAT.get(record.activation)) is not None:
        flat = median(last[layer].saturated for layer in _HIDDEN)
        if flat >= most:
            signs.append(f"{flat:.0%} of a hidden layer's outputs are {record.flat} (expected: below {most:.0%})")
    if (jump := _jump(record)) is not None:
        signs.append(f"the validation loss jumped from {jump[0]:.3g} to {jump[1]:.3g} in the last epoch")
    return tuple(signs)


def learning_rate(record: TrainingRecord, advice: Advice, signs: tuple[str, ...]) -> Finding | None:
    """Apply the lecture's rules to the curve (tuning/advice.py) and to what the layers show."""
    lr = record.curve.peak_lr
    if advice.direction is Direction.LOWER or signs:
        factor = lower_by(record)
        evidence = (
            *((_CURVES[advice.verdict], *advice.evidence) if advice.direction is Direction.LOWER else ()),
            *signs,
        )
        has_diverged = advice.verdict is Verdict.DIVERGED
        cause = Cause.DIVERGED if has_diverged else Cause.LEARNING_RATE
        headline = (
            f"the training diverged at learning rate {lr:.3g}"
            if has_diverged
            else f"the learning rate {lr:.3g} is too high"
        )
        return Finding(cause, headline, evidence, "lower it", _with_rate(lr / factor))
    if advice.direction is Direction.RAISE:
        headline, evidence = f"the learning rate {lr:.3g} is too low", (_CURVES[advice.verdict], *advice.evidence)
        return Finding(Cause.LEARNING_RATE, headline, evidence, "raise it", _with_rate(lr * advice.factor))
    return None


def lower_by(record: TrainingRecord) -> float:
    """Return how many times lower the next learning rate should be, where this one was too high."""
    has_ended_well = record.history and record.history[-1].val_loss < GUESSING * record.guessing_loss
    return _BACK if has_ended_well and record.stop_reason != "diverged" else _FAR_BACK


def dead_units(record: TrainingRecord) -> Finding | None:
    """Units that have died in training."""
    start, last = record.look(0), record.last_look
    dead = [layer for layer, row in last.items() if start and start[layer].dead < _DEAD <= row.dead]
    if not dead:
        return None
    evidence = tuple(
        f"{last[layer].dead:.0%} of the units of {layer} are {record.flat} for every image of the probe, "
        f"{start[layer].dead:.0%} were before training (expected: below {_DEAD:.0%})"
        for layer in dead
    )
    remedy = "train again with a lower learning rate: a dead unit gets no gradient"
    return Finding(
        Cause.DEAD_UNITS, "units have died", evidence, remedy, _with_rate(record.curve.peak_lr / lower_by(record))
    )


def weight_decay(record: TrainingRecord) -> Finding | None:
    """Weight decay that pulls harder than the gradient pushes.

    In a network that has died, any decay shrinks the weights in time: there it is no cause.
    """
    start, last, training = record.look(0), record.last_look, record.config.training
    decay = training.weight_decay
    if decay == 0 or not last or any(start[layer].weight_norm == 0 for layer in _HIDDEN):
        return None
    kept = max(last[layer].weight_norm / start[layer].weight_norm for layer in _HIDDEN)
    gradient = median(row.gradient_norm for row in record.steps[:20]) if record.steps else math.inf
    pull = decay * math.hypot(*(start[layer].weight_norm for layer in _HIDDEN))
    if kept >= _SHRUNK or pull < _PULL * gradient:
        return None
    evidence = (
        f"with weight decay {decay:g} the weights of all hidden layers shrank to {kept:.1g} of their first size or "
        f"less (expected: more than {_SHRUNK})"
    )
    options = f"lenet train --config {{config}} --set training.weight_decay={min(decay / 100, 0.001):.1g}"
    return Finding(Cause.WEIGHT_DECAY, "the weight decay is too strong", (evidence,), "lower it", options)


def momentum(record: TrainingRecord, advice: Advice) -> Finding | None:
    """Momentum that adds up a thousand gradients makes steps a hundred times as large as the usual ten."""
    training = record.config.training
    if training.optimizer is not Optimizer.SGD or training.momentum < _LONG_MEMORY:
        return None
    times = 1 / (1 - training.momentum)
    evidence = (
        f"with momentum {training.momentum:g} each gradient counts {times:,.0f} times: the steps are those of learning "
        f"rate {training.peak_learning_rate * times:.3g} without momentum (expected: momentum below {_LONG_MEMORY})"
    )
    command = "lenet train --config {config} --set training.momentum=0.9"
    return Finding(Cause.MOMENTUM, "the momentum is too high", (evidence, *advice.evidence), "lower it", command)


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


def vanishing_gradients(record: TrainingRecord) -> Finding | None:
    """Hardly any gradient reaches the weights near the input, while the loss stays at chance level.

    Not asked of rectifiers, whose slope is 1: small gradients come at first of an output layer that starts at zero.
    """
    if record.curve.is_rectifier:
        return None
    resting = [row.epoch for row in record.history if row.val_loss > GUESSING * record.guessing_loss]
    looks = {epoch: look for epoch in resting if (look := record.look(epoch))}
    if 3 * len(resting) < len(record.history) or not looks:
        return None
    worst = max(looks, key=lambda epoch: _times_smaller(looks[epoch]))
    times = _times_smaller(looks[worst])
    if times < _VANISHED or any(row.dead >= _DEAD for row in looks[worst].values()):  # dead units are named above
        return None
    evidence = (
        f"after epoch {worst} the gradient at C1 was {times:,.0f} times smaller than at the output (expected: less "
        f"than {_VANISHED:g} times)",
        f"the loss rested at chance level for {len(resting)} of {len(record.history)} epochs",
    )
    headline = "the gradients vanish on their way to C1"
    remedy = "take an activation whose slope does not vanish, a higher learning rate, or more epochs"
    command = "lenet train --config {config} --activation relu"
    return Finding(Cause.VANISHING_GRADIENTS, headline, evidence, remedy, command)


def stuck_at_guessing(record: TrainingRecord) -> Finding | None:
    """Nothing was learned at all."""
    if record.has_learned or not record.history:
        return None
    evidence = (
        f"the lowest validation loss is {record.best.val_loss:.3f} nats; a network that ignores the image has "
        f"{record.guessing_loss:.3f} (expected: less than {GUESSING:.0%} of that)"
    )
    headline = "the network is at chance level"
    remedy = "follow the other findings, or compare learning rates"
    command = "lenet lr-sweep --config {config}"
    return Finding(Cause.STUCK_AT_GUESSING, headline, (evidence,), remedy, command)


def over_fitting(record: TrainingRecord) -> Finding | None:
    """The training images are learned by heart."""
    if not record.has_learned:
        return None
    last, best = record.history[-1], record.best
    num_val = record.num_val
    by_chance = _SURE * math.sqrt(last.val_accuracy * (1 - last.val_accuracy) / num_val)
    gap = last.train_accuracy - last.val_accuracy - by_chance
    turn = max(_TURNED, 1 + _chance(record))
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
    command = f"lenet train --config {{config}} --set training.patience={max(5, 2 * (training.patience or 0))}"
    remedy = "more patience, and enough validation images"
    return Finding(Cause.STOPPED_TOO_EARLY, "the training stopped too early", evidence, remedy, command)


def _is_annealed(record: TrainingRecord) -> bool:
    return bool(record.history) and record.history[-1].lr <= _NOT_ANNEALED * record.curve.peak_lr


def _jump(record: TrainingRecord) -> tuple[float, float] | None:
    """Return the last two validation losses, if they jumped by more than chance at a rate that was not annealed."""
    if not record.has_learned or len(record.history) < 2:
        return None
    before, last = record.history[-2:]
    if _is_annealed(record) or last.val_loss < max(_TURNED, 1 + _chance(record)) * before.val_loss:
        return None
    return before.val_loss, last.val_loss


def _with_rate(lr: float) -> str:
    return f"lenet train --config {{config}} --lr {lr:.2g}"


def _chance(record: TrainingRecord) -> float:
    """Return by what fraction the validation loss may rise in an epoch by chance."""
    return _SURE * _LOSS_SCATTER / math.sqrt(record.num_val)


def _times_smaller(look: Mapping[Layer, ProbeRow]) -> float:
    """Return how many times smaller the gradient is at C1 than at the output."""
    return look[Layer.OUTPUT].gradient_norm / max(look[Layer.C1].gradient_norm, 1e-30)
