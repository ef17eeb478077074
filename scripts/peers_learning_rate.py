"""The learning rates that the finders of other programs suggest, for the same network on the same batches.

Each is written after its source, with its own defaults: its range of rates, number of updates, smoothing and end.

- Lightning 2.6.6, LearningRateFinder: 100 updates from 1e-8 to 1; where the smoothed loss falls fastest along the rate
  itself, not its logarithm
- fastai 2.8.12, lr_find: 100 updates from 1e-7 to 10; "valley", which is its default, and "minimum", a tenth of the
  rate of the lowest smoothed loss
"""

import math
from collections.abc import Sequence
from itertools import chain, count
from typing import Any

import numpy as np

from lenet_mnist.config import Config
from lenet_mnist.data.batches import TrainBatches
from lenet_mnist.training.context import Context
from lenet_mnist.training.state import TrainState
from lenet_mnist.training.updates import train_step

NUM_UPDATES = 100
_BETA = 0.98  # of both: the moving average's share of the past
_BROKEN = 4.0  # of both: times the lowest smoothed loss, there the test ends


def suggestions(config: Config, context: Context) -> dict[str, Any]:
    """Return what each finder suggests, and how many updates its test took."""
    lrs, losses = find_curve(config, context, (1e-8, 1.0), lag=1)
    steepest = int(np.argmin(np.gradient(losses[10:-1], lrs[10:-1])))
    found = {"Lightning, steepest": [lrs[10:-1][steepest], len(lrs)]}
    lrs, losses = find_curve(config, context, (1e-7, 10.0), lag=0)
    ends = slice(NUM_UPDATES // 10, -5)
    found["fastai, valley"] = [valley(lrs[ends], losses[ends]), len(lrs)]
    found["fastai, minimum / 10"] = [lrs[ends][int(np.argmin(losses[ends]))] / 10, len(lrs)]
    return found


def find_curve(
    config: Config, context: Context, rates: tuple[float, float], lag: int
) -> tuple[list[float], list[float]]:
    """Return the rates of a test and the smoothed losses there.

    `lag` is by how many updates the moving average's correction for its start from zero is late: Lightning's is by
    one, which halves the first loss.
    """
    state = TrainState.start(config, context)
    batches = TrainBatches(context.data, config, context.device, context.engine.resample)
    endless = chain.from_iterable(map(batches.of_epoch, count(1)))
    lrs: list[float] = []
    losses: list[float] = []
    average = 0.0
    for k, batch in zip(range(NUM_UPDATES), endless, strict=False):
        lr = rates[0] * (rates[1] / rates[0]) ** (k / NUM_UPDATES)
        average = _BETA * average + (1 - _BETA) * train_step(state, batch, lr).train_loss
        smooth = average / (1 - _BETA ** (k + 1 + lag))
        if not math.isfinite(smooth):
            break
        lrs.append(lr)
        losses.append(smooth)
        if smooth > _BROKEN * min(losses):
            break
    return lrs, losses


def valley(lrs: Sequence[float], losses: Sequence[float]) -> float:
    """Return a rate halfway down a stretch as long as the longest falling subsequence, which ends where that does."""
    lengths: list[int] = []
    for k, loss in enumerate(losses):
        lengths.append(1 + max((lengths[j] for j in range(k) if losses[j] > loss), default=0))
    longest = max(lengths)
    third = longest / 3
    return lrs[max(lengths.index(longest) - longest + int(third) + int(third / 2), 0)]
