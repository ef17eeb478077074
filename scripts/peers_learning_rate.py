"""The learning rates that the finders of other programs suggest, for the same network on the same batches.

Each is written after its source, with its own defaults: the range of its rates, the number of its updates, its
smoothing, when it stops and which ends it leaves out.

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

from lenet_mnist.data.batches import TrainBatches
from lenet_mnist.training.context import Context
from lenet_mnist.training.state import TrainState
from lenet_mnist.training.updates import train_step

NUM_UPDATES = 100
LIGHTNING_RANGE = (1e-8, 1.0)
FASTAI_RANGE = (1e-7, 10.0)
_BETA = 0.98  # of both: the moving average's share of the past
_BROKEN = 4.0  # of both: times the lowest smoothed loss, there the test ends


def suggestions(bench: Any) -> dict[str, Any]:
    """Return what each finder suggests, and how many updates its test took. `bench.config` is the network's."""
    lrs, losses = find_curve(bench, LIGHTNING_RANGE, lag=1)
    found = {"Lightning, steepest": [steepest(lrs[10:-1], losses[10:-1]), len(lrs)]}
    lrs, losses = find_curve(bench, FASTAI_RANGE, lag=0)
    ends = slice(NUM_UPDATES // 10, -5)
    found["fastai, valley"] = [valley(lrs[ends], losses[ends]), len(lrs)]
    found["fastai, minimum / 10"] = [minimum_over_ten(lrs[ends], losses[ends]), len(lrs)]
    return found


def find_curve(bench: Any, rates: tuple[float, float], lag: int) -> tuple[list[float], list[float]]:
    """Return the rates of a test and the smoothed losses there.

    `lag` is by how many updates the moving average's correction for its start from zero is late: Lightning's is by
    one, which halves the first loss.
    """
    config, training = bench.config, bench.config.training
    state = TrainState.start(config, Context(bench.data, bench.device, engine=bench.engine))
    batches = TrainBatches(bench.data.train, bench.data.normalization, training.batch_size, config.seed, bench.device)
    endless = chain.from_iterable(map(batches.of_epoch, count(1)))
    lrs: list[float] = []
    losses: list[float] = []
    average = 0.0
    for k, batch in zip(range(NUM_UPDATES), endless, strict=False):
        lr = rates[0] * (rates[1] / rates[0]) ** (k / NUM_UPDATES)
        loss = train_step(state, batch, lr).train_loss
        average = _BETA * average + (1 - _BETA) * loss
        smooth = average / (1 - _BETA ** (k + 1 + lag))
        if not math.isfinite(smooth):
            break
        lrs.append(lr)
        losses.append(smooth)
        if smooth > _BROKEN * min(losses):
            break
    return lrs, losses


def steepest(lrs: Sequence[float], losses: Sequence[float]) -> float:
    """Lightning: where the loss falls fastest."""
    return lrs[int(np.argmin(np.gradient(losses, lrs)))]


def valley(lrs: Sequence[float], losses: Sequence[float]) -> float:
    """fastai: halfway down a stretch as long as the longest falling subsequence, which ends where that does."""
    lengths: list[int] = []
    for k, loss in enumerate(losses):
        lengths.append(1 + max((lengths[j] for j in range(k) if losses[j] > loss), default=0))
    longest = max(lengths)
    third = longest / 3
    return lrs[max(lengths.index(longest) - longest + int(third) + int(third / 2), 0)]


def minimum_over_ten(lrs: Sequence[float], losses: Sequence[float]) -> float:
    """fastai: a tenth of the rate of the lowest loss."""
    return lrs[int(np.argmin(losses))] / 10
