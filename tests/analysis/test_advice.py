"""The lecture's rules on curves whose cause is known: made up first, then trained."""

import math
from collections.abc import Callable
from dataclasses import replace
from statistics import mean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lenet_mnist.analysis.advice import Direction, Verdict, _largest_rise, _Part, advise, advise_trial
from lenet_mnist.analysis.findings import TrainingRecord
from lenet_mnist.config import Activation, Config
from lenet_mnist.data.sets import TrainVal
from lenet_mnist.model.engines import ResolvedEngine
from lenet_mnist.training.context import Context
from lenet_mnist.training.rows import EpochRow, StepRow
from lenet_mnist.tuning.trial import Trial, train_trial

LN10 = math.log(10)
NUM_STEPS, PEAK = 1000, 0.1


def curve(
    loss: Callable[[float], float],
    activation: Activation = Activation.RELU,
    liveness: float = 0.1,
    annealed: bool = True,
    num_epochs: int = 5,
) -> TrainingRecord:
    """A training whose loss after the fraction t of it is loss(t), and whose C1 has `liveness` of the gradient."""
    steps = [
        StepRow(k, 1, PEAK * (1 - k / NUM_STEPS if annealed else 1), loss(k / NUM_STEPS), 1.0, liveness)
        for k in range(1, NUM_STEPS + 1)
    ]
    length = NUM_STEPS // num_epochs
    means = [mean(row.train_loss for row in steps[e * length : (e + 1) * length]) for e in range(num_epochs)]
    history = [EpochRow(e, e * length, 0.1, train_loss, *[0.5] * 4) for e, train_loss in enumerate(means, start=1)]
    recorded = [row for row in steps if row.is_recorded]
    training = {"learning_rate": PEAK, "max_epochs": num_epochs}
    config = Config(model={"activation": activation}, training=training)
    return TrainingRecord(config, 0, 0, LN10, None, history, recorded, ())


def test_a_rise_that_chance_explains_is_none() -> None:
    """Of short trainings only every 20th update is known: the few of a fifth scatter."""
    rng = np.random.default_rng(0)
    level = [curve(lambda t: 0.4 * math.exp(-t) * float(rng.lognormal(0, 0.5)), num_epochs=4) for _ in range(100)]
    assert sum(advise(noisy).verdict is Verdict.OSCILLATES for noisy in level) <= 2
    rising = curve(lambda t: (0.1 + 0.3 * (t > 0.6)) * float(rng.lognormal(0, 0.5)), num_epochs=4)
    assert advise(rising).verdict is Verdict.OSCILLATES


def test_a_slow_fall_that_chance_explains_is_not_called_one() -> None:
    """The middle fifth's loss is truly twice the last's; of ten known updates each, many seem below 1.8 times."""
    rng = np.random.default_rng(1)
    fine = [curve(lambda t: (0.2 if t < 0.7 else 0.1) * float(rng.lognormal(0, 0.5)), num_epochs=4) for _ in range(100)]
    verdicts = [advise(noisy).verdict for noisy in fine]
    assert verdicts.count(Verdict.AMBIGUOUS) > 10
    assert verdicts.count(Verdict.FALLS_SLOWLY) <= 2
    slow = curve(lambda t: (0.2 if t < 0.7 else 0.18) * float(rng.lognormal(0, 0.1)), num_epochs=4)
    assert advise(slow).verdict is Verdict.FALLS_SLOWLY


CURVE = curve(lambda t: 1 - t)
FINE = (Verdict.FINE, Direction.KEEP)
OSCILLATES = (Verdict.OSCILLATES, Direction.LOWER)
CUT_OFF = (Verdict.CUT_OFF, Direction.LOWER)
STAYS = (Verdict.STAYS, Direction.RAISE)
SLOW = (Verdict.FALLS_SLOWLY, Direction.RAISE)
AMBIGUOUS = (Verdict.AMBIGUOUS, Direction.UNKNOWN)
SIGMOID, TANH, RELU = Activation.SIGMOID, Activation.TANH, Activation.RELU


def slowly(t: float) -> float:
    return 2.3 * (1 + 20 * t) ** -0.5


