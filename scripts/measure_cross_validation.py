"""When cross-validation is worth its cost: docs/cross-validation.md.

    python scripts/measure_cross_validation.py        about 10 minutes on two cores; `show` prints the table again

From MNIST's 60,000 non-test images, N are drawn 20 times, for N from 200 to 10,000. On the same N the accuracy of a
network is estimated twice: once as the lecture's 60/20/20 does it (train on 60 %, stop by 20 %, test on 20 %), once by
5 folds. What each network really gets right is measured on 10,000 other images, which neither saw.

Every finished draw is kept in docs/cross-validation.jsonl, and not done again. The test files are never opened.
"""

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import torch

from common import ROOT, Journal, data_access
from lenet_mnist.analysis.folds import Fold, Folds, fold_of
from lenet_mnist.analysis.intervals import resampled_interval
from lenet_mnist.analysis.metrics import evaluate
from lenet_mnist.config import Config, Engine
from lenet_mnist.data.load import load_train_val
from lenet_mnist.data.sets import Normalization, TrainSet, TrainVal, ValSet
from lenet_mnist.devices import set_threads
from lenet_mnist.model.engines import resolve_engine
from lenet_mnist.training.checkpoint import TrainedNetwork
from lenet_mnist.training.context import Context
from lenet_mnist.training.loop import train
from lenet_mnist.training.state import TrainState
from lenet_mnist.training.workers import PoolSize, TrialPool

JOURNAL = ROOT / "docs" / "cross-validation.jsonl"
SIZES = (200, 500, 1000, 2000, 5000, 10_000)
DRAWS = range(20)
NUM_FOLDS = 5
NUM_OTHERS = 10_000
CONFIG = Config.model_validate({"training": {"batch_size": 32, "learning_rate": 0.03}})
MIN_EPOCHS = 10
MIN_UPDATES = 600  # of a training on all images: few images are shown more often


@dataclass(frozen=True)
class Draw:
    """So many images, drawn by a seed."""

    num_images: int
    seed: int


@dataclass(frozen=True)
class Estimates:
    """Accuracies: estimated, and of other images by the same networks; `folds` and `folds_truth` hold one a fold."""

    single: float
    single_truth: float
    folds: tuple[float, ...]
    folds_truth: tuple[float, ...]
    whole_truth: float  # of a network trained on all images
    single_seconds: float
    folds_seconds: float


