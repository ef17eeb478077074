"""What the right learning rate is, and how near to it each way of finding one comes: docs/learning-rate.md.

    python scripts/measure_learning_rate.py truth short auto peers show exponents regret

A cell is an activation, an optimizer and a batch size; everything else is as in that activation's shipped recipe, over
8 epochs. Two more cells, for the exponents alone, are ReLU and tanh with SGD and batches of 64, without weight decay.

- truth: the whole training at 16 rates, over the seeds 0 to 4, which no search uses
- short: schedules of a half, 1 and 2 epochs at the same rates, over the seeds 100 to 102: by how much short schedules
  favour other rates
- auto: searches of `learning_rate: auto` within 16 and 40 epochs, over the seeds 200 to 204
- peers: what the finders of other programs suggest, over the same seeds
- show: the losses of truth and short; exponents: how the best rate goes with the length of the training
- regret: how far above the lowest loss the chosen rates end

Every finished training is kept in docs/learning-rate.jsonl, and never done again: start again to go on. The test files
are never opened.
"""

import argparse
import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

import peers_learning_rate
from common import ROOT, Journal, data_access
from lenet_mnist.config import Activation, Config, Engine, Optimizer
from lenet_mnist.config_file import load_config
from lenet_mnist.data.load import load_train_val
from lenet_mnist.devices import set_threads
from lenet_mnist.errors import ConfigError
from lenet_mnist.model.engines import resolve_engine
from lenet_mnist.training.context import Context
from lenet_mnist.training.workers import PoolSize, TrialPool
from lenet_mnist.tuning.auto import decide_rate
from lenet_mnist.tuning.best_rate import choose
from lenet_mnist.tuning.trial import Trial, TrialResult, train_trial

EPOCHS = 8
NUM_RATES = 16
TRUTH_SEEDS = range(5)
SHORT_SEEDS = range(100, 103)
SHORT_EPOCHS = (0.5, 1, 2)
SEARCH_SEEDS = range(200, 205)
BUDGETS = (16, 40)  # epochs
PARTS = ("truth", "short", "auto", "peers", "show", "exponents", "regret")
MIN_RATES = 8
NEAR = 1.6  # times the lowest loss: rates that shape the parabola
TRUSTED = 3.0  # times the lowest loss: where the truth is smoothed
WIDTH = 1.5  # of the smoothing, in steps of the grid: the standard deviation of its weights
TORCH_DEFAULT = 0.001  # of torch.optim.SGD and torch.optim.Adam


@dataclass(frozen=True)
class Cell:
    activation: Activation
    optimizer: Optimizer
    batch_size: int
    has_decay: bool = True

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
        if not self.has_decay:
            changes["weight_decay"] = 0.0
        return recipe.model_copy(update={"training": recipe.training.model_copy(update=changes)})

    @property
    def key(self) -> list[Any]:
        name = [self.activation.value, self.optimizer.value, self.batch_size]
        return name if self.has_decay else [*name, "no-decay"]


CELLS = [Cell(*cell) for cell in product(Activation, (Optimizer.SGD, Optimizer.ADAM), (64, 256))]
WITHOUT_DECAY = [Cell(each, Optimizer.SGD, 64, has_decay=False) for each in (Activation.RELU, Activation.TANH)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=PARTS)
    parser.add_argument("--journal", type=Path, default=ROOT / "docs" / "learning-rate.jsonl")
    parser.add_argument("--cells", default="", help="only cells that contain these words, as in relu,sgd,64")
    parser.add_argument("--seeds", type=int, default=5, help="how many of the seeds of each part")
    parser.add_argument("--budgets", type=int, nargs="+", default=BUDGETS, help="of the searches, in epochs")
    arguments = parser.parse_args()
    journal = Journal(arguments.journal)
    words = set(filter(None, arguments.cells.split(",")))
    cells, more_cells = ([c for c in some if words <= set(map(str, c.key))] for some in (CELLS, WITHOUT_DECAY))
    if "truth" in arguments.parts:
        train_all(journal, cells + more_cells, [(EPOCHS, seed) for seed in TRUTH_SEEDS[: arguments.seeds]])
    if "short" in arguments.parts:
        train_all(journal, cells + more_cells, list(product(SHORT_EPOCHS, SHORT_SEEDS[: arguments.seeds])))
    seeds = SEARCH_SEEDS[: arguments.seeds]
    if "auto" in arguments.parts:
        for budget in arguments.budgets:
            search_all(journal, cells, [Search(seed, budget) for seed in seeds])
    if "peers" in arguments.parts:
        search_all(journal, cells, [Search(seed, None) for seed in seeds])
    if "show" in arguments.parts:
        show(journal, cells + more_cells)
    if "exponents" in arguments.parts:
        show_exponents(journal, cells + more_cells)
    if "regret" in arguments.parts:
        show_regret(journal, cells, seeds)


