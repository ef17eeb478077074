"""What every training is given besides its configuration: data, device, engine, teachers, progress, ranks."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch

from lenet_mnist.config import Activation, Config, Device, Optimizer, TrainingConfig
from lenet_mnist.data.batches import CPU
from lenet_mnist.data.load import load_train_val
from lenet_mnist.data.mnist import DataAccess
from lenet_mnist.data.sets import TrainVal
from lenet_mnist.devices import choose_device, set_threads
from lenet_mnist.distributed import SINGLE, Ranks
from lenet_mnist.errors import ConfigError
from lenet_mnist.model.engines import TORCH, ResolvedEngine, agree, check_problem, resolve_engine, torch_gradient
from lenet_mnist.model.lenet import LeNet
from lenet_mnist.progress import Progress
from lenet_mnist.provenance import current_command
from lenet_mnist.signals import PendingSignal, deferred_signals
from lenet_mnist.training.distillation import Teachers
from lenet_mnist.training.early_stopping import guessing_loss
from lenet_mnist.training.optimizer import FlatOptimizer
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


class Caller(NamedTuple):
    """Who asks for a training: what the run says of it, and how signals are held back meanwhile."""

    command: Callable[[], str] = current_command
    deferred: Callable[[bool], AbstractContextManager[PendingSignal]] = deferred_signals


COMMAND_LINE = Caller()


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
    caller: Caller = COMMAND_LINE

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
    """What is decided once: where the data are, who watches, which process this is, who asks."""

    access: DataAccess
    progress: Progress = SILENT
    ranks: Ranks = SINGLE
    open_log: OpenLog | None = None
    caller: Caller = COMMAND_LINE

    def context(self, config: Config) -> Context:
        """Return the context of trainings of `config`: load its data, choose device and engine, set the threads.

        Raises: ConfigError, DataError, InstallationError.
        """
        data = load_train_val(config.data, self.access)
        training = config.training
        device = choose_device(training.device, self.ranks)
        if device.type == "mps":
            require_right(device)
        engine = resolve_engine(training.engine, device, data.train.image_size, activation=config.model.activation)
        threads = set_threads(training.threads, engine, self.ranks)
        watched = self.progress, self.ranks, self.open_log, self.caller
        return Context(data, device, engine, threads, None, *watched)


def require_right(device: torch.device) -> None:
    """Raise ConfigError unless `device` gives the CPU's gradients, and leaves weights alone where an update failed.

    For Apple's GPUs, on which channels-last convolutions were wrong more than once, and fused optimizers ignore
    `found_inf` (torch's issue 186360).
    """
    shapes = [parameter.shape for parameter in LeNet(Activation.RELU, 10, 28).parameters()]
    images, parameters, activation, target = check_problem(Activation.RELU, 28, shapes)
    expected = torch_gradient(images, parameters, activation, target)
    there = [parameter.detach().to(device).requires_grad_() for parameter in parameters]
    found = torch_gradient(images.to(device), there, activation, target._replace(labels=target.labels.to(device)))
    if not agree(found.cpu(), expected):
        raise ConfigError(f"{device.type}: its gradients are not the CPU's with this torch", key="training.device")
    for optimizer in Optimizer:
        weights = torch.ones(1000, device=device)
        training = TrainingConfig(optimizer=optimizer)
        FlatOptimizer(weights, training).step(torch.ones_like(weights), 0.1, torch.ones((), device=device))
        if not bool((weights == 1).all()):
            message = f"{device.type}: with this torch, {optimizer} makes updates that are not finite"
            raise ConfigError(message, key="training.device")
