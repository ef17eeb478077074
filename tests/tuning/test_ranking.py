"""What a sweep's results say: the best rate, its equals, and what is lacking."""

from itertools import pairwise

import pytest
from tests.tuning.results import LN10, results_of

from lenet_mnist.config import Activation
from lenet_mnist.tuning.plan import SweepRequest, log_spaced
from lenet_mnist.tuning.ranking import Ranking, extension_of, rank, trials_of

RELU = SweepRequest((Activation.RELU,))


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


def test_a_best_rate_at_the_edge_asks_for_two_more_at_the_same_distance() -> None:
    above = extension_of(ranking_of({0.01: [0.3, 0.3], 0.02: [0.2, 0.2], 0.04: [0.1, 0.1]}), RELU, (0, 1))
    assert above.trials == tuple(trials_of(Activation.RELU, (0.08, 0.16), (0, 1), 0.5))
    below = extension_of(ranking_of({0.01: [0.1, 0.1], 0.02: [0.2, 0.2], 0.04: [0.3, 0.3]}), RELU, (0, 1))
    assert {trial.lr for trial in below.trials} == {0.0025, 0.005}
    rising, falling = {0.01: [0.1, 0.1], 0.02: [0.2, 0.2]}, {0.01: [0.2, 0.2], 0.02: [0.1, 0.1]}
    for losses, request in (  # not where the edge was asked for, is not the best, or nothing was learned
        (rising, SweepRequest((Activation.RELU,), min_lr=0.01)),
        (falling, SweepRequest((Activation.RELU,), max_lr=0.02)),
        (falling, SweepRequest((Activation.RELU,), lrs=(0.01, 0.02))),
        ({0.01: [0.2, 0.2], 0.02: [0.1, 0.1], 0.04: [0.2, 0.2]}, RELU),
        ({0.01: [2.3, 2.3], 0.02: [2.2, 2.2]}, RELU),
    ):
        assert extension_of(ranking_of(losses), request, (0, 1)) is None


def test_trials_come_seed_after_seed_at_rates_the_same_factor_apart() -> None:
    trials = trials_of(Activation.RELU, (0.1, 0.2), (7, 8), 1)
    assert [(t.seed, t.lr) for t in trials] == [(7, 0.1), (7, 0.2), (8, 0.1), (8, 0.2)]
    rates = log_spaced(0.001, 1, 7)
    assert (rates[0], rates[-1]) == (0.001, 1)
    assert [b / a for a, b in pairwise(rates)] == pytest.approx([10**0.5] * 6, rel=1e-3)
