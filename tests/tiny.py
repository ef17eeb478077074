"""Trainings of a second: the `tiny` data of conftest.py, their configuration, and what is left after one."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lenet_mnist.config import Activation, Config
from lenet_mnist.data.batches import CPU, evaluation_batches
from lenet_mnist.data.sets import TrainVal
from lenet_mnist.model.lenet import LeNet
from lenet_mnist.tally import Tally, count
from lenet_mnist.training.checkpoint import parse_state, state_bytes, weights_digest
from lenet_mnist.training.context import Context
from lenet_mnist.training.distillation import Teachers
from lenet_mnist.training.loop import TrainResult, train
from lenet_mnist.training.rows import EpochRow, StepRow
from lenet_mnist.training.state import TrainState


def part_of(data: TrainVal, num_train: int, num_val: int) -> TrainVal:
    return replace(data, train=data.train.part(slice(num_train)), val=data.val.part(slice(num_val)))


def config_of(
    activation: Activation = Activation.TANH, seed: int = 0, augmentation: Any = None, **training: Any
) -> Config:
    """Three epochs of batches of 32: of the tiny data 7 updates each, the last one of 8 images."""
    values = {"max_epochs": 3, "batch_size": 32, **training}
    model = {"activation": activation}
    return Config(seed=seed, model=model, training=values, augmentation=augmentation or {})


def start(config: Config, data: TrainVal) -> TrainState:
    return TrainState.start(config, Context(data))


@dataclass
class Trained:
    """What a training left behind."""

    state: TrainState
    result: TrainResult

    @property
    def digest(self) -> str:
        return weights_digest(self.state.network.state_dict())

    @property
    def steps(self) -> list[StepRow]:
        return list(self.state.histories.steps)

    @property
    def epochs(self) -> list[EpochRow]:
        """The epochs without the time that they took."""
        return [replace(row, seconds=0.0) for row in self.state.histories.history]

    @property
    def everything(self) -> tuple[Any, ...]:
        """All that must be the same, however often the training was interrupted."""
        scalars = self.state.scalars() | {"seconds": None}
        return self.result, weights_digest(self.state.tensors()), scalars, self.steps, self.epochs


def trained(
    config: Config,
    data: TrainVal,
    state: TrainState | None = None,
    stop: Callable[[StepRow], bool] = lambda _row: False,
    teachers: Teachers | None = None,
) -> Trained:
    """Train from `state`, or from the start, until `stop` says so."""
    state = state or start(config, data)
    return Trained(state, train(config, Context(data, teachers=teachers), state, stop))


def tally_of(network: LeNet, data: TrainVal, part: str = "val") -> Tally:
    return count(network, evaluation_batches(getattr(data, part), data.normalization, CPU))


def restored(content: bytes, config: Config, data: TrainVal) -> TrainState:
    """A new state that has become the one in `content`. Raises: DataError."""
    state = start(config, data)
    saved = parse_state(content, Path("the state"), state)
    state.restore(saved.tensors, saved.scalars, saved.histories)
    return state


def saved_and_restored(state: TrainState, config: Config, data: TrainVal) -> TrainState:
    return restored(state_bytes(state), config, data)
