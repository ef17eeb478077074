"""Peers, side by side: the same LeNet, images and optimizer in this project, plain PyTorch, Keras and JAX.

    python scripts/benchmark_peers.py rounds race scaling [--arms plain lenet-native ...]

rounds: seconds of an epoch, without its evaluation; the first epoch, in which some compile, is apart. race: seconds of
training and evaluation until a validation accuracy is reached, compiling included. scaling: seconds of an epoch by
number of images, batch size and threads. Only validation images are evaluated on.

Every arm lives in a process of its own (scripts/peers/worker.py). All train in turn, an epoch each, and wait while
another does: whatever else the machine does hits them alike. All use SGD with momentum 0.9, without weight decay, from
their framework's own initial weights; at a constant learning rate, but in race at twice that rate, falling to zero.
Keras and JAX get an environment of their own: build/peers, 2.3 GB, made on first use.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from itertools import accumulate, product
from math import inf
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from common import ROOT, SMALL, arguments, data_of, few, table
from lenet_mnist.config import Config
from lenet_mnist.provenance import machine
from peers.worker import Epoch, Setting

SCRIPTS = Path(__file__).resolve().parent
ARMS = {  # module, function
    **{"examples": ("torch_arms", "examples"), "keras": ("keras_arm", "start"), "jax": ("jax_arm", "start")},
    **{"plain": ("torch_arms", "plain"), "lenet-torch": ("lenet_arms", "lenet_torch")},
    "lenet-native": ("lenet_arms", "lenet_native"),
}
PEERS = ("keras", "jax")
REFERENCE = "plain"
NUM_IMAGES = 2_000 if SMALL else 55_000
IDLE_SECONDS = 0.5  # OpenMP's threads spin for a while after their work


def main() -> None:
    parser = arguments(__doc__, ["rounds", "race", "scaling"])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[64, 256], help="in rounds and race")
    parser.add_argument("--rounds", type=int, default=1 if SMALL else 5, help="epochs after the first one")
    parser.add_argument("--seeds", type=int, default=1 if SMALL else 3, help="trainings of each arm, in race")
    parser.add_argument("--race-epochs", type=int, default=4, help="over which the learning rate falls to zero")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        arrays = Path(directory) / "arrays.npz"
        save_arrays(arrays)
        workers = [stack.enter_context(Worker(arm, options.threads, arrays)) for arm in options.arms]
        versions = {package: version for worker in workers for package, version in worker.versions.items()}
        print(f"{machine()}; {options.threads} threads; {versions}")
        if "rounds" in options.parts:
            settings = [setting_of(batch_size) for batch_size in options.batch_sizes]
            show_rounds([(each, train_in_turn(workers, each, 1 + options.rounds)) for each in settings])
        if "race" in options.parts:
            show_race(workers, options.batch_sizes, options.seeds, options.race_epochs)
        if "scaling" in options.parts:
            workers += [stack.enter_context(Worker(arm, 1, arrays)) for arm in options.arms if options.threads > 1]
            batches, fewer = few((32, 64, 128, 256, 512, 1024, 2048)), (5_000, 15_000, 30_000)
            settings = [setting_of(64, number) for number in fewer if number < NUM_IMAGES]
            settings += [setting_of(batch_size) for batch_size in batches]
            show_rounds([(each, train_in_turn(workers, each, 1 + options.rounds)) for each in settings])


def setting_of(batch_size: int, num_images: int = NUM_IMAGES, decay_epochs: int = 0, seed: int = 0) -> Setting:
    """Return a training at the learning rate that all arms use with that batch size."""
    rate = 0.02 if batch_size <= 64 else 0.04
    return Setting(batch_size, num_images, 2 * rate if decay_epochs else rate, decay_epochs, seed)


class Worker:
    """The process of one arm, as this one sees it; a context manager, which ends it."""

    def __init__(self, arm: str, threads: int, arrays: Path) -> None:
        self.name = f"{arm}, {threads} threads"
        variables = {"PYTHONPATH": str(SCRIPTS), "NPROC": str(threads)}
        variables |= {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "2"}
        python = peers_python() if arm in PEERS else sys.executable
        command = [python, "-m", "peers.worker", *ARMS[arm], str(arrays)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process: Any = subprocess.Popen(command, env=os.environ | variables, **pipes)  # type: ignore[call-overload]
        self.versions: dict[str, str] = self._answer()

    def ask(self, request: Any) -> Any:
        """Send a request and wait for the answer."""
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> Any:
        if not (line := self._process.stdout.readline()):
            raise SystemExit(f"{self.name}: its process has ended, see above; --arms can leave it out")
        return json.loads(line)

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()  # at the end of its input it ends


def train_in_turn(
    workers: Sequence[Worker], setting: Setting, epochs: int, goal: float = inf
) -> dict[str, list[Epoch]]:
    """Train every worker's network for so many epochs, or until it reaches `goal`: one epoch each, in turn."""
    print(setting, file=sys.stderr)
    trainings: dict[str, list[Epoch]] = {worker.name: [] for worker in workers}
    for worker in workers:
        worker.ask(asdict(setting))
    for _, worker in product(range(epochs), workers):
        if seconds_to(goal, trainings[worker.name]) == inf:
            time.sleep(IDLE_SECONDS)
            trainings[worker.name].append(tuple(worker.ask(None)))
    return trainings


