"""What the right learning rate is, and how near to it `learning_rate: auto` comes: docs/learning-rate.md.

    python scripts/measure_learning_rate.py truth short auto show exponents regret

A cell is an activation, an optimizer and a batch size; everything else is as in that activation's shipped recipe, over
8 epochs. Two more cells, for the exponents alone, are ReLU and tanh with SGD and batches of 64, without weight decay.

- truth: the whole training at 16 rates, over the seeds 0 to 4, which no search uses
- short: schedules of a half, 1 and 2 epochs at the same rates, over the seeds 100 to 102
- auto: searches of `learning_rate: auto` within 16 and 40 epochs, over the seeds 200 to 204
- show: the losses of truth and short; exponents: how the best rate depends on the length of the training
- regret: how far above the lowest loss the chosen rates end, also those that the journal has of other programs

The test files are never opened.
"""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import cached_property
from itertools import product
from pathlib import Path
from statistics import mean, median
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from common import ROOT, SMALL, Config, arguments, context_of, few, recipe, results, table
from lenet_mnist.config import Activation, Optimizer
from lenet_mnist.errors import ConfigError
from lenet_mnist.tuning.auto import decide_rate
from lenet_mnist.tuning.best_rate import choose
from lenet_mnist.tuning.trial import Trial, TrialResult, train_trial

JOURNAL = ROOT / "docs" / "learning-rate.jsonl"
EPOCHS = 8
SHORT = (0.5, 1, 2)
SEEDS = {EPOCHS: few(range(5)), **{epochs: few(range(100, 103)) for epochs in SHORT}}
SEARCH_SEEDS = few(range(200, 205))
BUDGETS = (16, 40)  # epochs
LN10 = math.log(10)  # a training that diverged counts as chance level
TRUSTED = 3.0  # times the lowest loss: where the truth is smoothed
WIDTH = 1.5  # of the smoothing, in steps of the grid: the standard deviation of its weights
TORCH_DEFAULT = 0.001  # of torch.optim.SGD and torch.optim.Adam
Key = tuple[Any, ...]


class Cell(NamedTuple):
    activation: Activation
    optimizer: Optimizer
    batch_size: int
    decay: tuple[str, ...] = ()  # or ("no-decay",)

    @property
    def key(self) -> Key:
        return (*self[:3], *self.decay)

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
        changes |= {"training__weight_decay": 0.0} if self.decay else {}
        return recipe(self.activation, training__max_epochs=EPOCHS, **changes)

    def __str__(self) -> str:
        return " ".join(map(str, self.key))


CELLS = [Cell(*cell) for cell in product(Activation, (Optimizer.SGD, Optimizer.ADAM), (64, 256))]
WITHOUT_DECAY = [Cell(each, Optimizer.SGD, 64, ("no-decay",)) for each in (Activation.RELU, Activation.TANH)]


class Training(NamedTuple):
    cell: Cell
    trial: Trial

    @property
    def key(self) -> Key:
        return (*self.cell.key, self.trial.epochs, self.trial.lr, self.trial.seed)


class Search(NamedTuple):
    """A search within a budget in epochs; without one, what other programs suggest."""

    cell: Cell
    seed: int
    budget: int | None

    @property
    def key(self) -> Key:
        return (*self.cell.key, "peers" if self.budget is None else "auto", self.budget, self.seed)


def trainings(cells: Iterable[Cell], lengths: Iterable[float]) -> Iterator[Training]:
    """Yield seed after seed over all cells, so that a part of them is useful already."""
    for epochs in lengths:
        for seed, cell in product(SEEDS[epochs], cells):
            yield from (Training(cell, Trial(cell.activation, lr, seed, epochs)) for lr in cell.rates)


def train(training: Training) -> list[float] | str:
    """Return the validation loss after each epoch."""
    config = training.cell.config
    result = train_trial(config, context_of(config), training.trial)
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

    def __init__(self, cell: Cell, losses: dict[Training, float]) -> None:
        by_rate = [[losses[each] for each in losses if each.trial.lr == lr] for lr in cell.rates]
        num_seeds = min(map(len, by_rate))
        self.by_rate = [each[:num_seeds] for each in by_rate]  # by_rate[rate][seed]
        self.u = np.log(cell.rates)
        self.y = np.log(np.mean(self.by_rate, axis=1))

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

    @cached_property
    def best(self) -> tuple[float, float]:
        """The log rate of the lowest loss, and its logarithm."""
        grid = np.linspace(self.u[0], self.u[-1], 1000)
        curve = self.log_loss(grid)
        return float(grid[curve.argmin()]), float(curve.min())

    def regret(self, lr: float) -> float:
        """Return by how much of the lowest loss the loss at `lr` is higher."""
        u = np.array([np.clip(math.log(lr), self.u[0], self.u[-1])])
        return float(np.exp(self.log_loss(u)[0] - self.best[1]) - 1)


def final_losses(journal: Path, cell: Cell, epochs: float) -> dict[Training, float]:
    """Return the last validation loss of each training that there is."""
    found = results(journal, trainings([cell], [epochs]), None)
    return {each: losses[-1] if isinstance(losses, list) else LN10 for each, losses in found.items()}


