"""This project's own training loop, with either engine and nothing recorded on disk."""

import time
from collections.abc import Callable
from functools import partial

from common import context_of
from lenet_mnist.config import Config
from lenet_mnist.devices import set_threads
from lenet_mnist.training.loop import train
from lenet_mnist.training.rows import EpochRow, StepRow
from lenet_mnist.training.state import TrainState
from peers.worker import MOMENTUM, THREADS, Arrays, Epoch, Setting

PACKAGES = ("lenet_mnist", "torch")


class EpochDone(Exception):  # noqa: N818  # no error
    """Leaves the loop between two epochs; the state can go on from there."""


def start(_: Arrays, setting: Setting, engine: str) -> Callable[[], Epoch]:
    """`lenet train`, without its files: no weight decay, no early stopping."""
    set_threads(THREADS)
    training = {
        **{"engine": engine, "batch_size": setting.batch_size, "learning_rate": setting.learning_rate},
        **{"momentum": MOMENTUM, "weight_decay": 0.0, "warmup": 0.0, "patience": None},
        "schedule": "linear" if setting.decay_epochs else "constant",
        "max_epochs": setting.decay_epochs or 1000,  # whoever asks for them says when it is enough
    }
    data = {"limit_train": setting.num_images}
    config = Config.model_validate({"seed": setting.seed, "data": data, "training": training})
    context = context_of(config)
    state = TrainState.start(config, context)
    last_update = 0.0

    def on_step(_: StepRow) -> bool:
        nonlocal last_update
        last_update = time.perf_counter()
        return False

    def on_epoch(row: EpochRow) -> None:
        evaluation_seconds = time.perf_counter() - last_update
        raise EpochDone(row.seconds - evaluation_seconds, evaluation_seconds, row.val_accuracy)

    def epoch() -> Epoch:
        """Let the loop go on for one epoch. What it prepares before an epoch's clock starts counts for no arm."""
        try:
            train(config, context, state, on_step, on_epoch)
        except EpochDone as done:
            seconds, evaluation_seconds, val_accuracy = done.args
            return seconds, evaluation_seconds, val_accuracy
        raise RuntimeError("no epoch was completed")

    return epoch


lenet_torch, lenet_native = partial(start, engine="torch"), partial(start, engine="native")
