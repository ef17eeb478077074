"""What benchmark_peers.py has measured: as JSON, as tables, as a picture."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from math import inf
from pathlib import Path
from statistics import median
from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from common import table
from lenet_mnist.reporting.style import BLUE, GREY, ORANGE, save_figure
from peers.arm import Epoch, Setting

REFERENCE = "plain"
SCALING_BATCH_SIZE = 64
STYLES = {"plain": (GREY, "--"), "lenet-torch": (ORANGE, "-."), "lenet-native": (BLUE, "-")}


@dataclass(frozen=True)
class Training:
    """The epochs of one arm in one part of the benchmark."""

    part: str
    arm: str
    threads: int
    setting: Setting
    epochs: list[Epoch]

    @property
    def seconds(self) -> list[float]:
        """The seconds of each epoch after the first, evaluation not included."""
        return [epoch.seconds for epoch in self.epochs[1:]]

    @property
    def median_and_range(self) -> tuple[str, str]:
        """The seconds of an epoch, in words."""
        return f"{median(self.seconds):.2f}", f"{min(self.seconds):.2f} to {max(self.seconds):.2f}"

    def seconds_to(self, accuracy: float) -> float | None:
        """Return the seconds until `accuracy`, evaluations included, or None if it was not reached."""
        totals = accumulate(epoch.seconds + epoch.evaluation_seconds for epoch in self.epochs)
        pairs = zip(totals, self.epochs, strict=True)
        return next((total for total, epoch in pairs if epoch.val_accuracy >= accuracy), None)


@dataclass(frozen=True)
class Report:
    """Every measurement, and the circumstances."""

    circumstances: dict[str, Any]
    trainings: list[Training]

    @classmethod
    def read(cls, *paths: Path) -> "Report":
        """Return what `write` wrote; of several files, all measurements and the first one's circumstances."""
        contents = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
        rows = [row for content in contents for row in content["trainings"]]
        for row in rows:
            row["setting"] = Setting(**row["setting"])
            row["epochs"] = [Epoch(**epoch) for epoch in row["epochs"]]
        return cls(contents[0]["circumstances"], [Training(**row) for row in rows])

    def write(self, path: Path) -> None:
        """Write everything as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    def of(self, part: str) -> list[Training]:
        """Return the trainings of one part."""
        return [training for training in self.trainings if training.part == part]

    def ratio(self, training: Training) -> str:
        """Return the median's ratio to that of the reference in the same part, setting and threads, if it is there."""
        same = (training.part, REFERENCE, training.threads, training.setting)
        for other in self.trainings:
            if (other.part, other.arm, other.threads, other.setting) == same:
                return f"{median(training.seconds) / median(other.seconds):.2f}"
        return "-"


def tables(report: Report) -> str:
    """Return the circumstances and a table of each part, in Markdown."""
    circumstances = "\n".join(f"{key}: {value}" for key, value in report.circumstances.items())
    makers = {"rounds": rounds_table, "race": race_table, "scaling": scaling_table}
    return "\n\n".join([circumstances, *(make(report) for part, make in makers.items() if report.of(part))])


def rounds_table(report: Report) -> str:
    columns = ("batch", "arm", "seconds an epoch", "range", f"ratio to {REFERENCE}", "first epoch", "evaluation")
    rows = []
    for one in report.of("rounds"):
        evaluation = median(epoch.evaluation_seconds for epoch in one.epochs)
        rest = (report.ratio(one), f"{one.epochs[0].seconds:.2f}", f"{evaluation:.2f}")
        rows.append((one.setting.batch_size, one.arm, *one.median_and_range, *rest))
    return table(columns, rows)


def race_table(report: Report) -> str:
    goals = report.circumstances["goals"]
    groups: dict[tuple[int, str], list[Training]] = {}
    for one in report.of("race"):
        groups.setdefault((one.setting.batch_size, one.arm), []).append(one)
    columns = ("batch", "arm", *(f"seconds to {goal:.1%} (range; reached)" for goal in goals))
    return table(columns, ((*key, *(time_to(goal, group) for goal in goals)) for key, group in groups.items()))


