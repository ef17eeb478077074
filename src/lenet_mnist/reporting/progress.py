"""What a person sees while something goes on: a bar with the time left on a terminal, plain lines elsewhere."""

import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, cast

from rich.console import Console
from rich.control import Control
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from lenet_mnist.analysis.cross_validation import FoldResult
from lenet_mnist.data import mnist
from lenet_mnist.errors import one_line
from lenet_mnist.training.loop import EpochRow
from lenet_mnist.training.probe import ProbeRow
from lenet_mnist.training.updates import StepRow
from lenet_mnist.tuning.trial import TrialResult

_SECONDS_BETWEEN_MOVES = 0.3  # each takes some milliseconds from the training


class _Stderr:
    """Standard error, whether somebody reads it or not: a training is worth more than its progress.

    Bars go past what makes texts printable; see cli/main.py.
    """

    def __init__(self) -> None:
        self._stream = getattr(sys.stderr, "behind", sys.stderr)

    def write(self, text: str) -> int:
        """Write, or lose it."""
        with suppress(OSError, AttributeError):  # AttributeError: there is no standard error at all
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Let it be seen, or lose it."""
        with suppress(OSError, AttributeError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class StderrConsole(Console):
    """Writes to stderr. Bars are drawn only while this is the job in front on its terminal."""

    def __init__(self) -> None:
        is_terminal = sys.stderr is not None and sys.stderr.isatty()
        # No bar goes into a file, whatever FORCE_COLOR and the like say.
        super().__init__(file=cast(IO[str], _Stderr()), force_terminal=None if is_terminal else False)

    def print(self, *objects: Any, **style: Any) -> None:
        """Print; what moves a cursor is rich's own, never part of a text."""
        super().print(*(one_line(each) if isinstance(each, str) else each for each in objects), **style)

    @property
    def is_interactive(self) -> bool:
        """Whether bars are drawn now: not over the prompt of a shell that was told `bg`."""
        return self._can_be_drawn_on and _is_in_front()

    @is_interactive.setter
    def is_interactive(self, value: bool) -> None:
        self._can_be_drawn_on = value

    def control(self, *control: Control) -> None:
        """Move the cursor."""
        if self.is_interactive:
            super().control(*control)

    def show_cursor(self, show: bool = True) -> bool:  # noqa: ARG002
        """Leave it as it is: who is stopped or killed could not show it again."""
        return False


def _is_in_front() -> bool:
    """Whether the terminal of stderr, if it is this session's, is ours for the moment."""
    try:
        return os.tcgetpgrp(sys.stderr.fileno()) == os.getpgrp()
    except (OSError, ValueError, AttributeError):  # another terminal, a file, Windows
        return True


class TrainingProgress:
    """Shows one training after another; see experiments/training.py."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._max_epochs = 0
        self._last_moved = 0.0
        self._bar: Progress | None = None
        self._task = TaskID(0)

    def note(self, text: str) -> None:
        """Print one line."""
        self._console.print(text, highlight=False, soft_wrap=True, markup=False)

    def begin(self, run: Path, step: int, max_epochs: int, steps_per_epoch: int) -> None:  # noqa: ARG002
        """Put up a bar, on a terminal."""
        self._max_epochs = max_epochs
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("epoch {task.fields[epoch]}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[loss]}"),
                TimeRemainingColumn(),
                console=self._console,
                transient=True,
                auto_refresh=False,
            )
            self._task = self._bar.add_task("", total=max_epochs * steps_per_epoch, epoch=1, loss="")
            self._bar.start()

    def end(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def add_step(self, row: StepRow) -> None:
        """Move the bar, a few times a second."""
        if self._bar is not None and time.monotonic() - self._last_moved > _SECONDS_BETWEEN_MOVES:
            loss = f"loss {row.train_loss:.3f}"
            self._bar.update(self._task, completed=row.step, epoch=row.epoch, loss=loss, refresh=True)
            self._last_moved = time.monotonic()

    def add_probe(self, rows: Sequence[ProbeRow]) -> None:
        """Show nothing of it."""

    def add_epoch(self, row: EpochRow, is_best: bool) -> None:
        """Print one line."""
        self._console.print(
            f"epoch {row.epoch:>{len(str(self._max_epochs))}}/{self._max_epochs}  "
            f"train loss {row.train_loss:.4f}  val loss {row.val_loss:.4f}  val accuracy {row.val_accuracy:.2%}  "
            f"lr {row.lr:.2g}  {row.seconds:.1f} s{'  best' if is_best else ''}",
            highlight=False,
            soft_wrap=True,
        )


class _ManyProgress:
    """Shows trainings side by side: a line each as it ends, and a bar on a terminal."""

    _what = "trainings"

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: Progress | None = None
        self._task = TaskID(0)

    def note(self, text: str) -> None:
        """Print one line."""
        self._console.print(text, highlight=False, soft_wrap=True, markup=False)

    def begin(self, number: int) -> None:
        """Put up a bar, on a terminal."""
        if self._console.is_terminal:
            columns = (TextColumn(self._what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, console=self._console, transient=True)
            self._task = self._bar.add_task("", total=number)
            self._bar.start()

    def end(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _add(self, line: str) -> None:
        """Print one line, and move the bar."""
        self.note(line)
        if self._bar is not None:
            self._bar.advance(self._task)


class SweepProgress(_ManyProgress):
    """Shows a sweep; see experiments.sweep_course.SweepSpectator."""

    def add_trial(self, result: TrialResult) -> None:
        """Say how one training ended."""
        trial = result.trial
        ended = "diverged"
        if result.val_loss is not None:
            ended = f"val loss {result.val_loss:.4f}  val accuracy {result.val_accuracy:.2%}"
        self._add(f"{trial.activation}  lr {trial.lr:<8.3g}  seed {trial.seed}  {ended}  {result.seconds:.1f} s")


class FoldProgress(_ManyProgress):
    """Shows a cross-validation; see experiments.cross_validation.FoldSpectator."""

    _what = "folds"

    def add_fold(self, result: FoldResult) -> None:
        """Say how one fold was answered."""
        fold = result.fold
        repeat = f"repeat {fold.repeat}  " if fold.folds.num_repeats > 1 else ""
        ended = "diverged" if result.has_diverged else f"accuracy {result.accuracy:.2%}  loss {result.mean_loss:.4f}"
        self._add(f"{repeat}fold {fold.number}/{fold.folds.num_folds}  {ended}  {result.seconds:.1f} s")


class FetchProgress(mnist.Progress):
    """Shows a download: each note on a line, each file's progress in place on a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.begin("", None)

    def note(self, text: str) -> None:
        """Print one line."""
        self._console.print(text, highlight=False, soft_wrap=True, markup=False)

    def begin(self, text: str, total: int | None) -> None:
        """Begin a file of `total` bytes."""
        self._name, self._num_bytes, self._done, self._tenth = text, total, 0, -1

    def advance(self, amount: int, text: str = "") -> None:  # noqa: ARG002
        """Show tenths of a file, or every megabyte where the size is not known."""
        self._done += amount
        tenth = self._done * 10 // self._num_bytes if self._num_bytes else self._done >> 20
        if tenth == self._tenth:
            return
        self._tenth = tenth
        of_total = f" of {self._num_bytes / 1e6:.1f}" if self._num_bytes else ""
        self._console.print(
            f"  {self._name}: {self._done / 1e6:.1f}{of_total} MB",
            highlight=False,
            end="\r" if self._console.is_terminal else "\n",
        )

    def end(self) -> None:
        """Leave the last line as it is."""
