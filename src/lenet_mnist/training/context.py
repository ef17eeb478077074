"""What every training is given besides its configuration: data, device, engine, teachers, progress, ranks."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from lenet_mnist.config import Config, Device
from lenet_mnist.data.batches import CPU
from lenet_mnist.data.load import load_train_val
from lenet_mnist.data.mnist import DataAccess
from lenet_mnist.data.sets import TrainVal
from lenet_mnist.devices import choose_device, set_threads
from lenet_mnist.distributed import SINGLE, Ranks
from lenet_mnist.model.engines import TORCH, ResolvedEngine, resolve_engine
from lenet_mnist.progress import Progress
from lenet_mnist.training.distillation import Teachers
from lenet_mnist.training.early_stopping import guessing_loss
from lenet_mnist.training.rows import Histories

SILENT = Progress()


class Log(Protocol):
    """Takes the rows of a training while it runs."""

    def write(self) -> None:
        """Take the rows that are new."""

    def close(self) -> None:
        """Take no more."""


# (the run's directory, the rows of which new ones are logged, what shows a line) -> Log
OpenLog = Callable[[Path, Histories, Callable[[str], None]], Log]


@dataclass(frozen=True, eq=False)
class Context:
    """All that trainings of the same data, on the same device, share."""

    data: TrainVal
    device: torch.device = CPU
    engine: ResolvedEngine = TORCH
    threads: int = 1
    teachers: Teachers | None = None
    progress: Progress = SILENT
    ranks: Ranks = SINGLE
    open_log: OpenLog | None = None

    @property
    def decided(self) -> dict[str, Any]:
        """What a configuration may leave open, by its keys, as it was decided here."""
        return {
            "training.device": Device(self.device.type),
            "training.engine": self.engine.name,
            "training.threads": self.threads,
        }

    @property
    def guessing_loss(self) -> float:
        """The validation loss of always predicting the class frequencies, in nats."""
        return guessing_loss(self.data)


@dataclass(frozen=True, eq=False)
class Session:
    """What the command line decides once: where the data are, who watches, which process this is."""

    access: DataAccess
    progress: Progress = SILENT
    ranks: Ranks = SINGLE
    open_log: OpenLog | None = None

    def context(self, config: Config) -> Context:
        """Return the context of trainings of `config`: load its data, choose device and engine, set the threads.

        Raises: ConfigError, DataError, InstallationError.
        """
        data = load_train_val(config.data, self.access)
        training = config.training
        device = choose_device(training.device, self.ranks)
        engine = resolve_engine(training.engine, device, data.train.image_size, activation=config.model.activation)
        threads = set_threads(training.threads, self.ranks)
        return Context(data, device, engine, threads, None, self.progress, self.ranks, self.open_log)
