"""Results of trainings that were never made, for tests of what is read from them."""

import math
from collections.abc import Mapping, Sequence

from lenet_mnist.config import Activation
from lenet_mnist.tuning.trial import Trial, TrialResult

LN10 = math.log(10)


def result(lr: float, loss: float | None, epochs: float = 1, seed: int = 0) -> TrialResult:
    return TrialResult(Trial(Activation.RELU, lr, seed, epochs), loss, None, (), (), 0.0)


def results_of(losses: Mapping[float, Sequence[float | None]], epochs: float = 0.5) -> list[TrialResult]:
    """Of each rate, the losses of seeds 0, 1 and so on."""
    return [result(lr, loss, epochs, seed) for lr, row in losses.items() for seed, loss in enumerate(row)]
