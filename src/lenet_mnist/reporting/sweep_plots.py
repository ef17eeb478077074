"""The picture of a sweep: which rates learn, how well, and what their loss curves look like.

Drawn from what range_test.csv, sweep.csv and journal.jsonl of the run hold.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm

from lenet_mnist.analysis.groups import smoothed_loss
from lenet_mnist.config import Activation
from lenet_mnist.reporting.style import (
    BLACK,
    COLOURS,
    GREY,
    ORANGE,
    PURPLE,
    Figure,
    plain_log_axis,
    save_figure,
    tidy,
)
from lenet_mnist.study.lr_sweep import Answer, SweptRun
from lenet_mnist.tuning.plan import epochs_text
from lenet_mnist.tuning.range_test import smoothed
from lenet_mnist.tuning.trial import TrialResult

_HIGHEST_LOSS = 10.0  # times that of chance level: what rises above it is cut off
_COLOURS = colormaps["viridis"]
_LOST: dict[str, Any] = {"marker": "x", "color": ORANGE, "markersize": 9, "markeredgewidth": 2, "linestyle": ""}


def draw_swept_run(swept: SweptRun) -> Figure:
    """Draw plots/sweep.png, and return it. Raises: StorageError."""
    run = swept.directory
    figure = sweep_figure(swept.answers, run.config.training.max_epochs, run.manifest.guessing_loss)
    save_figure(figure, swept.directory.plots_path / "sweep.png")
    return figure


def sweep_figure(answers: dict[Activation, Answer], max_epochs: int, chance: float) -> Figure:
    """Return one row per activation: losses by rate to the left, loss curves coloured by rate to the right.

    All rows have the same axis of rates, the same losses, and the same colour for a rate. `chance`, the loss at chance
    level, is in nats.
    """
    figure = Figure(figsize=(11.0, 4.4 * len(answers)), layout="constrained")
    rows = figure.subplots(len(answers), 2, squeeze=False, sharex="col", sharey=True, width_ratios=(1.25, 1))
    lrs = [result.trial.lr for answer in answers.values() for result in answer.results]
    norm = LogNorm(min(lrs), max(lrs))
    for (activation, answer), (left, right) in zip(answers.items(), rows, strict=True):
        _draw_rates(left, answer, COLOURS[list(Activation).index(activation) % len(COLOURS)], max_epochs)
        _draw_curves(right, answer.results, norm)
        plain_log_axis(figure.colorbar(ScalarMappable(norm, _COLOURS), ax=right, label="learning rate").ax.yaxis)
        left.set_title(f"{activation}: validation loss by learning rate", fontsize=10)
        right.set_title(f"{activation}: training loss by rate, one seed", fontsize=10)
        for axes in (left, right):
            axes.axhline(chance, color=BLACK, linestyle=":", linewidth=1, label=f"chance level: {chance:.2f}")
            axes.tick_params(labelbottom=True, labelleft=True)
            axes.set_ylabel("cross-entropy [nats per image]")
            tidy(axes)
        left.legend(frameon=False, fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)
    drawn = [float(y) for axes in rows.flat for line in axes.lines for y in line.get_ydata() if 0 < y < math.inf]
    highest = min(max([1.5 * chance, *drawn]), _HIGHEST_LOSS * chance)
    rows[0, 0].set_ylim(min([chance / 2, *drawn]) / 1.1, highest * 1.1)
    around = [*lrs, *(end for answer in answers.values() for end in _ends(answer))]
    rows[0, 0].set_xlim(min(around) / 2, max(around) * 2)
    for axes in rows.flat:
        plain_log_axis(axes.yaxis)
    for axes in rows[:, 0]:
        plain_log_axis(axes.xaxis)
    return figure


def _ends(answer: Answer) -> list[float]:
    """Return the ends of what is shaded."""
    useful = [answer.bracket.low, answer.bracket.high] if answer.bracket.has_learned else []
    return useful + ([answer.choice.low, answer.choice.high] if answer.choice else [])


def _draw_rates(axes: Axes, answer: Answer, colour: str, max_epochs: int) -> None:
    bracket, ranking, choice = answer.bracket, answer.ranking, answer.choice
    if bracket.has_learned:
        axes.axvspan(bracket.low, bracket.high, color="#e3ebf2", label="useful: where the range test learns")
    lrs, losses = smoothed(answer.range_tests)
    axes.plot(lrs, losses, color=GREY, linewidth=1, label="range test: training loss while the rate rises")
    done = [rate for rate in ranking.rates if rate.mean_loss is not None]
    low, middle, high = np.array([(rate.low, rate.mean_loss, rate.high) for rate in done], float).reshape(-1, 3).T
    label = f"{epochs_text(ranking.epochs)}, annealed: mean and range of the seeds"
    ranges = [middle - low, high - middle]
    axes.errorbar([rate.lr for rate in done], middle, ranges, fmt="o-", color=colour, capsize=3, label=label)
    if lost := [rate.lr for rate in ranking.rates if rate.num_diverged]:
        axes.plot(lost, [max([*middle, *losses])] * len(lost), label="diverged", **_LOST)
    if choice is not None:
        axes.axvline(choice.lr, color=PURPLE, linestyle="--", label=f"chosen for {max_epochs} epochs: {choice.lr:.2g}")
        interval = "95 % interval of that" if choice.is_fitted else "no better known than this"
        axes.axvspan(choice.low, choice.high, color=PURPLE, alpha=0.15, linewidth=0, label=interval)
    axes.set_xlabel("learning rate")


def _draw_curves(axes: Axes, results: Sequence[TrialResult], norm: LogNorm) -> None:
    """Draw the training losses of the first seed, smoothed."""
    first_seed = min(result.trial.seed for result in results)
    shown = sorted((r for r in results if r.trial.seed == first_seed and r.steps), key=lambda result: result.trial.lr)
    for result in shown:
        steps, losses = smoothed_loss(result.steps)
        axes.plot(steps, losses, color=_COLOURS(norm(result.trial.lr)), linewidth=1.2)
        if result.val_loss is None:
            axes.plot(steps[-1:], losses[-1:], **_LOST)
    axes.set_xlabel("update")
