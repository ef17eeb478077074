"""The same LeNet, images and optimizer in this project and in two PyTorch loops as others write them, side by side.

    python scripts/benchmark_peers.py rounds race scaling [--arms plain lenet-native ...]

- rounds: seconds of an epoch, without its evaluation: the second one of a training
- race: seconds of training and evaluation until a validation accuracy is reached, of four epochs
- scaling: seconds of an epoch by number of images, batch size and threads

All arms train in turn: whatever else the machine does hits them alike. All use SGD with momentum 0.9, without weight
decay, from their own initial weights; at a constant learning rate, but in race at twice that rate, falling to zero.
Only validation images are evaluated on. (Keras and JAX: this script at 2a5520b, docs/performance.md.)
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from itertools import accumulate
from math import inf
from statistics import median
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset
from torchvision import transforms
from torchvision.datasets import MNIST

from common import (
    SMALL,
    arguments,
    compare,
    data_access,
    data_of,
    few,
    recipe,
    table,
    take_threads,
    threads_here,
    trained,
)
from lenet_mnist.config import Config
from lenet_mnist.provenance import machine, versions

NUM_IMAGES = 2_000 if SMALL else 55_000
MOMENTUM = 0.9
CHUNK = 1000  # images evaluated at once
IDLE_SECONDS = 0.5  # OpenMP's threads spin for a while after their work
GOALS = (0.98, 0.985, 0.99)  # validation accuracies, in race


class Setting(NamedTuple):
    """One training; in race the rate falls to zero along a line."""

    batch_size: int
    num_images: int = NUM_IMAGES
    epochs: int = 2
    is_race: bool = False
    seed: int = 0

    @property
    def rate(self) -> float:
        return (0.02 if self.batch_size <= 64 else 0.04) * (2 if self.is_race else 1)


class Epoch(NamedTuple):
    """The seconds of the updates, those of the evaluation after them, and what that found."""

    seconds: float
    evaluation: float
    accuracy: float


Batches = Callable[[], Iterable[tuple[Tensor, Tensor]]]
Optimizing = tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler | None]
Optimize = Callable[[nn.Module], Optimizing]


def with_sgd(setting: Setting, model: nn.Module) -> Optimizing:
    sgd = torch.optim.SGD(model.parameters(), lr=setting.rate, momentum=MOMENTUM)
    steps = setting.epochs * -(-setting.num_images // setting.batch_size)
    return sgd, torch.optim.lr_scheduler.LinearLR(sgd, 1.0, 0.0, steps) if setting.is_race else None


def of_batches(setting: Setting, batches: Batches, val_batches: Batches, optimize: Optimize) -> Iterator[Epoch]:
    """Train torch's own layers in the lecture's order, with torch's initial weights."""
    torch.set_num_threads(threads_here())  # the native engine leaves torch one
    torch.manual_seed(setting.seed)
    model = nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
    )
    optimizer, scheduler = optimize(model)
    for _ in range(setting.epochs):
        started = time.perf_counter()
        model.train()
        for images, labels in batches():
            optimizer.zero_grad()
            F.cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if scheduler is not None:
                scheduler.step()
        updated = time.perf_counter()
        model.eval()
        with torch.no_grad():
            right = torch.cat([model(images).argmax(dim=1) == labels for images, labels in val_batches()])
        yield Epoch(updated - started, time.perf_counter() - updated, right.double().mean().item())


def examples(setting: Setting) -> Iterator[Epoch]:
    """The loop of pytorch/examples: torchvision decodes and normalises each image whenever it is shown."""
    data = data_of(Config().data)
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    mnist = MNIST(data_access().directory, train=True, transform=transform)
    train_part = Subset(mnist, data.train.indices[: setting.num_images].tolist())
    train_loader = DataLoader(train_part, batch_size=setting.batch_size, shuffle=True)
    val_loader = DataLoader(Subset(mnist, data.val.indices.tolist()), batch_size=CHUNK)
    return of_batches(setting, lambda: train_loader, lambda: val_loader, partial(with_sgd, setting))


@cache
def tensors() -> list[Tensor]:
    """Return images and labels of the training part, and of the validation part, in memory, normalised."""
    data = data_of(Config().data)
    parts = ((data.normalization.apply(part.images), part.labels) for part in (data.train, data.val))
    return [tensor for part in parts for tensor in part]


def plain(setting: Setting, optimize: Optimize | None = None) -> Iterator[Epoch]:
    """All images as one tensor, and one index operation a batch."""
    images, labels, val_images, val_labels = tensors()

    def batches() -> Iterable[tuple[Tensor, Tensor]]:
        order = torch.randperm(setting.num_images)
        return ((images[chosen], labels[chosen]) for chosen in torch.split(order, setting.batch_size))

    def val_batches() -> Iterable[tuple[Tensor, Tensor]]:
        return zip(torch.split(val_images, CHUNK), torch.split(val_labels, CHUNK), strict=True)

    return of_batches(setting, batches, val_batches, optimize or partial(with_sgd, setting))


