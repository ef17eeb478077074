"""Choose on the validation part how scikit-learn's digits are enlarged, and the recipe of configs/digits.yaml.

    python scripts/search_digits.py enlargements --journal digits.jsonl
    python scripts/search_digits.py recipes --journal digits.jsonl

The validation part has 360 images only: each arm is trained on five splits of what is not the test part, with four
seeds each. The test part is never looked at. Finished trainings are kept in the journal: start again to go on.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch

from common import Journal, data_access
from lenet_mnist.config import Config
from lenet_mnist.data import mnist
from lenet_mnist.data.decoding import Pixels, resampling, to_pixels
from lenet_mnist.data.load import load_train_val
from lenet_mnist.devices import set_threads
from lenet_mnist.model.engines import resolve_engine
from lenet_mnist.reporting.text import aligned
from lenet_mnist.training.context import Context
from lenet_mnist.training.loop import train
from lenet_mnist.training.rows import EpochRow
from lenet_mnist.training.state import TrainState

SPLITS, SEEDS = range(5), range(1000, 1004)
TRAINING = {"max_epochs": 30, "batch_size": 32, "learning_rate": 0.03, "patience": None}


def linear(box: int) -> Callable[[Pixels], Pixels]:
    """Fit into a box of so many pixels, by means that fall off linearly."""

    def enlarge(small: Pixels) -> Pixels:
        matrix, margin = resampling(8, box), (28 - box) // 2
        fitted = to_pixels(matrix @ (small * (255 / 16)) @ matrix.T)
        return np.pad(fitted, ((0, 0), (margin, margin), (margin, margin)))

    return enlarge


def in_squares(small: Pixels) -> Pixels:
    """Make three pixels of each, side by side and above each other."""
    large = np.repeat(np.repeat(to_pixels(small * (255 / 16)), 3, axis=1), 3, axis=2)
    return np.pad(large, ((0, 0), (2, 2), (2, 2)))


ENLARGEMENTS = {
    "linear, 16 x 16": linear(16),
    "linear, 20 x 20": linear(20),
    "linear, 24 x 24": linear(24),
    "linear, 28 x 28": linear(28),
    "squares, 24 x 24": in_squares,
}
RECIPES: list[dict[str, Any]] = [
    {"max_epochs": epochs, "batch_size": batch_size, "learning_rate": rate, "weight_decay": decay}
    for epochs, batch_size, rate, decay in (
        (20, 16, 0.02, 1e-3),
        (20, 16, 0.02, 5e-3),
        (20, 16, 0.01, 5e-3),
        (20, 32, 0.02, 5e-3),
        (20, 32, 0.04, 5e-3),
        (40, 32, 0.02, 5e-3),
        (40, 32, 0.03, 1e-2),
    )
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["enlargements", "recipes"])
    parser.add_argument("--journal", type=Path, required=True)
    arguments = parser.parse_args()
    journal = Journal(arguments.journal)
    set_threads(1)
    rows = []
    if arguments.what == "enlargements":
        for name, enlarge in ENLARGEMENTS.items():
            mnist.enlarged = enlarge
            rows.append([name, *row_of([measured(journal, name, TRAINING, *each) for each in draws()])])
    else:
        for recipe in RECIPES:
            training = {**TRAINING, **recipe}
            results = [measured(journal, "as it is", training, *each) for each in draws()]
            rows.append([", ".join(f"{key} {value:g}" for key, value in recipe.items()), *row_of(results)])
    rows.sort(key=lambda row: row[3])
    print(aligned(["", "validation accuracy", "sd", "validation loss", "trainings"], rows, right=(1, 2, 3, 4)))


def draws() -> list[tuple[int, int]]:
    return [(split, seed) for split in SPLITS for seed in SEEDS]


def measured(journal: Journal, enlargement: str, training: dict[str, Any], split: int, seed: int) -> dict[str, float]:
    key = {"enlargement": enlargement, "training": training, "split": split, "seed": seed}
    if journal.get(key) is None:
        data = {"source": "digits", "split_seed": split}
        journal.add(key, run(Config.model_validate({"seed": seed, "data": data, "training": training})))
    result: dict[str, float] = journal.get(key)
    return result


def run(config: Config) -> dict[str, float]:
    rows: list[EpochRow] = []
    data, cpu = load_train_val(config.data, data_access()), torch.device("cpu")
    network = resolve_engine(config.training.engine, cpu, data.train.image_size).network
    train(config, Context(data), TrainState.start(config, Context(data, engine=network)), on_epoch=rows.append)
    best = min(rows, key=lambda row: row.val_loss)
    return {"val_loss": best.val_loss, "val_accuracy": best.val_accuracy}


def row_of(results: list[dict[str, float]]) -> list[str]:
    accuracies = [result["val_accuracy"] for result in results]
    return [
        f"{mean(accuracies):.2%}",
        f"{stdev(accuracies):.2%}",
        f"{mean(result['val_loss'] for result in results):.4f}",
        f"{len(results)}",
    ]


if __name__ == "__main__":
    main()
