"""Short schedules may favour higher rates than long ones: by how much, and what follows for a longer training.

The best rate falls with a power of the number of epochs: best(long) = best(short) x (short / long)^exponent. What was
measured so far, with SGD and batches of 64: 0.4 for ReLU without weight decay, whose long trainings over-fit at high
rates; none with weight decay, and none for sigmoid. docs/learning-rate.md has the figures;
scripts/measure_learning_rate.py goes on measuring.
"""

import math

from lenet_mnist.config import Activation, Config

_WITHOUT_DECAY = 0.4
_OTHERWISE = 0.0
EXPONENT_ERROR = 0.15  # of what was not measured yet


def exponent_of(config: Config, activation: Activation) -> float:
    """Return the exponent for trainings like that of `config`, with `activation`."""
    is_steep = config.training.weight_decay == 0 and activation is not Activation.SIGMOID
    return _WITHOUT_DECAY if is_steep else _OTHERWISE


def rate_for(lr: float, epochs: float, longer: float, exponent: float) -> float:
    """Return the rate that is to a training of `longer` epochs what `lr` is to one of `epochs`."""
    return float(lr * (epochs / longer) ** exponent)


def log_error(epochs: float, longer: float) -> float:
    """Return the standard error of the logarithm of that rate."""
    return EXPONENT_ERROR * abs(math.log(longer / epochs))
