"""This project's own training loop, with either engine and nothing recorded on disk."""

import time

from common import context_of
from lenet_mnist.config import Config, Engine
from lenet_mnist.devices import set_threads
from lenet_mnist.training.loop import train
from lenet_mnist.training.rows import EpochRow, StepRow
from lenet_mnist.training.state import TrainState
from peers.arm import MOMENTUM, Arm, Arrays, Epoch, Setting

MANY = 1000  # epochs: whoever asks for them says when it is enough


class EpochDone(Exception):  # noqa: N818  # no error
    """Leaves the loop between two epochs; the state can go on from there."""

    def __init__(self, epoch: Epoch) -> None:
        super().__init__()
        self.epoch = epoch


class LenetTorch(Arm):
    """`lenet train --engine torch`, without its files."""

    packages = ("lenet_mnist", "torch")
    engine = Engine.TORCH

    def __init__(self, arrays: Arrays, threads: int) -> None:
        super().__init__(arrays, threads)
        set_threads(threads)

    def start(self, setting: Setting) -> None:
        self.config = config_of(setting).replace({"training.engine": self.engine})
        self.context = context_of(self.config)
        self.state = TrainState.start(self.config, self.context)

    def epoch(self) -> Epoch:
        """Let the loop go on for one epoch. What it prepares before an epoch's clock starts counts for no arm."""
        last_update = 0.0

        def on_step(_: StepRow) -> bool:
            nonlocal last_update
            last_update = time.perf_counter()
            return False

        def on_epoch(row: EpochRow) -> None:
            evaluation_seconds = time.perf_counter() - last_update
            raise EpochDone(Epoch(row.seconds - evaluation_seconds, evaluation_seconds, row.val_accuracy))

        try:
            result = train(self.config, self.context, self.state, on_step, on_epoch)
        except EpochDone as done:
            return done.epoch
        raise RuntimeError(f"no epoch was completed: {result}")


class LenetNative(LenetTorch):
    """`lenet train --engine native`, without its files."""

    engine = Engine.NATIVE


def config_of(setting: Setting) -> Config:
    """Return a configuration of what all arms do: no weight decay, no early stopping."""
    training = {
        "batch_size": setting.batch_size,
        "learning_rate": setting.learning_rate,
        "momentum": MOMENTUM,
        "weight_decay": 0.0,
        "schedule": "linear" if setting.decay_epochs else "constant",
        "max_epochs": setting.decay_epochs or MANY,
        "warmup": 0.0,
        "patience": None,
    }
    data = {"limit_train": setting.num_images}
    return Config.model_validate({"seed": setting.seed, "data": data, "training": training})
