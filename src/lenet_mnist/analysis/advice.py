"""The lecture's rules on the learning rate, read off a real loss curve: what to do, and on what evidence.

    falls slowly -> raise it        does not fall -> lower it        oscillates -> lower it

The thresholds were set on trainings with seeds 0 to 2 at 78 rates over six decades and scored on seeds 3 to 5:
docs/learning-rate.md. Two states look alike and are not: a sigmoid network that stays at
chance level, with small but nonzero gradients at C1, needs a higher rate or more time; one whose first layer is cut
off, because its units are saturated or dead, has had too high a rate.

Source: lecture points 5, 6 and 12.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate, combinations
from statistics import mean, median, stdev
from typing import NamedTuple

from lenet_mnist.analysis.findings import TrainingRecord
from lenet_mnist.config import Activation, Config
from lenet_mnist.training.early_stopping import GUESSING
from lenet_mnist.training.loop import StopReason
from lenet_mnist.training.rows import StepRow
from lenet_mnist.tuning.trial import TrialResult, config_of


class Limits(NamedTuple):
    """What the rules compare with. The page of the lab is given the same numbers, by these names."""

    guessing: float = GUESSING  # times the loss at chance level: what ends above that has learned nothing
    thrown_up: float = 1.3  # times the loss at chance level
    rise: float = 1.1  # of the mean loss of an epoch above that of an earlier one
    uneven: float = 1.01  # the same: a loss that falls slowly because the rate is low never rises
    negligible: float = 0.02  # of the loss at chance level: such a low loss may waver
    slow: float = (
        1.8  # times the last fifth's loss: that of the middle fifth, where annealing has something to smooth out
    )
    cut_off_rectifier: float = 1e-6  # C1's gradient to the whole one's
    cut_off: float = 1e-3  # the same, of other activations
    long_rest: float = 0.3  # of all updates
    near_guessing: float = 0.1  # of the loss at chance level, to both sides
    far: float = 10.0  # the factor to another rate, where training came to nothing
    least_epochs: int = 5  # so that epochs are parts fine enough
    sure: float = 3.0  # standard errors of a difference, above which it is not chance
    annealed_to: float = 0.1  # of the peak rate: a training that ended above that was not annealed


LIMITS = Limits()
_CUT_OFF = {True: LIMITS.cut_off_rectifier, False: LIMITS.cut_off}


class Verdict(StrEnum):
    """What a loss curve looks like."""

    FINE = "fine"
    FALLS_SLOWLY = "falls slowly"
    DOES_NOT_FALL = "does not fall"
    OSCILLATES = "oscillates"
    DIVERGED = "diverged"
    CUT_OFF = "cut off from learning"
    STAYS = "stays at chance level"
    AMBIGUOUS = "ambiguous"


class Direction(StrEnum):
    """What to do with the learning rate."""

    KEEP = "keep it"
    RAISE = "raise it"
    LOWER = "lower it"
    UNKNOWN = "the curve does not say"


@dataclass(frozen=True)
class Advice:
    """A verdict, what follows from it, and why: each piece of evidence is a sentence with its number.

    The next rate should be about `factor` times as high, or as low.
    """

    verdict: Verdict
    direction: Direction
    evidence: tuple[str, ...]
    factor: float = 3.0


def advise(record: TrainingRecord) -> Advice:
    """Read the lecture's rules off the loss curve of `record`."""
    if record.has_diverged:
        evidence = "the loss or the gradient was no longer a finite number"
        return Advice(Verdict.DIVERGED, Direction.LOWER, (evidence,), LIMITS.far)
    if len(record.steps) < 5:
        return Advice(Verdict.AMBIGUOUS, Direction.UNKNOWN, (f"{len(record.steps)} updates are too few to judge",))
    parts = _parts(record)
    losses = [part.loss for part in parts]
    guessing, last = record.guessing_loss, losses[-1]
    of_part = "an epoch" if len(record.history) >= LIMITS.least_epochs else "a fifth of the training"
    if max(losses) > LIMITS.thrown_up * guessing:
        evidence = f"the mean loss of {of_part} was {max(losses):.3g} nats, far above chance level ({guessing:.3g})"
        return Advice(Verdict.OSCILLATES, Direction.LOWER, (evidence,), LIMITS.far)
    rise = _largest_rise([part for part in parts if part.loss > LIMITS.negligible * guessing])
    if last > LIMITS.guessing * guessing:
        return _at_guessing(record, losses, rise)
    rest, live = _rest(record)
    if not record.is_rectifier and rest >= LIMITS.long_rest and live < _CUT_OFF[False]:
        stood = f"the loss stayed at chance level for {rest:.0%} of the updates"
        return Advice(Verdict.CUT_OFF, Direction.LOWER, (stood, f"{_gradient_words(live)}: units are saturated"))
    if rise > LIMITS.rise:
        evidence = f"the mean loss of {of_part} rose to {rise:.2f} times that of an earlier one"
        return Advice(Verdict.OSCILLATES, Direction.LOWER, (evidence,))
    return _falling(record, rise)


def advise_trial(config: Config, result: TrialResult, guessing_loss: float) -> Advice:
    """Read the same off a trial of a sweep with `config`; only its curve is known, and not the sizes of its data."""
    stop_reason = StopReason.DIVERGED if result.val_loss is None else StopReason.MAX_EPOCHS
    tried = config_of(config, result.trial)
    return advise(TrainingRecord(tried, 0, 0, guessing_loss, stop_reason, result.history, result.steps, ()))


