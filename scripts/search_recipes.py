"""Choose the recipes of configs/ on the validation set: the tables of docs/lab-notes.md. No test image is looked at.

    python scripts/search_recipes.py recipes --journal recipes.jsonl         relu.yaml, tanh.yaml, sigmoid.yaml
    taskset -c 0 python scripts/search_recipes.py fast --journal fast.jsonl         fast.yaml
    python scripts/search_recipes.py enlargements digits --journal digits.jsonl         digits.yaml

- recipes: two seeds that no published figure uses; by the lowest validation loss
- fast: the shortest training that still reaches 99 %: of up to ten seeds the figures of the last epoch. Arms whose
  first three seeds fall far behind get no more. The fewest seconds with a mean validation accuracy of 99 % win.
- enlargements, digits: how scikit-learn's digits are enlarged, and their recipe. The validation part has 360 images
  only: each arm is trained on five splits of what is not the test part, with four seeds each.
"""

from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

import numpy as np

from common import Config, arguments_parser, data_of, results, trained
from lenet_mnist.data import mnist
from lenet_mnist.data.decoding import Pixels, resampling, to_pixels
from lenet_mnist.reporting.text import aligned

PROMISING = 0.988  # mean validation accuracy of the first three seeds


class Arm(NamedTuple):
    """What is tried: values by dotted key, and how digits are enlarged, if not as the package does it."""

    values: tuple[tuple[str, Any], ...]
    enlargement: str = ""

    @property
    def name(self) -> str:
        words = [f"{key.rpartition('.')[2]} {value}" for key, value in self.values]
        return ", ".join([*filter(None, [self.enlargement]), *words])


class Trial(NamedTuple):
    arm: Arm
    seed: int
    split: int = 0


def arm(epochs: int, batch_size: int, rate: float, decay: float, **more: Any) -> Arm:
    names = ("max_epochs", "batch_size", "learning_rate", "weight_decay")
    training = dict(zip(names, (epochs, batch_size, rate, decay), strict=True)) | more
    return Arm(tuple((key if "." in key else f"training.{key}", value) for key, value in training.items()))


def common_arm(activation: str, epochs: int, optimizer: str, rate: float, warmup: float = 0.1, decay: float = 0) -> Arm:
    return arm(epochs, 64, rate, decay, optimizer=optimizer, warmup=warmup, **{"model.activation": activation})


def fast(
    epochs: int, batch: int, rate: float, optimizer: str = "adam", warmup: float = 0.2, decay: float = 1e-3
) -> Arm:
    return arm(epochs, batch, rate, decay, optimizer=optimizer, warmup=warmup, patience=None)


RECIPES = [
    *(common_arm("relu", 10, "sgd", rate) for rate in (0.02, 0.04, 0.08)),
    common_arm("relu", 10, "sgd", 0.04, decay=5e-4),
    common_arm("relu", 10, "adam", 0.002),
    common_arm("relu", 10, "adam", 0.004, 0.2),
    *(common_arm("relu", 8, "sgd", rate, decay=5e-4) for rate in (0.03, 0.04, 0.06)),
    common_arm("relu", 8, "sgd", 0.04, decay=1e-3),
    *(common_arm("tanh", 10, "sgd", rate) for rate in (0.02, 0.05)),
    *(common_arm("tanh", 10, "sgd", rate, decay=5e-4) for rate in (0.05, 0.03)),
    *(common_arm("sigmoid", 12, "sgd", rate) for rate in (0.2, 0.4)),
    common_arm("sigmoid", 12, "adam", 0.003),
]
FAST = [
    *(fast(1, batch, rate) for batch, rate in product((32, 64), (2e-3, 4e-3))),
    *(fast(2, batch, rate) for batch, rate in product((32, 64, 128, 256), (2e-3, 4e-3, 6e-3))),
    *(fast(2, batch, rate, "sgd") for batch, rate in product((32, 64), (0.02, 0.04, 0.06))),
    *(fast(3, batch, rate) for batch, rate in product((64, 128, 256), (4e-3, 6e-3, 8e-3))),
    *(fast(3, batch, rate, "sgd") for batch, rate in product((64, 128), (0.04, 0.06))),
    # Two epochs got better with every larger rate: further up, with and without weight decay, and with other warm-ups.
    *(fast(2, batch, rate, decay=0) for batch, rate in product((64, 128, 256), (8e-3, 1e-2, 1.4e-2))),
    *(fast(2, batch, rate, warmup=w, decay=0) for (batch, rate), w in product(((64, 8e-3), (128, 1e-2)), (0.1, 0.3))),
    *(fast(3, 256, rate, decay=decay) for decay, rate in product((0, 1e-3), (1e-2, 1.4e-2))),
    fast(2, 32, 8e-3),
    *(fast(2, batch, rate) for batch, rate in product((64, 128), (8e-3, 1e-2))),
    *(fast(2, 64, rate, decay=3e-3) for rate in (6e-3, 8e-3)),
]
DIGITS = {"patience": None, "data.source": "digits", "data.train_size": 1078, "data.val_size": 360}
DIGIT_RECIPES = [
    arm(epochs, batch, rate, decay, **DIGITS)
    for epochs, batch, rate, decay in (
        *((20, 16, 0.02, 1e-3), (20, 16, 0.02, 5e-3), (20, 16, 0.01, 5e-3), (20, 32, 0.02, 5e-3)),
        *((20, 32, 0.04, 5e-3), (40, 32, 0.02, 5e-3), (40, 32, 0.03, 1e-2)),
    )
]


