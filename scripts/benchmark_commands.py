"""Time whole commands, as a user waits for them, in turn: README.md, configs/, docs/performance.md, learning-rate.md.

python scripts/benchmark_commands.py

`make train` is `lenet train --config relu` followed by `lenet evaluate latest`.
"""

import tempfile
from functools import partial

from common import ROOT, SMALL, arguments, compare, data_access, lenet
from lenet_mnist.config import Source
from lenet_mnist.data.mnist import FILES, read_verified
from lenet_mnist.provenance import machine, versions

FEW = ["--limit-train=640", "--set=data.val_size=500"] if SMALL else []


def run(*commands: list[str]) -> None:
    """Run commands with a runs directory of their own."""
    with tempfile.TemporaryDirectory() as directory:
        for name, *words in commands:
            more = FEW if name in ("train", "lr-sweep") else []
            lenet(name, *words, *more, *(["--runs-dir", directory] if words and name != "describe" else []))


def load() -> None:
    for file in FILES[Source.MNIST]:
        read_verified(file, data_access().directory)


def train(name: str, *words: str) -> list[str]:
    return ["train", "--config", str(ROOT / "configs" / f"{name}.yaml"), *words]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(f"{machine()}; {versions()}")
    start = {"lenet --help": partial(run, ["--help"]), "lenet describe, which loads torch": partial(run, ["describe"])}
    compare("start-up", start | {"load and verify the four files": load}, 11)
    engines = ("native", "torch")
    commands = {
        f"make train, {e}": partial(run, train("relu", f"--engine={e}"), ["evaluate", "latest"]) for e in engines
    }
    commands |= {f"lenet lr-sweep, {e}": partial(run, ["lr-sweep", f"--engine={e}"]) for e in engines}
    if not SMALL:
        commands["lenet train --config accurate"] = partial(run, train("accurate"))
    compare("whole commands", commands, options.rounds)


if __name__ == "__main__":
    main()
