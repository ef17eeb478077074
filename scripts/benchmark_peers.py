"""Peers, side by side: the same LeNet, images and optimizer in this project, plain PyTorch, Keras and JAX.

    python scripts/benchmark_peers.py --json peers.json --picture peers.png

Three parts (`--parts`). rounds: seconds of an epoch, without its evaluation; the first epoch, in which some compile, is
apart. race: seconds of training and evaluation until a validation accuracy is reached, compiling included. scaling:
seconds of an epoch by number of images, batch size and threads. Only validation images are evaluated on.

Every arm lives in a process of its own (scripts/peers/worker.py). All train in turn, an epoch each, and wait while
another does: whatever else the machine does hits them alike. All use SGD with momentum 0.9, without weight decay, from
their framework's own initial weights; at a constant learning rate, but in race at twice that rate, falling to zero.
Keras and JAX get an environment of their own
(`--environment`, 2.3 GB, made on first use from scripts/peers/requirements.txt).
"""

import argparse
import json
import math
import os
import shlex
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from common import data_access
from lenet_mnist.config import Config
from lenet_mnist.data.load import load_train_val
from lenet_mnist.data.sets import ImageSet
from lenet_mnist.provenance import git_state, machine
from peers.arm import Arrays, Epoch, Setting
from peers.report import SCALING_BATCH_SIZE, Report, Training, draw, tables

SCRIPTS = Path(__file__).resolve().parent
REQUIREMENTS = SCRIPTS / "peers" / "requirements.txt"
PARTS = ("rounds", "race", "scaling")
PEERS = ("keras", "jax")
SCALING_ARMS = ("plain", "lenet-torch", "lenet-native")
ARMS = ("examples", *PEERS, *SCALING_ARMS)
BATCH_SIZES = (64, 256)
SCALING_IMAGES = (5_000, 15_000, 30_000)
SCALING_BATCH_SIZES = (32, 64, 128, 256, 512, 1024, 2048)
IDLE_SECONDS = 0.5  # OpenMP's threads spin for a while after their work


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=BATCH_SIZES, help="in rounds and race")
    parser.add_argument("--rounds", type=int, default=5, help="epochs after the first one, in rounds and scaling")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each arm, in race")
    parser.add_argument(
        "--race-epochs", type=int, default=4, help="over which the learning rate falls to zero, in race"
    )
    parser.add_argument("--goals", type=float, nargs="+", default=[0.98, 0.985, 0.99], help="accuracies in race")
    parser.add_argument("--limit-train", type=int, default=55_000, help="fewer training images, to try the script out")
    parser.add_argument("--environment", type=Path, default=SCRIPTS.parent / "build" / "peers", metavar="DIR")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write every measurement")
    parser.add_argument("--picture", type=Path, metavar="PATH", help="draw the medians")
    parser.add_argument(
        "--draw-only", type=Path, nargs="+", metavar="JSON", help="measure nothing, show what was written"
    )
    arguments = parser.parse_args()
    report = Report.read(*arguments.draw_only) if arguments.draw_only else measured(arguments)
    print(tables(report))
    if arguments.picture:
        draw(report, arguments.picture)


def measured(arguments: argparse.Namespace) -> Report:
    """Make every measurement that is asked for; the JSON file is written after each, so that none is lost."""
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        arrays_path = Path(directory) / "arrays.npz"
        np.savez(arrays_path, **arrays()._asdict())
        own_python = Path(sys.executable)
        peers_python = own_python if set(PEERS).isdisjoint(arguments.arms) else environment(arguments.environment)

        def employ(arms: Sequence[str], threads: int) -> list[Worker]:
            pythons = {arm: peers_python if arm in PEERS else own_python for arm in arms}
            return [stack.enter_context(closing(Worker(arm, threads, arrays_path, pythons[arm]))) for arm in arms]

        crew = employ(arguments.arms, arguments.threads)
        needs_alone = "scaling" in arguments.parts and arguments.threads > 1
        alone = employ([arm for arm in arguments.arms if arm in SCALING_ARMS], 1) if needs_alone else []
        report = Report(circumstances(arguments, crew), [])
        for part, setting, epochs, goal in plan(arguments):
            print(f"{part}: {setting}", file=sys.stderr)
            workers = crew
            if part == "scaling":
                workers = [worker for worker in crew if worker.arm in SCALING_ARMS]
                if setting == setting_of(SCALING_BATCH_SIZE, arguments.limit_train):
                    workers += alone
            report.trainings.extend(train_in_turn(part, workers, setting, epochs, goal))
            if arguments.json:
                report.write(arguments.json)
    return report


