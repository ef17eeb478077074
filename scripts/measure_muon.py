"""What Muon costs, how often a momentum must be made orthogonal, and its best rates: docs/accuracy.md.

    python scripts/measure_muon.py cost interval lengths

- cost: seconds of an update of LeNet with ReLU on 64 images, by each optimizer, with each engine
- interval: validation accuracy after one pass of configs/fast.yaml, where it is done at every update, every second ...;
  the rate rises with the interval, so that the weights go as far (seeds 2000 to 2023)
- lengths: the best rates of trainings of half an epoch, 1, 2 and 8, and the exponents that lead from one to the other:
  docs/learning-rate.md (seeds 2000 and 2001)
"""

import math
import time
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import torch

from common import SMALL, Config, arguments, compare, context_of, few, plus_minus, recipe, results, table, trained
from lenet_mnist.config import Activation, Engine, Optimizer
from lenet_mnist.data.batches import TrainBatches
from lenet_mnist.training import muon
from lenet_mnist.training.muon import Muon
from lenet_mnist.training.state import TrainState
from lenet_mnist.training.updates import make_update
from lenet_mnist.tuning.best_rate import choose
from lenet_mnist.tuning.trial import Trial, TrialResult, train_trial

UPDATES = 20 if SMALL else 400
INTERVAL = Muon.interval
LENGTHS = (0.5, 1, 2, 8)  # epochs
RATES = {1: 0.02, 2: 0.03, 4: 0.06, 8: 0.08, 12: 0.1}  # by interval; Adam's is 0.006 beside all


class Pass(NamedTuple):
    interval: int
    seed: int

    @property
    def key(self) -> tuple[Any, ...]:
        return ("muon", *self)


def updates(config: Config, interval: int) -> list[float]:
    """Return the seconds of one update on 64 images, gradient included: the mean of many."""
    Muon.interval = interval
    context = context_of(config)
    state = TrainState.start(config, context)
    batch = next(TrainBatches(context.data, config).of_epoch(1))
    started = time.perf_counter()
    for _ in range(UPDATES):
        make_update(state, batch, 1e-6, torch.zeros(()))
    return [(time.perf_counter() - started) / UPDATES]


def show_cost() -> None:
    for engine in (Engine.NATIVE, Engine.TORCH):
        config = recipe(None, training__engine=engine, training__batch_size=64)
        arms = {
            optimizer.value: partial(updates, config.replace({"training.optimizer": optimizer}), INTERVAL)
            for optimizer in Optimizer
        }
        arms["muon at every update"] = partial(updates, config.replace({"training.optimizer": Optimizer.MUON}), 1)
        compare(f"{engine} engine", arms, rounds=15)


def accuracy(one: Pass) -> float:
    Muon.interval, rate = one.interval, RATES[one.interval]
    muon.ADAM_RATE = 0.006 / rate
    return trained(recipe("fast", seed=one.seed, training__learning_rate=rate)).state.histories.history[-1].val_accuracy


def show_interval() -> None:
    passes = [Pass(interval, seed) for interval in RATES for seed in few(range(2000, 2024))]
    found = results(None, passes, accuracy)
    rows = []
    for interval, rate in RATES.items():
        values = [value for one, value in found.items() if one.interval == interval]
        rows.append((interval, rate, plus_minus(values, ".2%"), f"{mean(values):.3%}"))
    print(table(("interval", "rate", "validation accuracy", "mean"), rows))


class Shortened(NamedTuple):
    """A training by Muon of the recipe of an activation, shortened to some epochs."""

    activation: Activation
    epochs: float
    lr: float
    seed: int

    @property
    def key(self) -> tuple[Any, ...]:
        return ("muon", *self)

    @property
    def trial(self) -> Trial:
        return Trial(self.activation, self.lr, self.seed, self.epochs)


def shortened(one: Shortened) -> float | None:
    config = recipe(one.activation, training__optimizer=Optimizer.MUON)
    return train_trial(config, context_of(config), one.trial).val_loss


def show_lengths(journal: Path) -> None:
    rates, seeds, columns = few([0.005 * 2**k for k in range(7)]), few(range(2000, 2002)), []
    ones = [
        Shortened(activation, epochs, lr, seed)
        for epochs in reversed(few(LENGTHS))  # the longest first
        for activation in (Activation.RELU, Activation.TANH, Activation.SIGMOID)
        for lr in rates
        for seed in seeds
    ]
    losses = results(journal, ones, shortened)
    found = {one: TrialResult(one.trial, loss, None, (), (), 0.0) for one, loss in losses.items()}
    for activation in dict.fromkeys(one.activation for one in ones):
        best: dict[float, float | None] = {}
        for epochs in few(LENGTHS):
            trials = [found[one] for one in ones if (one.activation, one.epochs) == (activation, epochs)]
            choice = choose(trials, epochs, 0.0, math.log(10))
            best[epochs] = choice.lr if choice else None
        *shorter, longest = best
        exponents = [
            math.log(best[longest] / best[each]) / math.log(each / longest)
            if best[longest] and best[each]
            else math.nan
            for each in shorter
        ]
        columns.append(
            (activation, *(f"{lr:.2g}" if lr else "-" for lr in best.values()), *(f"{e:.2f}" for e in exponents))
        )
    names = [
        *(f"best at {each:g}" for each in few(LENGTHS)),
        *(f"exponent from {each:g}" for each in few(LENGTHS)[:-1]),
    ]
    print(table(("activation", *names), columns))


def main() -> None:
    options = arguments(__doc__, ("cost", "interval", "lengths"), "docs/learning-rate.jsonl").parse_args()
    if "cost" in options.parts:
        show_cost()
    if "interval" in options.parts:
        show_interval()
    if "lengths" in options.parts:
        show_lengths(options.journal)


if __name__ == "__main__":
    main()
