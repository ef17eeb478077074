"""configs/fast.yaml in seconds: engine beside engine, beside a plain PyTorch loop, as a whole command; and the build.

    python scripts/benchmark_fast.py

- training: the same recipe (network, batches of 256, Adam, schedule, an evaluation of the validation set after each
  epoch) by a plain loop over tensors in memory, by the torch engine and by the native one, in turn
- command: `lenet train --config configs/fast.yaml` in a fresh process, beside `import torch` in another
- build: the native engine compiled into an empty cache, and loaded from it by the next process

Medians and ranges. The test files are never opened.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import torch

from benchmark_peers import arrays
from common import data_access
from lenet_mnist.config import Config, Engine
from lenet_mnist.config_file import load_config
from lenet_mnist.data.load import load_train_val
from lenet_mnist.devices import set_threads
from lenet_mnist.model.engines import resolve_engine
from lenet_mnist.provenance import machine, versions
from lenet_mnist.training.context import Context
from lenet_mnist.training.loop import train
from lenet_mnist.training.schedule import rate_factor
from lenet_mnist.training.state import TrainState
from peers.arm import Setting
from peers.torch_arms import Plain

CPU = torch.device("cpu")
RECIPE = Path(__file__).parent.parent / "configs" / "fast.yaml"
LOAD = """
import sys, time, pathlib
from lenet_mnist.model.native.binding import NativeNetwork
started = time.perf_counter()
NativeNetwork(pathlib.Path(sys.argv[1]))
print(time.perf_counter() - started)
"""


class PlainRecipe(Plain):
    """The plain loop, with a recipe of ours instead of SGD at a constant rate."""

    def start_recipe(self, config: Config) -> None:
        """Begin a training of `config`, which uses Adam."""
        training, num_images = config.training, len(self.labels)
        self.start(Setting(training.batch_size, num_images, training.peak_learning_rate, 0, config.seed))
        self.optimizer = torch.optim.Adam(
            self.model.parameters(), lr=training.peak_learning_rate, weight_decay=training.weight_decay
        )
        num_steps = training.max_epochs * -(-num_images // training.batch_size)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: rate_factor(training.schedule, training.warmup, step, num_steps)
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    config = load_config(RECIPE).config
    print(f"{machine()}, {set_threads(None)} threads, {versions()}")
    compare_training(config, rounds)
    time_command(rounds)
    time_build(rounds)


def compare_training(config: Config, rounds: int) -> None:
    """Train the recipe by each arm in turn."""
    data = load_train_val(config.data, data_access())
    plain = PlainRecipe(arrays(), torch.get_num_threads())
    seconds: dict[str, list[float]] = {}
    accuracies: dict[str, list[float]] = {}
    for seed in range(rounds):
        seeded = config.model_copy(update={"seed": seed})
        plain.start_recipe(seeded)
        started = time.perf_counter()
        for _ in range(config.training.max_epochs):
            plain.train_epoch()
            accuracy = plain.accuracy()
        seconds.setdefault("plain", []).append(time.perf_counter() - started)
        accuracies.setdefault("plain", []).append(accuracy)
        for engine in (Engine.TORCH, Engine.NATIVE):
            state = TrainState.start(
                seeded, Context(data, engine=resolve_engine(engine, CPU, data.train.image_size).network)
            )
            rows: list[float] = []
            started = time.perf_counter()
            train(seeded, Context(data), state, on_epoch=lambda row: rows.append(row.val_accuracy))  # noqa: B023
            seconds.setdefault(engine.value, []).append(time.perf_counter() - started)
            accuracies.setdefault(engine.value, []).append(rows[-1])
    print(f"\ntraining of {RECIPE.name}")
    for name, times in seconds.items():
        ratio = median(seconds["plain"]) / median(times)
        mean_accuracy = sum(accuracies[name]) / rounds
        print(f"  {name:8} {spread(times)}  plain takes x {ratio:.2f}; mean validation accuracy {mean_accuracy:.2%}")


def time_command(rounds: int) -> None:
    """The whole command, what of it is training, and what `import torch` takes alone."""
    wall, training, import_torch = [], [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as directory:
            command = ["-m", "lenet_mnist", "train", "--config", str(RECIPE), "--runs-dir", directory, "--json"]
            took, answer = time_python(*command)
            wall.append(took)
            training.append(json.loads(answer)["runs"][0]["seconds"])
        import_torch.append(time_python("-c", "import torch")[0])
    rest = [whole - part - torch_alone for whole, part, torch_alone in zip(wall, training, import_torch, strict=True)]
    print(f"\nlenet train --config configs/{RECIPE.name}, a whole process")
    for name, times in {"all": wall, "training": training, "import torch": import_torch, "the rest": rest}.items():
        print(f"  {name:12} {spread(times)}")


def time_build(rounds: int) -> None:
    """Each round one build, and one load by a process of its own."""
    first, later = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as directory:
            for times in (first, later):
                times.append(float(time_python("-c", LOAD, str(Path(directory) / "native"))[1]))
    print("\nnative engine")
    print(f"  built and loaded  {spread(first)}\n  loaded later      {spread(later)}")


def time_python(*arguments: str) -> tuple[float, str]:
    """Return the seconds that a fresh Python takes, and what it prints."""
    started = time.perf_counter()
    finished = subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True)
    return time.perf_counter() - started, finished.stdout


def spread(seconds: Sequence[float]) -> str:
    return f"{median(seconds):7.3f} s ({min(seconds):.3f} to {max(seconds):.3f})"


if __name__ == "__main__":
    main()
