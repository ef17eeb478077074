"""`learning_rate: auto`: bracket, then successive halving over complete little schedules, then one rate.

Each round spends about the same on its trainings: first many rates over a short schedule, then half as wide a range
around the best guess so far over a schedule twice as long. All start from the same initial weights and see the same
batches, those of the training that follows. The rate is the bottom of a parabola through all of them,
moved from their short schedules to the long one (best_rate.py).

Source: lecture points 12 and 13; Karnin, Koren and Somekh, "Almost optimal exploration in multi-armed bandits", ICML
2013 (successive halving).
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lenet_mnist.config import Config, TrainingConfig
from lenet_mnist.errors import ConfigError
from lenet_mnist.training.context import Context
from lenet_mnist.training.workers import PoolSize, TrialPool
from lenet_mnist.tuning.best_rate import Choice, choose, exponent_of
from lenet_mnist.tuning.plan import epochs_text, log_spaced, next_length
from lenet_mnist.tuning.trial import NUM_STEPS, Bracket, RangeTest, Trial, TrialResult, compared_schedule, train_trial

_KEY = "training.learning_rate_budget"
_DEFAULT_BUDGET = 2.0  # whole trainings
_RANGE_TEST_SHARE = 0.1  # of the budget, at most
_LEAST_RANGE_STEPS = 60
_SHORTEST = 1 / 8  # of the training that follows
_LEAST_UPDATES = 50  # a schedule shorter than this says little
_MOST_ROUNDS = 3
_LEAST_RATES = 3  # in a round
_BESIDE = 2  # rates beside the best guess, in a last round that is no longer than the one before

RunTrials = Callable[[Sequence[Trial]], Iterable[TrialResult]]


@dataclass(frozen=True)
class Tried:
    """One training of the search. `val_loss` is None where it diverged."""

    lr: float
    epochs: float
    val_loss: float | None


@dataclass(frozen=True)
class Decision(Choice):
    """The rate, and what was tried. Costs are in epochs."""

    bracket: Bracket
    tried: tuple[Tried, ...]
    cost_epochs: float
    budget_epochs: float


@dataclass(frozen=True)
class Search:
    """What a search will do, all of it in epochs of the training images: known before it starts."""

    budget: float
    range_steps: int
    range_cost: float
    shortest: float

    @classmethod
    def of(cls, training: TrainingConfig, num_images: int) -> "Search":
        """Return the search for a training on `num_images`. Raises: ConfigError if its budget is too small."""
        update = training.batch_size / num_images
        budget = training.learning_rate_budget or _DEFAULT_BUDGET * training.max_epochs
        steps = int(min(max(_RANGE_TEST_SHARE * budget / update, _LEAST_RANGE_STEPS), NUM_STEPS))
        shortest = next_length(min(max(training.max_epochs * _SHORTEST, _LEAST_UPDATES * update), training.max_epochs))
        least = steps * update + _LEAST_RATES * shortest
        if training.learning_rate_budget is None:
            budget = max(budget, least)
        if budget < least:
            raise ConfigError(f"{budget:g} epochs are too few for a search: {least:.1f} at least", key=_KEY)
        return cls(budget, steps, steps * update, shortest)


def search_rate(config: Config, context: Context, data_dir: Path) -> Decision:
    """Search with as many worker processes as are worth it. Raises: as `decide_rate`."""
    num_images = len(context.data.train)
    size = PoolSize.of(context, num_items=3, num_images=Search.of(config.training, num_images).budget * num_images)
    with TrialPool(config, context, data_dir, size) as pool:
        return decide_rate(config, context, partial(pool.run, train_trial))


def decide_rate(config: Config, context: Context, run_trials: RunTrials) -> Decision:
    """Return the rate for the training that `config` describes, for not more than its budget; tell what is found.

    Raises: ConfigError if the budget is too small, or no rate has learned anything within it.
    """
    training, activation, note = config.training, config.model.activation, context.progress.note
    exponent, guessing_loss = exponent_of(config, activation), context.guessing_loss
    search = Search.of(training, len(context.data.train))
    note(f"learning_rate auto: a search of at most {epochs_text(search.budget)}, by the validation loss")
    test = RangeTest.run(config, context, activation, config.seed, search.range_steps)
    bracket = Bracket.of([test], guessing_loss)
    spent, shortest = search.range_cost, search.shortest
    longer = min(next_length(2 * shortest), float(training.max_epochs))
    if not bracket.has_learned and spent + _LEAST_RATES * longer <= search.budget:
        shortest = longer  # nothing would be learned in the shortest schedule either
    results: list[TrialResult] = []
    for num_rates, epochs in rounds_of(search.budget - spent, training.max_epochs, shortest):
        guess = choose(results, epochs, exponent, guessing_loss)
        lrs = rates_of_round(bracket, results, guess, num_rates, epochs)
        for result in run_trials([Trial(activation, lr, config.seed, epochs) for lr in lrs]):
            results.append(result)
            ended = "diverged" if result.val_loss is None else f"val loss {result.val_loss:.4f}"
            note(f"  lr {result.trial.lr:<8.3g}  {epochs_text(epochs)}  {ended}")
        spent += num_rates * epochs
    choice = choose(results, training.max_epochs, exponent, guessing_loss)
    if choice is None:
        raise ConfigError(
            f"the search spent {spent:.1f} epochs on rates from {bracket.low:.2g} to {bracket.high:.2g}, and with none "
            "of them the loss fell clearly below chance level: give it more epochs, or a rate with --lr",
            key=_KEY,
        )
    sure = f"about 95 % sure: {choice.low:.2g} to {choice.high:.2g}" if choice.is_fitted else "not sure"
    if compared_schedule(config) is not training.schedule:
        sure = f"not sure: searched with schedule {compared_schedule(config)}, not {training.schedule}"
    found = f"{choice.lr:.3g} for {epochs_text(training.max_epochs)} ({sure}), found in {spent:.1f} epochs"
    note(f"learning_rate auto: {found}, and scaled to that length (docs/learning-rate.md)")
    results.sort(key=lambda result: (result.trial.epochs, result.trial.lr))
    tried = tuple(Tried(result.trial.lr, result.trial.epochs, result.val_loss) for result in results)
    return Decision(**vars(choice), bracket=bracket, tried=tried, cost_epochs=spent, budget_epochs=search.budget)


def rounds_of(budget: float, max_epochs: int, shortest: float) -> Iterator[tuple[int, float]]:
    """Yield for each round how many rates are trained, and over how many epochs: about the same cost each.

    Each round's schedule is twice as long as the one before, beginning with `shortest`: as many rounds as leave three
    rates for each, up to half of the training that follows. Where that is one round, two of its rates are kept for a
    second one of the same length, beside the best of the first.
    """
    horizons = [next_length(shortest * 2**k) for k in range(_MOST_ROUNDS)]
    horizons = [epochs for epochs in dict.fromkeys(horizons) if epochs <= max(max_epochs / 2, horizons[0])]
    while len(horizons) > 1 and budget / len(horizons) < _LEAST_RATES * horizons[-1]:
        horizons.pop()
    most = math.floor(budget / horizons[0])
    if len(horizons) == 1 and most >= _LEAST_RATES + _BESIDE:
        yield most - _BESIDE, horizons[0]
        yield _BESIDE, horizons[0]
        return
    for k, epochs in enumerate(horizons):
        num_rates = max(_LEAST_RATES, math.floor(budget / (len(horizons) - k) / epochs))
        budget -= num_rates * epochs
        yield num_rates, epochs


def rates_of_round(
    bracket: Bracket, results: Sequence[TrialResult], guess: Choice | None, num_rates: int, epochs: float
) -> tuple[float, ...]:
    """Return the rates of the next round, over `epochs`, around the best guess so far.

    They span half the range of the round before, or, if its schedules were no shorter, one step of it: so that they
    fall between its rates. Without a guess, because no rate has learned anything yet, the range is the bracket's, or
    below those that diverged; its ends are not trained again for the same length.
    """
    if not results:
        return log_spaced(bracket.low, bracket.high, num_rates)
    longest = max(result.trial.epochs for result in results)
    lrs = [result.trial.lr for result in results if result.trial.epochs == longest]
    if guess is None:
        diverged = [result.trial.lr for result in results if result.val_loss is None]
        high = min([*diverged, bracket.high])
        low = min(bracket.low, high / 100)
        return log_spaced(low, high, num_rates) if epochs > longest else log_spaced(low, high, num_rates + 2)[1:-1]
    width = (max(lrs) / min(lrs)) ** (0.5 if epochs > longest else 1 / (len(lrs) - 1))
    half_width = width**0.5
    return log_spaced(guess.lr / half_width, guess.lr * half_width, num_rates)