def at_chance_level(t: float) -> float:
    return LN10 - 0.001 * t


CURVES = [
    *((curve(lambda t: 0.3 * math.exp(-4 * t), num_epochs=number), FINE) for number in (1, 5, 20)),
    *((curve(slowly, num_epochs=number), SLOW) for number in (2, 5, 20)),
    (curve(slowly, num_epochs=1), AMBIGUOUS),  # in a single epoch the loss falls as slowly at the best rate
    (curve(slowly, annealed=False), AMBIGUOUS),  # a training that was not annealed is not judged by annealing
    (curve(lambda t: 0.5 if t < 0.3 else 0.9 if t < 0.6 else 0.3), OSCILLATES),
    (curve(lambda t: 30.0 if t < 0.4 else 1.0 - t), OSCILLATES),  # thrown above chance level
    (curve(lambda t: 0.3 * math.exp(-6 * t) + (0.004 if 0.6 < t < 0.8 else 0)), FINE),  # it wavers near zero
    # resting at chance level is told from being cut off
    (curve(at_chance_level, SIGMOID, 5e-3), STAYS),
    (curve(at_chance_level, SIGMOID, 1e-5), CUT_OFF),
    (curve(at_chance_level, TANH, 1e-5), CUT_OFF),
    (curve(at_chance_level, RELU, 0.0), CUT_OFF),
    (curve(at_chance_level, RELU, 3e-4), SLOW),
    (curve(at_chance_level, TANH, 0.2), SLOW),
    # also where it ends: a long rest with saturated units, and one with live ones
    (curve(lambda t: LN10 if t < 0.6 else 0.3 * math.exp(-4 * (t - 0.6)), SIGMOID, 5e-4), CUT_OFF),
    (curve(lambda t: LN10 if t < 0.3 else 2 * math.exp(-5 * (t - 0.3)), SIGMOID, 5e-3), FINE),
    (replace(CURVE, steps=CURVE.steps[:4], history=[]), AMBIGUOUS),  # a few updates do not tell
    (replace(CURVE, stop_reason="diverged", steps=[], history=[]), (Verdict.DIVERGED, Direction.LOWER)),
]


def test_curves_whose_cause_is_known() -> None:
    for number, (each, expected) in enumerate(CURVES):
        advice = advise(each)
        assert (advice.verdict, advice.direction) == expected, number
        assert advice.evidence
    assert advice.factor == 10  # of the last one: a divergence asks for a much lower rate


@pytest.mark.parametrize(
    ("activation", "lr", "expected"),
    [
        (RELU, 1e-5, Direction.RAISE),
        (RELU, 0.05, Direction.KEEP),
        (RELU, 1.0, Direction.LOWER),
        (TANH, 1e-4, Direction.RAISE),
        (TANH, 3.0, Direction.LOWER),
        (SIGMOID, 1e-3, Direction.RAISE),
        (SIGMOID, 10.0, Direction.LOWER),
    ],
)
def test_real_trainings_get_the_advice_that_leads_to_a_better_rate(
    small: TrainVal, engine: ResolvedEngine, activation: Activation, lr: float, expected: Direction
) -> None:
    config = Config(training={"batch_size": 20})
    result = train_trial(config, Context(small, engine=engine), Trial(activation, lr, seed=0, epochs=5))
    assert advise_trial(config, result, LN10).direction is expected


@given(st.lists(st.floats(1e-3, 10), max_size=12), st.booleans())
def test_the_largest_rise_is_that_of_all_pairs(losses: list[float], are_sure: bool) -> None:
    parts = [_Part(loss, 0.0 if are_sure else loss / 100) for loss in losses]
    pairs = [(a, b) for k, a in enumerate(parts) for b in parts[k + 1 :]]
    rises = [b.loss / a.loss for a, b in pairs if a.loss + 3 * math.hypot(a.error, b.error) < b.loss]
    assert _largest_rise(parts) == max(rises, default=0.0)


def test_very_many_epochs_are_read_too() -> None:
    assert _largest_rise([_Part(1 + (k % 7) / 10, 0.0) for k in range(100_000)]) == pytest.approx(1.6)
