"""What the right learning rate is, and how near to it each way of finding one comes: docs/learning-rate.md.

    python scripts/measure_learning_rate.py truth short show

A cell is an activation, an optimizer and a batch size; everything else is as in that activation's shipped recipe, over
8 epochs.

- truth: the whole training at 16 rates, over the seeds 0 to 4, which no search uses
- short: schedules of 1 and 2 epochs at the same rates, over the seeds 100 to 102: by how much short schedules favour
  other rates

Every finished training is kept in docs/learning-rate.jsonl, and never done again: start again to go on. The test files
are never opened.
"""

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch

from common import Journal, data_access
from lenet_mnist.config import Activation, Config, Engine, Optimizer
from lenet_mnist.config_file import load_config
from lenet_mnist.data.mnist import load_train_val
from lenet_mnist.devices import set_threads
from lenet_mnist.model.engines import resolve_engine
from lenet_mnist.tuning.trial import Trial, TrialResult, Workbench, train_trial
from lenet_mnist.tuning.workers import Crew, Staff

ROOT = Path(__file__).parent.parent
EPOCHS = 8
NUM_RATES = 16
TRUTH_SEEDS = range(5)
SHORT_SEEDS = range(100, 103)
SHORT_EPOCHS = (1, 2)
MIN_RATES = 8
NEAR = 1.6  # times the lowest loss: rates that shape the parabola


@dataclass(frozen=True)
class Cell:
    activation: Activation
    optimizer: Optimizer
    batch_size: int

    @property
    def rates(self) -> tuple[float, ...]:
        """Sixteen rates over two decades around the useful ones, which for SGD lie higher with larger batches."""
        larger = (self.batch_size / 64) ** 0.5
        match self.optimizer, self.activation:
            case Optimizer.SGD, Activation.SIGMOID:
                lowest = 0.03 * larger
            case Optimizer.SGD, _:
                lowest = 0.0025 * larger
            case _, Activation.SIGMOID:
                lowest = 3e-4 * larger
            case _:
                lowest = 2e-4 * larger
        return tuple(float(f"{lr:.3g}") for lr in np.geomspace(lowest, 100 * lowest, NUM_RATES))

    @property
    def config(self) -> Config:
        recipe = load_config(ROOT / "configs" / f"{self.activation}.yaml").config
        changes = {"optimizer": self.optimizer, "batch_size": self.batch_size, "max_epochs": EPOCHS}
        return recipe.model_copy(update={"training": recipe.training.model_copy(update=changes)})

    @property
    def key(self) -> list[Any]:
        return [self.activation.value, self.optimizer.value, self.batch_size]


CELLS = [Cell(*cell) for cell in product(Activation, (Optimizer.SGD, Optimizer.ADAM), (64, 256))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=("truth", "short", "show"))
    parser.add_argument("--journal", type=Path, default=ROOT / "docs" / "learning-rate.jsonl")
    parser.add_argument("--cells", default="", help="only cells that contain these words, as in relu,sgd,64")
    parser.add_argument("--seeds", type=int, default=5, help="how many of the seeds of each part")
    arguments = parser.parse_args()
    journal = Journal(arguments.journal)
    cells = [cell for cell in CELLS if set(filter(None, arguments.cells.split(","))) <= set(map(str, cell.key))]
    if "truth" in arguments.parts:
        train_all(journal, cells, [(EPOCHS, seed) for seed in TRUTH_SEEDS[: arguments.seeds]])
    if "short" in arguments.parts:
        train_all(journal, cells, list(product(SHORT_EPOCHS, SHORT_SEEDS[: arguments.seeds])))
    if "show" in arguments.parts:
        show(journal, cells)


def train_all(journal: Journal, cells: Sequence[Cell], runs: Sequence[tuple[int, int]]) -> None:
    """Train what the journal lacks: seed after seed over all cells, so that a part of it is of use already."""
    missing = {cell: [t for t in trials(cell, runs) if journal.get(key_of(cell, t)) is None] for cell in cells}
    for epochs, seed in runs:
        for cell in cells:
            wave = [trial for trial in missing[cell] if (trial.epochs, trial.seed) == (epochs, seed)]
            if wave:
                train_wave(journal, cell, wave)


def train_wave(journal: Journal, cell: Cell, wave: Sequence[Trial]) -> None:
    cpu, access = torch.device("cpu"), data_access()
    data = load_train_val(cell.config.data, access)
    engine = resolve_engine(Engine.AUTO, cpu, data.train.image_size)
    bench = Workbench(cell.config, data, cpu, engine.network)
    staff = Staff.of(set_threads(None), len(wave), math.inf, cpu)
    with Crew(bench, engine.name, access.directory, staff) as crew:
        for result in crew.run(train_trial, wave):
            journal.add(key_of(cell, result.trial), value_of(result))
            print(*key_of(cell, result.trial), result.val_loss, f"{result.seconds:.1f} s", file=sys.stderr, flush=True)


def trials(cell: Cell, runs: Sequence[tuple[int, int]]) -> Iterator[Trial]:
    for epochs, seed in runs:
        yield from (Trial(cell.activation, lr, seed, epochs) for lr in cell.rates)


def key_of(cell: Cell, trial: Trial) -> list[Any]:
    return [*cell.key, trial.epochs, trial.lr, trial.seed]


def value_of(result: TrialResult) -> list[float] | str:
    """Return the validation loss after each epoch."""
    return "diverged" if result.val_loss is None else [float(f"{row.val_loss:.6g}") for row in result.history]


def show(journal: Journal, cells: Sequence[Cell]) -> None:
    """Print the mean final loss of each cell, horizon and rate, over the seeds that there are; and the best rate."""
    for cell in cells:
        print(f"\n{' '.join(map(str, cell.key))}")
        for epochs, seeds in ((EPOCHS, TRUTH_SEEDS), *((short, SHORT_SEEDS) for short in SHORT_EPOCHS)):
            line, means = [], {}
            for lr in cell.rates:
                values = [journal.get([*cell.key, epochs, lr, seed]) for seed in seeds]
                values = [value for value in values if value is not None]
                losses = [value[-1] for value in values if isinstance(value, list)]
                line.append(f"{lr:g}: {mean(losses):.4f} ({len(losses)})" if losses else f"{lr:g}: -")
                if len(losses) == len(values):
                    means[lr] = mean(losses)
            print(f"{epochs} epochs  " + "  ".join(line))
            if len(means) >= MIN_RATES:
                near = {lr: loss for lr, loss in means.items() if loss <= NEAR * min(means.values())}
                a, b, _ = np.polyfit(np.log(list(near)), np.log(list(near.values())), 2)
                print(f"          best rate {np.exp(-b / (2 * a)):.3g}, of a parabola through {len(near)} rates")


if __name__ == "__main__":
    main()
