"""configs/fast.yaml in seconds: engine beside engine, beside a plain PyTorch loop, as a whole command; and the build.

    python scripts/benchmark_fast.py

- training: the same recipe (network, batches of 256, Adam, schedule, an evaluation of the validation set after each
  epoch) by a plain loop over tensors in memory, by the torch engine and by the native one, in turn
- command: `lenet train --config configs/fast.yaml` in a fresh process, beside `import torch` in another
- build: the native engine compiled into an empty cache, and loaded from it by the next process

Medians and ranges. The test files are never opened.
"""

import json
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import fmean, median

import torch

from benchmark_peers import arrays
from common import ROOT, Config, arguments_parser, context_of, recipe, spread, trained
from lenet_mnist.devices import set_threads
from lenet_mnist.provenance import machine, versions
from lenet_mnist.training.schedule import rate_factor
from peers.arm import Setting
from peers.torch_arms import Plain

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
    parser = arguments_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    print(f"{machine()}, {set_threads(None)} threads, {versions()}")
    compare_training(rounds)
    time_command(rounds)
    time_build(rounds)


def show(title: str, seconds: dict[str, list[float]], reference: str | None = None) -> None:
    print(f"\n{title}, seconds")
    for name, times in seconds.items():
        ratio = f"  {reference} takes x {median(seconds[reference]) / median(times):.2f}" if reference else ""
        print(f"  {name:16} {spread(times, form='.3f')}{ratio}", flush=True)


def compare_training(rounds: int) -> None:
    """Train the recipe by each arm in turn."""
    plain = PlainRecipe(arrays(), torch.get_num_threads())

    def by_plain(seed: int) -> float:
        config = recipe("fast", seed=seed)
        plain.start_recipe(config)
        return [(plain.train_epoch(), plain.accuracy()) for _ in range(config.training.max_epochs)][-1][1]

    def by_lenet(seed: int, engine: str) -> float:
        config = recipe("fast", seed=seed, training__engine=engine)
        return trained(config, context_of(config))[0].histories.history[-1].val_accuracy

    arms = {"plain": by_plain, **{engine: partial(by_lenet, engine=engine) for engine in ("torch", "native")}}
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    accuracies: dict[str, list[float]] = {name: [] for name in arms}
    for seed in range(rounds):
        for name, train in arms.items():
            started = time.perf_counter()
            accuracies[name].append(train(seed))
            seconds[name].append(time.perf_counter() - started)
    show("training of fast.yaml", seconds, "plain")
    print(f"  mean validation accuracy: { ({name: f'{fmean(each):.2%}' for name, each in accuracies.items()}) }")


def time_command(rounds: int) -> None:
    """The whole command, what of it is training, and what `import torch` takes alone."""
    seconds: dict[str, list[float]] = {"all": [], "training": [], "import torch": [], "the rest": []}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as directory:
            command = ["-m", "lenet_mnist", "train", "--config", str(ROOT / "configs" / "fast.yaml"), "--json"]
            whole, answer = time_python(*command, "--runs-dir", directory)
        training = json.loads(answer)["runs"][0]["seconds"]
        torch_alone = time_python("-c", "import torch")[0]
        parts = (whole, training, torch_alone, whole - training - torch_alone)
        for times, part in zip(seconds.values(), parts, strict=True):
            times.append(part)
    show("lenet train --config configs/fast.yaml, a whole process", seconds)


def time_build(rounds: int) -> None:
    """Each round one build, and one load by a process of its own."""
    seconds: dict[str, list[float]] = {"built and loaded": [], "loaded later": []}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as directory:
            for times in seconds.values():
                times.append(float(time_python("-c", LOAD, str(Path(directory) / "native"))[1]))
    show("native engine", seconds)


def time_python(*arguments: str) -> tuple[float, str]:
    """Return the seconds that a fresh Python takes, and what it prints."""
    started = time.perf_counter()
    finished = subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True)
    return time.perf_counter() - started, finished.stdout


if __name__ == "__main__":
    main()