def _at_guessing(record: TrainingRecord, losses: Sequence[float], rise: float) -> Advice:
    """Advise on a network that has learned nothing by the end."""
    stands = f"the loss ended at {losses[-1]:.3f} nats, where chance level is {record.guessing_loss:.3f}"
    live = _liveness(record.steps[-max(5, len(record.steps) // 3) :])
    if live < _CUT_OFF[record.is_rectifier]:
        units = "dead" if record.is_rectifier else "saturated"
        return Advice(
            Verdict.CUT_OFF, Direction.LOWER, (stands, f"{_gradient_words(live)}: units are {units}"), LIMITS.far
        )
    if rise > LIMITS.rise:
        swung = "it rose and fell, and nothing was learned"
        return Advice(Verdict.DOES_NOT_FALL, Direction.LOWER, (stands, swung), LIMITS.far)
    if record.activation is Activation.SIGMOID:
        alive = f"{_gradient_words(live)}: small but not zero; more epochs may help as well"
        return Advice(Verdict.STAYS, Direction.RAISE, (stands, alive), LIMITS.far)
    fell = f"it fell by {losses[0] - losses[-1]:.2g} nats in all"
    return Advice(Verdict.FALLS_SLOWLY, Direction.RAISE, (stands, fell), LIMITS.far)


def _falling(record: TrainingRecord, rise: float) -> Advice:
    """Advise on a network that learns, and whose loss falls without great rises."""
    middle, end = _between(record, 0.4, 0.6), _between(record, 0.8, 1.0)
    if record.steps[-1].lr > LIMITS.annealed_to * record.peak_lr or middle is None or end is None:
        falls = "the loss falls; the rate was not annealed to zero, so the curve says no more"
        return Advice(Verdict.AMBIGUOUS, Direction.UNKNOWN, (falls,))
    gain = middle.loss / max(end.loss, 1e-12)
    evidence = f"the loss of the middle fifth was {gain:.1f} times that of the last, where the rate is annealed"
    if gain >= LIMITS.slow:
        return Advice(Verdict.FINE, Direction.KEEP, (evidence,))
    if len(record.history) < 2:
        single = "in a single epoch the loss falls at any rate, so the curve says no more"
        return Advice(Verdict.AMBIGUOUS, Direction.UNKNOWN, (evidence, single))
    if middle.loss + LIMITS.sure * math.hypot(middle.error, LIMITS.slow * end.error) >= LIMITS.slow * end.loss:
        unsure = f"too few updates were recorded to say whether that is below {LIMITS.slow}"
        return Advice(Verdict.AMBIGUOUS, Direction.UNKNOWN, (evidence, unsure))
    if rise > LIMITS.uneven:
        return Advice(Verdict.AMBIGUOUS, Direction.UNKNOWN, (evidence, "the loss fell slowly, but rose in between"))
    slow = f"{evidence}: below {LIMITS.slow}, so the rate was low from the beginning"
    return Advice(Verdict.FALLS_SLOWLY, Direction.RAISE, (slow,))


@dataclass(frozen=True)
class _Part:
    """A part of the training: its mean training loss, and the standard error of that, 0 where no update is missing."""

    loss: float
    error: float


def _largest_rise(parts: Sequence[_Part]) -> float:
    if any(part.error for part in parts):
        pairs: Iterable[tuple[_Part, _Part]] = combinations(parts, 2)
    else:  # the lowest earlier one gives the largest ratio; of thousands of epochs the pairs would be too many
        lowest: Iterable[_Part] = accumulate(parts, lambda one, other: other if other.loss < one.loss else one)
        pairs = zip(lowest, parts[1:], strict=False)
    sure = ((a, b) for a, b in pairs if a.loss + LIMITS.sure * math.hypot(a.error, b.error) < b.loss)
    return max((b.loss / a.loss for a, b in sure), default=0.0)


def _parts(record: TrainingRecord) -> list[_Part]:
    """Return the epochs, or, of fewer than five, the fifths of the training, of which only some updates are known."""
    if len(record.history) >= LIMITS.least_epochs:
        return [_Part(row.train_loss, 0.0) for row in record.history]
    fifths = (_between(record, k / 5, (k + 1) / 5) for k in range(5))
    return [fifth for fifth in fifths if fifth is not None]


def _between(record: TrainingRecord, begin: float, end: float) -> _Part | None:
    """Return the part between two fractions of the planned updates, from whole epochs if they are short enough."""
    first, last = begin * record.num_steps, end * record.num_steps
    num_epochs = len(record.history)
    if num_epochs >= LIMITS.least_epochs:
        length = record.num_steps / num_epochs
        inside = [row.train_loss for row in record.history if first < row.step < last + length / 2]
        if inside:
            return _Part(mean(inside), 0.0)
    losses = [row.train_loss for row in record.steps if first < row.step <= last]
    if not losses:
        return None
    return _Part(mean(losses), stdev(losses) / math.sqrt(len(losses)) if len(losses) > 1 else math.inf)


def _rest(record: TrainingRecord) -> tuple[float, float]:
    """Return the share of updates with the loss at chance level, and C1's share of the gradient there."""
    guessing = record.guessing_loss
    resting = [row for row in record.steps if abs(row.train_loss - guessing) < LIMITS.near_guessing * guessing]
    if not resting:
        return 0.0, math.inf
    before = {row.step: previous.step for previous, row in zip(record.steps, record.steps[1:], strict=False)}
    num_resting = sum(row.step - before.get(row.step, row.step - 1) for row in resting)
    return num_resting / record.steps[-1].step, _liveness(resting)


def _liveness(rows: Sequence[StepRow]) -> float:
    """Return the gradient's size at C1 as a fraction of the whole gradient's: the median."""
    return median(row.c1_gradient_norm / max(row.gradient_norm, 1e-30) for row in rows)


def _gradient_words(live: float) -> str:
    if live == 0:
        return "no gradient reached C1"
    return f"the gradient at C1 was {1 / live:,.0f} times smaller than the whole gradient"
