"""The search behind `learning_rate: auto`: on landscapes whose answer is known, and for real."""

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lenet_mnist.config import Config
from lenet_mnist.data.sets import TrainVal
from lenet_mnist.errors import ConfigError
from lenet_mnist.model.engines import ResolvedEngine
from lenet_mnist.training.context import Context
from lenet_mnist.tuning import auto
from lenet_mnist.tuning.auto import Search, decide_rate, rounds_of
from lenet_mnist.tuning.best_rate import exponent_of, rate_for
from lenet_mnist.tuning.range_test import Bracket
from lenet_mnist.tuning.trial import Trial, TrialResult, train_trial

CONFIG = Config.model_validate({"training": {"learning_rate": "auto", "max_epochs": 8, "batch_size": 20}})


@pytest.fixture
def bench(small: TrainVal, engine: ResolvedEngine) -> tuple[Config, Context]:
    return (CONFIG, Context(small, engine=engine))


EXPONENT = exponent_of(CONFIG, CONFIG.model.activation)


class Landscape:
    """Trainings whose loss is known: best at `best` for eight epochs, and at a higher rate for fewer."""

    def __init__(self, best: float, cliff: float = math.inf) -> None:
        self.best = best
        self.cliff = cliff
        self.trials: list[Trial] = []

    def __call__(self, trials: Sequence[Trial]) -> Iterator[TrialResult]:
        self.trials += trials
        for trial in trials:
            equivalent = rate_for(trial.lr, trial.epochs, 8, EXPONENT)
            loss = 0.1 * trial.epochs**-0.4 * math.exp(0.25 * math.log(equivalent / self.best) ** 2)
            yield TrialResult(trial, None if trial.lr > self.cliff else loss, None, (), (), 0.0)


@pytest.mark.parametrize("best", [0.005, 0.01, 0.03])
def test_the_rate_of_the_whole_training_is_found(bench: tuple[Config, Context], best: float) -> None:
    decision = decide_rate(*bench, Landscape(best))
    assert decision.lr == pytest.approx(best, rel=0.02)
    assert decision.low < best < decision.high


def test_a_cliff_within_the_bracket_does_no_harm(bench: tuple[Config, Context]) -> None:
    decision = decide_rate(*bench, Landscape(0.02, cliff=0.06))
    assert decision.lr == pytest.approx(0.02, rel=0.05)
    assert any(tried.val_loss is None for tried in decision.tried)


def test_all_trainings_start_from_the_seed_that_follows(bench: tuple[Config, Context]) -> None:
    landscape = Landscape(0.03)
    decide_rate(*bench, landscape)
    assert {trial.seed for trial in landscape.trials} == {CONFIG.seed}


def test_later_rounds_are_longer_and_narrower(bench: tuple[Config, Context]) -> None:
    landscape = Landscape(0.03)
    decide_rate(*bench, landscape)
    by_epochs: dict[float, list[float]] = {}
    for trial in landscape.trials:
        by_epochs.setdefault(trial.epochs, []).append(math.log(trial.lr))
    widths = [max(logs) - min(logs) for _, logs in sorted(by_epochs.items())]
    assert len(widths) == 2
    assert widths[1] == pytest.approx(widths[0] / 2, rel=1e-3)


def test_what_was_tried_and_what_it_cost_is_told(bench: tuple[Config, Context]) -> None:
    landscape = Landscape(0.03)
    decision = decide_rate(*bench, landscape)
    assert [(tried.lr, tried.epochs) for tried in decision.tried] == [(t.lr, t.epochs) for t in landscape.trials]
    assert sum(tried.epochs for tried in decision.tried) < decision.cost_epochs <= decision.budget_epochs == 16


@pytest.mark.parametrize("has_learned", [True, False])
@pytest.mark.parametrize("budget", [4.5, 6.0, 9.0, 16.0])
def test_a_slow_starter_costs_no_more_than_the_budget_either(
    bench: tuple[Config, Context], monkeypatch: pytest.MonkeyPatch, has_learned: bool, budget: float
) -> None:
    bracket = Bracket(0.001, 0.3, 0.02, has_learned)
    monkeypatch.setattr(auto, "find_bracket", lambda *_: bracket)
    training = CONFIG.training.model_copy(update={"learning_rate_budget": budget})
    frugal = (CONFIG.model_copy(update={"training": training}), bench[1])
    assert decide_rate(*frugal, Landscape(0.03)).cost_epochs <= budget


def test_where_no_rate_learns_the_search_says_so(bench: tuple[Config, Context]) -> None:
    with pytest.raises(ConfigError, match="below chance level"):
        decide_rate(*bench, Landscape(0.03, cliff=0.0))