def train_all(journal: Journal, cells: Sequence[Cell], runs: Sequence[tuple[float, int]]) -> None:
    """Train what the journal lacks: seed after seed over all cells, so that a part of it is of use already."""
    missing = {cell: [t for t in trials(cell, runs) if journal.get(key_of(cell, t)) is None] for cell in cells}
    for epochs, seed in runs:
        for cell in cells:
            wave = [trial for trial in missing[cell] if (trial.epochs, trial.seed) == (epochs, seed)]
            if wave:
                train_wave(journal, cell, wave)


def train_wave(journal: Journal, cell: Cell, wave: Sequence[Trial]) -> None:
    with crew_of(cell, len(wave)) as crew:
        for result in crew.run(train_trial, wave):
            journal.add(key_of(cell, result.trial), value_of(result))
            print(*key_of(cell, result.trial), result.val_loss, f"{result.seconds:.1f} s", file=sys.stderr, flush=True)


def crew_of(cell: Cell, num_items: int) -> TrialPool:
    cpu, access = torch.device("cpu"), data_access()
    data = load_train_val(cell.config.data, access)
    engine = resolve_engine(Engine.AUTO, cpu, data.train.image_size)
    bench = (cell.config, Context(data, engine=engine.network))
    return TrialPool(bench, engine.name, access.directory, PoolSize.of(set_threads(None), num_items, math.inf, cpu))


@dataclass(frozen=True)
class Search:
    """A search of ours within a budget in epochs, or those of the other programs."""

    seed: int
    budget: int | None

    def key(self, cell: Cell) -> list[Any]:
        return [*cell.key, "peers" if self.budget is None else "auto", self.budget, self.seed]


def search_all(journal: Journal, cells: Sequence[Cell], searches: Sequence[Search]) -> None:
    for cell in cells:
        missing = [search for search in searches if journal.get(search.key(cell)) is None]
        if missing:
            with crew_of(cell, len(missing)) as crew:
                for search_, found in crew.run(search, missing):
                    journal.add(search_.key(cell), found)
                    print(*search_.key(cell), found.get("lr"), file=sys.stderr, flush=True)


def search(bench: Any, wanted: Search) -> tuple[Search, dict[str, Any]]:
    """Return what is found; a whole search runs in one worker."""
    training = bench.config.training.model_copy(update={"learning_rate_budget": wanted.budget})
    bench = replace(bench, config=bench.config.model_copy(update={"seed": wanted.seed, "training": training}))
    if wanted.budget is None:
        return wanted, rounded(peers_learning_rate.suggestions(bench))
    try:
        decision = decide_rate(*bench, lambda trials: [train_trial(*bench, trial) for trial in trials])
    except ConfigError as error:
        return wanted, {"lr": None, "message": str(error)}
    return wanted, rounded(asdict(decision))


def rounded(found: Any) -> Any:
    """Return it with six digits of each number."""
    return json.loads(json.dumps(found), parse_float=lambda text: float(f"{float(text):.6g}"))


def trials(cell: Cell, runs: Sequence[tuple[float, int]]) -> Iterator[Trial]:
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


@dataclass(frozen=True, eq=False)
class Truth:
    """The final validation loss at each rate, and between them: the mean over seeds, smoothed along the log rate."""

    u: npt.NDArray[np.float64]  # log rates
    y: npt.NDArray[np.float64]  # log mean losses

    @classmethod
    def of(cls, journal: Journal, cell: Cell, guessing_loss: float) -> "Truth | None":
        """Return it if every rate was trained with the same seeds. What diverged counts as guessing."""
        table = [[journal.get([*cell.key, EPOCHS, lr, seed]) for seed in TRUTH_SEEDS] for lr in cell.rates]
        whole = [k for k in range(len(TRUTH_SEEDS)) if all(row[k] is not None for row in table)]
        if not whole:
            return None
        losses = [mean(row[k][-1] if isinstance(row[k], list) else guessing_loss for k in whole) for row in table]
        return cls(np.log(cell.rates), np.log(losses))

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


