"""The pictures of a comparison: curves over each other, and the images on which two runs differ.

Drawn from history.csv and steps.csv of the runs; the differing images are listed in differing.csv.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from lenet_mnist.analysis.speed import smoothed_loss
from lenet_mnist.reporting.gallery import mistake_tile, tiles_figure
from lenet_mnist.reporting.style import (
    AMBER,
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    TITLE_POINTS,
    bare,
    plain_log_axis,
    plain_numbers,
    save_figure,
)
from lenet_mnist.study.comparison import ComparedRun, Comparison, Group, Pair
from lenet_mnist.training.rows import EpochRow

Reals = npt.NDArray[np.float64]

# Lines differ in dash as well as in colour; eight colours and five dashes make forty pairs.
_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, AMBER, GREY, BLACK)
_DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (6, 1.5, 1, 1.5, 1, 1.5)))
_MOST_TILES = 40
_LABEL_LETTERS = 60


@dataclass(frozen=True)
class _Curve:
    """One training's values, at what update and after how many seconds of training."""

    steps: Reals
    seconds: Reals
    values: Reals

    def at(self, steps: Reals) -> tuple[Reals, Reals]:
        """Return seconds and values at other steps within its own."""
        return np.interp(steps, self.steps, self.seconds), np.interp(steps, self.steps, self.values)


def draw_comparison(compared: Comparison, directory: Path) -> None:
    """Draw the curves, and for two runs the images on which they differ, into `directory`. Raises: StorageError."""
    save_figure(loss_curves_figure(compared), directory / "loss.png")
    save_figure(accuracy_curves_figure(compared), directory / "accuracy.png")
    if compared.pair is not None:
        for name, figure in zip(("fixed", "broken"), pair_figures(compared.pair, compared.split.value), strict=True):
            save_figure(figure, directory / f"{name}.png")


def loss_curves_figure(compared: Comparison) -> Figure:
    """Training loss above and validation loss below; by update to the left, by second to the right."""
    figure, (above, below) = _four_axes("Loss", compared.groups)
    _draw_curves(above, compared.groups, _training_loss(_ceiling(compared.runs)))
    _draw_curves(below, compared.groups, _by_epoch(lambda row: row.val_loss), marker=".")
    for axes in above:
        if _is_above_zero([line.get_xdata() for line in axes.lines]):
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(plain_numbers())
        for steps in compared.groups[0].steps:
            axes.axhline(steps.loss, color=BLACK, linestyle=":", linewidth=1)
    for axes in (*above, *below):
        if _is_above_zero([line.get_ydata() for line in axes.lines]):
            plain_log_axis(axes.yaxis)
    above[0].set_ylabel("training loss, smoothed [nats per image]")
    below[0].set_ylabel("validation loss [nats per image]")
    _add_legend(figure, compared.groups)
    return figure


def accuracy_curves_figure(compared: Comparison) -> Figure:
    """Training accuracy above and validation accuracy below; by update to the left, by second to the right."""
    figure, (above, below) = _four_axes("Accuracy", compared.groups)
    _draw_curves(above, compared.groups, _by_epoch(lambda row: row.train_accuracy), marker=".")
    _draw_curves(below, compared.groups, _by_epoch(lambda row: row.val_accuracy), marker=".")
    for axes in (*above, *below):
        axes.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    above[0].set_ylabel("training accuracy, while learning")
    below[0].set_ylabel("validation accuracy")
    _add_legend(figure, compared.groups)
    return figure


def pair_figures(pair: Pair, split: str) -> tuple[Figure, Figure]:
    """The images that only the first has right, and those that only the second has, the worst mistakes first."""
    first, second = pair.names
    answers, other_answers = pair.answers
    images = answers.images.images.numpy()
    sides = "; ".join(pair.descriptions)

    def figure(right: str, wrong: str, evaluation: Any, positions: Any) -> Figure:
        shown = min(len(positions), _MOST_TILES)
        count = "1 image" if len(positions) == 1 else f"{len(positions)} images"
        count += f", {shown} of them shown" if shown < len(positions) else ""
        title = f"{fill(sides, 110)}\n{split} set: {right} right, {wrong} wrong: {count}. What {wrong} reads:"
        return tiles_figure([mistake_tile(evaluation, images, k) for k in positions[:shown]], title, "no such image")

    return (
        figure(first, second, other_answers.evaluation, pair.paired.fixed),
        figure(second, first, answers.evaluation, pair.paired.broken),
    )


