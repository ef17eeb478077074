"""configs/fast.yaml in seconds: engine beside engine, beside a plain PyTorch loop, as a whole command; and the build.

    python scripts/benchmark_fast.py

- training: the same recipe (network, batches of 256, Adam, schedule, an evaluation of the validation set after each
  epoch) by a plain loop over tensors in memory, by the torch engine and by the native one, in turn
- command: `lenet train --config fast` in a fresh process, beside `import torch` in another
- build: the native engine compiled into an empty cache, and loaded from it by the next process

The test files are never opened.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import torch

from benchmark_peers import Optimizing, Setting, plain
from common import ROOT, SMALL, arguments, compare, lenet, recipe, show_times, trained
from lenet_mnist.cores import THREADS
from lenet_mnist.provenance import machine, versions
from lenet_mnist.training.schedule import rate_factor

BUILT = "built and loaded"
LOAD = """
import sys, time, pathlib
from lenet_mnist.model.native.build import load_library
started = time.perf_counter()
load_library(pathlib.Path(sys.argv[1]))
print(time.perf_counter() - started)
"""


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    print(f"{machine()}, {THREADS} threads, {versions()}")
    arms = {"plain": by_plain}
    arms |= {engine: partial(trained, recipe("fast", training__engine=engine)) for engine in ("torch", "native")}
    compare("training of fast.yaml", arms, rounds)
    with tempfile.TemporaryDirectory() as directory:
        time_command(rounds, Path(directory))
        builds = {name: partial(load, Path(directory), name == BUILT) for name in (BUILT, "loaded later")}
        compare("native engine", builds, rounds)


def by_plain() -> None:
    """Train the recipe by the plain loop."""
    config = recipe("fast")
    training, num_images = config.training, config.data.limit_train or config.data.train_size
    num_steps = training.max_epochs * -(-num_images // training.batch_size)

    def optimize(model: torch.nn.Module) -> Optimizing:
        adam = torch.optim.Adam(model.parameters(), training.peak_learning_rate, weight_decay=training.weight_decay)
        factor = partial(rate_factor, training.schedule, training.warmup)
        return adam, torch.optim.lr_scheduler.LambdaLR(adam, lambda step: factor(step, num_steps))

    for _ in plain(Setting(training.batch_size, num_images, training.max_epochs), optimize):
        pass


def time_command(rounds: int, place: Path) -> None:
    """Print what the whole command takes, what of it is training, and what `import torch` takes alone."""
    seconds: dict[str, list[float]] = {"all": [], "training": [], "import torch": [], "the rest": []}
    for _ in range(1 if SMALL else rounds):
        started = time.perf_counter()
        answer = lenet("train", "--config", ROOT / "configs" / "fast.yaml", "--json", "--runs-dir", place)
        whole, training = time.perf_counter() - started, json.loads(answer)["runs"][0]["seconds"]
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import torch"], check=True)
        torch_alone = time.perf_counter() - started
        for times, part in zip(
            seconds.values(), (whole, training, torch_alone, whole - training - torch_alone), strict=True
        ):
            times.append(part)
    show_times("lenet train --config fast, a whole process", seconds)


def load(place: Path, is_new: bool) -> list[float]:
    """Return the seconds of a fresh process that loads the native engine, after building it where it is new."""
    if is_new:
        shutil.rmtree(place / "native", ignore_errors=True)
    command = [sys.executable, "-c", LOAD, str(place / "native")]
    return [float(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)]


if __name__ == "__main__":
    main()
