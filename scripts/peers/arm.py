"""What an arm is, and what goes between an arm and the benchmark. Imported in both environments: NumPy only."""

import time
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

MOMENTUM = 0.9
EVALUATION_CHUNK = 1000


class Arrays(NamedTuple):
    """The split in memory. Shapes: images N 28 28 float32, normalised; labels N int64; indices N int64, in MNIST."""

    train_images: npt.NDArray[np.float32]
    train_labels: npt.NDArray[np.int64]
    train_indices: npt.NDArray[np.int64]
    val_images: npt.NDArray[np.float32]
    val_labels: npt.NDArray[np.int64]
    val_indices: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Setting:
    """One training, on the first `num_images` of the training part.

    The learning rate falls to zero along a line over `decay_epochs`; with 0 of them it stays as it is.
    """

    batch_size: int
    num_images: int
    learning_rate: float
    decay_epochs: int
    seed: int

    @property
    def decay_steps(self) -> int:
        """The number of updates over which the learning rate falls."""
        return self.decay_epochs * -(-self.num_images // self.batch_size)


@dataclass(frozen=True)
class Epoch:
    """One epoch: the seconds of its updates, those of the evaluation after it, and what that found."""

    seconds: float
    evaluation_seconds: float
    val_accuracy: float


class Arm:
    """One way to train LeNet. `packages` are those whose versions its seconds depend on."""

    packages: tuple[str, ...]

    def __init__(self, arrays: Arrays, threads: int) -> None:
        self.arrays = arrays
        self.threads = threads

    def start(self, setting: Setting) -> None:
        """Begin a new training: all that is done once, before the first update."""
        raise NotImplementedError

    def train_epoch(self) -> None:
        """Show every training image once; return when the weights are there."""
        raise NotImplementedError

    def accuracy(self) -> float:
        """Return the fraction of the validation images that the network gets right."""
        raise NotImplementedError

    def epoch(self) -> Epoch:
        """Train for one epoch and evaluate."""
        started = time.perf_counter()
        self.train_epoch()
        trained = time.perf_counter()
        accuracy = self.accuracy()
        return Epoch(trained - started, time.perf_counter() - trained, accuracy)