def seconds_to(goal: float, epochs: Sequence[Epoch]) -> float:
    """Return the seconds until the accuracy `goal`, evaluations included; infinity if it was not reached."""
    totals = accumulate(seconds + evaluation for seconds, evaluation, _ in epochs)
    return next((total for total, epoch in zip(totals, epochs, strict=True) if epoch[2] >= goal), inf)


def show_rounds(measured: Sequence[tuple[Setting, dict[str, list[Epoch]]]]) -> None:
    rows = []
    for setting, trainings in measured:
        medians = {name: median(seconds for seconds, *_ in epochs[1:]) for name, epochs in trainings.items()}
        for name, ((first, *_), *epochs) in trainings.items():
            seconds = [seconds for seconds, *_ in epochs]
            reference = medians.get(f"{REFERENCE}, {name.partition(', ')[2]}")
            ratio = f"{medians[name] / reference:.2f}" if reference else "-"
            times = (f"{medians[name]:.2f}", f"{min(seconds):.2f} to {max(seconds):.2f}", ratio, f"{first:.2f}")
            evaluation = f"{median(each for _, each, _ in epochs):.2f}"
            rows.append((setting.batch_size, f"{setting.num_images:,}", name, *times, evaluation))
    columns = ("batch", "images", "arm", "seconds per epoch", "range", f"ratio to {REFERENCE}", "first epoch")
    print("\n" + table((*columns, "evaluation"), rows), flush=True)


def show_race(workers: Sequence[Worker], batch_sizes: Sequence[int], seeds: int, epochs: int) -> None:
    """Print the median over all trainings, of which those that did not reach the goal took longest, and the range."""
    goals, rows = (0.98, 0.985, 0.99), []
    for batch_size in batch_sizes:
        settings = [setting_of(batch_size, decay_epochs=epochs, seed=seed) for seed in range(seeds)]
        trainings = [train_in_turn(workers, setting, epochs, max(goals)) for setting in settings]
        for worker in workers:
            cells = []
            for goal in goals:
                times = sorted(seconds_to(goal, training[worker.name]) for training in trainings)
                reached = [seconds for seconds in times if seconds < inf]
                span = f"{reached[0]:.1f} to {reached[-1]:.1f}; " if reached else ""
                middle = f"{median(times):.1f}" if median(times) < inf else "not reached"
                cells.append(f"{middle} ({span}{len(reached)} of {len(times)})")
            rows.append((batch_size, worker.name, *cells))
    print(
        "\n" + table(("batch", "arm", *(f"seconds to {goal:.1%} (range; reached)" for goal in goals)), rows), flush=True
    )


def save_arrays(path: Path) -> None:
    """Save the project's split as arrays that every framework can take."""
    data = data_of(Config().data)
    arrays = {}
    for name, part in (("train", data.train), ("val", data.val)):
        arrays[f"{name}_images"] = data.normalization.apply(part.images).squeeze(1).numpy()
        arrays[f"{name}_labels"], arrays[f"{name}_indices"] = part.labels.numpy(), part.indices.numpy()
    np.savez(path, **arrays)


def peers_python() -> str:
    """Return the Python of the peers' environment, after making it where it is not there or not up to date."""
    directory, requirements = ROOT / "build" / "peers", SCRIPTS / "peers" / "requirements.txt"
    python = directory / ("Scripts" if os.name == "nt" else "bin") / "python"
    installed, wanted = directory / requirements.name, requirements.read_text(encoding="utf-8")
    if not installed.exists() or installed.read_text(encoding="utf-8") != wanted:
        venv.create(directory, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--requirement", requirements], check=True)
        installed.write_text(wanted, encoding="utf-8")
    return str(python)


if __name__ == "__main__":
    main()
