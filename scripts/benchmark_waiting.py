"""How long a thread that waits for another should look for it before it sleeps: GOMP_SPINCOUNT.

    python scripts/benchmark_waiting.py

Times epochs of 10,000 images with two threads, of the native engine: on a machine that is idle beside it, and with a
process beside it on each core. Fresh processes in turn, each with its own GOMP_SPINCOUNT; "default" is what GNU OpenMP
does by itself: it looks 300,000 times.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from statistics import median

import torch

from common import data_access
from lenet_mnist.config import Activation, Config, DataConfig, Engine, ModelConfig, TrainingConfig
from lenet_mnist.data.load import load_train_val
from lenet_mnist.model.engines import resolve_engine
from lenet_mnist.provenance import machine
from lenet_mnist.training.context import Context
from lenet_mnist.training.loop import train
from lenet_mnist.training.rows import EpochRow
from lenet_mnist.training.state import TrainState

COUNTS = ("default", "100", "1000", "3000", "10000", "15000", "30000", "100000")
ROUNDS = 3
BUSY = "while True: pass"


def main() -> None:
    if len(sys.argv) == 2:
        print(*epochs(int(sys.argv[1])))
        return
    cores = len(os.sched_getaffinity(0))
    print(f"{machine()}, {cores} threads, torch {torch.__version__}")
    for is_busy in (False, True):
        beside = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(cores if is_busy else 0)]
        try:
            compare("with a process beside it on each core" if is_busy else "alone")
        finally:
            for process in beside:
                process.kill()


def compare(title: str) -> None:
    seconds: dict[str, list[float]] = {count: [] for count in COUNTS}
    for _ in range(ROUNDS):
        for count in COUNTS:
            seconds[count] += child(count)
    print(f"\n{title}")
    usual = median(seconds["default"])
    for count, times in seconds.items():
        print(
            f"  GOMP_SPINCOUNT {count:>7}: {median(times):.3f} s an epoch "
            f"({min(times):.3f} to {max(times):.3f})  x {median(times) / usual:.2f}",
            flush=True,
        )


def child(count: str) -> list[float]:
    environment = dict(os.environ)
    environment["GOMP_SPINCOUNT"] = "300000" if count == "default" else count
    command = [sys.executable, __file__, "4"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return [float(word) for word in done.stdout.split()]


def epochs(number: int) -> Sequence[float]:
    """Return the seconds of epochs, but for the first."""
    cpu = torch.device("cpu")
    config = Config(
        model=ModelConfig(activation=Activation.SIGMOID),
        data=DataConfig(limit_train=10_000),
        training=TrainingConfig(max_epochs=number),
    )
    data = load_train_val(config.data, data_access())
    rows: list[EpochRow] = []
    state = TrainState.start(
        config, Context(data, engine=resolve_engine(Engine.NATIVE, cpu, data.train.image_size).network)
    )
    train(config, Context(data), state, on_epoch=rows.append)
    return [row.seconds for row in rows[1:]]


if __name__ == "__main__":
    main()
