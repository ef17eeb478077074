"""What Muon costs, and how often a momentum must be made orthogonal: docs/accuracy.md.

    python scripts/measure_muon.py cost interval

- cost: milliseconds of an update of LeNet with ReLU by each optimizer, with each engine, and one at every update
- interval: validation accuracy after one pass of configs/fast.yaml, where it is done at every update, every second ...;
  the rate rises with the interval, so that the weights go as far (seeds 2000 to 2023)
"""

import time
from functools import partial
from statistics import mean
from typing import Any, NamedTuple

import torch

from common import SMALL, Config, arguments, compare, context_of, few, plus_minus, recipe, results, table, trained
from lenet_mnist.config import Engine, Optimizer
from lenet_mnist.model.engines import Target
from lenet_mnist.training import muon
from lenet_mnist.training.muon import INTERVAL
from lenet_mnist.training.state import TrainState

UPDATES = 20 if SMALL else 400
RATES = {1: 0.02, 2: 0.03, 4: 0.06, 8: 0.08, 12: 0.1}  # by interval; Adam's is 0.006 beside all


class Pass(NamedTuple):
    interval: int
    seed: int

    @property
    def key(self) -> tuple[Any, ...]:
        return ("muon", *self)


def updates(config: Config, interval: int) -> list[float]:
    """Return the seconds of one update without the gradient: the mean of many."""
    muon.INTERVAL = interval
    context = context_of(config)
    state = TrainState.start(config, context)
    gradient = torch.randn(sum(parameter.numel() for parameter in state.network.parameters()))
    started = time.perf_counter()
    for _ in range(UPDATES):
        state.optimizer.step(gradient, 1e-6, torch.zeros(()))
    return [(time.perf_counter() - started) / UPDATES]


def gradients(config: Config, batch_size: int) -> list[float]:
    """Return the seconds of the gradient of one batch."""
    context = context_of(config)
    state = TrainState.start(config, context)
    images = context.data.normalization.apply(context.data.train.images[:batch_size])
    target = Target(context.data.train.labels[:batch_size], 0.0, batch_size)
    network = state.network
    started = time.perf_counter()
    for _ in range(UPDATES):
        network.engine.gradient(images, network.parameters_in_order, network.activation, target)
    return [(time.perf_counter() - started) / UPDATES]


def show_cost() -> None:
    for engine in (Engine.NATIVE, Engine.TORCH):
        arms = {
            f"gradient of {size} images": partial(gradients, recipe(None, training__engine=engine), size)
            for size in (64, 32)
        }
        for optimizer in Optimizer:
            config = recipe(None, training__engine=engine, training__optimizer=optimizer)
            arms[f"{optimizer}: the rest of an update"] = partial(updates, config, INTERVAL)
        arms["muon at every update"] = partial(updates, config.replace({"training.optimizer": Optimizer.MUON}), 1)
        compare(f"{engine} engine", arms, rounds=15)


def accuracy(one: Pass) -> float:
    muon.INTERVAL, rate = one.interval, RATES[one.interval]
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


def main() -> None:
    options = arguments(__doc__, ("cost", "interval")).parse_args()
    if "cost" in options.parts:
        show_cost()
    if "interval" in options.parts:
        show_interval()


if __name__ == "__main__":
    main()
