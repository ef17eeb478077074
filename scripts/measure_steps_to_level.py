"""How near `steps_to_level`, which reads steps.csv, comes to where the loss on all training images falls below a level.

    python scripts/measure_steps_to_level.py        about 15 minutes on one core

Nine trainings of 4 epochs on 11,000 images (sigmoid: 16 epochs, rate 0.6). The loss on all 11,000 is measured before
each update up to 50, then at steps that lie 2 % apart. Two crossings of it are what steps.csv is held against: the
first fall below the level, by chance or not, and the fall of this loss once it is smoothed in the same way.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from statistics import fmean

from common import CPU, context_of, recipe
from lenet_mnist.analysis.groups import speed_ratio, steps_to_level
from lenet_mnist.analysis.intervals import Estimate
from lenet_mnist.config import Activation
from lenet_mnist.data.batches import evaluation_batches
from lenet_mnist.devices import set_threads
from lenet_mnist.tally import count
from lenet_mnist.training.loop import train
from lenet_mnist.training.rows import StepRow
from lenet_mnist.training.state import TrainState

LEVELS = (2.0, 1.0, 0.5, 0.3, 0.2, 0.1, 0.05)
EPOCHS = {Activation.RELU: 4, Activation.TANH: 4, Activation.SIGMOID: 16}


def main() -> None:
    """Print for each activation and level how much each reading is off, a summary, and what becomes of a ratio."""
    set_threads(1)
    offs: dict[str, list[float]] = {"from the first fall": [], "from the smoothed true loss": []}
    found: dict[tuple[Activation, float], tuple[list[float | None], list[float | None]]] = {}
    print("activation  level  smoothed true loss (mean of 3 seeds)  " + "  ".join(f"{name:>28}" for name in offs))
    for activation in EPOCHS:
        trainings = [rows_and_losses(activation, seed) for seed in range(3)]
        for level in LEVELS:
            read = [steps_to_level(rows, level) for rows, _ in trainings]
            firsts = [first_below(losses, level) for _, losses in trainings]
            smooth = [steps_to_level(losses, level) for _, losses in trainings]
            if any(step is None for step in (*read, *firsts, *smooth)):
                continue
            found[activation, level] = read, smooth
            off = off_by(read, firsts), off_by(read, smooth)
            for each, together in zip(off, offs.values(), strict=True):
                together += each
            mean = fmean(step for step in smooth if step is not None)
            cells = "  ".join(f"{' '.join(f'{share:+.1%}' for share in each):>28}" for each in off)
            print(f"{activation:10}  {level:5}  {mean:36.1f}  {cells}", flush=True)
    for name, each in offs.items():
        size = fmean(abs(share) for share in each)
        span = f"{min(each):+.1%} to {max(each):+.1%}"
        print(f"{name}: {len(each)} crossings, {fmean(each):+.1%} in the mean, {size:.1%} without sign, {span}")
    for level in LEVELS:
        if (Activation.RELU, level) in found and (Activation.TANH, level) in found:
            sides = zip(found[Activation.TANH, level], found[Activation.RELU, level], strict=True)
            as_read, true = (speed_ratio(dict(enumerate(tanh)), dict(enumerate(relu))) for tanh, relu in sides)
            print(f"relu / tanh, level {level}: {ratio_text(as_read)} as read, {ratio_text(true)} by the true loss")


def rows_and_losses(activation: Activation, seed: int) -> tuple[Sequence[StepRow], list[StepRow]]:
    """Return the rows of steps.csv, and others with the loss on all training images before chosen updates."""
    config = recipe(
        "relu",
        seed=seed,
        model__activation=activation,
        data__limit_train=11_000,
        training__max_epochs=EPOCHS[activation],
        training__learning_rate=0.6 if activation is Activation.SIGMOID else 0.04,
    )
    context = context_of(config)
    state = TrainState.start(config, context)
    batches = evaluation_batches(context.data.train, context.data.normalization, CPU)
    losses = [StepRow(1, 1, 0.0, count(state.network, batches).mean_loss, 0.0, 0.0)]

    def on_step(row: StepRow) -> bool:
        coming = row.step + 1  # a row's loss is that before its update
        if coming <= 50 or coming >= 1.02 * losses[-1].step:
            losses.append(replace(row, step=coming, train_loss=count(state.network, batches).mean_loss))
        return False

    train(config, context, state, on_step)
    return state.histories.steps, losses


def first_below(losses: Sequence[StepRow], level: float) -> float | None:
    """Return where a loss first falls below `level`, as it is."""
    for row, following in pairwise(losses):
        if following.train_loss < level:
            share = (row.train_loss - level) / (row.train_loss - following.train_loss)
            return row.step * (following.step / row.step) ** share
    return None


def off_by(read: Sequence[float | None], true: Sequence[float | None]) -> list[float]:
    """Return by which share each reading is too late."""
    return [a / b - 1 for a, b in zip(read, true, strict=True) if a is not None and b is not None]


def ratio_text(ratio: Estimate | None) -> str:
    """Write a ratio and its interval."""
    assert ratio is not None
    assert ratio.interval_95 is not None
    return f"{ratio.value:.2f} ({ratio.interval_95.low:.2f} to {ratio.interval_95.high:.2f})"


if __name__ == "__main__":
    main()
