"""Short schedules favour higher rates than long ones: by how much, and what follows for a longer training.

The best rate falls with a power of the number of epochs: best(long) = best(short) x (short / long)^EXPONENT. From the
learning-rate laboratory in docs/learning-rate.md; its scatter over activations and batch sizes is EXPONENT_ERROR.
"""

import math

EXPONENT = 0.4
EXPONENT_ERROR = 0.15


def rate_for(lr: float, epochs: float, longer: float) -> float:
    """Return the rate that is to a training of `longer` epochs what `lr` is to one of `epochs`."""
    return float(lr * (epochs / longer) ** EXPONENT)


def log_error(epochs: float, longer: float) -> float:
    """Return the standard error of the logarithm of that rate."""
    return EXPONENT_ERROR * abs(math.log(longer / epochs))
