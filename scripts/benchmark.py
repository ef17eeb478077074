"""How fast trainings and commands are: docs/performance.md, docs/learning-rate.md, docs/accuracy.md, configs/.

    python scripts/benchmark.py loops fast commands waiting

- loops: an epoch of this project's engines, and of two PyTorch loops as others write them. All use SGD with momentum
  0.9, without weight decay, at a constant rate, from their own initial weights; the evaluation does not count.
  (Keras and JAX: scripts/benchmark_peers.py at 2a5520b.)
- fast: configs/fast.yaml by the plain one of these loops and by both engines; as a whole command; and the native
  engine, compiled into an empty cache, then loaded from it by the next process
- commands: what a user waits for; `make train` is `lenet train --config relu`, then `lenet evaluate latest`
  (what a start consists of: `lenet bench`)
- waiting: epochs alone, and with a process beside them on each core: threads that wait for each other must not stall

The variants of a table take turns: whatever else the machine does hits all alike. The test files are opened by
`lenet evaluate` alone.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset
from torchvision import transforms
from torchvision.datasets import MNIST

import lenet_mnist
from common import SMALL, arguments, compare, data_access, data_of, lenet, recipe, trained
from lenet_mnist.config import Config
from lenet_mnist.cores import THREADS
from lenet_mnist.provenance import machine, versions

CHUNK = 1000  # images evaluated at once
IDLE_SECONDS = 0.5  # OpenMP's threads spin for a while after their work
FEW = ("--limit-train=640", "--set=data.val_size=500") if SMALL else ()
SWEEP = ("lr-sweep", "--num=2", "--seeds=0") if SMALL else ("lr-sweep",)
LOAD = """
import sys, time, pathlib
from lenet_mnist.model.native.build import load_library
started = time.perf_counter()
load_library(pathlib.Path(sys.argv[1]))
print(time.perf_counter() - started)
"""


class Setting(NamedTuple):
    """One training of a loop."""

    batch_size: int
    num_images: int = 2_000 if SMALL else 55_000
    epochs: int = 2
    threads: int = 2

    @property
    def lr(self) -> float:
        return 0.02 if self.batch_size <= 64 else 0.04


Batches = Callable[[], Iterable[tuple[Tensor, Tensor]]]


def of_batches(setting: Setting, batches: Batches, val_batches: Batches) -> list[float]:
    """Train torch's own layers in the lecture's order; return the seconds of each epoch's updates."""
    torch.set_num_threads(setting.threads)
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
    )
    optimizer = torch.optim.SGD(model.parameters(), setting.lr, momentum=0.9)
    seconds = []
    for _ in range(setting.epochs):
        started = time.perf_counter()
        model.train()
        for images, labels in batches():
            optimizer.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()
        seconds.append(time.perf_counter() - started)
        model.eval()
        with torch.no_grad():
            torch.cat([model(images).argmax(dim=1) == labels for images, labels in val_batches()]).sum().item()
    return seconds


def examples(setting: Setting) -> list[float]:
    """The loop of pytorch/examples: torchvision decodes and normalises each image whenever it is shown."""
    data = data_of(Config().data)
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    mnist = MNIST(data_access().directory, train=True, transform=transform)
    train_part = Subset(mnist, data.train.indices[: setting.num_images].tolist())
    train_loader = DataLoader(train_part, batch_size=setting.batch_size, shuffle=True)
    val_loader = DataLoader(Subset(mnist, data.val.indices.tolist()), batch_size=CHUNK)
    return of_batches(setting, lambda: train_loader, lambda: val_loader)


@cache
def tensors() -> list[Tensor]:
    """Return images and labels of the training part, and of the validation part, in memory, normalised."""
    data = data_of(Config().data)
    parts = ((data.normalization.apply(part.images), part.labels) for part in (data.train, data.val))
    return [tensor for part in parts for tensor in part]


def plain(setting: Setting) -> list[float]:
    """All images as one tensor, and one index operation a batch."""
    images, labels, val_images, val_labels = tensors()

    def batches() -> Iterable[tuple[Tensor, Tensor]]:
        order = torch.randperm(setting.num_images)
        return ((images[chosen], labels[chosen]) for chosen in torch.split(order, setting.batch_size))

    def val_batches() -> Iterable[tuple[Tensor, Tensor]]:
        return zip(torch.split(val_images, CHUNK), torch.split(val_labels, CHUNK), strict=True)

    return of_batches(setting, batches, val_batches)


def by_engine(engine: str, setting: Setting) -> list[float]:
    """`lenet train`, without its files."""
    values = {"engine": engine, "threads": setting.threads, "batch_size": setting.batch_size, "patience": None}
    values |= {"learning_rate": setting.lr, "momentum": 0.9, "weight_decay": 0.0, "warmup": 0.0, "schedule": "constant"}
    config = Config().replace({f"training.{name}": value for name, value in values.items()})
    config = config.replace({"training.max_epochs": setting.epochs, "data.limit_train": setting.num_images})
    seconds: dict[int, float] = {}
    trained(config, on_step=lambda state, row: seconds.update({row.epoch: state.seconds}))
    return list(seconds.values())


