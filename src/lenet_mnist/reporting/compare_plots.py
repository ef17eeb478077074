"""The pictures of a comparison: curves over each other, and the images on which two runs differ.

Drawn from history.csv and steps.csv of the runs; the images are listed in differing.csv.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from lenet_mnist.analysis.groups import smoothed_loss
from lenet_mnist.reporting.gallery import mistake_tile, tiles_figure
from lenet_mnist.reporting.style import (
    BLACK,
    COLOURS,
    TITLE_POINTS,
    Figure,
    plain_log_axis,
    plain_numbers,
    save_figure,
    tidy,
)
from lenet_mnist.reporting.text import counted
from lenet_mnist.runs.run import Run
from lenet_mnist.study.comparison import Comparison, Group, Pair

Reals = npt.NDArray[np.float64]
_Curve = tuple[Reals, Reals]  # one training's values, and at which updates

_DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (6, 1.5, 1, 1.5, 1, 1.5)))  # with eight colours: forty pairs
_MOST_TILES = 40
_LABEL_LETTERS = 60


def draw_comparison(compared: Comparison, directory: Path) -> dict[str, Figure]:
    """Draw the curves, and for two runs where they differ, into `directory`; return all. Raises: StorageError."""
    figures = {"loss": loss_curves_figure(compared), "accuracy": accuracy_curves_figure(compared)}
    if compared.pair is not None:
        figures["fixed"], figures["broken"] = pair_figures(compared.pair, compared.split.value)
    for name, figure in figures.items():
        save_figure(figure, directory / f"{name}.png")
    return figures


def loss_curves_figure(compared: Comparison) -> Figure:
    """Return training loss above and validation loss below; by update to the left, by second to the right."""
    tame = [row.train_loss for run in compared.runs if run.manifest.status != "diverged" for row in run.steps]
    ceiling = 2 * max(tame) if tame else math.inf  # what explodes would press all others flat

    def training_loss(run: Run) -> _Curve:
        steps, losses = smoothed_loss(run.steps)
        return steps, np.minimum(losses, ceiling)

    labels = "training loss, smoothed [nats per image]", "validation loss [nats per image]"
    figure, (above, below) = _four_axes("Loss", compared.groups, labels)
    _draw_curves(above, compared.groups, training_loss)
    _draw_curves(below, compared.groups, _by_epoch("val_loss"), marker=".")
    for axes in above:
        if axes.dataLim.minposx < math.inf:  # some of what is drawn is above zero
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(plain_numbers())
        for steps in compared.groups[0].steps:
            axes.axhline(steps.loss, color=BLACK, linestyle=":", linewidth=1)
    for axes in (*above, *below):
        if axes.dataLim.minposy < math.inf:
            plain_log_axis(axes.yaxis)
    return figure


def accuracy_curves_figure(compared: Comparison) -> Figure:
    """Return training accuracy above and validation accuracy below; by update to the left, by second to the right."""
    labels = "training accuracy, while learning", "validation accuracy"
    figure, rows = _four_axes("Accuracy", compared.groups, labels)
    for pair, field in zip(rows, ("train_accuracy", "val_accuracy"), strict=True):
        _draw_curves(pair, compared.groups, _by_epoch(field), marker=".")
        for axes in pair:
            axes.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    return figure


def pair_figures(pair: Pair, split: str) -> list[Figure]:
    """Return the images that only the first has right, then those that only the second has; sure mistakes first."""
    images = pair.answers[0].images.images.numpy()
    figures = []
    for right, positions in ((0, pair.paired.fixed), (1, pair.paired.broken)):
        shown, wrong = positions[:_MOST_TILES], 1 - right
        count = counted(len(positions), "image")
        count += f", {len(shown)} of them shown" if len(shown) < len(positions) else ""
        who = f"{pair.names[right]} right, {pair.names[wrong]} wrong: {count}. What {pair.names[wrong]} reads:"
        title = f"{fill('; '.join(pair.descriptions), 110)}\n{split} set: {who}"
        tiles = [mistake_tile(pair.answers[wrong].evaluation, images, position) for position in shown]
        figures.append(tiles_figure(tiles, title, "no such image"))
    return figures


def _four_axes(what: str, groups: Sequence[Group], labels: tuple[str, str]) -> tuple[Figure, Any]:
    """Return a figure with a row of axes for each label, and the groups in its legend."""
    figure = Figure(figsize=(10.0, 7.4), layout="constrained")
    seeds = ": mean and range of the seeds" if any(len(group.runs) > 1 for group in groups) else ""
    figure.suptitle(f"{what}{seeds}", fontsize=TITLE_POINTS)
    rows = figure.subplots(2, 2, sharey="row")
    for (left, right), label in zip(rows, labels, strict=True):
        left.set(xlabel="update", ylabel=label)
        right.set_xlabel("seconds of training")
        tidy(left)
        tidy(right)
    for k, group in enumerate(groups):
        num_diverged = sum(run.manifest.status == "diverged" for run in group.runs)
        runs = counted(len(group.runs), "run") + (f", {num_diverged} diverged" if num_diverged else "")
        label = fill(f"{group.letter}: {group.name} ({runs})", _LABEL_LETTERS)
        rows[0, 0].plot([], [], linewidth=1.6, label=label, **_style(k))
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8, handlelength=4)
    return figure, rows


def _draw_curves(
    pair: Sequence[Axes], groups: Sequence[Group], curve_of: Callable[[Run], _Curve], marker: str = ""
) -> None:
    """Draw each group by update and by second: the mean and the range of its seeds, as far as all of them go.

    Thin lines are single trainings that go further; one that diverged is such a line, with a cross at its end.
    """
    for k, group in enumerate(groups):
        style = _style(k)
        curves = [(run, *curve_of(run)) for run in group.runs if run.manifest.status != "diverged"]
        curves = [(run, steps, values) for run, steps, values in curves if len(steps)]
        if curves:
            shared = min((steps for _, steps, _ in curves), key=lambda steps: float(steps[-1]))
            seconds = np.mean([_seconds_at(run, shared) for run, _, _ in curves], axis=0)
            values = np.array([np.interp(shared, steps, values) for _, steps, values in curves])
            for axes, x in zip(pair, (shared, seconds), strict=True):
                axes.plot(x, values.mean(axis=0), marker=marker, linewidth=1.6, **style)
                if len(curves) > 1:
                    axes.fill_between(x, values.min(axis=0), values.max(axis=0), color=style["color"], alpha=0.18, lw=0)
            for run, steps, single in curves:
                further = steps >= shared[-1]
                _draw_alone(pair, run, (steps[further], single[further]), style)
        for run in group.runs:
            if run.manifest.status == "diverged":
                _draw_alone(pair, run, curve_of(run), style | {"marker": "x"})


def _draw_alone(pair: Sequence[Axes], run: Run, curve: _Curve, style: dict[str, Any]) -> None:
    """Draw a thin line; a marker is for its end only."""
    steps, values = curve
    if len(steps) > 1 or ("marker" in style and len(steps)):
        for axes, x in zip(pair, (steps, _seconds_at(run, steps)), strict=True):
            axes.plot(x, values, linewidth=0.8, markevery=[-1], markersize=8, markeredgewidth=2, **style)


def _by_epoch(field: str) -> Callable[[Run], _Curve]:
    def curve(run: Run) -> _Curve:
        steps, values = [row.step for row in run.history], [getattr(row, field) for row in run.history]
        return np.array(steps, dtype=float), np.array(values, dtype=float)

    return curve


def _seconds_at(run: Run, steps: Reals) -> Reals:
    """Return after how many seconds of training each update was made, as far as its epoch was completed."""
    ends, seconds = [0, *(row.step for row in run.history)], np.cumsum([0.0, *(row.seconds for row in run.history)])
    return np.asarray(np.interp(steps, ends, seconds, right=np.nan))


def _style(k: int) -> dict[str, Any]:
    return {"color": COLOURS[k % len(COLOURS)], "linestyle": _DASHES[k % len(_DASHES)]}