def lenet(setting: Setting, engine: str) -> Iterator[Epoch]:
    """`lenet train`, without its files. What it prepares before an epoch's clock starts counts for no arm."""
    training = {"engine": engine, "batch_size": setting.batch_size, "learning_rate": setting.rate, "patience": None}
    training |= {"momentum": MOMENTUM, "weight_decay": 0.0, "warmup": 0.0, "max_epochs": setting.epochs}
    training["schedule"] = "linear" if setting.is_race else "constant"
    config = recipe(None).replace({f"training.{name}": value for name, value in training.items()})
    updated: dict[int, float] = {}  # when an epoch's last update ended
    state = trained(
        config.replace({"seed": setting.seed, "data.limit_train": setting.num_images, "data.val_size": 5000}),
        watch=lambda _: time.perf_counter(),
        on_step=lambda _, row: updated.update({row.epoch: time.perf_counter()}),
    )
    for row, ended in zip(state.state.histories.history, state.seen[1:], strict=True):
        evaluation = ended - updated[row.epoch]
        yield Epoch(row.seconds - evaluation, evaluation, row.val_accuracy)


ARMS: dict[str, Callable[[Setting], Iterator[Epoch]]] = {
    **{"examples": examples, "plain": plain},
    **{f"lenet-{engine}": partial(lenet, engine=engine) for engine in ("torch", "native")},
}


def train(arm: str, setting: Setting) -> list[Epoch]:
    time.sleep(IDLE_SECONDS)
    return list(ARMS[arm](setting))


def compare_epochs(arms: Sequence[str], setting: Setting, threads: int, rounds: int) -> None:
    """Print the seconds of a second epoch."""
    take_threads(threads)
    variants = {arm: lambda arm=arm: [epoch.seconds for epoch in train(arm, setting)[1:]] for arm in arms}
    compare(f"batches of {setting.batch_size}, {setting.num_images:,} images, {threads} threads", variants, rounds)


def race(arms: Sequence[str], batch_size: int, seeds: int) -> list[tuple[object, ...]]:
    """Return the median over all trainings, of which those that did not reach the goal took longest, and the range."""
    settings = [Setting(batch_size, epochs=4, is_race=True, seed=seed) for seed in range(seeds)]
    trainings = [{arm: train(arm, setting) for arm in arms} for setting in settings]
    rows = []
    for arm in arms:
        cells = []
        for goal in GOALS:
            times = sorted(seconds_to(goal, training[arm]) for training in trainings)
            reached = [seconds for seconds in times if seconds < inf]
            span = f"{reached[0]:.1f} to {reached[-1]:.1f}; " if reached else ""
            middle = f"{median(times):.1f}" if median(times) < inf else "not reached"
            cells.append(f"{middle} ({span}{len(reached)} of {len(times)})")
        rows.append((batch_size, arm, *cells))
    return rows


def seconds_to(goal: float, epochs: Sequence[Epoch]) -> float:
    """Return the seconds until the accuracy `goal`, evaluations included; infinity if it was not reached."""
    totals = accumulate(epoch.seconds + epoch.evaluation for epoch in epochs)
    return next((total for total, epoch in zip(totals, epochs, strict=True) if epoch.accuracy >= goal), inf)


def main() -> None:
    parser = arguments(__doc__, ["rounds", "race", "scaling"])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=few((64, 256)), help="in rounds and race")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=1 if SMALL else 3, help="trainings of each arm, in race")
    options = parser.parse_args()
    arms, threads = options.arms, options.threads
    print(f"{machine()}; {versions()}")
    cases = [(Setting(size), threads) for size in options.batch_sizes] if "rounds" in options.parts else []
    if "scaling" in options.parts:
        cases += [(Setting(64, number), threads) for number in ((1_000,) if SMALL else (5_000, 15_000, 30_000))]
        cases += [(Setting(size), threads) for size in few((32, 64, 128, 256, 512, 1024, 2048))] + [(Setting(64), 1)]
    for setting, number in cases:
        compare_epochs(arms, setting, number, options.rounds)
    if "race" in options.parts:
        take_threads(threads)
        rows = [row for size in options.batch_sizes for row in race(arms, size, options.seeds)]
        print("\n" + table(("batch", "arm", *(f"seconds to {goal:.1%} (range; reached)" for goal in GOALS)), rows))


if __name__ == "__main__":
    main()
