"""How near to the best learning rate `learning_rate: auto` comes: docs/learning-rate.md.

    python scripts/measure_learning_rate.py truth auto regret

A cell is an activation, an optimizer and a batch size; everything else is as in that activation's shipped recipe, over
8 epochs.

- truth: the whole training at 16 rates, over the seeds 0 to 4, which no search uses
- auto: searches of `learning_rate: auto` within 16 and 40 epochs, over the seeds 200 to 204
- regret: how far above the lowest loss the chosen rates end, also those that the journal has of other programs

The test files are never opened. (How the best rate depends on the length of a training: this script at 1b6751d.)
"""

import json
import math
from dataclasses import asdict
from itertools import product
from pathlib import Path
from statistics import fmean, median
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from common import SMALL, Config, arguments, context_of, few, recipe, results, table
from lenet_mnist.config import Activation, Optimizer
from lenet_mnist.errors import ConfigError
from lenet_mnist.tuning.auto import decide_rate
from lenet_mnist.tuning.trial import Trial, train_trial

EPOCHS = 8
SEEDS = few(range(5))
SEARCH_SEEDS = few(range(200, 205))
BUDGETS = (16, 40)  # epochs
LN10 = math.log(10)  # a training that diverged counts as chance level
TRUSTED = 3.0  # times the lowest loss: where the truth is smoothed
WIDTH = 1.5  # of the smoothing, in steps of the grid: the standard deviation of its weights
TORCH_DEFAULT = 0.001  # of torch.optim.SGD and torch.optim.Adam


class Cell(NamedTuple):
    activation: Activation
    optimizer: Optimizer
    batch_size: int

    @property
    def rates(self) -> tuple[float, ...]:
        """Sixteen rates over two decades around the useful ones, which for SGD lie higher with larger batches."""
        is_sigmoid = self.activation is Activation.SIGMOID
        lowest = {Optimizer.SGD: (0.0025, 0.03), Optimizer.ADAM: (2e-4, 3e-4)}[self.optimizer][is_sigmoid]
        lowest *= (self.batch_size / 64) ** 0.5
        return tuple(float(f"{lr:.3g}") for lr in np.geomspace(lowest, 100 * lowest, 4 if SMALL else 16))

    @property
    def config(self) -> Config:
        changes = {"training__optimizer": self.optimizer, "training__batch_size": self.batch_size}
        return recipe(self.activation, training__max_epochs=EPOCHS, **changes)

    def __str__(self) -> str:
        return " ".join(map(str, self))


CELLS = [Cell(*cell) for cell in product(Activation, (Optimizer.SGD, Optimizer.ADAM), (64, 256))]


class Training(NamedTuple):
    cell: Cell
    lr: float
    seed: int

    @property
    def key(self) -> tuple[Any, ...]:
        return (*self.cell, EPOCHS, self.lr, self.seed)


class Search(NamedTuple):
    """A search within a budget in epochs; without one, what other programs suggest."""

    cell: Cell
    budget: int | None
    seed: int

    @property
    def key(self) -> tuple[Any, ...]:
        return (*self.cell, "peers" if self.budget is None else "auto", self.budget, self.seed)


def train(training: Training) -> list[float] | str:
    """Return the validation loss after each epoch."""
    config = training.cell.config
    trial = Trial(training.cell.activation, training.lr, training.seed, EPOCHS)
    result = train_trial(config, context_of(config), trial)
    return "diverged" if result.val_loss is None else [float(f"{row.val_loss:.6g}") for row in result.history]


def search(wanted: Search) -> dict[str, Any]:
    """Return what is found, numbers with six digits."""
    config = wanted.cell.config.replace({"seed": wanted.seed, "training.learning_rate_budget": wanted.budget})
    context = context_of(config)
    try:
        found = decide_rate(config, context, lambda trials: [train_trial(config, context, each) for each in trials])
    except ConfigError as error:
        return {"lr": None, "message": str(error)}
    return json.loads(json.dumps(asdict(found)), parse_float=lambda text: float(f"{float(text):.6g}"))  # type: ignore[no-any-return]


