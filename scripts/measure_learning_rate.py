"""What the right learning rate is, and how near to it each way of finding one comes: docs/learning-rate.md.

    python scripts/measure_learning_rate.py truth short auto peers show exponents regret

A cell is an activation, an optimizer and a batch size; everything else is as in that activation's shipped recipe, over
8 epochs. Two more cells, for the exponents alone, are ReLU and tanh with SGD and batches of 64, without weight decay.

- truth: the whole training at 16 rates, over the seeds 0 to 4, which no search uses
- short: schedules of a half, 1 and 2 epochs at the same rates, over the seeds 100 to 102
- auto: searches of `learning_rate: auto` within 16 and 40 epochs, over the seeds 200 to 204
- peers: the suggestions of other programs' finders, over the same seeds
- show: the losses of truth and short; exponents: how the best rate depends on the length of the training
- regret: how far above the lowest loss the chosen rates end

Finished trainings are kept in docs/learning-rate.jsonl. The test files are never opened.
"""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
import numpy.typing as npt

import peers_learning_rate
from common import ROOT, Config, arguments_parser, context_of, recipe, results, table
from lenet_mnist.config import Activation, Optimizer
from lenet_mnist.errors import ConfigError
from lenet_mnist.tuning.auto import decide_rate
from lenet_mnist.tuning.best_rate import choose
from lenet_mnist.tuning.trial import Trial, TrialResult, train_trial

JOURNAL = ROOT / "docs" / "learning-rate.jsonl"
EPOCHS = 8
NUM_RATES = 16
SEEDS = {EPOCHS: range(5), 0.5: range(100, 103), 1: range(100, 103), 2: range(100, 103)}  # by epochs
SHORT = (0.5, 1, 2)
SEARCH_SEEDS = range(200, 205)
BUDGETS = (16, 40)  # epochs
LN10 = math.log(10)
MIN_RATES = 8
NEAR = 1.6  # times the lowest loss: rates that shape the parabola
TRUSTED = 3.0  # times the lowest loss: where the truth is smoothed
WIDTH = 1.5  # of the smoothing, in steps of the grid: the standard deviation of its weights
TORCH_DEFAULT = 0.001  # of torch.optim.SGD and torch.optim.Adam
Key = tuple[Any, ...]


@dataclass(frozen=True)
class Cell:
    activation: Activation
    optimizer: Optimizer
    batch_size: int
    has_decay: bool = True

    @property
    def rates(self) -> tuple[float, ...]:
        """Sixteen rates over two decades around the useful ones, which for SGD lie higher with larger batches."""
        is_sigmoid = self.activation is Activation.SIGMOID
        lowest = {Optimizer.SGD: (0.0025, 0.03), Optimizer.ADAM: (2e-4, 3e-4)}[self.optimizer][is_sigmoid]
        lowest *= (self.batch_size / 64) ** 0.5
        return tuple(float(f"{lr:.3g}") for lr in np.geomspace(lowest, 100 * lowest, NUM_RATES))

    @property
    def config(self) -> Config:
        changes = {"training__batch_size": self.batch_size, "training__max_epochs": EPOCHS}
        changes |= {} if self.has_decay else {"training__weight_decay": 0.0}
        return recipe(self.activation, training__optimizer=self.optimizer, **changes)

    @property
    def key(self) -> Key:
        return (self.activation, self.optimizer, self.batch_size, *(() if self.has_decay else ("no-decay",)))

    def keys(self, epochs: float, lr: float) -> list[Key]:
        """Return those of the trainings with all seeds."""
        return [(*self.key, epochs, lr, seed) for seed in SEEDS[epochs]]

    def __str__(self) -> str:
        return " ".join(map(str, self.key))


CELLS = [Cell(*cell) for cell in product(Activation, (Optimizer.SGD, Optimizer.ADAM), (64, 256))]
WITHOUT_DECAY = [Cell(each, Optimizer.SGD, 64, has_decay=False) for each in (Activation.RELU, Activation.TANH)]


