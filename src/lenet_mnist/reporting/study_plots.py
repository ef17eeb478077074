"""The pictures of a comparison: curves over each other, and where two runs differ. Then a sweep's: which rates learn.

Drawn from history.csv and steps.csv of the runs, and from range_test.csv, sweep.csv and journal.jsonl of the sweep.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.ticker import PercentFormatter

from lenet_mnist.analysis.groups import smoothed_loss
from lenet_mnist.config import Activation
from lenet_mnist.reporting.gallery import mistake_tile, tiles_figure
from lenet_mnist.reporting.style import (
    BLACK,
    COLOURS,
    GREY,
    ORANGE,
    PURPLE,
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
from lenet_mnist.study.lr_sweep import Answer, SweptRun
from lenet_mnist.tuning.plan import epochs_text
from lenet_mnist.tuning.trial import TrialResult, smoothed

Reals = npt.NDArray[np.float64]
_Curve = tuple[Reals, Reals]  # one training's values, and at which updates

_DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (6, 1.5, 1, 1.5, 1, 1.5)))  # with eight colours: forty pairs
_MOST_TILES = 40
_MOST_DOTS = 60  # on a line: more would hide it
_LABEL_LETTERS = 60
_HIGHEST_LOSS = 10.0  # of a sweep, times that of chance level: what rises above it is cut off
_RATE_COLOURS = colormaps["viridis"]
_LOST: dict[str, Any] = {"marker": "x", "color": ORANGE, "markersize": 9, "markeredgewidth": 2, "linestyle": ""}


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

    curves = {
        "training loss, smoothed [nats per image]": training_loss,
        "validation loss [nats per image]": _by_epoch("val_loss"),
    }
    figure, (above, below) = _curves_figure("Loss", compared.groups, curves)
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
    fields = {"training accuracy, while learning": "train_accuracy", "validation accuracy": "val_accuracy"}
    curves = {label: _by_epoch(field) for label, field in fields.items()}
    figure, rows = _curves_figure("Accuracy", compared.groups, curves)
    for axes in rows.flat:
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


def _curves_figure(
    what: str, groups: Sequence[Group], curves: dict[str, Callable[[Run], _Curve]]
) -> tuple[Figure, npt.NDArray[Any]]:
    """Return a figure with a row of axes for each kind of curves, the groups in its legend, and the axes."""
    figure = Figure(figsize=(10.0, 7.4), layout="constrained")
    seeds = ": mean and range of the seeds" if any(len(group.runs) > 1 for group in groups) else ""
    figure.suptitle(f"{what}{seeds}", fontsize=TITLE_POINTS)
    rows = figure.subplots(2, 2, sharey="row")
    for (left, right), (label, curve_of) in zip(rows, curves.items(), strict=True):
        left.set(xlabel="update", ylabel=label)
        right.set_xlabel("seconds of training")
        tidy(left)
        tidy(right)
        _draw_curves((left, right), groups, curve_of)
    for k, group in enumerate(groups):
        num_diverged = sum(run.manifest.status == "diverged" for run in group.runs)
        runs = counted(len(group.runs), "run") + (f", {num_diverged} diverged" if num_diverged else "")
        label = fill(f"{group.letter}: {group.name} ({runs})", _LABEL_LETTERS)
        rows[0, 0].plot([], [], linewidth=1.6, label=label, **_style(k))
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8, handlelength=4)
    return figure, rows


def _draw_curves(pair: Sequence[Axes], groups: Sequence[Group], curve_of: Callable[[Run], _Curve]) -> None:
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
            marker = "." if len(shared) <= _MOST_DOTS else ""
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


# The picture of a sweep


def draw_swept_run(swept: SweptRun) -> Figure:
    """Draw plots/sweep.png, and return it: for each activation losses by rate, and loss curves coloured by rate.

    All rows have the same axis of rates, the same losses, and the same colour for a rate.
    Raises: StorageError.
    """
    answers, chance = swept.answers, swept.directory.manifest.guessing_loss
    max_epochs = swept.directory.config.training.max_epochs
    figure = Figure(figsize=(11.0, 4.4 * len(answers)), layout="constrained")
    rows = figure.subplots(len(answers), 2, squeeze=False, sharex="col", sharey=True, width_ratios=(1.25, 1))
    lrs = [result.trial.lr for answer in answers.values() for result in answer.results]
    norm = LogNorm(min(lrs), max(lrs))
    for (activation, answer), (left, right) in zip(answers.items(), rows, strict=True):
        _draw_rates(left, answer, COLOURS[list(Activation).index(activation) % len(COLOURS)], max_epochs)
        _draw_trainings(right, answer.results, norm)
        plain_log_axis(figure.colorbar(ScalarMappable(norm, _RATE_COLOURS), ax=right, label="learning rate").ax.yaxis)
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
    save_figure(figure, swept.directory.plots_path / "sweep.png")
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


def _draw_trainings(axes: Axes, results: Sequence[TrialResult], norm: LogNorm) -> None:
    """Draw the training losses of the first seed, smoothed."""
    first_seed = min(result.trial.seed for result in results)
    shown = sorted((r for r in results if r.trial.seed == first_seed and r.steps), key=lambda result: result.trial.lr)
    for result in shown:
        steps, losses = smoothed_loss(result.steps)
        axes.plot(steps, losses, color=_RATE_COLOURS(norm(result.trial.lr)), linewidth=1.2)
        if result.val_loss is None:
            axes.plot(steps[-1:], losses[-1:], **_LOST)
    axes.set_xlabel("update")