def show(journal: Path, cells: Sequence[Cell]) -> None:
    """Print the mean final loss at each rate, over the seeds that there are."""
    for cell, epochs in product(cells, SEEDS):
        losses = final_losses(journal, cell, epochs)
        by_rate = {lr: [loss for each, loss in losses.items() if each.trial.lr == lr] for lr in cell.rates}
        line = "  ".join(f"{lr:g}: {mean(each):.4f} ({len(each)})" for lr, each in by_rate.items() if each)
        print(f"{cell}, {epochs} epochs  {line}")


def show_exponents(journal: Path, cells: Sequence[Cell]) -> None:
    """Print the best rate at each length as a search would see it, the truth, and the exponents between them.

    They include the bias of the search's parabola: tuning/best_rate.py corrects for both.
    """
    rows = []
    for cell in cells:
        truth = Truth(cell, final_losses(journal, cell, EPOCHS))
        lrs, exponents = [], []
        for epochs in SHORT:
            losses = final_losses(journal, cell, epochs)
            choice = choose([TrialResult(t.trial, y, None, (), (), 0.0) for t, y in losses.items()], epochs, 0.0, LN10)
            lrs.append("-" if choice is None else f"{choice.lr:.2g}{'' if choice.is_fitted else ' (lowest)'}")
            shift = None if choice is None else (math.log(choice.lr) - truth.best[0]) / math.log(EPOCHS / epochs)
            exponents.append("-" if shift is None else f"{shift:.2f}")
        rows.append((cell, *lrs, f"{math.exp(truth.best[0]):.2g}", *exponents))
    columns = ("cell", "best at 1/2 epoch", "at 1", "at 2", "at 8 epochs", "exponent from 1/2", "from 1", "from 2")
    print(table(columns, rows))


def show_regret(journal: Path, cells: Sequence[Cell]) -> None:
    """Print for each way of finding a rate how far above the lowest loss it ends, over all cells and seeds."""
    methods: dict[str, list[tuple[Cell, float, float]]] = {}  # regrets and costs in epochs
    held: dict[int, list[bool]] = {}  # by budget: whether the best rate lies in the interval
    for cell in cells:
        truth = Truth(cell, final_losses(journal, cell, EPOCHS))
        searches = [Search(cell, *each) for each in product(SEARCH_SEEDS, (*BUDGETS, None))]
        for wanted, value in results(journal, searches, None).items():
            if wanted.budget is None:
                for name, (lr, updates) in value.items():
                    cost = updates * cell.batch_size / cell.config.data.train_size
                    methods.setdefault(name, []).append((cell, truth.regret(lr), cost))
                continue
            regret = math.inf if value["lr"] is None else truth.regret(value["lr"])
            cost = value.get("cost_epochs", wanted.budget)
            methods.setdefault(f"auto, {wanted.budget} epochs", []).append((cell, regret, cost))
            if value.get("is_fitted"):
                is_held = math.log(value["low"]) <= truth.best[0] <= math.log(value["high"])
                held.setdefault(wanted.budget, []).append(is_held)
        methods.setdefault(f"torch's default, {TORCH_DEFAULT}", []).append((cell, truth.regret(TORCH_DEFAULT), 0.0))
    rows = []
    for name, values in methods.items():
        regrets = [regret for _, regret, _ in values]
        within = [f"{mean(regret <= bound for regret in regrets):.0%}" for bound in (0.05, 0.10, 0.15)]
        cost = f"{median(cost for *_, cost in values):.1f}"
        rows.append((name, len(values), cost, f"{median(regrets):.1%}", *within, f"{max(regrets):.0%}"))
    columns = ("rate from", "searches", "cost, epochs", "median regret", "<= 5 %", "<= 10 %", "<= 15 %", "highest")
    print(table(columns, rows))
    for budget, hits in held.items():
        print(f"\nauto, {budget} epochs: the best rate lies in {sum(hits)} of {len(hits)} fitted intervals")
    by_cell = [[f"{max(y for of, y, _ in each if of == cell):.0%}" for each in methods.values()] for cell in cells]
    print("\n" + table(("highest regret", *methods), [(cell, *row) for cell, row in zip(cells, by_cell, strict=True)]))


def main() -> None:
    parts = ("truth", "short", "auto", "show", "exponents", "regret")
    parser = arguments(__doc__, parts, "docs/learning-rate.jsonl")
    parser.add_argument("--cells", default="", help="only cells that contain these words, as in relu,sgd,64")
    options = parser.parse_args()
    words = set(filter(None, options.cells.split(",")))
    cells, all_cells = ([c for c in some if words <= set(map(str, c.key))] for some in (CELLS, CELLS + WITHOUT_DECAY))
    journal, lengths = options.journal, {"truth": (EPOCHS,), "short": SHORT}
    for part in lengths.keys() & set(options.parts):
        results(journal, trainings(all_cells, lengths[part]), train)
    if "auto" in options.parts:
        results(journal, [Search(*each) for each in product(cells, SEARCH_SEEDS, BUDGETS)], search)
    for part, print_table in {"show": show, "exponents": show_exponents, "regret": show_regret}.items():
        if part in options.parts:
            print_table(journal, cells if part == "regret" else all_cells)


if __name__ == "__main__":
    main()
