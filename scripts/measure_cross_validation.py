"""When cross-validation is worth its cost: docs/cross-validation.md.

    python scripts/measure_cross_validation.py        about 10 minutes on two cores; `show` prints the table again

From MNIST's 60,000 non-test images, N are drawn 20 times, for N from 200 to 10,000. On the same N the accuracy of a
network is estimated twice: once as the lecture's 60/20/20 does it (train on 60 %, stop by 20 %, test on 20 %), once by
5 folds. The true accuracy of each network is measured on 10,000 other images, which neither saw.

Finished draws are kept in docs/cross-validation.jsonl. The test files are never opened.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

import numpy as np
import torch

from common import CPU, ROOT, Config, arguments_parser, context_of, results, table, trained
from lenet_mnist.analysis.intervals import resampled_interval
from lenet_mnist.analysis.metrics import evaluate
from lenet_mnist.data.sets import Normalization, TrainSet, TrainVal, ValSet
from lenet_mnist.study.cross_validation import Fold, Folds, fold_of
from lenet_mnist.training.checkpoint import TrainedNetwork

SIZES = (200, 500, 1000, 2000, 5000, 10_000)
DRAWS = range(20)
NUM_FOLDS = 5
NUM_OTHERS = 10_000
CONFIG = Config.model_validate({"training": {"batch_size": 32, "learning_rate": 0.03}})
MIN_EPOCHS = 10
MIN_UPDATES = 600  # of a training on all images: few images are shown more often
PARTS = ("images", "labels", "indices")


class Draw(NamedTuple):
    """So many images, drawn by a seed."""

    num_images: int
    seed: int


def estimate(draw: Draw) -> dict[str, Any]:
    """Estimate in both ways from the same images. `truth` is the accuracy of the same network on other images."""
    data = context_of(CONFIG).data
    folds = Folds(NUM_FOLDS, 1, draw.num_images)
    parts = [fold_of(data, Fold(folds, 1, number), draw.seed).val for number in range(1, NUM_FOLDS + 1)]
    others = others_than(data, torch.cat([part.indices for part in parts]), draw.seed)
    epochs = max(MIN_EPOCHS, MIN_UPDATES * CONFIG.training.batch_size // draw.num_images)
    whole = CONFIG.replace({"seed": draw.seed, "training.max_epochs": epochs, "training.patience": None})

    started = time.perf_counter()
    single = network_of(whole.replace({"training.patience": max(5, epochs // 4)}), data, parts[2:], parts[1])
    single_accuracy = accuracy(single, parts[0])
    single_seconds = time.perf_counter() - started

    started, networks, accuracies = time.perf_counter(), [], []
    for part in parts:
        networks.append(network_of(whole, data, [other for other in parts if other is not part], part))
        accuracies.append(accuracy(networks[-1], part))
    folds_seconds = time.perf_counter() - started
    return {
        "single": single_accuracy,
        "single_truth": accuracy(single, others),
        "folds": accuracies,
        "folds_truth": [accuracy(network, others) for network in networks],
        "whole_truth": accuracy(network_of(whole, data, parts, parts[0]), others),
        "single_seconds": single_seconds,
        "folds_seconds": folds_seconds,
    }


def others_than(data: TrainVal, taken: torch.Tensor, seed: int) -> ValSet:
    """Return images that were not drawn."""
    images, labels, indices = (torch.cat([getattr(data.train, name), getattr(data.val, name)]) for name in PARTS)
    free = np.flatnonzero(~torch.isin(indices, taken).numpy())
    chosen = torch.from_numpy(np.random.default_rng(seed).permutation(free)[:NUM_OTHERS])
    return ValSet(images[chosen], labels[chosen], indices[chosen])


def network_of(config: Config, data: TrainVal, parts: Sequence[ValSet], val: ValSet) -> TrainedNetwork:
    """Train on `parts`; early stopping, where `config` has it, keeps the best weights, else the last are kept."""
    train = TrainSet(*(torch.cat([getattr(part, name) for part in parts]) for name in PARTS))
    context = context_of(config)
    context = replace(context, data=replace(data, train=train, val=val, normalization=Normalization.of(train)))
    state, _ = trained(config, context)
    network = state.kept_network() if config.training.patience is not None else state.network
    assert network is not None
    return TrainedNetwork(network, context.data.normalization, data.class_names, 1).on(CPU, context.engine)


def accuracy(network: TrainedNetwork, images: ValSet) -> float:
    return evaluate(network, images, CPU).accuracy


def off_by(estimates: Sequence[float], truths: Sequence[float]) -> str:
    """Return the root mean square error."""
    return f"{math.sqrt(fmean((a - b) ** 2 for a, b in zip(estimates, truths, strict=True))):.2%}"


def show(found: dict[Draw, dict[str, Any]]) -> None:
    """Print a row per number of images, in per cent."""
    lines = []
    for size in SIZES:
        rows = [found[Draw(size, seed)] for seed in DRAWS if Draw(size, seed) in found]
        if len(rows) < 2:
            continue
        single, folds = [row["single"] for row in rows], [fmean(row["folds"]) for row in rows]
        folds_truth = [fmean(row["folds_truth"]) for row in rows]
        cost = sum(row["folds_seconds"] for row in rows) / sum(row["single_seconds"] for row in rows)
        intervals = [resampled_interval(row["folds"], NUM_FOLDS) for row in rows]
        held = sum(low <= truth <= high for (low, high), truth in zip(intervals, folds_truth, strict=True))
        lines.append(
            (
                f"{size:,}",
                f"{fmean(row['whole_truth'] for row in rows):.2%}",
                f"{fmean(single):.2%} ± {stdev(single):.2%}",
                off_by(single, [row["single_truth"] for row in rows]),
                f"{fmean(folds):.2%} ± {stdev(folds):.2%}",
                off_by(folds, folds_truth),
                f"{cost:.1f}",
                f"{held} of {len(rows)}",
            )
        )
    columns = ("images", "trained on all, really", "60/20/20: estimate", "off by", "5 folds: estimate", "off by")
    print(table((*columns, "times the cost", "interval held"), lines))


def main() -> None:
    parser = arguments_parser(__doc__)
    parser.add_argument("part", nargs="?", choices=("show",), help="only print the table of what is there")
    parser.add_argument("--journal", type=Path, default=ROOT / "docs" / "cross-validation.jsonl")
    options = parser.parse_args()
    draws = [Draw(*each) for each in product(SIZES, DRAWS)]
    show(results(options.journal, draws, estimate if options.part is None else None, Draw._asdict))


if __name__ == "__main__":
    main()