def test_after_a_round_that_diverged_the_search_looks_lower(bench: tuple[Config, Context]) -> None:
    landscape = Landscape(1e-5, cliff=1e-4)
    with suppress(ConfigError):
        decide_rate(*bench, landscape)
    first, last = landscape.trials[0].epochs, landscape.trials[-1].epochs
    of_first = [trial.lr for trial in landscape.trials if trial.epochs == first]
    of_last = [trial.lr for trial in landscape.trials if trial.epochs == last]
    assert max(of_last) <= min(of_first)


@given(st.floats(3, 100), st.integers(1, 50), st.sampled_from([0.125, 0.5, 1.0, 3.0]))
def test_no_search_costs_more_than_its_budget(factor: float, max_epochs: int, shortest: float) -> None:
    budget = factor * shortest
    rounds = list(rounds_of(budget, max_epochs, shortest))
    assert rounds[0][1] == shortest
    assert all(num_rates >= 3 for num_rates, _ in rounds[:-1])
    assert rounds[-1][0] >= 3 or (len(rounds) == 2 and rounds[1] == (2, shortest))
    assert sum(num_rates * epochs for num_rates, epochs in rounds) <= budget + 1e-9
    assert [epochs for _, epochs in rounds] == sorted(epochs for _, epochs in rounds)


def test_more_budget_buys_longer_schedules() -> None:
    assert list(rounds_of(15.5, 8, 1.0)) == [(7, 1.0), (4, 2.0)]
    assert [epochs for _, epochs in rounds_of(39, 8, 1.0)] == [1.0, 2.0, 4.0]
    assert [epochs for _, epochs in rounds_of(6.5, 8, 2.0)] == [2.0]


def test_where_one_horizon_fits_two_rates_are_kept_for_a_second_round() -> None:
    assert list(rounds_of(15.5, 8, 2.0)) == [(5, 2.0), (2, 2.0)]
    assert list(rounds_of(9.9, 8, 2.0)) == [(4, 2.0)]
    assert list(rounds_of(1000, 2, 1.0)) == [(998, 1.0), (2, 1.0)]


def test_a_slow_starter_is_searched_in_finer_steps_beside_the_best(
    bench: tuple[Config, Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auto, "find_bracket", lambda *_: Bracket(0.01, 10.0, 0.1, has_learned=False))
    landscape = Landscape(0.3)
    decide_rate(*bench, landscape)
    assert {trial.epochs for trial in landscape.trials} == {2.0}
    lrs = [trial.lr for trial in landscape.trials]
    best = min(lrs[:5], key=lambda lr: abs(math.log(rate_for(lr, 2, 8, EXPONENT) / 0.3)))
    assert all(1 < max(lr / best, best / lr) < 10**0.75 for lr in lrs[5:])


def test_where_nothing_was_learned_no_rate_is_trained_twice_for_the_same_length(
    bench: tuple[Config, Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auto, "find_bracket", lambda *_: Bracket(0.01, 10.0, 0.1, has_learned=False))
    trials: list[Trial] = []

    def rest_at_guessing(of_round: Sequence[Trial]) -> list[TrialResult]:
        trials.extend(of_round)
        return [TrialResult(trial, bench[1].guessing_loss, None, (), (), 0.0) for trial in of_round]

    with pytest.raises(ConfigError, match="below chance level"):
        decide_rate(*bench, rest_at_guessing)
    assert len(trials) == 7
    assert len({trial.lr for trial in trials}) == 7


def test_too_small_a_budget_says_what_a_search_costs(bench: tuple[Config, Context]) -> None:
    training = CONFIG.training.model_copy(update={"learning_rate_budget": 2.0})
    small = (CONFIG.model_copy(update={"training": training}), bench[1])
    with pytest.raises(ConfigError, match=r"2 epochs are too few for a search: \d\.\d at least"):
        decide_rate(*small, Landscape(0.03))


def test_the_budget_is_two_trainings_unless_it_is_given() -> None:
    assert Search.of(CONFIG.training, 55_000).budget == 16
    given = Config.model_validate({"training": {"learning_rate": "auto", "learning_rate_budget": 5.0}})
    assert Search.of(given.training, 55_000).budget == 5


@pytest.mark.parametrize("num_images", [100, 1000, 5000, 55_000])
@pytest.mark.parametrize("max_epochs", [1, 3, 8])
def test_without_a_budget_of_its_own_every_training_can_be_searched_for(num_images: int, max_epochs: int) -> None:
    training = CONFIG.training.model_copy(update={"max_epochs": max_epochs, "batch_size": 64})
    search = Search.of(training, num_images)
    assert search.range_cost + 3 * search.shortest <= search.budget + 1e-9
    assert search.shortest <= max_epochs


def test_a_real_search_finds_a_rate_that_trains(small: TrainVal, engine: ResolvedEngine) -> None:
    training = {"learning_rate": "auto", "max_epochs": 4, "batch_size": 20}
    bench = (Config.model_validate({"training": training}), Context(small, engine=engine))
    decision = decide_rate(*bench, lambda trials: [train_trial(*bench, trial) for trial in trials])
    assert 0.001 < decision.lr < 0.3
