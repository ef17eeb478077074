"""Optimizers that need no learning rate, beside `learning_rate: auto`: docs/learning-rate.md.

    pip install momo-opt prodigyopt dadaptation schedulefree dog-optimizer
    python scripts/compare_without_rate.py train show
    python scripts/compare_without_rate.py cost

Each takes the place of SGD or Adam in the cells of measure_learning_rate.py, at the defaults that its authors document,
with the schedule that they recommend and the weight decay of the recipe, over the same five seeds. `cost` times an
update of each beside ours.
"""

import math
import time
from collections.abc import Callable
from functools import partial
from statistics import fmean, median
from typing import Any, NamedTuple

import torch
from torch import Tensor

from common import SMALL, arguments, compare, context_of, few, results, table
from lenet_mnist.config import Optimizer, Schedule
from lenet_mnist.data.batches import TrainBatches, evaluation_batches
from lenet_mnist.tally import count
from lenet_mnist.training.schedule import rate_factor
from lenet_mnist.training.state import TrainState
from lenet_mnist.training.updates import share_of_gradient
from measure_learning_rate import CELLS, EPOCHS, LN10, SEEDS, Cell, Truth


class Method(NamedTuple):
    """`make` gets the parameters and the weight decay; what is compared with is the best rate of `like`."""

    like: Optimizer
    make: Callable[[list[Tensor], float], Any]
    is_annealed: bool = False
    needs_loss: bool = False


def methods() -> dict[str, Method]:
    import dadaptation
    import dog
    import momo
    import prodigyopt
    import schedulefree

    sgd, adam = Optimizer.SGD, Optimizer.ADAM
    return {
        "MoMo": Method(sgd, lambda p, decay: momo.Momo(p, lr=1.0, weight_decay=decay), needs_loss=True),
        "MoMo-Adam": Method(adam, lambda p, decay: momo.MomoAdam(p, lr=1e-2, weight_decay=decay), needs_loss=True),
        "D-Adaptation, SGD": Method(
            sgd, lambda p, decay: dadaptation.DAdaptSGD(p, lr=1.0, momentum=0.9, weight_decay=decay), is_annealed=True
        ),
        "D-Adaptation, Adam": Method(
            adam, lambda p, decay: dadaptation.DAdaptAdam(p, lr=1.0, weight_decay=decay), is_annealed=True
        ),
        "Prodigy": Method(
            adam,
            lambda p, decay: prodigyopt.Prodigy(p, lr=1.0, weight_decay=decay, safeguard_warmup=True),
            is_annealed=True,
        ),
        "Schedule-Free AdamW": Method(adam, lambda p, decay: schedulefree.AdamWScheduleFree(p, weight_decay=decay)),
        "LDoG": Method(sgd, lambda p, decay: dog.LDoG(p, weight_decay=decay)),
    }


class Training(NamedTuple):
    cell: Cell
    method: str
    seed: int

    @property
    def key(self) -> tuple[Any, ...]:
        return (*self.cell, EPOCHS, self.method, self.seed)


def train(training: Training, num_updates: int | None = None) -> float | str:
    """Return the validation loss at the end, or with `num_updates` the seconds that so many updates took."""
    method, config = methods()[training.method], training.cell.config.replace({"seed": training.seed})
    context = context_of(config)
    state = TrainState.start(config, context)  # for the starting weights, and the contiguous tensor below them
    network, settings = state.network, config.training
    parameters = list(network.parameters())
    optimizer = method.make(parameters, settings.weight_decay)
    base, averager = [group["lr"] for group in optimizer.param_groups], averager_of(parameters, training.method)
    batches = TrainBatches(context.data, config)
    num_steps, step, started = EPOCHS * len(batches), 0, time.perf_counter()
    in_mode(optimizer, "train")
    for epoch in range(1, settings.max_epochs + 1):
        for batch in batches.of_epoch(epoch):
            sums = share_of_gradient(network, batch)
            gradients = torch.split(sums, [*(p.numel() for p in parameters), 2])
            if not bool(sums.isfinite().all()):
                return "diverged"
            for parameter, gradient in zip(parameters, gradients, strict=False):
                parameter.grad = gradient.view_as(parameter)
            if method.is_annealed:
                factor = rate_factor(Schedule.LINEAR, settings.warmup, step, num_steps)
                for group, lr in zip(optimizer.param_groups, base, strict=True):
                    group["lr"] = lr * factor
            with torch.no_grad():
                optimizer.step(**({"loss": sums[-2]} if method.needs_loss else {}))
            if averager is not None:
                averager.step()
            step += 1
            if step == num_updates:
                return time.perf_counter() - started
    in_mode(optimizer, "eval")
    if averager is not None:
        for parameter, average in zip(parameters, averager.averaged_model, strict=True):
            parameter.data.copy_(average)
    loss = count(network, evaluation_batches(context.data.val, context.data.normalization, context.device)).mean_loss
    return float(f"{loss:.6g}") if math.isfinite(loss) else "diverged"


def averager_of(parameters: list[Tensor], method: str) -> Any:
    """LDoG is made to be used with an average of its weights, which its package computes."""
    from dog import PolynomialDecayAverager

    return PolynomialDecayAverager(torch.nn.ParameterList(parameters)) if method == "LDoG" else None


def in_mode(optimizer: Any, mode: str) -> None:
    if hasattr(optimizer, mode):
        getattr(optimizer, mode)()


def trainings(method: str) -> list[Training]:
    like = methods()[method].like
    return [Training(cell, method, seed) for seed in SEEDS for cell in CELLS if cell.optimizer is like]


def show(options: Any) -> None:
    """Print by how much each ends above the lowest loss of the same cell: the mean of its seeds, and over cells."""
    rows = []
    for name in methods():
        found = results(options.journal, trainings(name), None)
        regrets = {}
        for cell in dict.fromkeys(each.cell for each in found):
            losses = [LN10 if isinstance(loss, str) else loss for each, loss in found.items() if each.cell == cell]
            regrets[cell] = fmean(losses) / math.exp(Truth(cell, options.journal).lowest) - 1
        by_activation = [
            ", ".join(f"{regret:.0%}" for cell, regret in regrets.items() if cell.activation is activation)
            for activation in dict.fromkeys(cell.activation for cell in CELLS)
        ]
        rows.append((name, methods()[name].like, f"{median(regrets.values()):.0%}", *by_activation))
    columns = ("optimizer", "instead of", "median", *dict.fromkeys(cell.activation.value for cell in CELLS))
    print(table(columns, rows))


def show_cost() -> None:
    """Print the time of an update of ReLU with batches of 64, gradient included."""
    number = 20 if SMALL else 500
    cell = Cell(CELLS[0].activation, Optimizer.SGD, 64)
    arms = {name: partial(timed, name, cell, number) for name in methods()}
    compare(f"{number} updates", arms, rounds=5)


def timed(name: str, cell: Cell, number: int) -> list[float]:
    seconds = train(Training(cell, name, 0), number)
    assert isinstance(seconds, float)
    return [seconds]


def main() -> None:
    options = arguments(__doc__, ("train", "show", "cost"), "docs/learning-rate.jsonl").parse_args()
    if "train" in options.parts:
        items = [each for name in few(list(methods())) for each in trainings(name)]
        results(options.journal, sorted(items, key=lambda each: each.seed), train)  # a part of them is useful already
    if "show" in options.parts:
        show(options)
    if "cost" in options.parts:
        show_cost()


if __name__ == "__main__":
    main()
