"""LeNet on MNIST: train it, tune it, understand it, from the command line."""

from lenet_mnist import cores

__all__ = ["cores"]  # which decides before torch is imported
__version__ = "0.1.0"