@dataclass(frozen=True)
class Training:
    """One training at one rate."""

    cell: Cell
    trial: Trial

    @property
    def key(self) -> Key:
        return (*self.cell.key, self.trial.epochs, self.trial.lr, self.trial.seed)


@dataclass(frozen=True)
class Search:
    """A search of ours within a budget in epochs, or those of the other programs."""

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
        if wanted.budget is None:
            found = peers_learning_rate.suggestions(config, context)
        else:
            found = asdict(
                decide_rate(config, context, lambda trials: [train_trial(config, context, t) for t in trials])
            )
    except ConfigError as error:
        return {"lr": None, "message": str(error)}
    return json.loads(json.dumps(found), parse_float=lambda text: float(f"{float(text):.6g}"))  # type: ignore[no-any-return]


def final_losses(journal: Path, cells: Iterable[Cell]) -> dict[Key, float]:
    """Return the last validation loss of each training that there is; infinite where it diverged."""
    found = results(journal, trainings(cells, SEEDS), None)
    return {each.key: losses[-1] if isinstance(losses, list) else math.inf for each, losses in found.items()}


def or_chance(loss: float) -> float:
    """Return the loss; that of guessing if the training diverged."""
    return loss if loss < math.inf else LN10


def show(finals: dict[Key, float], cells: Sequence[Cell]) -> None:
    """Print the mean final loss of each cell, horizon and rate, over the seeds that there are; and the best rate."""
    for cell in cells:
        print(f"\n{cell}")
        for epochs in SEEDS:
            line, means = [], {}
            for lr in cell.rates:
                ends = [finals[key] for key in cell.keys(epochs, lr) if key in finals]
                losses = [loss for loss in ends if loss < math.inf]
                line.append(f"{lr:g}: {mean(losses):.4f} ({len(losses)})" if losses else f"{lr:g}: -")
                if losses and len(losses) == len(ends):
                    means[lr] = mean(losses)
            print(f"{epochs} epochs  " + "  ".join(line))
            if len(means) >= MIN_RATES:
                near = {lr: loss for lr, loss in means.items() if loss <= NEAR * min(means.values())}
                a, b, _ = np.polyfit(np.log(list(near)), np.log(list(near.values())), 2)
                print(f"          best rate {np.exp(-b / (2 * a)):.3g}, of a parabola through {len(near)} rates")