def estimate(bench: Any, draw: Draw) -> Estimates:
    """Estimate in both ways from the same images."""
    folds = Folds(NUM_FOLDS, 1, draw.num_images)
    parts = [fold_of(bench.data, Fold(folds, 1, number), draw.seed).val for number in range(1, NUM_FOLDS + 1)]
    others = others_than(bench.data, torch.cat([part.indices for part in parts]), draw.seed)
    epochs = max(MIN_EPOCHS, MIN_UPDATES * CONFIG.training.batch_size // draw.num_images)
    stopped, whole = (with_patience(draw.seed, epochs, patience) for patience in (max(5, epochs // 4), None))

    started = time.perf_counter()
    single = trained(bench, stopped, as_train(parts[2:]), parts[1], is_best_taken=True)
    single_accuracy = accuracy(single, parts[0])
    single_seconds = time.perf_counter() - started

    accuracies, truths = [], []
    started, measuring = time.perf_counter(), 0.0
    for number, part in enumerate(parts):
        rest = [other for place, other in enumerate(parts) if place != number]
        network = trained(bench, whole, as_train(rest), part, is_best_taken=False)
        accuracies.append(accuracy(network, part))
        began = time.perf_counter()
        truths.append(accuracy(network, others))
        measuring += time.perf_counter() - began
    folds_seconds = time.perf_counter() - started - measuring
    on_all = trained(bench, whole, as_train(parts), parts[0], is_best_taken=False)
    return Estimates(
        single=single_accuracy,
        single_truth=accuracy(single, others),
        folds=tuple(accuracies),
        folds_truth=tuple(truths),
        whole_truth=accuracy(on_all, others),
        single_seconds=single_seconds,
        folds_seconds=folds_seconds,
    )


def with_patience(seed: int, epochs: int, patience: int | None) -> Config:
    training = CONFIG.training.model_copy(update={"max_epochs": epochs, "patience": patience})
    return CONFIG.model_copy(update={"seed": seed, "training": training})


def others_than(data: TrainVal, taken: torch.Tensor, seed: int) -> ValSet:
    """Return images that were not drawn."""
    images, labels, indices = (
        torch.cat([getattr(data.train, name), getattr(data.val, name)]) for name in ("images", "labels", "indices")
    )
    free = np.flatnonzero(~torch.isin(indices, taken).numpy())
    chosen = torch.from_numpy(np.random.default_rng(seed).permutation(free)[:NUM_OTHERS])
    return ValSet(images[chosen], labels[chosen], indices[chosen])


def as_train(parts: Sequence[ValSet]) -> TrainSet:
    return TrainSet(*(torch.cat([getattr(part, name) for part in parts]) for name in ("images", "labels", "indices")))


def trained(bench: Any, config: Config, part: TrainSet, val: ValSet, is_best_taken: bool) -> TrainedNetwork:
    data = replace(bench.data, train=part, val=val, normalization=Normalization.of(part))
    state = TrainState.start(config, Context(data, bench.device, engine=bench.engine))
    train(config, Context(data), state)
    network = state.kept_network() if is_best_taken else state.network
    assert network is not None
    network.engine = bench.engine
    return TrainedNetwork(network, data.normalization, data.class_names, 1)


def accuracy(network: TrainedNetwork, images: ValSet) -> float:
    return evaluate(network, images, torch.device("cpu")).accuracy


def measure(journal: Journal) -> None:
    access, cpu = data_access(), torch.device("cpu")
    data = load_train_val(CONFIG.data, access)
    threads = set_threads(None)
    engine = resolve_engine(Engine.AUTO, cpu, data.train.image_size)
    draws = [Draw(size, seed) for size in SIZES for seed in DRAWS]
    missing = [draw for draw in draws if journal.get(asdict(draw)) is None]
    with TrialPool(
        (CONFIG, Context(data, engine=engine.network)), engine.name, access.directory, PoolSize(threads, 1)
    ) as crew:
        for draw, estimates in crew.run(estimate_named, missing):
            journal.add(asdict(draw), asdict(estimates))
            print(
                f"{draw.num_images:6}  {draw.seed:2}  {estimates.single:.4f}  {fmean(estimates.folds):.4f}", flush=True
            )


def estimate_named(bench: Any, draw: Draw) -> tuple[Draw, Estimates]:
    return draw, estimate(bench, draw)


def root_mean_square(values: Sequence[float]) -> float:
    return math.sqrt(fmean(value * value for value in values))


def show(journal: Journal) -> None:
    """Print one row a number of images, in per cent."""
    names = ("images", "trained on all, really", "60/20/20: estimate", "off by", "5 folds: estimate", "off by")
    print("| " + " | ".join((*names, "times the cost", "interval held")) + " |")
    print("|" + "---|" * (len(names) + 2))
    for size in SIZES:
        found = [journal.get(asdict(Draw(size, seed))) for seed in DRAWS]
        rows = [Estimates(**row) for row in found if row is not None]
        if len(rows) < 2:
            continue
        single, folds = [row.single for row in rows], [fmean(row.folds) for row in rows]
        single_off = root_mean_square([row.single - row.single_truth for row in rows])
        folds_off = root_mean_square([fmean(row.folds) - fmean(row.folds_truth) for row in rows])
        cost = sum(row.folds_seconds for row in rows) / sum(row.single_seconds for row in rows)
        held = 0
        for row in rows:
            low, high = resampled_interval(row.folds, NUM_FOLDS)
            held += low <= fmean(row.folds_truth) <= high
        print(
            f"| {size:,} | {fmean(row.whole_truth for row in rows):.2%} | {fmean(single):.2%} ± {stdev(single):.2%} | "
            f"{single_off:.2%} | {fmean(folds):.2%} ± {stdev(folds):.2%} | {folds_off:.2%} | {cost:.1f} | "
            f"{held} of {len(rows)} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=("show",), help="print the table of what is there")
    parser.add_argument("--journal", type=Path, default=JOURNAL, help="where finished draws are kept")
    options = parser.parse_args()
    journal = Journal(options.journal)
    if options.part is None:
        measure(journal)
    show(journal)


if __name__ == "__main__":
    main()
