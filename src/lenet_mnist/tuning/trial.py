"""One little training at one learning rate: a complete schedule, from its warm-up down to zero, never one cut short.

Constant rates stopped early favour rates that are too small; a short schedule that anneals ranks rates as a long one
does, apart from a shift that `tuning/best_rate.py` knows.

Source: lecture points 12 and 13.
"""

import time
from dataclasses import dataclass, replace

import numpy as np
import torch

from lenet_mnist.config import Activation, Config, Schedule
from lenet_mnist.data.sets import TrainVal
from lenet_mnist.randomness import Purpose, random_order
from lenet_mnist.training.context import Context
from lenet_mnist.training.loop import StopReason, train
from lenet_mnist.training.rows import EpochRow, StepRow
from lenet_mnist.training.state import TrainState

_ANNEALED = (Schedule.LINEAR, Schedule.COSINE, Schedule.ONE_CYCLE)


@dataclass(frozen=True)
class Trial:
    """A training to be made. `epochs` below 1 is one pass over that share of the training images."""

    activation: Activation
    lr: float
    seed: int
    epochs: float


@dataclass(frozen=True)
class TrialResult:
    """How it ended. `val_loss` is that after the last update, in nats, and None where training diverged.

    `steps` are those that a run would record; `seconds` the whole training's.
    """

    trial: Trial
    val_loss: float | None
    val_accuracy: float | None
    history: tuple[EpochRow, ...]
    steps: tuple[StepRow, ...]
    seconds: float


def compared_schedule(config: Config) -> Schedule:
    """Return the schedule that rates are compared with: that of `config`, or linear if it does not end near zero."""
    return config.training.schedule if config.training.schedule in _ANNEALED else Schedule.LINEAR


def with_rate(config: Config, activation: Activation, lr: float) -> Config:
    """Return `config` with that activation and rate, and with a schedule that ends near zero: as rates are compared."""
    schedule = compared_schedule(config)
    return config.replace({"model.activation": activation, "training.learning_rate": lr, "training.schedule": schedule})


def config_of(config: Config, trial: Trial) -> Config:
    """Return the configuration of a trial: all of `config` but what makes the trial short, complete and its own."""
    own = {"seed": trial.seed, "training.max_epochs": max(1, round(trial.epochs)), "training.patience": None}
    return with_rate(config, trial.activation, trial.lr).replace(own)


def train_trial(config: Config, context: Context, trial: Trial) -> TrialResult:
    """Train from the seed's own initial weights and on its own order of images, the same at every rate."""
    started = time.perf_counter()
    config = config_of(config, trial)
    data = first_images(context.data, round(min(trial.epochs, 1) * len(context.data.train)), trial.seed)
    context = replace(context, data=data)
    state = TrainState.start(config, context)
    result = train(config, context, state)
    histories = state.histories
    last = histories.history[-1] if result.stop_reason is StopReason.MAX_EPOCHS else None
    return TrialResult(
        trial=trial,
        val_loss=last.val_loss if last else None,
        val_accuracy=last.val_accuracy if last else None,
        history=tuple(histories.history),
        steps=tuple(histories.steps),
        seconds=time.perf_counter() - started,
    )


def first_images(data: TrainVal, num_images: int, seed: int) -> TrainVal:
    """Return `data` with the first `num_images` of its training images in an order that `seed` draws.

    A smaller part is contained in every larger one of the same seed.
    """
    train_set = data.train
    if num_images >= len(train_set):
        return data
    order = random_order(seed, Purpose.TRIAL, len(train_set))
    chosen = torch.from_numpy(np.sort(order[: max(num_images, 1)]))
    return replace(data, train=train_set.part(chosen))