def _four_axes(what: str, groups: Sequence[Group]) -> tuple[Figure, Sequence[Sequence[Axes]]]:
    figure = Figure(figsize=(10.0, 7.4), layout="constrained")
    seeds = ": mean of the seeds, and the band that they lie in" if any(len(group.runs) > 1 for group in groups) else ""
    figure.suptitle(f"{what}{seeds}", fontsize=TITLE_POINTS)
    rows = figure.subplots(2, 2, sharey="row")
    for left, right in rows:
        left.set_xlabel("update")
        right.set_xlabel("seconds of training")
        for axes in (left, right):
            axes.grid(color="#e6e6e6", which="major")
            axes.set_axisbelow(True)
            bare(axes)
    return figure, rows


def _draw_curves(
    pair: Sequence[Axes], groups: Sequence[Group], curve_of: Callable[[ComparedRun], _Curve], marker: str = ""
) -> None:
    """Draw each group by update and by second: the mean and the band of its seeds, as far as all of them go.

    Thin lines are single trainings where they go on alone; one that diverged is such a line, with a cross at its end.
    """
    for k, group in enumerate(groups):
        style = _style(k)
        whole = [curve_of(run) for run in group.runs if run.manifest.status != "diverged"]
        whole = [curve for curve in whole if len(curve.steps)]
        if whole:
            shortest = min(whole, key=lambda curve: float(curve.steps[-1])).steps
            seconds, values = (np.array(each) for each in zip(*(curve.at(shortest) for curve in whole), strict=True))
            for axes, x in zip(pair, (shortest, seconds.mean(axis=0)), strict=True):
                axes.plot(x, values.mean(axis=0), marker=marker, linewidth=1.6, **style)
                if len(whole) > 1:
                    axes.fill_between(x, values.min(axis=0), values.max(axis=0), color=style["color"], alpha=0.18, lw=0)
            for curve in whole:
                _draw_alone(pair, curve, curve.steps >= shortest[-1], style)
        for run in group.runs:
            if run.manifest.status == "diverged":
                _draw_alone(pair, curve_of(run), None, style, "x")


def _draw_alone(
    pair: Sequence[Axes], curve: _Curve, chosen: npt.NDArray[np.bool_] | None, style: dict[str, Any], end: str = ""
) -> None:
    part = slice(None) if chosen is None else chosen
    steps, seconds, values = curve.steps[part], curve.seconds[part], curve.values[part]
    if len(steps) > 1 or (end and len(steps)):
        for axes, x in zip(pair, (steps, seconds), strict=True):
            axes.plot(x, values, linewidth=0.8, **style)
            axes.plot(x[-1:], values[-1:], marker=end, markersize=8, markeredgewidth=2, **style)


def _training_loss(ceiling: float) -> Callable[[ComparedRun], _Curve]:
    def curve(run: ComparedRun) -> _Curve:
        steps, losses = smoothed_loss(run.steps)
        seconds = np.interp(steps, *_seconds(run.history), right=np.nan)  # not known before an epoch has ended
        return _Curve(steps, seconds, np.minimum(losses, ceiling))

    return curve


def _ceiling(runs: Sequence[ComparedRun]) -> float:
    """Return where a loss is cut off that rises without end: it would press all others flat."""
    tame = [row.train_loss for run in runs if run.manifest.status != "diverged" for row in run.steps]
    return 2 * max(tame) if tame else math.inf


def _by_epoch(value: Callable[[EpochRow], float]) -> Callable[[ComparedRun], _Curve]:
    def curve(run: ComparedRun) -> _Curve:
        steps, seconds = _seconds(run.history)
        return _Curve(steps[1:], seconds[1:], np.array([value(row) for row in run.history], dtype=float))

    return curve


def _seconds(history: Sequence[EpochRow]) -> tuple[Reals, Reals]:
    """Return the update at the end of each epoch, and the seconds up to there; 0 and 0 come first."""
    steps = np.array([0, *(row.step for row in history)], dtype=float)
    return steps, np.cumsum([0.0, *(row.seconds for row in history)])


def _is_above_zero(parts: Sequence[Any]) -> bool:
    """Whether there is anything that a logarithmic axis could show."""
    return any((np.asarray(part, dtype=float) > 0).any() for part in parts)


def _add_legend(figure: Figure, groups: Sequence[Group]) -> None:
    for k, group in enumerate(groups):
        runs = "1 run" if len(group.runs) == 1 else f"{len(group.runs)} runs"
        num_diverged = sum(run.manifest.status == "diverged" for run in group.runs)
        runs += f", {num_diverged} diverged" if num_diverged else ""
        label = fill(f"{group.letter}: {group.name} ({runs})", _LABEL_LETTERS)
        figure.axes[0].plot([], [], linewidth=1.6, label=label, **_style(k))
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8, handlelength=4)


def _style(k: int) -> dict[str, Any]:
    return {"color": _COLOURS[k % len(_COLOURS)], "linestyle": _DASHES[k % len(_DASHES)]}