LOOPS: dict[str, Callable[[Setting], list[float]]] = {
    "examples": examples,
    "plain": plain,
    "lenet-torch": partial(by_engine, "torch"),
    "lenet-native": partial(by_engine, "native"),
}


def second_epoch(loop: str, setting: Setting) -> list[float]:
    """Return the seconds of a second epoch, in which nothing is done for the first time."""
    time.sleep(IDLE_SECONDS)
    return LOOPS[loop](setting)[1:]


def loops(rounds: int) -> None:
    for setting in (Setting(64), Setting(256)):
        compare(f"an epoch of {setting}", {name: partial(second_epoch, name, setting) for name in LOOPS}, rounds)


def fast(rounds: int) -> None:
    training = recipe("fast").training
    by_sgd = partial(plain, Setting(training.batch_size, epochs=training.max_epochs))  # torch's Muon takes no C3
    engines = {each: partial(trained, recipe("fast", training__engine=each)) for each in ("torch", "native")}
    compare("training of fast.yaml", {"plain, with SGD": by_sgd} | engines, rounds)
    with tempfile.TemporaryDirectory() as directory:
        whole = {"all": partial(parts_of_command, directory)}
        compare("lenet train --config fast, a whole process", whole, rounds)
        cache_of_engine = Path(directory, "native")
        builds = {"built and loaded": True, "loaded later": False}
        compare("native engine", {name: partial(load, cache_of_engine, new) for name, new in builds.items()}, rounds)


def parts_of_command(directory: str) -> dict[str, list[float]]:
    """Return the seconds of the whole command, of its training, of `import torch` alone, and of the rest."""
    begun = time.perf_counter()
    answer = lenet("train", "--config", "fast", *FEW, "--json", "--runs-dir", directory)
    ended = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch"], check=True)
    whole, torch_alone, training = ended - begun, time.perf_counter() - ended, json.loads(answer)["runs"][0]["seconds"]
    rest = whole - training - torch_alone
    return {"all": [whole], "training": [training], "import torch": [torch_alone], "the rest": [rest]}


def load(place: Path, is_new: bool) -> list[float]:
    """Return the seconds of a fresh process that loads the native engine, after building it where it is new."""
    if is_new:
        shutil.rmtree(place, ignore_errors=True)
    command = [sys.executable, "-c", LOAD, str(place)]
    return [float(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)]


def commands(rounds: int) -> None:
    compare("start-up", {"lenet --help": partial(lenet, "--help")}, 11)
    variants = {}
    for engine in ("--engine=native", "--engine=torch"):
        variants[f"make train, {engine}"] = partial(run, "train", "--config=relu", engine, is_evaluated=True)
        variants[f"lenet lr-sweep, {engine}"] = partial(run, *SWEEP, engine)
    if not SMALL:
        variants["lenet train --config accurate"] = partial(run, "train", "--config=accurate")
    compare("whole commands", variants, rounds)


def run(*words: str, is_evaluated: bool = False) -> None:
    """Run a command that trains, with a runs directory of its own."""
    with tempfile.TemporaryDirectory() as directory:
        lenet(*words, *FEW, "--runs-dir", directory)
        if is_evaluated:
            lenet("evaluate", "latest", "--runs-dir", directory)


def waiting(rounds: int) -> None:
    cases = {f"{engine}, {threads}": (engine, threads) for engine, threads in product(("native", "torch"), (1, 2))}
    variants = {name: partial(epochs_of_process, *case) for name, case in cases.items()}
    for title, number in {"alone": 0, "with a process beside it on each core": THREADS}.items():
        beside = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
        try:
            compare(f"seconds per epoch of 10,000 images, {title}", variants, rounds)
        finally:
            for process in beside:
                process.kill()


def epochs_of_process(engine: str, threads: int) -> list[float]:
    """Return the seconds of three epochs of a command, after one that does not count."""
    with tempfile.TemporaryDirectory() as directory:
        words = ("--activation=sigmoid", "--limit-train=10000", "--epochs=4", f"--engine={engine}", *FEW)
        lenet("train", *words, f"--threads={threads}", "--runs-dir", directory)
        return list(map(float, lenet_mnist.load(runs_dir=directory).history["seconds"][1:]))


def main() -> None:
    parts = {"loops": loops, "fast": fast, "commands": commands, "waiting": waiting}
    parser = arguments(__doc__, parts)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(f"{machine()}, {THREADS} threads; {versions()}")
    for name in options.parts:
        parts[name](options.rounds)


if __name__ == "__main__":
    main()
