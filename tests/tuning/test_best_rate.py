"""From scattered losses to one rate."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t as student
from tests.tuning.results import LN10, result, results_of

from lenet_mnist.config import Activation, Config
from lenet_mnist.tuning.best_rate import Choice, Noise, Ranking, choose, exponent_of, noise_of, rank, rate_for
from lenet_mnist.tuning.trial import TrialResult

EXPONENT = 0.4
LRS = np.geomspace(5e-3, 0.2, 9).tolist()


def valley(
    best: float, lrs: Sequence[float] = LRS, epochs: float = 1, noise: Sequence[float] = (0.0,) * 100
) -> list[TrialResult]:
    """Losses whose logarithm is a parabola around `best`, as measured ones nearly are."""
    return [
        result(lr, 0.05 * math.exp(0.3 * math.log(lr / best) ** 2 + extra), epochs)
        for lr, extra in zip(lrs, noise, strict=False)
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
    generator = np.random.default_rng(0)
    choices = [chosen(valley(0.03, noise=generator.normal(0, 0.1, 9).tolist())) for _ in range(300)]
    assert sum(choice.low <= 0.03 <= choice.high for choice in choices) >= 0.9 * 300


def test_one_lucky_trial_does_not_decide() -> None:
    results = valley(0.03, noise=[0, 0, 0, 0, 0, -0.25, 0, 0, 0])
    assert min(results, key=lambda r: r.val_loss).trial.lr == LRS[5]
    assert abs(math.log(chosen(results).lr / 0.03)) < math.log(LRS[5] / 0.03) / 2


def test_short_trainings_are_moved_to_the_long_one() -> None:
    at_two = rate_for(0.06, 1, 2, EXPONENT)
    assert at_two < 0.06
    both = valley(0.06, epochs=1) + valley(at_two, epochs=2)
    moved, known = chosen(both, epochs=8), chosen(both, epochs=1)
    assert moved.lr == pytest.approx(rate_for(0.06, 1, 8, EXPONENT), rel=1e-6)
    assert moved.high / moved.low > 1.2 * known.high / known.low  # the exponent is known roughly


def test_only_rates_near_the_best_and_below_the_cliff_shape_the_parabola() -> None:
    cliff = [*valley(0.03, [0.01, 0.02, 0.04, 0.08]), result(0.16, 2.3), result(0.32, None)]
    assert chosen(cliff).lr == pytest.approx(0.03, rel=1e-6)
    flat_far_out = [replace(r, val_loss=min(r.val_loss, 0.15)) for r in valley(0.05, np.geomspace(1e-3, 0.1, 9))]
    assert chosen(flat_far_out).lr == pytest.approx(0.05, rel=1e-6)


def test_a_rate_that_is_lost_with_one_seed_is_no_choice() -> None:
    for other_seed in (None, 2.3):
        assert chosen(results_of({0.01: [0.3, 0.3], 0.1: [0.01, other_seed]}, 1)).lr == pytest.approx(0.01)


def test_what_a_seed_adds_to_all_rates_does_not_widen_the_interval() -> None:
    results = valley(0.03, noise=[0.02, -0.03, 0.01, 0.03, -0.02, 0.0, 0.01, -0.01, 0.02])
    worse = [replace(r, trial=replace(r.trial, seed=1), val_loss=1.5 * r.val_loss) for r in valley(0.03)]
    one, both = chosen(results), chosen(results + worse)
    assert both.high / both.low < one.high / one.low
    assert both == chosen((results + worse)[::-1])  # whatever their order


def test_long_schedules_want_other_rates() -> None:
    assert rate_for(0.1, 1, 8, 0.4) < rate_for(0.1, 1, 2, 0.4) < 0.1 == rate_for(0.1, 8, 8, 0.4)
    assert rate_for(0.1, 1, 4, 0.5) == pytest.approx(0.05)
    assert rate_for(0.1, 1, 4, -0.5) == pytest.approx(0.2)


def test_weight_decay_that_acts_lets_long_trainings_have_higher_rates() -> None:
    cases = (("sgd", 1e-3, -1), ("sgd", 0.0, 1), ("adam", 1e-3, 1), ("adamw", 0.0, 1), ("muon", 0.0, 1))
    for optimizer, weight_decay, of_relu in cases:
        config = Config(training={"optimizer": optimizer, "weight_decay": weight_decay})
        assert math.copysign(1, exponent_of(config, Activation.RELU)) == of_relu
        assert all(abs(exponent_of(config, activation)) < 1 for activation in Activation)


def test_without_a_valley_the_lowest_loss_decides() -> None:
    falling = chosen(results_of({0.01: [0.4], 0.02: [0.3], 0.04: [0.2]}, 1))
    assert (falling.lr, falling.low, falling.high) == pytest.approx((0.04, 0.02, 0.04))
    hill = chosen(results_of({0.01: [0.2], 0.02: [0.25], 0.04: [0.22], 0.08: [0.1]}, 1))
    assert hill.lr == pytest.approx(0.08)
    assert not falling.is_fitted
    assert not hill.is_fitted


def test_where_nothing_has_learned_there_is_no_choice() -> None:
    for losses in ({1.0: [None], 2.0: [None]}, {0.1: [2.29], 0.2: [2.31]}):
        assert choose(results_of(losses), 8, EXPONENT, LN10) is None


def test_the_noise_is_that_of_a_two_way_table() -> None:
    generator = np.random.default_rng(1)
    logs = np.linspace(-3, -2, 400)[:, None] + np.array([0.0, 0.3, -0.2]) + generator.normal(0, 0.2, (400, 3))
    noise = noise_of(np.exp(logs).tolist())
    assert noise.deviation == pytest.approx(0.2, rel=0.08)
    assert noise.freedom == 399 * 2 + 4
    assert Noise(0.1, 7).t95 == pytest.approx(student.ppf(0.975, 7))


# Ranked


def ranking_of(losses: dict[float, list[float | None]]) -> Ranking:
    return rank(results_of(losses), LN10)


def test_the_lowest_mean_is_best_and_not_the_lowest_loss() -> None:
    best = ranking_of({0.01: [0.10, 0.11], 0.1: [0.05, 0.30], 1.0: [0.4, 0.5]}).best
    assert (best.lr, best.low, best.high) == (0.01, 0.10, 0.11)


def test_a_rate_that_diverged_with_one_seed_is_never_best() -> None:
    ranking = ranking_of({0.01: [0.10, 0.11], 0.1: [0.05, None]})
    assert ranking.best.lr == 0.01
    assert (ranking.rates[1].num_diverged, ranking.rates[1].mean_loss) == (1, None)
    ranking = ranking_of({0.1: [None, None], 1.0: [None, None]})
    assert (ranking.best, ranking.has_learned, ranking.equals) == (None, False, ())


def test_which_rates_cannot_be_told_from_the_best() -> None:
    apart = ranking_of({0.01 * k: [0.1 * 1.3**k, 0.15 * 1.3**k] for k in range(1, 6)})
    alone = ranking_of({0.01 * k: [0.1 * 1.3**k] for k in range(1, 6)})
    assert apart.noise < alone.noise  # what a seed adds to all rates is no noise
    assert apart.equals == (0.01,)
    assert ranking_of({0.01: [0.10, 0.13], 0.02: [0.13, 0.10], 0.04: [0.5, 0.52]}).equals == (0.01, 0.02)
    with_one_seed = ranking_of({0.01: [0.10], 0.02: [0.101], 0.04: [0.2]})
    assert with_one_seed.noise == pytest.approx(0.1)  # the known scatter is assumed
    assert with_one_seed.equals == (0.01, 0.02)
    died_with_one_seed = ranking_of({0.01: [0.10, 0.101], 0.02: [0.15, 0.151], 0.04: [0.14, 2.3]})
    assert died_with_one_seed.noise < 0.1
    assert died_with_one_seed.equals == (0.01,)


def test_a_rate_at_which_seeds_differ_widely_counts_for_the_scatter() -> None:
    """As sigmoid's do, which leave chance level sooner or later: a mean of two says little then."""
    assert ranking_of({0.07: [0.23, 0.42], 0.2: [0.24, 1.46], 0.5: [1.05, 0.77]}).noise > 0.25
    assert ranking_of({0.07: [0.30, 0.34], 0.2: [0.80, 0.90], 0.5: [1.05, 0.77]}).noise < 0.12


def test_rates_at_chance_level_have_not_learned() -> None:
    assert not ranking_of({0.01: [2.30, 2.31], 0.1: [2.29, 2.30]}).has_learned
    assert ranking_of({0.01: [2.30, 2.31], 0.1: [1.0, 2.30]}).has_learned