@dataclass(frozen=True, eq=False)
class Truth:
    """The final validation loss at each rate, and between them: the mean over seeds, smoothed along the log rate."""

    u: npt.NDArray[np.float64]  # log rates
    y: npt.NDArray[np.float64]  # log mean losses

    @classmethod
    def of(cls, finals: dict[Key, float], cell: Cell) -> "Truth | None":
        """Return it if every rate was trained with the same seeds. A divergence counts as chance level."""
        by_seed = zip(*(cell.keys(EPOCHS, lr) for lr in cell.rates), strict=True)
        whole = [[or_chance(finals[key]) for key in keys] for keys in by_seed if all(key in finals for key in keys)]
        return cls(np.log(cell.rates), np.log(np.mean(whole, axis=0))) if whole else None

    def log_loss(self, u: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Near the lowest loss a weighted parabola around each point, elsewhere straight lines; level at the edges."""
        near = self.y <= self.y.min() + math.log(TRUSTED)
        width = WIDTH * float(self.u[1] - self.u[0])
        curve = np.interp(u, self.u, self.y)
        for k, center in enumerate(u):
            if self.u[near].min() <= center <= self.u[near].max():
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


def show_exponents(finals: dict[Key, float], cells: Sequence[Cell]) -> None:
    """Print the best rate at each length as a search would see it, the truth, and the exponents between them.

    They include the bias of the search's parabola: tuning/best_rate.py corrects for both.
    """
    rows = []
    for cell in cells:
        if (truth := Truth.of(finals, cell)) is None:
            continue
        lrs, exponents = [], []
        for epochs in SHORT:
            ends = [(t.trial, finals[t.key]) for t in trainings([cell], [epochs]) if t.key in finals]
            tried = [TrialResult(t, loss if loss < math.inf else None, None, (), (), 0.0) for t, loss in ends]
            choice = choose(tried, epochs, 0.0, LN10)
            lrs.append("-" if choice is None else f"{choice.lr:.2g}{'' if choice.is_fitted else ' (lowest)'}")
            shift = None if choice is None else (math.log(choice.lr) - truth.best[0]) / math.log(EPOCHS / epochs)
            exponents.append("-" if shift is None else f"{shift:.2f}")
        rows.append((cell, *lrs, f"{math.exp(truth.best[0]):.2g}", *exponents))
    columns = ("cell", "best at 1/2 epoch", "at 1", "at 2", "at 8 epochs", "exponent from 1/2", "from 1", "from 2")
    print(table(columns, rows))


def show_regret(finals: dict[Key, float], found: dict[Search, Any]) -> None:
    """Print for each way of finding a rate how far above the lowest loss it ends, over all cells and seeds."""
    truths = {cell: truth for cell in CELLS if (truth := Truth.of(finals, cell)) is not None}
    methods: dict[str, list[tuple[Cell, float, float]]] = {}  # regrets and costs in epochs
    held: dict[int, list[bool]] = {}  # by budget: whether the best rate lies in the interval
    cells = list(dict.fromkeys(search.cell for search in found if search.cell in truths))
    for cell, seed in product(cells, SEARCH_SEEDS):
        truth = truths[cell]
        for budget in BUDGETS:
            if (value := found.get(Search(cell, seed, budget))) is not None:
                regret = math.inf if value["lr"] is None else truth.regret(value["lr"])
                methods.setdefault(f"auto, {budget} epochs", []).append(
                    (cell, regret, value.get("cost_epochs", budget))
                )
                if value.get("is_fitted"):
                    is_held = math.log(value["low"]) <= truth.best[0] <= math.log(value["high"])
                    held.setdefault(budget, []).append(is_held)
        for name, (lr, updates) in found.get(Search(cell, seed, None), {}).items():
            cost = updates * cell.batch_size / cell.config.data.train_size
            methods.setdefault(name, []).append((cell, truth.regret(lr), cost))
    methods[f"torch's default, {TORCH_DEFAULT}"] = [(cell, truths[cell].regret(TORCH_DEFAULT), 0.0) for cell in cells]
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
    for cell in cells:
        of_cell = {name: [f"{regret:.0%}" for of, regret, _ in rows if of == cell] for name, rows in methods.items()}
        print(f"\n{cell}: " + "; ".join(f"{name} {' '.join(regrets)}" for name, regrets in of_cell.items()))


def main() -> None:
    parser = arguments_parser(__doc__)
    parts = ("truth", "short", "auto", "peers", "show", "exponents", "regret")
    parser.add_argument("parts", nargs="+", choices=parts)
    parser.add_argument("--journal", type=Path, default=JOURNAL)
    parser.add_argument("--cells", default="", help="only cells that contain these words, as in relu,sgd,64")
    options = parser.parse_args()
    words = set(filter(None, options.cells.split(",")))
    cells, all_cells = ([c for c in some if words <= set(map(str, c.key))] for some in (CELLS, CELLS + WITHOUT_DECAY))
    lengths = [*((EPOCHS,) if "truth" in options.parts else ()), *(SHORT if "short" in options.parts else ())]
    results(options.journal, trainings(all_cells, lengths), train)
    searches = [Search(*each) for each in product(cells, SEARCH_SEEDS, (*BUDGETS, None))]
    wanted = [each for each in searches if ("peers" if each.budget is None else "auto") in options.parts]
    results(options.journal, wanted, search)
    finals = final_losses(options.journal, all_cells)
    if "show" in options.parts:
        show(finals, all_cells)
    if "exponents" in options.parts:
        show_exponents(finals, all_cells)
    if "regret" in options.parts:
        show_regret(finals, results(options.journal, searches, None))


if __name__ == "__main__":
    main()
