"""From scattered losses to one rate."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lenet_mnist.config import Activation, Config
from lenet_mnist.tuning.best_rate import Choice, choose, exponent_of, log_error, rate_for
from lenet_mnist.tuning.trial import Trial, TrialResult

LN10 = math.log(10)
EXPONENT = 0.4


def result(lr: float, loss: float | None, epochs: float = 1, seed: int = 0) -> TrialResult:
    return TrialResult(Trial(Activation.RELU, lr, seed, epochs), loss, None, (), (), 0.0)


def valley(
    best: float, lrs: Sequence[float], epochs: float = 1, noise: Sequence[float] | None = None
) -> list[TrialResult]:
    """Losses whose logarithm is a parabola around `best`, as measured ones nearly are."""
    scatter = noise if noise is not None else [0.0] * len(lrs)
    return [
        result(lr, 0.05 * math.exp(0.3 * math.log(lr / best) ** 2 + extra), epochs)
        for lr, extra in zip(lrs, scatter, strict=True)
    ]


def chosen(results: Sequence[TrialResult], epochs: float = 1) -> Choice:
    choice = choose(results, epochs, EXPONENT, LN10)
    assert choice is not None
    return choice


@given(st.floats(min_value=0.004, max_value=0.2))
def test_the_bottom_of_a_valley_is_found_between_the_rates(best: float) -> None:
    choice = chosen(valley(best, np.geomspace(1e-3, 1, 10).tolist()))
    assert choice.is_fitted
    assert choice.lr == pytest.approx(best, rel=1e-6)
    assert choice.low < best < choice.high


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    generator, hits = np.random.default_rng(0), 0
    for _ in range(300):
        choice = chosen(valley(0.03, np.geomspace(5e-3, 0.2, 8).tolist(), noise=generator.normal(0, 0.1, 8).tolist()))
        hits += choice.low <= 0.03 <= choice.high
    assert hits >= 0.9 * 300


def test_one_lucky_trial_does_not_decide() -> None:
    noise = [0, 0, 0, 0, 0, 0, -0.25, 0, 0, 0]
    lrs = np.geomspace(5e-3, 0.2, 10).tolist()
    lucky = lrs[6]
    assert min(valley(0.03, lrs, noise=noise), key=lambda r: r.val_loss or 9).trial.lr == lucky
    assert abs(math.log(chosen(valley(0.03, lrs, noise=noise)).lr / 0.03)) < math.log(lucky / 0.03) / 2


def test_short_trainings_are_moved_to_the_long_one() -> None:
    at_one, at_two = 0.06, rate_for(0.06, 1, 2, EXPONENT)
    assert at_two < at_one
    lrs = np.geomspace(5e-3, 0.5, 8).tolist()
    both = valley(at_one, lrs, epochs=1) + valley(at_two, lrs, epochs=2)
    assert chosen(both, epochs=8).lr == pytest.approx(rate_for(0.06, 1, 8, EXPONENT), rel=1e-6)


def test_a_cliff_is_left_out_of_the_parabola() -> None:
    lrs = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32]
    broken = [*valley(0.03, lrs[:4]), result(0.16, 2.3), result(0.32, None)]
    assert chosen(broken).lr == pytest.approx(0.03, rel=1e-6)


@pytest.mark.parametrize("other_seed", [None, 2.3])
def test_a_rate_that_is_lost_with_one_seed_is_no_choice(other_seed: float | None) -> None:
    results = [result(0.01, 0.3), result(0.01, 0.3, seed=1), result(0.1, 0.01), result(0.1, other_seed, seed=1)]
    assert chosen(results).lr == pytest.approx(0.01)


def test_what_a_seed_adds_to_all_rates_does_not_widen_the_interval() -> None:
    lrs = np.geomspace(5e-3, 0.2, 6).tolist()
    noise = [0.02, -0.03, 0.01, 0.03, -0.02, 0.0]
    worse = [replace(r, trial=replace(r.trial, seed=1), val_loss=1.5 * (r.val_loss or 0)) for r in valley(0.03, lrs)]
    one, both = chosen(valley(0.03, lrs, noise=noise)), chosen(valley(0.03, lrs, noise=noise) + worse)
    assert both.high / both.low < one.high / one.low


def test_long_schedules_want_other_rates() -> None:
    assert rate_for(0.1, 1, 8, 0.4) < rate_for(0.1, 1, 2, 0.4) < 0.1 == rate_for(0.1, 8, 8, 0.4)
    assert rate_for(0.1, 1, 4, 0.5) == pytest.approx(0.05)
    assert rate_for(0.1, 1, 4, -0.5) == pytest.approx(0.2)
    assert log_error(1, 8) > log_error(1, 2) > log_error(8, 8) == 0


@pytest.mark.parametrize(
    ("optimizer", "weight_decay", "of_relu"), [("sgd", 1e-3, -1), ("sgd", 0.0, 1), ("adam", 1e-3, 1), ("adamw", 0.0, 1)]
)
def test_weight_decay_that_acts_lets_long_trainings_have_higher_rates(
    optimizer: str, weight_decay: float, of_relu: int
) -> None:
    config = Config.model_validate({"training": {"optimizer": optimizer, "weight_decay": weight_decay}})
    assert math.copysign(1, exponent_of(config, Activation.RELU)) == of_relu
    assert all(abs(exponent_of(config, activation)) < 1 for activation in Activation)


def test_the_order_of_the_trials_does_not_matter() -> None:
    results = valley(
        0.03, np.geomspace(5e-3, 0.2, 9).tolist(), noise=np.random.default_rng(0).normal(0, 0.1, 9).tolist()
    )
    assert chosen(results) == chosen(results[::-1])


def test_only_rates_near_the_best_shape_the_parabola() -> None:
    lrs = np.geomspace(1e-3, 0.1, 9).tolist()
    flat_far_out = [replace(r, val_loss=min(r.val_loss or 0, 0.15)) for r in valley(0.05, lrs)]
    assert chosen(flat_far_out).lr == pytest.approx(0.05, rel=1e-6)


def test_a_hill_is_no_valley() -> None:
    hill = [result(0.01, 0.2), result(0.02, 0.25), result(0.04, 0.22), result(0.08, 0.1)]
    choice = chosen(hill)
    assert choice.lr == pytest.approx(0.08)
    assert not choice.is_fitted


def test_without_a_valley_the_lowest_loss_decides() -> None:
    falling = [result(0.01, 0.4), result(0.02, 0.3), result(0.04, 0.2)]
    choice = chosen(falling)
    assert (choice.lr, choice.low, choice.high) == pytest.approx((0.04, 0.02, 0.04))
    assert not choice.is_fitted


def test_where_nothing_has_learned_there_is_no_choice() -> None:
    assert choose([result(1.0, None), result(2.0, None)], 8, EXPONENT, LN10) is None
    assert choose([result(0.1, 2.29), result(0.2, 2.31)], 8, EXPONENT, LN10) is None
