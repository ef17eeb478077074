"""LeNet on MNIST: train it, tune it, understand it, from the command line."""

import os

from lenet_mnist import cores

__all__ = ["cores"]  # which decides before torch is imported
__version__ = "0.1.0"

# A thread that waits for another looks for it in a busy loop before it sleeps: with GNU OpenMP for so long that, where
# other programs want the cores too, whoever it waits for does not get to run. A twentieth of that is enough
# (scripts/benchmark_waiting.py). Read when torch is first imported; what the user has set stays.
os.environ.setdefault("GOMP_SPINCOUNT", "15000")
