"""What went wrong in a training, if anything did: each cause with its evidence, its remedy and the next command.

Every cause has one function, which reads what the run's files tell: the configuration, the loss curve, and what the
probe saw inside the layers. A learning rate that is too high comes first: it breaks a network in ways that look like
wrong labels or too much weight decay. The thresholds were set on some seeds and scored on others, at rates up to 16
times the best, on trainings broken on purpose and on healthy ones: scripts/measure_diagnosis.py, docs/diagnosis.md.

Source: lecture points 5 (vanishing gradients), 6 (dead neurons), 9 (over-fitting) and 12 (the learning rate).
"""

from collections.abc import Mapping
from dataclasses import replace
from statistics import median

from lenet_mnist.analysis.advice import Advice, Direction, Verdict, advise
from lenet_mnist.analysis.findings import (
    HIDDEN,
    NOT_ANNEALED,
    TURNED,
    Cause,
    Finding,
    TrainingRecord,
    chance_of,
    meaningless_labels,
    momentum,
    over_fitting,
    stopped_too_early,
    weight_decay,
    wrong_labels,
)
from lenet_mnist.config import Activation
from lenet_mnist.training.early_stopping import GUESSING
from lenet_mnist.training.rows import Layer, ProbeRow

_DEAD = 0.5  # of a layer's units
# Of a hidden layer's outputs, the median of the four, whatever the optimizer and the schedule. More flat ones come from
# a rate that is too high: large steps drive the weights far out.
_FLAT = {Activation.RELU: 0.8, Activation.SIGMOID: 0.67, Activation.TANH: 0.5}
_BACK = 4.0  # times lower: a rate that let the network learn, but broke it in part
_FAR_BACK = 10.0  # times lower: one at which nothing was learned
_VANISHED = 50.0  # times: the gradient at the output to that at C1
_NEGLIGIBLE = 0.01  # of chance level: a validation loss that nothing needs to be done about


def diagnose(record: TrainingRecord) -> list[Finding]:
    """Return everything that is found to be wrong, the likeliest cause first. Nothing wrong found: an empty list.

    Where the validation images are all of one class, their loss tells nothing, and nothing is found.
    """
    if record.guessing_loss == 0:
        return []
    advice, signs = advise(record), signs_of_a_high_rate(record)
    if record.history and record.history[-1].val_loss < _NEGLIGIBLE * record.guessing_loss:
        advice, signs = replace(advice, direction=Direction.KEEP), ()  # whatever the rate did, it did no harm
    is_too_high = bool(signs) or advice.direction is Direction.LOWER
    roots = [weight_decay(record), momentum(record, advice.evidence) if is_too_high else None]
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
        for layer in HIDDEN
        if last and last[layer].dead >= _DEAD and (not start or start[layer].dead < _DEAD)
    ]
    if last and (most := _FLAT.get(record.activation)) is not None:
        flat = median(last[layer].saturated for layer in HIDDEN)
        if flat >= most:
            signs.append(f"{flat:.0%} of a hidden layer's outputs are {record.flat} (expected: below {most:.0%})")
    if (jump := _jump(record)) is not None:
        signs.append(f"the validation loss jumped from {jump[0]:.3g} to {jump[1]:.3g} in the last epoch")
    return tuple(signs)


def learning_rate(record: TrainingRecord, advice: Advice, signs: tuple[str, ...]) -> Finding | None:
    """Apply the lecture's rules to the curve (advice.py) and to what the layers show."""
    lr, looks = record.peak_lr, str(advice.verdict)
    if advice.verdict is Verdict.CUT_OFF:
        looks = "does not fall, because no gradient reaches C1"
    curve = (f"the loss {looks}", *advice.evidence)
    if advice.direction is Direction.LOWER or signs:
        cause, headline = Cause.LEARNING_RATE, f"the learning rate {lr:.3g} is too high"
        if advice.verdict is Verdict.DIVERGED:
            cause, headline = Cause.DIVERGED, f"the training diverged at learning rate {lr:.3g}"
        evidence = (*curve, *signs) if advice.direction is Direction.LOWER else signs
        return Finding(cause, headline, evidence, "lower it", _with_rate(lr / lower_by(record)))
    if advice.direction is Direction.RAISE:
        headline = f"the learning rate {lr:.3g} is too low"
        return Finding(Cause.LEARNING_RATE, headline, curve, "raise it", _with_rate(lr * advice.factor))
    return None


def lower_by(record: TrainingRecord) -> float:
    """Return how many times lower the next learning rate should be, where this one was too high."""
    has_ended_well = record.history and record.history[-1].val_loss < GUESSING * record.guessing_loss
    return _BACK if has_ended_well and not record.has_diverged else _FAR_BACK


def dead_units(record: TrainingRecord) -> Finding | None:
    """Units that have died in training."""
    start = record.look(0)
    evidence = tuple(
        f"{row.dead:.0%} of the units of {layer} are {record.flat} for every image of the probe, "
        f"{start[layer].dead:.0%} were before training (expected: below {_DEAD:.0%})"
        for layer, row in record.last_look.items()
        if start and start[layer].dead < _DEAD <= row.dead
    )
    if not evidence:
        return None
    remedy = "train again with a lower learning rate: a dead unit gets no gradient"
    return Finding(Cause.DEAD_UNITS, "units have died", evidence, remedy, _with_rate(record.peak_lr / lower_by(record)))


def vanishing_gradients(record: TrainingRecord) -> Finding | None:
    """Hardly any gradient reaches the weights near the input, while the loss stays at chance level.

    Not asked of rectifiers, whose slope is 1: small gradients come at first of an output layer that starts at zero.
    """
    if record.is_rectifier:
        return None
    staying = [row.epoch for row in record.history if row.val_loss > GUESSING * record.guessing_loss]
    looks = {epoch: look for epoch in staying if (look := record.look(epoch))}
    if 3 * len(staying) < len(record.history) or not looks:
        return None
    worst = max(looks, key=lambda epoch: _times_smaller(looks[epoch]))
    times = _times_smaller(looks[worst])
    if times < _VANISHED or any(row.dead >= _DEAD for row in looks[worst].values()):  # dead units are named above
        return None
    evidence = (
        f"after epoch {worst} the gradient at C1 was {times:,.0f} times smaller than at the output (expected: less "
        f"than {_VANISHED:g} times)",
        f"the loss stayed at chance level for {len(staying)} of {len(record.history)} epochs",
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
    headline, remedy = "the network is at chance level", "follow the other findings, or compare learning rates"
    return Finding(Cause.STUCK_AT_GUESSING, headline, (evidence,), remedy, "lenet lr-sweep --config {config}")


def _jump(record: TrainingRecord) -> tuple[float, float] | None:
    """Return the last two validation losses, if they jumped by more than chance at a rate that was not annealed."""
    if not record.has_learned or len(record.history) < 2:
        return None
    before, last = record.history[-2:]
    is_annealed = last.lr <= NOT_ANNEALED * record.peak_lr
    if is_annealed or last.val_loss < max(TURNED, 1 + chance_of(record)) * before.val_loss:
        return None
    return before.val_loss, last.val_loss


def _with_rate(lr: float) -> str:
    return f"lenet train --config {{config}} --lr {lr:.2g}"


def _times_smaller(look: Mapping[Layer, ProbeRow]) -> float:
    """Return how many times smaller the gradient is at C1 than at the output."""
    return look[Layer.OUTPUT].gradient_norm / max(look[Layer.C1].gradient_norm, 1e-30)
