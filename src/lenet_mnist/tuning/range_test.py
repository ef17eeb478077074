"""The range test: one short training while the rate rises from far too low to far too high, to bracket a sweep.

It says where learning begins and where it breaks down, no more. The rates that peers read off it (where the loss falls
fastest, a tenth of its minimum) are not offered as an answer.

Source: lecture point 12; Smith, "Cyclical learning rates for training neural networks", WACV 2017, section 3.3.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain, count

import numpy as np
import numpy.typing as npt

from lenet_mnist.config import Activation, Config, Optimizer
from lenet_mnist.data.batches import TrainBatches
from lenet_mnist.training.context import Context
from lenet_mnist.training.state import TrainState
from lenet_mnist.training.updates import train_step
from lenet_mnist.tuning.trial import Trial, config_of, first_images

NUM_STEPS = 200
# Far too low and far too high for every activation and batch size here.
RANGES = {
    Optimizer.SGD: (1e-5, 10.0),
    Optimizer.ADAM: (1e-7, 1.0),
    Optimizer.ADAMW: (1e-7, 1.0),
    Optimizer.MUON: (1e-5, 10.0),
}
_BROKEN = 3.0  # times the loss at the start: nothing is to be learnt from here on
_SMOOTHED_SHARE = 0.07  # of all steps
_FALLEN = 0.1  # of the whole fall
_RISEN = 0.25  # of the whole fall, above the lowest loss


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


def run_range_test(
    config: Config, context: Context, activation: Activation, seed: int, num_steps: int = NUM_STEPS
) -> RangeTest:
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
    return RangeTest(activation, seed, time.perf_counter() - started, tuple(points))


@dataclass(frozen=True)
class Bracket:
    """Where rates are worth a training: from `low`, where learning begins, to `high`, where it breaks down.

    `steepest` is where the smoothed loss falls fastest along the logarithm of the rate. `has_learned` is False where
    within so few updates no rate brought the loss below chance level, as for a sigmoid network, of which only the
    output bias learns at first: the bracket is then everything below `high`.
    """

    low: float
    high: float
    steepest: float
    has_learned: bool


def find_bracket(tests: Sequence[RangeTest], guessing_loss: float) -> Bracket:
    """Read the bracket off the range tests of several seeds, all of one activation."""
    lrs, losses = smoothed(tests)
    start = min(float(losses[0]), guessing_loss)
    lowest = int(np.argmin(losses))
    fall = start - float(losses[lowest])
    end = next((k for k in range(lowest, len(lrs)) if losses[k] > losses[lowest] + _RISEN * fall), len(lrs) - 1)
    slopes = np.gradient(losses, np.log(lrs))
    steepest = float(lrs[int(np.argmin(slopes[: lowest + 1]))])
    if fall < 0.05 * start:
        broken = next((k for k in range(lowest, len(lrs)) if losses[k] > 1.1 * start), len(lrs) - 1)
        return Bracket(float(lrs[broken]) / 1000, float(lrs[broken]), steepest, has_learned=False)
    begin = next(k for k in range(len(lrs)) if losses[k] < start - _FALLEN * fall)
    return Bracket(float(lrs[begin]), float(lrs[end]), steepest, has_learned=True)


def smoothed(tests: Sequence[RangeTest]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the rates that every test reached, and the mean loss there over tests and neighbouring rates."""
    length = min(len(test.points) for test in tests)
    means = np.mean([[point.train_loss for point in test.points[:length]] for test in tests], axis=0)
    half = max(1, round(_SMOOTHED_SHARE * length / 2))
    losses = [float(np.mean(means[max(0, k - half) : k + half + 1])) for k in range(length)]
    return np.array([point.lr for point in tests[0].points[:length]]), np.array(losses)
