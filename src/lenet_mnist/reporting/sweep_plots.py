"""The picture of a sweep: which rates learn, how well, and what their loss curves look like.

Drawn from what range_test.csv, sweep.csv and journal.jsonl of the run hold.
"""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from lenet_mnist.config import Activation
from lenet_mnist.files.storage import make_directory
from lenet_mnist.reporting.style import BLACK, GREY, ORANGE, PURPLE, bare, colour_of, plain_log_axis, save_figure
from lenet_mnist.study.lr_sweep import SweptRun
from lenet_mnist.tuning.plan import epochs_text
from lenet_mnist.tuning.range_test import RangePoint, smoothed
from lenet_mnist.tuning.ranking import Answer
from lenet_mnist.tuning.trial import TrialResult

_HIGHEST_LOSS = 10.0  # times that of guessing: what rises above it leaves the picture
_PARTS = 40  # of a training: each is one point of its loss curve
_COLOURS = colormaps["viridis"]


def draw_swept_run(swept: SweptRun) -> None:
    """Draw plots/sweep.png. Raises: StorageError."""
    make_directory(swept.directory.plots_path)
    figure = sweep_figure(swept.answers, swept.config.training.max_epochs, swept.manifest.guessing_loss)
    save_figure(figure, swept.directory.plots_path / "sweep.png")


def sweep_figure(answers: dict[Activation, Answer], max_epochs: int, guessing_loss: float) -> Figure:
    """One row an activation: losses against rates to the left, loss curves coloured by rate to the right.

    All rows have the same axis of rates, the same losses, and the same colour for a rate.
    """
    figure = Figure(figsize=(11.0, 4.4 * len(answers)), layout="constrained")
    rows = figure.subplots(len(answers), 2, squeeze=False, sharex="col", sharey=True, width_ratios=(1.25, 1))
    lrs = [result.trial.lr for answer in answers.values() for result in answer.results]
    norm = LogNorm(min(lrs), max(lrs))
    for (activation, answer), (left, right) in zip(answers.items(), rows, strict=True):
        _draw_rates(left, answer, colour_of(activation), max_epochs)
        _draw_curves(right, answer.results, norm)
        left.set_title(f"{activation}: validation loss by learning rate", fontsize=10)
        right.set_title(f"{activation}: training loss by rate, one seed", fontsize=10)
        for axes in (left, right):
            axes.axhline(guessing_loss, color=BLACK, linestyle=":", linewidth=1, label=f"guessing: {guessing_loss:.2f}")
            axes.tick_params(labelbottom=True, labelleft=True)
            axes.set_ylabel("cross-entropy [nats per image]")
            axes.grid(color="#e6e6e6")
            axes.set_axisbelow(True)
            bare(axes)
        left.legend(frameon=False, fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)
    drawn = [float(y) for axes in rows.flat for line in axes.lines for y in line.get_ydata() if 0 < y < math.inf]
    highest = min(max([1.5 * guessing_loss, *drawn]), _HIGHEST_LOSS * guessing_loss)
    rows[0, 0].set_ylim(min([guessing_loss / 2, *drawn]) / 1.1, highest * 1.1)
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
    bracket, ranking = answer.bracket, answer.ranking
    if bracket.has_learned:
        axes.axvspan(bracket.low, bracket.high, color="#e3ebf2", label="useful: where the range test learns")
    lrs, losses = smoothed(_by_seed(answer.range_points))
    axes.plot(lrs, losses, color=GREY, linewidth=1, label="range test: training loss while the rate rises")
    done = [rate for rate in ranking.rates if rate.mean_loss is not None]
    middles = [rate.mean_loss or 0.0 for rate in done]
    below = [middle - (rate.low or 0.0) for rate, middle in zip(done, middles, strict=True)]
    above = [(rate.high or 0.0) - middle for rate, middle in zip(done, middles, strict=True)]
    label = f"{epochs_text(ranking.epochs)}, annealed: mean and range of the seeds"
    axes.errorbar([r.lr for r in done], middles, [below, above], fmt="o-", color=colour, capsize=3, label=label)
    lost = [rate.lr for rate in ranking.rates if rate.num_diverged]
    if lost:
        top = max([*middles, *losses.tolist()])
        axes.plot(lost, [top] * len(lost), "x", color=ORANGE, markersize=9, markeredgewidth=2, label="diverged")
    if answer.choice is not None:
        choice = answer.choice
        axes.axvline(choice.lr, color=PURPLE, linestyle="--", label=f"chosen for {max_epochs} epochs: {choice.lr:.2g}")
        interval = "95 % interval of that" if choice.is_fitted else "no better known than this"
        axes.axvspan(choice.low, choice.high, color=PURPLE, alpha=0.15, linewidth=0, label=interval)
    axes.set_xlabel("learning rate")


def _draw_curves(axes: Axes, results: Sequence[TrialResult], norm: LogNorm) -> None:
    """Draw the mean training loss of each fortieth of a training, for the first seed."""
    first_seed = min(result.trial.seed for result in results)
    shown = sorted((r for r in results if r.trial.seed == first_seed), key=lambda result: result.trial.lr)
    for result in shown:
        if result.steps:
            steps, losses = _curve(result)
            is_lost = result.val_loss is None
            axes.plot(steps, losses, color=_COLOURS(norm(result.trial.lr)), linewidth=1.2)
            if is_lost:
                axes.plot(steps[-1], losses[-1], "x", color=ORANGE, markersize=9, markeredgewidth=2)
    figure = axes.figure
    assert isinstance(figure, Figure)
    bar = figure.colorbar(_scale(norm), ax=axes, label="learning rate")
    plain_log_axis(bar.ax.yaxis)
    axes.set_xlabel("update")


def _curve(result: TrialResult) -> tuple[list[float], list[float]]:
    """Return the middle update and the mean loss of each part of a training that has recorded updates."""
    last = result.steps[-1].step
    parts: dict[int, list[tuple[int, float]]] = {}
    for row in result.steps:
        parts.setdefault(min((row.step - 1) * _PARTS // last, _PARTS - 1), []).append((row.step, row.train_loss))
    means = [np.mean(rows, axis=0) for rows in parts.values()]
    return [float(mean[0]) for mean in means], [float(mean[1]) for mean in means]


def _scale(norm: LogNorm) -> ScalarMappable:
    return ScalarMappable(norm, _COLOURS)


def _by_seed(points: Sequence[RangePoint]) -> list[list[RangePoint]]:
    """Return the range tests that the points belong to."""
    tests: dict[int, list[RangePoint]] = {}
    for point in points:
        tests.setdefault(point.seed, []).append(point)
    return list(tests.values())