def plan(arguments: argparse.Namespace) -> Iterator[tuple[str, Setting, int, float]]:
    """Yield what is trained, one after another: the part, the setting, and the epochs or the goal that end it."""
    num_images, epochs = arguments.limit_train, 1 + arguments.rounds
    if "rounds" in arguments.parts:
        for batch_size in arguments.batch_sizes:
            yield "rounds", setting_of(batch_size, num_images), epochs, math.inf
    if "race" in arguments.parts:
        for batch_size in arguments.batch_sizes:
            for seed in range(arguments.seeds):
                setting = setting_of(batch_size, num_images, arguments.race_epochs, seed)
                yield "race", setting, arguments.race_epochs, max(arguments.goals)
    if "scaling" in arguments.parts:
        for fewer in SCALING_IMAGES:
            if fewer < num_images:
                yield "scaling", setting_of(SCALING_BATCH_SIZE, fewer), epochs, math.inf
        for batch_size in SCALING_BATCH_SIZES:
            yield "scaling", setting_of(batch_size, num_images), epochs, math.inf


def setting_of(batch_size: int, num_images: int, decay_epochs: int = 0, seed: int = 0) -> Setting:
    """Return a training at the learning rate that all arms use with that batch size."""
    rate = 0.02 if batch_size <= 64 else 0.04
    return Setting(batch_size, num_images, 2 * rate if decay_epochs else rate, decay_epochs, seed)


def train_in_turn(part: str, workers: Sequence["Worker"], setting: Setting, epochs: int, goal: float) -> list[Training]:
    """Train every worker's network for so many epochs, or until it reaches `goal`: one epoch each, in turn."""
    trainings = [Training(part, worker.arm, worker.threads, setting, []) for worker in workers]
    for worker in workers:
        worker.ask(asdict(setting))
    for _ in range(epochs):
        for worker, training in zip(workers, trainings, strict=True):
            if training.seconds_to(goal) is None:
                time.sleep(IDLE_SECONDS)
                training.epochs.append(Epoch(**worker.ask(None)))
    return trainings


class Worker:
    """The process of one arm, as this one sees it."""

    def __init__(self, arm: str, threads: int, arrays_path: Path, python: Path) -> None:
        self.arm = arm
        self.threads = threads
        variables = {"PYTHONPATH": os.pathsep.join(filter(None, [str(SCRIPTS), os.environ.get("PYTHONPATH")]))}
        if arm in PEERS:
            variables |= {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "2", "NPROC": str(threads)}
        self._process = subprocess.Popen(
            [python, "-m", "peers.worker", arm, arrays_path, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | variables,
        )
        self.versions: dict[str, str] = self._answer()

    def ask(self, request: Any) -> Any:
        """Send a request and wait for the answer."""
        assert self._process.stdin is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return self._answer()

    def close(self) -> None:
        """Close the worker's input, at the end of which it ends."""
        self._process.communicate()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        if not (line := self._process.stdout.readline()):
            raise SystemExit(f"{self.arm}: its process has ended, see above; --arms can leave it out")
        return json.loads(line)


def arrays() -> Arrays:
    """Return the project's split as arrays that every framework can take."""
    data = load_train_val(Config().data, data_access())

    def of(part: ImageSet) -> tuple[Any, Any, Any]:
        return data.normalization.apply(part.images).squeeze(1).numpy(), part.labels.numpy(), part.indices.numpy()

    return Arrays(*of(data.train), *of(data.val))


def environment(directory: Path) -> Path:
    """Return the Python of the peers' environment, after making it where it is not there or not up to date."""
    python = directory.resolve() / ("Scripts" if os.name == "nt" else "bin") / "python"
    installed, wanted = directory / REQUIREMENTS.name, REQUIREMENTS.read_text(encoding="utf-8")
    if not installed.exists() or installed.read_text(encoding="utf-8") != wanted:
        venv.create(directory, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--requirement", REQUIREMENTS], check=True)
        installed.write_text(wanted, encoding="utf-8")
    return python


def circumstances(arguments: argparse.Namespace, crew: Sequence[Worker]) -> dict[str, Any]:
    """Say how, when, where and with what is measured."""
    words = [Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:]]
    versions = {package: version for worker in crew for package, version in worker.versions.items()}
    return {
        "command": shlex.join(["python", "scripts/benchmark_peers.py", *words]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "threads": arguments.threads,
        "goals": sorted(arguments.goals),
        "versions": versions,
        "git": git_state(),
    }


if __name__ == "__main__":
    main()
