"""LeNet on MNIST: train it, tune it, understand it, from the command line."""

__version__ = "0.1.0"
