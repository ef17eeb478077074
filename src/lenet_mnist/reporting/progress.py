"""What a person sees while something goes on: a bar with the time left on a terminal, plain lines elsewhere."""

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from lenet_mnist.training.loop import EpochRow, StepRow


class StderrConsole(Console):
    """Writes to stderr, and goes silent where nobody reads it: a training is worth more than its progress."""

    def __init__(self) -> None:
        super().__init__(stderr=True)

    def on_broken_pipe(self) -> None:
        """Say no more, instead of ending the program."""
        self.quiet = True

    def print(self, *objects: Any, **style: Any) -> None:
        """Print, or go silent if that fails."""
        try:
            super().print(*objects, **style)
        except OSError:
            self.quiet = True


class TrainingProgress:
    """Shows one training after another; see experiment.Spectator."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._max_epochs = 0
        self._bar: Progress | None = None
        self._task = TaskID(0)

    def note(self, text: str) -> None:
        """Print one line."""
        self._console.print(text, highlight=False, soft_wrap=True, markup=False)

    def begin(self, max_epochs: int, steps_per_epoch: int) -> None:
        """Put up a bar, on a terminal."""
        self._max_epochs = max_epochs
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("epoch {task.fields[epoch]}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("loss {task.fields[loss]:.3f}"),
                TimeRemainingColumn(),
                console=self._console,
                transient=True,
            )
            self._task = self._bar.add_task("", total=max_epochs * steps_per_epoch, epoch=1, loss=float("nan"))
            self._bar.start()

    def end(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def add_step(self, row: StepRow) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.update(self._task, completed=row.step, epoch=row.epoch, loss=row.train_loss)

    def add_epoch(self, row: EpochRow, is_best: bool) -> None:
        """Print one line."""
        self._console.print(
            f"epoch {row.epoch:>{len(str(self._max_epochs))}}/{self._max_epochs}  "
            f"train loss {row.train_loss:.4f}  val loss {row.val_loss:.4f}  val accuracy {row.val_accuracy:.2%}  "
            f"lr {row.lr:.2g}  {row.seconds:.1f} s{'  best' if is_best else ''}",
            highlight=False,
            soft_wrap=True,
        )


class FetchProgress:
    """Shows a fetch of data: each note on a line, each file's progress in place on a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._shown: tuple[str, int] | None = None

    def note(self, text: str) -> None:
        """Print one line."""
        self._console.print(text, highlight=False, soft_wrap=True, markup=False)

    def progress(self, name: str, bytes_done: int, bytes_total: int | None) -> None:
        """Show tenths of a file, or every megabyte where the size is not known."""
        tenth = bytes_done * 10 // bytes_total if bytes_total else bytes_done >> 20
        if (name, tenth) == self._shown:
            return
        self._shown = (name, tenth)
        of_total = f" of {bytes_total / 1e6:.1f}" if bytes_total else ""
        self._console.print(
            f"  {name}: {bytes_done / 1e6:.1f}{of_total} MB",
            highlight=False,
            end="\r" if self._console.is_terminal else "\n",
        )
