"""What is trained to find a rate: trials, each at one rate, and before them range tests, in which the rate rises.

A trial's schedule is complete, from its warm-up down to zero. Constant rates stopped early favour rates that are too
small; a short schedule that anneals ranks rates as a long one does, apart from a shift that best_rate.py knows.

A range test goes from far too low to far too high within few updates, to bracket a sweep: it says where learning
begins and where it breaks down, no more. The rates that peers read off it (where the loss falls fastest, a tenth of its
minimum) are not offered as an answer.

Source: lecture points 12 and 13; Smith, "Cyclical learning rates for training neural networks", WACV 2017, section 3.3.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain, count

import numpy as np
import numpy.typing as npt
import torch

from lenet_mnist.config import Activation, Config, Optimizer, Schedule
from lenet_mnist.data.batches import TrainBatches
from lenet_mnist.data.sets import TrainVal
from lenet_mnist.randomness import Purpose, random_order
from lenet_mnist.training.context import Context
from lenet_mnist.training.loop import StopReason, train
from lenet_mnist.training.rows import EpochRow, StepRow
from lenet_mnist.training.state import TrainState
from lenet_mnist.training.updates import train_step

NUM_STEPS = 200
# Far too low and far too high for every activation and batch size here.
_OF_SGD, _OF_ADAM = (1e-5, 10.0), (1e-7, 1.0)
RANGES = {Optimizer.SGD: _OF_SGD, Optimizer.ADAM: _OF_ADAM, Optimizer.ADAMW: _OF_ADAM, Optimizer.MUON: _OF_SGD}
_BROKEN = 3.0  # times the loss at the start: nothing is to be learnt from here on
_SMOOTHED_SHARE = 0.07  # of all steps
_FALLEN = 0.1  # of the whole fall
_RISEN = 0.25  # of the whole fall, above the lowest loss
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
    val_loss, val_accuracy = (last.val_loss, last.val_accuracy) if last else (None, None)
    history, steps = tuple(histories.history), tuple(histories.steps)
    return TrialResult(trial, val_loss, val_accuracy, history, steps, time.perf_counter() - started)


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


@dataclass(frozen=True)
class RangePoint:
    """The training loss at one rate, in nats, before the update with it."""

    activation: Activation
    seed: int
    lr: float
    train_loss: float


@dataclass(frozen=True)
class RangeTest:
    """One point per update, and how long all took."""

    activation: Activation
    seed: int
    seconds: float
    points: tuple[RangePoint, ...]

    @classmethod
    def run(
        cls, config: Config, context: Context, activation: Activation, seed: int, num_steps: int = NUM_STEPS
    ) -> "RangeTest":
        """Train at rising rates until the loss or the gradient is not finite, or far above where it began."""
        started = time.perf_counter()
        config = config_of(config, Trial(activation, 1.0, seed, epochs=1))
        data = first_images(context.data, num_steps * config.training.batch_size, seed)
        state = TrainState.start(config, replace(context, data=data))
        batches = TrainBatches(data, config, context.device, context.engine.resample)
        endless = chain.from_iterable(map(batches.of_epoch, count(1)))
        points: list[RangePoint] = []
        for lr, batch in zip(np.geomspace(*RANGES[config.training.optimizer], num_steps), endless, strict=False):
            row = train_step(state, batch, float(lr))
            if not row.is_finite:
                break
            points.append(RangePoint(activation, seed, row.lr, row.train_loss))
            if row.train_loss > _BROKEN * points[0].train_loss:
                break
        return cls(activation, seed, time.perf_counter() - started, tuple(points))


@dataclass(frozen=True)
class Bracket:
    """Where rates are worth a training: from `low`, where learning begins, to `high`, where it breaks down.

    `has_learned` is False where within so few updates no rate brought the loss below chance level, as for a sigmoid
    network, of which only the output bias learns at first: the bracket is then everything below `high`.
    """

    low: float
    high: float
    has_learned: bool

    @classmethod
    def of(cls, tests: Sequence[RangeTest], guessing_loss: float) -> "Bracket":
        """Read the bracket off the range tests of several seeds, all of one activation."""
        lrs, losses = smoothed(tests)
        start = min(float(losses[0]), guessing_loss)
        lowest = int(np.argmin(losses))
        fall = start - float(losses[lowest])
        end = next((k for k in range(lowest, len(lrs)) if losses[k] > losses[lowest] + _RISEN * fall), len(lrs) - 1)
        if fall < 0.05 * start:
            broken = next((k for k in range(lowest, len(lrs)) if losses[k] > 1.1 * start), len(lrs) - 1)
            return cls(float(lrs[broken]) / 1000, float(lrs[broken]), has_learned=False)
        begin = next(k for k in range(len(lrs)) if losses[k] < start - _FALLEN * fall)
        return cls(float(lrs[begin]), float(lrs[end]), has_learned=True)


def smoothed(tests: Sequence[RangeTest]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the rates that every test reached, and the mean loss there over tests and neighbouring rates."""
    length = min(len(test.points) for test in tests)
    means = np.mean([[point.train_loss for point in test.points[:length]] for test in tests], axis=0)
    half = max(1, round(_SMOOTHED_SHARE * length / 2))
    losses = [float(np.mean(means[max(0, k - half) : k + half + 1])) for k in range(length)]
    return np.array([point.lr for point in tests[0].points[:length]]), np.array(losses)
