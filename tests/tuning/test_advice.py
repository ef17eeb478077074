"""The lecture's rules on curves whose cause is known: made up first, then trained."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lenet_mnist.config import Activation, Config
from lenet_mnist.data.sets import TrainVal
from lenet_mnist.model.engines import ResolvedEngine
from lenet_mnist.training.context import Context
from lenet_mnist.training.rows import EpochRow, StepRow
from lenet_mnist.tuning.advice import Advice, Direction, LossCurve, Verdict, _largest_rise, _Part, advise
from lenet_mnist.tuning.trial import Trial, curve_of, train_trial

LN10 = math.log(10)
NUM_STEPS, NUM_EPOCHS, PEAK = 1000, 5, 0.1


def curve(
    loss: Callable[[float], float],
    activation: Activation = Activation.RELU,
    liveness: float = 0.1,
    annealed: bool = True,
    num_epochs: int = NUM_EPOCHS,
    **changes: Any,
) -> LossCurve:
    """A training whose loss after the fraction t of it is loss(t), and whose C1 has `liveness` of the gradient."""
    steps = [
        StepRow(k, 1, PEAK * (1 - k / NUM_STEPS if annealed else 1), loss(k / NUM_STEPS), 1.0, liveness)
        for k in range(1, NUM_STEPS + 1)
    ]
    recorded = [row for row in steps if row.is_recorded]
    length = NUM_STEPS // num_epochs
    history = [
        EpochRow(
            e + 1,
            (e + 1) * length,
            0.1,
            sum(r.train_loss for r in steps[e * length : (e + 1) * length]) / length,
            *[0.5] * 4,
        )
        for e in range(num_epochs)
    ]
    values = {
        "activation": activation,
        "guessing_loss": LN10,
        "peak_lr": PEAK,
        "num_steps": NUM_STEPS,
        "has_diverged": False,
        "steps": recorded,
        "history": history,
    }
    return LossCurve(**{**values, **changes})


def test_a_rise_that_chance_explains_is_none() -> None:
    """Of short trainings only every 20th update is known: the few of a fifth scatter."""
    rng = np.random.default_rng(0)
    level = [curve(lambda t: 0.4 * math.exp(-t) * float(rng.lognormal(0, 0.5)), num_epochs=4) for _ in range(200)]
    assert sum(advise(noisy).verdict is Verdict.OSCILLATES for noisy in level) <= 4
    rising = curve(lambda t: (0.1 + 0.3 * (t > 0.6)) * float(rng.lognormal(0, 0.5)), num_epochs=4)
    assert advise(rising).verdict is Verdict.OSCILLATES


def test_a_slow_fall_that_chance_explains_is_not_called_one() -> None:
    """The middle fifth's loss is truly twice the last's; of ten known updates each, many seem below 1.8 times."""
    rng = np.random.default_rng(1)
    fine = [curve(lambda t: (0.2 if t < 0.7 else 0.1) * float(rng.lognormal(0, 0.5)), num_epochs=4) for _ in range(200)]
    verdicts = [advise(noisy).verdict for noisy in fine]
    assert verdicts.count(Verdict.AMBIGUOUS) > 20
    assert verdicts.count(Verdict.FALLS_SLOWLY) <= 4
    slow = curve(lambda t: (0.2 if t < 0.7 else 0.18) * float(rng.lognormal(0, 0.1)), num_epochs=4)
    assert advise(slow).verdict is Verdict.FALLS_SLOWLY


def verdict_of(advice: Advice) -> tuple[Verdict, Direction]:
    assert advice.evidence
    return advice.verdict, advice.direction


@pytest.mark.parametrize("num_epochs", [1, 5, 20])
def test_a_loss_that_annealing_lowers_is_fine(num_epochs: int) -> None:
    falls = curve(lambda t: 0.3 * math.exp(-4 * t), num_epochs=num_epochs)
    assert verdict_of(advise(falls)) == (Verdict.FINE, Direction.KEEP)


@pytest.mark.parametrize("num_epochs", [1, 2, 5, 20])
def test_a_loss_that_falls_slowly_asks_for_a_higher_rate(num_epochs: int) -> None:
    """Not in a single epoch: there the loss falls as slowly at the best rate."""
    slow = curve(lambda t: 2.3 * (1 + 20 * t) ** -0.5, num_epochs=num_epochs)
    expected = (Verdict.FALLS_SLOWLY, Direction.RAISE) if num_epochs > 1 else (Verdict.AMBIGUOUS, Direction.UNKNOWN)
    assert verdict_of(advise(slow)) == expected


def test_a_loss_that_swings_asks_for_a_lower_rate() -> None:
    swings = curve(lambda t: 0.5 if t < 0.3 else 0.9 if t < 0.6 else 0.3)
    assert verdict_of(advise(swings)) == (Verdict.OSCILLATES, Direction.LOWER)


def test_a_loss_that_wavers_near_zero_does_not_swing() -> None:
    wavers = curve(lambda t: 0.3 * math.exp(-6 * t) + (0.004 if 0.6 < t < 0.8 else 0))
    assert verdict_of(advise(wavers)) == (Verdict.FINE, Direction.KEEP)


def test_a_loss_thrown_above_guessing_asks_for_a_lower_rate() -> None:
    thrown = curve(lambda t: 30.0 if t < 0.4 else 1.0 - t)
    assert verdict_of(advise(thrown)) == (Verdict.OSCILLATES, Direction.LOWER)


@pytest.mark.parametrize(
    ("activation", "liveness", "expected"),
    [
        (Activation.SIGMOID, 5e-3, (Verdict.RESTS, Direction.RAISE)),
        (Activation.SIGMOID, 1e-5, (Verdict.CUT_OFF, Direction.LOWER)),
        (Activation.TANH, 1e-5, (Verdict.CUT_OFF, Direction.LOWER)),
        (Activation.RELU, 0.0, (Verdict.CUT_OFF, Direction.LOWER)),
        (Activation.RELU, 3e-4, (Verdict.FALLS_SLOWLY, Direction.RAISE)),
        (Activation.TANH, 0.2, (Verdict.FALLS_SLOWLY, Direction.RAISE)),
    ],
)
def test_resting_at_guessing_is_told_from_being_cut_off(
    activation: Activation, liveness: float, expected: tuple[Verdict, Direction]
) -> None:
    assert verdict_of(advise(curve(lambda t: LN10 - 0.001 * t, activation, liveness))) == expected


def test_a_long_rest_with_saturated_units_asks_for_a_lower_rate_even_if_it_ends() -> None:
    late = curve(lambda t: LN10 if t < 0.6 else 0.3 * math.exp(-4 * (t - 0.6)), Activation.SIGMOID, liveness=5e-4)
    assert verdict_of(advise(late)) == (Verdict.CUT_OFF, Direction.LOWER)
    alive = curve(lambda t: LN10 if t < 0.3 else 2 * math.exp(-5 * (t - 0.3)), Activation.SIGMOID, liveness=5e-3)
    assert verdict_of(advise(alive)) == (Verdict.FINE, Direction.KEEP)


def test_a_divergence_asks_for_a_much_lower_rate() -> None:
    advice = advise(curve(lambda _: 1.0, has_diverged=True, steps=[], history=[]))
    assert verdict_of(advice) == (Verdict.DIVERGED, Direction.LOWER)
    assert advice.factor == 10


def test_a_training_that_was_not_annealed_is_not_judged_by_annealing() -> None:
    constant = curve(lambda t: 2.3 * (1 + 20 * t) ** -0.5, annealed=False)
    assert verdict_of(advise(constant)) == (Verdict.AMBIGUOUS, Direction.UNKNOWN)


def test_a_few_updates_do_not_tell() -> None:
    short = curve(lambda t: 1 - t)
    few = curve(lambda t: 1 - t, steps=short.steps[:4], history=[])
    assert verdict_of(advise(few)) == (Verdict.AMBIGUOUS, Direction.UNKNOWN)


@pytest.mark.parametrize(
    ("activation", "lr", "expected"),
    [
        (Activation.RELU, 1e-5, Direction.RAISE),
        (Activation.RELU, 0.05, Direction.KEEP),
        (Activation.RELU, 1.0, Direction.LOWER),
        (Activation.TANH, 1e-4, Direction.RAISE),
        (Activation.TANH, 3.0, Direction.LOWER),
        (Activation.SIGMOID, 1e-3, Direction.RAISE),
        (Activation.SIGMOID, 10.0, Direction.LOWER),
    ],
)
def test_real_trainings_get_the_advice_that_leads_to_a_better_rate(
    small: TrainVal, engine: ResolvedEngine, activation: Activation, lr: float, expected: Direction
) -> None:
    bench = (Config.model_validate({"training": {"batch_size": 20}}), Context(small, engine=engine))
    result = train_trial(*bench, Trial(activation, lr, seed=0, epochs=5))
    assert advise(curve_of(result, LN10)).direction is expected


@given(st.lists(st.floats(1e-3, 10), max_size=12), st.booleans())
def test_the_largest_rise_is_that_of_all_pairs(losses: list[float], are_sure: bool) -> None:
    parts = [_Part(loss, 0.0 if are_sure else loss / 100) for loss in losses]
    pairs = [(a, b) for k, a in enumerate(parts) for b in parts[k + 1 :]]
    rises = [b.loss / a.loss for a, b in pairs if a.loss + 3 * math.hypot(a.error, b.error) < b.loss]
    assert _largest_rise(parts) == max(rises, default=0.0)


def test_very_many_epochs_are_read_too() -> None:
    assert _largest_rise([_Part(1 + (k % 7) / 10, 0.0) for k in range(100_000)]) == pytest.approx(1.6)
