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
from lenet_mnist.tuning.auto import Search, decide_rate, rounds_of
from lenet_mnist.tuning.best_rate import exponent_of, rate_for
from lenet_mnist.tuning.trial import Bracket, Trial, TrialResult, train_trial

CONFIG = Config(training={"learning_rate": "auto", "max_epochs": 8, "batch_size": 20})
EXPONENT = exponent_of(CONFIG, CONFIG.model.activation)
SLOW_STARTER = Bracket(0.01, 10.0, has_learned=False)


@pytest.fixture
def context(small: TrainVal, engine: ResolvedEngine) -> Context:
    return Context(small, engine=engine)


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


def test_the_rate_of_the_whole_training_is_found_and_what_it_cost_is_told(context: Context) -> None:
    for best in (0.005, 0.01, 0.03):
        landscape = Landscape(best)
        decision = decide_rate(CONFIG, context, landscape)
        assert decision.lr == pytest.approx(best, rel=0.02)
        assert decision.low < best < decision.high
    assert {trial.seed for trial in landscape.trials} == {CONFIG.seed}  # that of the training that follows
    assert [(tried.lr, tried.epochs) for tried in decision.tried] == [(t.lr, t.epochs) for t in landscape.trials]
    assert sum(tried.epochs for tried in decision.tried) < decision.cost_epochs <= decision.budget_epochs == 16
    by_epochs: dict[float, list[float]] = {}
    for trial in landscape.trials:
        by_epochs.setdefault(trial.epochs, []).append(math.log(trial.lr))
    first, second = (max(logs) - min(logs) for _, logs in sorted(by_epochs.items()))
    assert second == pytest.approx(first / 2, rel=1e-3)  # later rounds are longer and narrower


def test_a_cliff_within_the_bracket_does_no_harm(context: Context) -> None:
    decision = decide_rate(CONFIG, context, Landscape(0.02, cliff=0.06))
    assert decision.lr == pytest.approx(0.02, rel=0.05)
    assert any(tried.val_loss is None for tried in decision.tried)


def test_a_slow_starter_costs_no_more_than_the_budget_either(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    for has_learned in (True, False):
        bracket = Bracket(0.001, 0.3, has_learned)
        monkeypatch.setattr(Bracket, "of", lambda *_, bracket=bracket: bracket)
        for budget in (4.5, 6.0, 16.0):
            frugal = CONFIG.replace({"training.learning_rate_budget": budget})
            assert decide_rate(frugal, context, Landscape(0.03)).cost_epochs <= budget


def test_after_a_round_that_diverged_the_search_looks_lower_and_where_no_rate_learns_says_so(context: Context) -> None:
    landscape = Landscape(1e-5, cliff=1e-4)
    with suppress(ConfigError):
        decide_rate(CONFIG, context, landscape)
    first, last = landscape.trials[0].epochs, landscape.trials[-1].epochs
    of_first, of_last = ([t.lr for t in landscape.trials if t.epochs == epochs] for epochs in (first, last))
    assert max(of_last) <= min(of_first)
    with pytest.raises(ConfigError) as refusal:
        decide_rate(CONFIG, context, Landscape(0.03, cliff=0.0))
    assert refusal.value.key == "training.learning_rate_budget"


def test_a_slow_starter_is_searched_in_finer_steps_beside_the_best(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bracket, "of", lambda *_: SLOW_STARTER)
    landscape = Landscape(0.3)
    decide_rate(CONFIG, context, landscape)
    assert {trial.epochs for trial in landscape.trials} == {2.0}
    lrs = [trial.lr for trial in landscape.trials]
    best = min(lrs[:5], key=lambda lr: abs(math.log(rate_for(lr, 2, 8, EXPONENT) / 0.3)))
    assert all(1 < max(lr / best, best / lr) < 10**0.75 for lr in lrs[5:])


def test_where_nothing_was_learned_no_rate_is_trained_twice_for_the_same_length(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bracket, "of", lambda *_: SLOW_STARTER)
    trials: list[Trial] = []

    def stay_at_chance_level(of_round: Sequence[Trial]) -> list[TrialResult]:
        trials.extend(of_round)
        return [TrialResult(trial, context.guessing_loss, None, (), (), 0.0) for trial in of_round]

    with pytest.raises(ConfigError):
        decide_rate(CONFIG, context, stay_at_chance_level)
    assert len(trials) == len({trial.lr for trial in trials}) == 7


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
    """Where one length fits, two rates are kept for a second round."""
    for arguments, rounds in (
        ((15.5, 8, 1.0), [(7, 1.0), (4, 2.0)]),
        ((39, 8, 1.0), [(13, 1.0), (6, 2.0), (3, 4.0)]),
        ((6.5, 8, 2.0), [(3, 2.0)]),
        ((9.9, 8, 2.0), [(4, 2.0)]),
        ((15.5, 8, 2.0), [(5, 2.0), (2, 2.0)]),
        ((1000, 2, 1.0), [(998, 1.0), (2, 1.0)]),
    ):
        assert list(rounds_of(*arguments)) == rounds


def test_the_budget_is_two_trainings_unless_it_is_given_and_is_enough_for_every_training() -> None:
    assert Search.of(CONFIG.training, 55_000).budget == 16
    assert Search.of(CONFIG.replace({"training.learning_rate_budget": 5.0}).training, 55_000).budget == 5
    with pytest.raises(ConfigError):
        Search.of(CONFIG.replace({"training.learning_rate_budget": 2.0}).training, 2000)
    for num_images in (100, 1000, 5000, 55_000):
        for max_epochs in (1, 3, 8):
            changes = {"training.max_epochs": max_epochs, "training.batch_size": 64}
            search = Search.of(CONFIG.replace(changes).training, num_images)
            assert search.range_cost + 3 * search.shortest <= search.budget + 1e-9
            assert search.shortest <= max_epochs


def test_a_real_search_finds_a_rate_that_trains(context: Context) -> None:
    config = CONFIG.replace({"training.max_epochs": 4})
    decision = decide_rate(config, context, lambda trials: [train_trial(config, context, trial) for trial in trials])
    assert 0.001 < decision.lr < 0.3