def time_to(goal: float, trainings: Sequence[Training]) -> str:
    """Return the median over all trainings, of which those that did not reach `goal` took longest, and the range."""
    times = sorted(training.seconds_to(goal) or inf for training in trainings)
    reached = [seconds for seconds in times if seconds < inf]
    if median(times) == inf:
        return f"not reached ({len(reached)} of {len(times)})"
    return f"{median(times):.1f} ({reached[0]:.1f} to {reached[-1]:.1f}; {len(reached)} of {len(times)})"


def scaling_table(report: Report) -> str:
    columns = ("batch", "images", "arm", "threads", "seconds an epoch", "range", f"ratio to {REFERENCE}")
    rows = []
    for one in report.of("scaling"):
        images = f"{one.setting.num_images:,}"
        rows.append((one.setting.batch_size, images, one.arm, one.threads, *one.median_and_range, report.ratio(one)))
    return table(columns, rows)


def draw(report: Report, path: Path) -> None:
    """Draw the arms side by side, and how some of them scale."""
    figure = Figure(figsize=(14.0, 4.6), layout="constrained")
    bars, by_images, by_batch = figure.subplots(1, 3, width_ratios=(1.4, 1, 1))
    if report.of("rounds"):
        draw_rounds(bars, report)
    if scaling := report.of("scaling"):
        all_images = max(one.setting.num_images for one in scaling)
        same_batch = [one for one in scaling if one.setting.batch_size == SCALING_BATCH_SIZE]
        same_images = [one for one in scaling if one.setting.num_images == all_images]
        draw_scaling(by_images, same_batch, lambda setting: setting.num_images)
        draw_scaling(by_batch, same_images, lambda setting: setting.batch_size)
        by_images.set_xlabel(f"training images, in batches of {SCALING_BATCH_SIZE}")
        by_batch.set_xlabel(f"batch size, {all_images:,} training images")
    figure.suptitle(f"LeNet on MNIST: {report.circumstances['threads']} threads, {report.circumstances['machine']}")
    save_figure(figure, path)


def draw_rounds(axes: Axes, report: Report) -> None:
    """Draw a bar for each median, with the range and the ratio."""
    rounds = report.of("rounds")
    arms = list(dict.fromkeys(one.arm for one in rounds))
    batch_sizes = list(dict.fromkeys(one.setting.batch_size for one in rounds))
    for one in rounds:
        place, middle = batch_sizes.index(one.setting.batch_size), median(one.seconds)
        y = arms.index(one.arm) + 0.4 * place - 0.2
        label = f"batches of {one.setting.batch_size}" if one.arm == arms[0] else None
        axes.barh(y, middle, 0.36, color=(BLUE, ORANGE)[place], label=label)
        axes.plot([min(one.seconds), max(one.seconds)], [y, y], color="black", linewidth=1)
        axes.text(max(one.seconds), y, f"  {middle:.2f} s ({report.ratio(one)})", va="center", fontsize=8)
    axes.set_yticks(range(len(arms)), arms)
    axes.invert_yaxis()
    medians = [median(one.seconds) for one in rounds]
    axes.set_xscale("log")
    axes.set_xlim(min(medians) / 2, max(medians) * 3)  # room for the numbers
    axes.set_xlabel(f"seconds an epoch (ratio to {REFERENCE})")
    finish(axes, axes.xaxis)


def draw_scaling(axes: Axes, trainings: Sequence[Training], x: Callable[[Setting], int]) -> None:
    """Draw a line an arm; hollow, what a single thread takes."""
    most_threads = max((one.threads for one in trainings), default=0)
    for arm, (colour, dash) in STYLES.items():
        mine = sorted((one for one in trainings if one.arm == arm), key=lambda one: x(one.setting))
        points = [(x(one.setting), median(one.seconds)) for one in mine if one.threads == most_threads]
        alone = [(x(one.setting), median(one.seconds)) for one in mine if one.threads != most_threads]
        if points:
            axes.plot(*zip(*points, strict=True), color=colour, linestyle=dash, marker=".", label=arm)
        if alone:
            axes.plot(*zip(*alone, strict=True), "o", color=colour, fillstyle="none")
    axes.set_xscale("log")
    axes.set_yscale("log")
    sizes = sorted({x(one.setting) for one in trainings})
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylabel("seconds an epoch (hollow: 1 thread)")
    finish(axes, axes.yaxis)


def finish(axes: Axes, log_axis: Axis) -> None:
    log_axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    log_axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    log_axis.set_minor_locator(NullLocator())
    axes.grid(color="#e6e6e6")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
