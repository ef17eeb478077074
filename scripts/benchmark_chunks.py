"""Find the number of images a chunk at which an evaluation is fastest: data/batches.py, EVALUATION_CHUNK.

    python scripts/benchmark_chunks.py

Counts the validation images, all sizes in turn within one process, and prints the median of each and its ratio to the
best.
"""

import time
from statistics import median

import torch

from common import data_access
from lenet_mnist.config import Activation, Config
from lenet_mnist.data.batches import evaluation_batches
from lenet_mnist.data.mnist import load_train_val
from lenet_mnist.devices import set_threads
from lenet_mnist.metrics import count
from lenet_mnist.provenance import machine
from lenet_mnist.training.loop import start_training

SIZES = (50, 100, 200, 250, 500, 1000, 2500, 5000)
ROUNDS = 15


def main() -> None:
    cpu = torch.device("cpu")
    print(f"{machine()}, {set_threads(None)} threads, torch {torch.__version__}")
    data = load_train_val(Config().data, data_access())
    for activation in Activation:
        config = Config.model_validate({"model": {"activation": activation}})
        network = start_training(config, data, cpu).network
        chunks = {size: evaluation_batches(data.val, data.normalization, cpu, size) for size in SIZES}
        seconds: dict[int, list[float]] = {size: [] for size in SIZES}
        for _ in range(ROUNDS):
            for size in SIZES:
                started = time.perf_counter()
                count(network, chunks[size])
                seconds[size].append(time.perf_counter() - started)
        best = min(median(times) for times in seconds.values())
        for size in SIZES:
            milliseconds = 1000 * median(seconds[size])
            print(f"{activation.value:8} chunk {size:5}  {milliseconds:6.1f} ms  {median(seconds[size]) / best:.2f}")


if __name__ == "__main__":
    main()
