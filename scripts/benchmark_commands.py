"""Time whole commands, as a user waits for them: the seconds in README.md.

    python scripts/benchmark_commands.py

Prints the median of several runs of `lenet --help`, of loading and verifying MNIST's four files inside a process, and
of `lenet train --config configs/relu.yaml` followed by `lenet evaluate latest`, which is `make train`; of
`lenet lr-sweep`; and of a training of configs/accurate.yaml.
"""

import subprocess
import sys
import tempfile

from common import ROOT, data_access, spread, timed
from lenet_mnist.config import Source
from lenet_mnist.data.mnist import FILES, read_verified
from lenet_mnist.provenance import machine, versions


def lenet(*commands: list[str]) -> None:
    """Run commands of lenet, in runs of their own."""
    with tempfile.TemporaryDirectory() as directory:
        for command in commands:
            runs_dir = ["--runs-dir", directory] if command[0] in ("train", "evaluate", "lr-sweep") else []
            program = [sys.executable, "-m", "lenet_mnist"]
            subprocess.run([*program, *command, *runs_dir], check=True, capture_output=True)


def train(recipe: str, *more: str) -> list[str]:
    return ["train", "--config", str(ROOT / "configs" / f"{recipe}.yaml"), *more]


def load() -> None:
    for file in FILES[Source.MNIST]:
        read_verified(file, data_access().directory)


print(f"{machine()}; {versions()}")
for name, action, rounds in (
    ("lenet --help", lambda: lenet(["--help"]), 11),
    ("load and verify the four files", load, 11),
    ("lenet describe (start-up with torch)", lambda: lenet(["describe"]), 5),
    ("lenet train --config configs/accurate.yaml", lambda: lenet(train("accurate")), 3),
    ("make train, native engine", lambda: lenet(train("relu", "--engine=native"), ["evaluate", "latest"]), 3),
    ("lenet lr-sweep, native engine", lambda: lenet(["lr-sweep", "--engine=native"]), 3),
    ("make train, torch engine", lambda: lenet(train("relu", "--engine=torch"), ["evaluate", "latest"]), 3),
    ("lenet lr-sweep, torch engine", lambda: lenet(["lr-sweep", "--engine=torch"]), 3),
):
    print(f"{name}: {spread(timed({name: action}, rounds)[name])} s, of {rounds}", flush=True)
