"""What a sweep's results say: the best rate, its equals, and what is lacking."""

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import t as student

from lenet_mnist.config import Activation
from lenet_mnist.tuning.best_rate import Noise, noise_of
from lenet_mnist.tuning.plan import SweepRequest, log_spaced
from lenet_mnist.tuning.ranking import Ranking, extension_of, rank, trials_of
from lenet_mnist.tuning.trial import Trial, TrialResult

LN10 = math.log(10)
RELU = SweepRequest((Activation.RELU,))


def results_of(losses: dict[float, list[float | None]], epochs: float = 0.5) -> list[TrialResult]:
    return [
        TrialResult(Trial(Activation.RELU, lr, seed, epochs), loss, None, (), (), 0.0)
        for lr, row in losses.items()
        for seed, loss in enumerate(row)
    ]


def ranking_of(losses: dict[float, list[float | None]]) -> Ranking:
    return rank(results_of(losses), LN10)


def test_the_lowest_mean_is_best_and_not_the_lowest_loss() -> None:
    ranking = ranking_of({0.01: [0.10, 0.11], 0.1: [0.05, 0.30], 1.0: [0.4, 0.5]})
    assert ranking.best is not None
    assert ranking.best.lr == 0.01
    assert (ranking.best.low, ranking.best.high) == (0.10, 0.11)


def test_a_rate_that_diverged_with_one_seed_is_never_best() -> None:
    ranking = ranking_of({0.01: [0.10, 0.11], 0.1: [0.05, None]})
    assert ranking.best is not None
    assert ranking.best.lr == 0.01
    assert (ranking.rates[1].num_diverged, ranking.rates[1].mean_loss) == (1, None)


def test_where_every_rate_diverged_there_is_no_best() -> None:
    ranking = ranking_of({0.1: [None, None], 1.0: [None, None]})
    assert ranking.best is None
    assert not ranking.has_learned
    assert ranking.equals == ()


def test_what_a_seed_adds_to_all_rates_is_no_noise() -> None:
    """The second seed is half as bad again everywhere: rates are told apart all the same."""
    apart = ranking_of({0.01 * k: [0.1 * 1.3**k, 0.15 * 1.3**k] for k in range(1, 6)})
    alone = ranking_of({0.01 * k: [0.1 * 1.3**k] for k in range(1, 6)})
    assert apart.noise < alone.noise
    assert apart.equals == (0.01,)


def test_rates_that_scatter_into_each_other_cannot_be_told_apart() -> None:
    ranking = ranking_of({0.01: [0.10, 0.13], 0.02: [0.13, 0.10], 0.04: [0.5, 0.52]})
    assert ranking.equals == (0.01, 0.02)


def test_the_noise_is_that_of_a_two_way_table() -> None:
    generator = np.random.default_rng(1)
    logs = np.linspace(-3, -2, 400)[:, None] + np.array([0.0, 0.3, -0.2]) + generator.normal(0, 0.2, (400, 3))
    losses = {(lr, seed): math.exp(y) for lr, row in enumerate(logs) for seed, y in enumerate(row)}
    noise = noise_of(losses, range(400))
    assert noise.deviation == pytest.approx(0.2, rel=0.08)
    assert noise.freedom == 399 * 2 + 4


def test_with_one_seed_the_known_scatter_of_a_tenth_is_assumed() -> None:
    ranking = ranking_of({0.01: [0.10], 0.02: [0.101], 0.04: [0.2]})
    assert ranking.noise == pytest.approx(0.1)
    assert ranking.equals == (0.01, 0.02)


@pytest.mark.parametrize("freedom", [4, 5, 7, 10, 11, 20, 60, 1000])
def test_t_is_students(freedom: int) -> None:
    assert Noise(0.1, freedom).t95 == pytest.approx(student.ppf(0.975, freedom), rel=1e-12)


def test_rates_at_guessing_have_not_learned() -> None:
    assert not ranking_of({0.01: [2.30, 2.31], 0.1: [2.29, 2.30]}).has_learned
    assert ranking_of({0.01: [2.30, 2.31], 0.1: [1.0, 2.30]}).has_learned


def test_a_best_rate_at_the_edge_asks_for_two_more_at_the_same_distance() -> None:
    above = extension_of(ranking_of({0.01: [0.3, 0.3], 0.02: [0.2, 0.2], 0.04: [0.1, 0.1]}), RELU, (0, 1))
    assert above is not None
    assert above.trials == tuple(trials_of(Activation.RELU, (0.08, 0.16), (0, 1), 0.5))
    below = extension_of(ranking_of({0.01: [0.1, 0.1], 0.02: [0.2, 0.2], 0.04: [0.3, 0.3]}), RELU, (0, 1))
    assert below is not None
    assert {trial.lr for trial in below.trials} == {0.0025, 0.005}


def test_an_edge_that_was_asked_for_is_kept() -> None:
    rising = {0.01: [0.1, 0.1], 0.02: [0.2, 0.2]}
    falling = {0.01: [0.2, 0.2], 0.02: [0.1, 0.1]}
    for losses, request in (
        (rising, SweepRequest((Activation.RELU,), min_lr=0.01)),
        (falling, SweepRequest((Activation.RELU,), max_lr=0.02)),
        (falling, SweepRequest((Activation.RELU,), lrs=(0.01, 0.02))),
        ({0.01: [0.2, 0.2], 0.02: [0.1, 0.1], 0.04: [0.2, 0.2]}, RELU),
        ({0.01: [2.3, 2.3], 0.02: [2.2, 2.2]}, RELU),
    ):
        assert extension_of(ranking_of(losses), request, (0, 1)) is None


def test_a_rate_that_died_with_one_seed_does_not_blur_the_others() -> None:
    ranking = ranking_of({0.01: [0.10, 0.101], 0.02: [0.15, 0.151], 0.04: [0.14, 2.3]})
    assert ranking.noise < 0.1
    assert ranking.equals == (0.01,)


def test_a_rate_at_which_seeds_differ_widely_counts_for_the_scatter() -> None:
    """As sigmoid's do, which leave the loss of guessing sooner or later: a mean of two says little then."""
    early_or_late = results_of({0.07: [0.23, 0.42], 0.2: [0.24, 1.46], 0.5: [1.05, 0.77]})
    even = results_of({0.07: [0.30, 0.34], 0.2: [0.80, 0.90], 0.5: [1.05, 0.77]})
    assert rank(early_or_late, LN10).noise > 0.25
    assert rank(even, LN10).noise < 0.12


def test_trials_come_seed_after_seed() -> None:
    assert [(t.seed, t.lr) for t in trials_of(Activation.RELU, (0.1, 0.2), (7, 8), 1)] == [
        (7, 0.1),
        (7, 0.2),
        (8, 0.1),
        (8, 0.2),
    ]


def test_rates_are_the_same_factor_apart() -> None:
    rates = log_spaced(0.001, 1, 7)
    assert rates[0] == 0.001
    assert rates[-1] == 1
    assert [b / a for a, b in pairwise(rates)] == pytest.approx([10**0.5] * 6, rel=1e-3)
