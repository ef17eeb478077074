"""The picture of a sweep: which rates learn, how well, and what their loss curves look like.

Drawn from what range_test.csv, sweep.csv and journal.jsonl of the run hold.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from lenet_mnist.config import Activation
from lenet_mnist.experiments.sweep_course import SweptRun
from lenet_mnist.files.storage import make_directory
from lenet_mnist.reporting.style import BLUE, GREEN, GREY, ORANGE, bare, plain_log_axis, save_figure
from lenet_mnist.tuning.range_test import RangePoint, smoothed
from lenet_mnist.tuning.sweep import Answer, Ranking
from lenet_mnist.tuning.trial import TrialResult

_PARTS = 40  # of a training: each is one point of its loss curve
_COLOURS = colormaps["viridis"]


def draw_swept_run(swept: SweptRun) -> None:
    """Draw plots/sweep.png. Raises: StorageError."""
    make_directory(swept.directory.plots_path)
    figure = sweep_figure(swept.answers, swept.config.training.max_epochs)
    save_figure(figure, swept.directory.plots_path / "sweep.png")


def sweep_figure(answers: dict[Activation, Answer], max_epochs: int) -> Figure:
    """One row an activation: losses against rates to the left, loss curves coloured by rate to the right."""
    figure = Figure(figsize=(11.0, 4.2 * len(answers)), layout="constrained")
    rows = figure.subplots(len(answers), 2, squeeze=False, width_ratios=(1.25, 1))
    for (activation, answer), (left, right) in zip(answers.items(), rows, strict=True):
        _draw_rates(left, answer, answer.ranking, max_epochs)
        _draw_curves(right, answer.results)
        left.set_title(f"{activation}: validation loss by learning rate", fontsize=10)
        right.set_title(f"{activation}: training loss by rate, one seed", fontsize=10)
    return figure


def _draw_rates(axes: Axes, answer: Answer, ranking: Ranking, max_epochs: int) -> None:
    bracket = answer.bracket
    axes.axvspan(bracket.low, bracket.high, color="#e3ebf2", label="useful, by the range test")
    lrs, losses = smoothed(_by_seed(answer.range_points))
    axes.plot(lrs, losses, color=GREY, linewidth=1, label="range test: training loss while the rate rises")
    done = [rate for rate in ranking.rates if rate.mean_loss is not None]
    middles = [rate.mean_loss or 0.0 for rate in done]
    below = [middle - (rate.low or 0.0) for rate, middle in zip(done, middles, strict=True)]
    above = [(rate.high or 0.0) - middle for rate, middle in zip(done, middles, strict=True)]
    label = f"{ranking.epochs:g} epochs, annealed: mean and range of the seeds"
    axes.errorbar([r.lr for r in done], middles, [below, above], fmt="o-", color=BLUE, capsize=3, label=label)
    lost = [rate.lr for rate in ranking.rates if rate.num_diverged]
    if lost:
        top = max([*middles, *losses.tolist()])
        axes.plot(lost, [top] * len(lost), "x", color=ORANGE, markersize=9, markeredgewidth=2, label="diverged")
    if answer.choice is not None:
        choice = answer.choice
        axes.axvline(choice.lr, color=GREEN, linestyle="--", label=f"chosen for {max_epochs} epochs: {choice.lr:.2g}")
        interval = "95 % interval of that" if choice.is_fitted else "no better known than this"
        axes.axvspan(choice.low, choice.high, color=GREEN, alpha=0.12, linewidth=0, label=interval)
    axes.set_xscale("log")
    around = [*(rate.lr for rate in ranking.rates), bracket.low, bracket.high]
    around += [answer.choice.low, answer.choice.high] if answer.choice else []
    axes.set_xlim(min(around) / 3, max(around) * 3)
    axes.set_xlabel("learning rate")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda lr, _: f"{lr:g}"))
    plain_log_axis(axes)
    axes.set_ylabel("cross-entropy [nats per image]")
    axes.grid(color="#e6e6e6", which="both")
    axes.set_axisbelow(True)
    axes.legend(frameon=False, fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)
    bare(axes)


def _draw_curves(axes: Axes, results: Sequence[TrialResult]) -> None:
    """Draw the mean training loss of each fortieth of a training, for the first seed."""
    first_seed = min(result.trial.seed for result in results)
    shown = sorted((r for r in results if r.trial.seed == first_seed), key=lambda result: result.trial.lr)
    lrs = [result.trial.lr for result in shown]
    norm = LogNorm(min(lrs), max(lrs))
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
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda lr, _: f"{lr:.2g}"))
    axes.set_xlabel("update")
    plain_log_axis(axes)
    axes.set_ylabel("training loss [nats per image]")
    axes.grid(color="#e6e6e6", which="both")
    axes.set_axisbelow(True)
    bare(axes)


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