class Truth:
    """The final validation loss at each rate: the mean over seeds, and between rates smoothed along their logarithm."""

    def __init__(self, cell: Cell, journal: Path) -> None:
        found = results(journal, [Training(cell, lr, seed) for lr in cell.rates for seed in SEEDS], None)
        last = {each: losses[-1] if isinstance(losses, list) else LN10 for each, losses in found.items()}
        self.u = np.log(cell.rates)
        self.y = np.log([fmean(loss for each, loss in last.items() if each.lr == lr) for lr in cell.rates])
        grid = np.linspace(self.u[0], self.u[-1], 1000)
        curve = self.log_loss(grid)
        self.best, self.lowest = float(grid[curve.argmin()]), float(curve.min())  # both are logarithms

    def log_loss(self, u: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Near the lowest loss a weighted parabola around each point, elsewhere straight lines; level at the edges."""
        near = self.y <= self.y.min() + math.log(TRUSTED)
        width = WIDTH * float(self.u[1] - self.u[0])
        curve = np.interp(u, self.u, self.y)
        for k, center in enumerate(u):
            if self.u[near].min() <= center <= self.u[near].max() and near.sum() > 2:
                weights = np.exp(-(((self.u[near] - center) / width) ** 2) / 4)  # polyfit squares them
                curve[k] = np.polyval(np.polyfit(self.u[near] - center, self.y[near], 2, w=weights), 0.0)
        return curve

    def regret(self, lr: float | None) -> float:
        """Return by how much of the lowest loss the loss at `lr` is higher; infinity if no rate was found."""
        if lr is None:
            return math.inf
        u = np.array([np.clip(math.log(lr), self.u[0], self.u[-1])])
        return float(np.exp(self.log_loss(u)[0] - self.lowest) - 1)


def show_regret(journal: Path) -> None:
    """Print for each way of finding a rate how far above the lowest loss it ends, over all cells and seeds."""
    methods: dict[str, list[tuple[Cell, float, float]]] = {}  # regrets and costs in epochs
    held: dict[str, list[bool]] = {}  # whether the best rate lies in the interval
    for cell in CELLS:
        truth, num_images = Truth(cell, journal), cell.config.data.train_size
        searches = [Search(cell, *each) for each in product((*BUDGETS, None), SEARCH_SEEDS)]
        for wanted, found in results(journal, searches, None).items():
            name = f"auto, {wanted.budget} epochs"
            if wanted.budget is None:
                suggested = {name: (lr, steps * cell.batch_size / num_images) for name, (lr, steps) in found.items()}
            else:
                suggested = {name: (found["lr"], found.get("cost_epochs", wanted.budget))}
            for each, (lr, cost) in suggested.items():
                methods.setdefault(each, []).append((cell, truth.regret(lr), cost))
            if found.get("is_fitted"):
                is_held = math.log(found["low"]) <= truth.best <= math.log(found["high"])
                held.setdefault(name, []).append(is_held)
        methods.setdefault(f"torch's default, {TORCH_DEFAULT}", []).append((cell, truth.regret(TORCH_DEFAULT), 0.0))
    rows = []
    for name, values in methods.items():
        regrets = [regret for _, regret, _ in values]
        within = [f"{fmean(regret <= bound for regret in regrets):.0%}" for bound in (0.05, 0.10, 0.15)]
        cost = f"{median(cost for *_, cost in values):.1f}"
        rows.append((name, len(values), cost, f"{median(regrets):.1%}", *within, f"{max(regrets):.0%}"))
    columns = ("rate from", "searches", "cost, epochs", "median regret", "<= 5 %", "<= 10 %", "<= 15 %", "highest")
    print(table(columns, rows))
    for name, hits in held.items():
        print(f"\n{name}: the best rate lies in {sum(hits)} of {len(hits)} fitted intervals")
    by_cell = [[f"{max(y for of, y, _ in each if of == cell):.0%}" for each in methods.values()] for cell in CELLS]
    print("\n" + table(("highest regret", *methods), [(cell, *row) for cell, row in zip(CELLS, by_cell, strict=True)]))


def main() -> None:
    options = arguments(__doc__, ("truth", "auto", "regret"), "docs/learning-rate.jsonl").parse_args()
    if "truth" in options.parts:  # seed after seed over all cells, so that a part of them is useful already
        trainings = [Training(cell, lr, seed) for seed, cell in product(SEEDS, CELLS) for lr in cell.rates]
        results(options.journal, trainings, train)
    if "auto" in options.parts:
        results(options.journal, [Search(*each) for each in product(CELLS, BUDGETS, SEARCH_SEEDS)], search)
    if "regret" in options.parts:
        show_regret(options.journal)


if __name__ == "__main__":
    main()