def show_exponents(journal: Journal, cells: Sequence[Cell]) -> None:
    """Print what a search would call best at each length, the truth, and the exponents that lead from one to the other.

    They include what the search's parabola adds of its own: tuning/best_rate.py corrects for both.
    """
    print("| cell | best at 1/2 epoch | at 1 | at 2 | at 8 epochs | exponent from 1/2 | from 1 | from 2 |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for cell in cells:
        truth = Truth.of(journal, cell, math.log(10))
        if truth is None:
            continue
        lrs, exponents = [], []
        for epochs in SHORT_EPOCHS:
            choice = choose(short_results(journal, cell, epochs), epochs, 0.0, math.log(10))
            lrs.append("-" if choice is None else f"{choice.lr:.2g}{'' if choice.is_fitted else ' (lowest)'}")
            shift = None if choice is None else (math.log(choice.lr) - truth.best[0]) / math.log(EPOCHS / epochs)
            exponents.append("-" if shift is None else f"{shift:.2f}")
        print(
            f"| {' '.join(map(str, cell.key))} | {' | '.join([*lrs, f'{math.exp(truth.best[0]):.2g}', *exponents])} |"
        )


def short_results(journal: Journal, cell: Cell, epochs: float) -> list[TrialResult]:
    trained = [(trial, journal.get(key_of(cell, trial))) for trial in trials(cell, [(epochs, s) for s in SHORT_SEEDS])]
    return [
        TrialResult(trial, losses[-1] if isinstance(losses, list) else None, None, (), (), 0.0)
        for trial, losses in trained
        if losses is not None
    ]


def show_regret(journal: Journal, cells: Sequence[Cell], seeds: Sequence[int]) -> None:
    """Print for each way of finding a rate how far above the lowest loss it ends, over all cells and seeds."""
    methods: dict[str, list[tuple[Cell, float, float]]] = {}  # regrets and costs in epochs
    held: dict[int, list[bool]] = {}  # by budget: whether the best rate lies in the interval that was told
    for cell in cells:
        truth = Truth.of(journal, cell, math.log(10))
        if truth is None:
            continue
        for seed in seeds:
            for budget in BUDGETS:
                found = journal.get(Search(seed, budget).key(cell))
                if found is not None:
                    regret = math.inf if found["lr"] is None else truth.regret(found["lr"])
                    cost = found.get("cost_epochs", budget)
                    methods.setdefault(f"auto, {budget} epochs", []).append((cell, regret, cost))
                    if found.get("is_fitted"):
                        low, high = math.log(found["low"]), math.log(found["high"])
                        held.setdefault(budget, []).append(low <= truth.best[0] <= high)
            for name, (lr, updates) in (journal.get(Search(seed, None).key(cell)) or {}).items():
                cost = updates * cell.batch_size / cell.config.data.train_size
                methods.setdefault(name, []).append((cell, truth.regret(lr), cost))
        methods.setdefault(f"torch's default, {TORCH_DEFAULT}", []).append((cell, truth.regret(TORCH_DEFAULT), 0.0))
    print("| rate from | searches | cost, epochs | median regret | <= 5 % | <= 10 % | <= 15 % | highest |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, rows in methods.items():
        print(f"| {name} | {len(rows)} | {median(cost for *_, cost in rows):.1f} | {summary(rows)} |")
    for budget, hits in held.items():
        print(f"\nauto, {budget} epochs: the best rate lies in {sum(hits)} of {len(hits)} fitted intervals")
    for cell in cells:
        print(
            f"\n{' '.join(map(str, cell.key))}: "
            + "; ".join(
                f"{name} " + " ".join(f"{regret:.0%}" for of, regret, _ in rows if of == cell)
                for name, rows in methods.items()
            )
        )


def summary(rows: Sequence[tuple[Cell, float, float]]) -> str:
    regrets = [regret for _, regret, _ in rows]
    within = [f"{mean(regret <= bound for regret in regrets):.0%}" for bound in (0.05, 0.10, 0.15)]
    return " | ".join([f"{median(regrets):.1%}", *within, f"{max(regrets):.0%}"])


if __name__ == "__main__":
    main()
