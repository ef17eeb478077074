"""Where the seconds before the first update go, in a fresh process: imports, data, engine, first step.

Nothing of torch is imported at the top: the process that is measured imports it itself.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

_RUNS = 5


def measure_startup(data_dir: Path) -> dict[str, float]:
    """Return the seconds of each part of a start-up: medians over several processes, the files in the disk cache."""
    command = [sys.executable, "-m", "lenet_mnist.benchmark.startup", str(data_dir)]
    rows = []
    for _ in range(_RUNS):
        finished = subprocess.run(command, capture_output=True, text=True, check=True)
        rows.append(json.loads(finished.stdout))
    return {part: median(row[part] for row in rows) for part in rows[0]}


def _start_up(data_dir: Path) -> dict[str, float]:
    """Start a training as `lenet train` does, up to its first update."""
    marks = {"": time.perf_counter()}

    def mark(part: str) -> None:
        marks[part] = time.perf_counter()

    import torch

    mark("import torch")
    from lenet_mnist.config import Config
    from lenet_mnist.data.batches import TrainBatches
    from lenet_mnist.data.load import load_train_val
    from lenet_mnist.data.mnist import DataAccess, Progress
    from lenet_mnist.experiments import training_series  # noqa: F401  # what `lenet train` imports
    from lenet_mnist.model.engines import resolve_engine
    from lenet_mnist.training.loop import start_training
    from lenet_mnist.training.updates import train_step

    mark("import lenet")
    config, cpu = Config(), torch.device("cpu")
    data = load_train_val(config.data, DataAccess(data_dir, offline=True, progress=Progress()))
    mark("read and verify the data")
    engine = resolve_engine(config.training.engine, cpu, data.train.image_size)
    mark("load and check the engine")
    state = start_training(config, data, cpu, engine.network)
    batches = TrainBatches(data.train, data.normalization, config.training.batch_size, config.seed, cpu)
    batch = next(iter(batches.of_epoch(1)))
    mark("first batch")
    train_step(state, batch, config.training.peak_learning_rate)
    mark("first step")
    times = list(marks.values())
    return {part: end - start for part, start, end in zip(list(marks)[1:], times, times[1:], strict=False)}


if __name__ == "__main__":
    print(json.dumps(_start_up(Path(sys.argv[1]))))
