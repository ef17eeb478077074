"""Time whole commands, as a user waits for them: the seconds in README.md.

    python scripts/benchmark_commands.py

Prints the median of several runs of `lenet --help`, of loading and verifying MNIST's four files inside a process, and
of `lenet train --config configs/relu.yaml` followed by `lenet evaluate latest`, which is `make train`; of
`lenet lr-sweep`; and of a training of configs/accurate.yaml.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from statistics import median

from common import ROOT, data_access
from lenet_mnist.config import Source
from lenet_mnist.data.mnist import FILES, read_verified
from lenet_mnist.provenance import machine, versions

LENET = [sys.executable, "-m", "lenet_mnist"]


def seconds(action: Callable[[], object], runs: int) -> str:
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return f"{median(times):.2f} s (median of {runs}; {min(times):.2f} to {max(times):.2f})"


def command(*arguments: str) -> None:
    subprocess.run([*LENET, *arguments], check=True, capture_output=True)


def train_and_evaluate(engine: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        command("train", "--config", str(ROOT / "configs" / "relu.yaml"), "--runs-dir", directory, "--engine", engine)
        command("evaluate", "latest", "--runs-dir", directory)


def train_accurately() -> None:
    with tempfile.TemporaryDirectory() as directory:
        command("train", "--config", str(ROOT / "configs" / "accurate.yaml"), "--runs-dir", directory)


def sweep(engine: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        command("lr-sweep", "--runs-dir", directory, "--engine", engine)


def main() -> None:
    directory = data_access().directory
    print(f"{machine()}; {versions()}")
    print("lenet --help:", seconds(lambda: command("--help"), 11))
    print(
        "load and verify the four files:",
        seconds(lambda: [read_verified(f, directory) for f in FILES[Source.MNIST]], 11),
    )
    print("lenet describe (start-up with torch):", seconds(lambda: command("describe"), 5))
    print("lenet train --config configs/accurate.yaml:", seconds(train_accurately, 3))
    for engine in ("native", "torch"):
        print(f"make train, installed, {engine} engine:", seconds(lambda: train_and_evaluate(engine), 3))  # noqa: B023
        print(f"lenet lr-sweep, {engine} engine:", seconds(lambda: sweep(engine), 3))  # noqa: B023


if __name__ == "__main__":
    main()
