"""The best rate of a short schedule is not that of a long one: by how much, and what follows for a longer training.

It goes with a power of the number of epochs: best(long) = best(short) x (short / long)^exponent. Two things pull at it.
A long training over-fits at high rates unless weight decay holds it back: that makes the exponent positive. And a short
schedule warms up within fewer updates, so that the highest rates break it: that makes it negative. With Adam, whose
weight decay is divided away with the gradient, the first wins for ReLU and sigmoid; with SGD and weight decay the
second.

The exponents are those that lead from what the parabola of tuning/choice.py finds at a half, 1 and 2 epochs to the best
rate of 8: `python scripts/measure_learning_rate.py exponents`, docs/learning-rate.md. AdamW was not measured, and is
taken for Adam; for an activation that was not measured the rate stays as it is.
"""

import math

from lenet_mnist.config import Activation, Config, Optimizer

_WITH_ADAM = {Activation.RELU: 0.5, Activation.TANH: 0.0, Activation.SIGMOID: 0.4}
_WITH_SGD = {Activation.RELU: -0.3, Activation.TANH: -0.3, Activation.SIGMOID: 0.0}
_WITH_SGD_WITHOUT_DECAY = {Activation.RELU: 0.7, Activation.TANH: 0.1, Activation.SIGMOID: 0.0}
EXPONENT_ERROR = 0.3  # the standard error: how far the cells that were measured lie from these


def exponent_of(config: Config, activation: Activation) -> float:
    """Return the exponent for trainings like that of `config`, with `activation`."""
    training = config.training
    with_sgd = _WITH_SGD if training.weight_decay > 0 else _WITH_SGD_WITHOUT_DECAY
    return (with_sgd if training.optimizer is Optimizer.SGD else _WITH_ADAM).get(activation, 0.0)


def rate_for(lr: float, epochs: float, longer: float, exponent: float) -> float:
    """Return the rate that is to a training of `longer` epochs what `lr` is to one of `epochs`."""
    return float(lr * (epochs / longer) ** exponent)


def log_error(epochs: float, longer: float) -> float:
    """Return the standard error of the logarithm of that rate."""
    return EXPONENT_ERROR * abs(math.log(longer / epochs))