def linear(box: int) -> Callable[[Pixels], Pixels]:
    """Fit into a box of so many pixels, by means that fall off linearly."""

    def enlarge(small: Pixels) -> Pixels:
        matrix, margin = resampling(8, box), (28 - box) // 2
        return np.pad(to_pixels(matrix @ (small * (255 / 16)) @ matrix.T), ((0, 0), (margin, margin), (margin, margin)))

    return enlarge


def in_squares(small: Pixels) -> Pixels:
    """Make three pixels of each, side by side and above each other."""
    large = np.repeat(np.repeat(to_pixels(small * (255 / 16)), 3, axis=1), 3, axis=2)
    return np.pad(large, ((0, 0), (2, 2), (2, 2)))


ENLARGEMENTS = {f"linear, {box} x {box}": linear(box) for box in (16, 20, 24, 28)} | {"squares, 24 x 24": in_squares}


def run(trial: Trial) -> dict[str, float]:
    """Train once. `val_loss` is the lowest, and `val_accuracy` that of the same epoch."""
    if trial.arm.enlargement:
        mnist.enlarged = ENLARGEMENTS[trial.arm.enlargement]
        data_of.cache_clear()
    config = Config().replace({"seed": trial.seed, "data.split_seed": trial.split, **dict(trial.arm.values)})
    rows = trained(config)[0].histories.history
    best, last = min(rows, key=lambda row: row.val_loss), rows[-1]
    figures = {"val_loss": best.val_loss, "val_accuracy": best.val_accuracy, "first_loss": rows[0].val_loss}
    return figures | {
        "last_loss": last.val_loss,
        "last_accuracy": last.val_accuracy,
        "seconds": sum(row.seconds for row in rows),
    }


def search(journal: Path, arms: Sequence[Arm], seeds: range, splits: Sequence[int] = (0,)) -> dict[Arm, list[Any]]:
    trials = [Trial(arm, seed, split) for arm in arms for split in splits for seed in seeds]
    found = results(journal, trials, run)
    return {arm: [found[trial] for trial in trials if trial.arm == arm] for arm in arms}


def main() -> None:
    parser = arguments_parser(__doc__)
    parser.add_argument("parts", nargs="+", choices=("recipes", "fast", "enlargements", "digits"))
    parser.add_argument("--journal", type=Path, required=True)
    options = parser.parse_args()
    for part in options.parts:
        loss, accuracy = ("last_loss", "last_accuracy") if part == "fast" else ("val_loss", "val_accuracy")
        if part == "fast":
            found = search(options.journal, FAST, range(1000, 1003))
            promising = [arm for arm, each in found.items() if mean(one[accuracy] for one in each) >= PROMISING]
            found |= search(options.journal, promising, range(1000, 1010))
        elif part == "recipes":
            found = search(options.journal, RECIPES, range(1000, 1002))
        else:
            usual = arm(30, 32, 0.03, Config().training.weight_decay, **DIGITS)
            enlarged = [usual._replace(enlargement=name) for name in ENLARGEMENTS]
            arms = DIGIT_RECIPES if part == "digits" else enlarged
            found = search(options.journal, arms, range(1000, 1004), range(5))
        rows = [
            (
                arm.name,
                f"{mean(each[loss] for each in those):.4f}",
                f"{mean(each[accuracy] for each in those):.2%}",
                f"{stdev(each[accuracy] for each in those):.2%}",
                f"{max(each['first_loss'] for each in those):.3f}",
                f"{mean(each['seconds'] for each in those):.1f}",
                str(len(those)),
            )
            for arm, those in found.items()
        ]
        columns = ("arm", "validation loss", "accuracy", "sd", "highest loss after epoch 1", "seconds", "trainings")
        print(aligned(columns, sorted(rows, key=lambda row: row[1]), right=range(1, 7)))


if __name__ == "__main__":
    main()
