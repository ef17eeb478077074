"""What a person sees while something goes on: a bar with the time left on a terminal, plain lines elsewhere."""

import os
import sys
import time
from contextlib import suppress
from typing import IO, Any, cast

from rich.console import Console
from rich.control import Control
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from lenet_mnist import progress
from lenet_mnist.errors import one_line

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

    def __init__(self, quiet: bool = False) -> None:
        is_terminal = sys.stderr is not None and sys.stderr.isatty()
        # No bar goes into a file, whatever FORCE_COLOR and the like say.
        super().__init__(file=cast(IO[str], _Stderr()), force_terminal=None if is_terminal else False, quiet=quiet)

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
        if self.is_interactive:
            super().control(*control)

    def show_cursor(self, show: bool = True) -> bool:  # noqa: ARG002
        """Leave it as it is: who is stopped or killed could not show it again."""
        return False


def _is_in_front() -> bool:
    """Whether the terminal of stderr, if it is this session's, is ours for the moment."""
    if sys.platform == "win32":
        return True
    try:
        return os.tcgetpgrp(sys.stderr.fileno()) == os.getpgrp()
    except (OSError, ValueError, AttributeError):  # another terminal, a file
        return True


class TerminalProgress(progress.Progress):
    """Shows lines, and on a terminal a bar with the time left."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._done = 0
        self._last_moved = 0.0

    def note(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True, markup=False)

    def begin(self, text: str, total: int | None) -> None:
        """Put up a bar, on a terminal."""
        self._done = 0
        if self._console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, console=self._console, transient=True, auto_refresh=False)
            self._task = self._bar.add_task(text, total=total)
            self._bar.start()

    def advance(self, amount: int, text: str = "") -> None:
        """Move the bar, a few times a second."""
        self._done += amount
        if self._bar is not None and time.monotonic() - self._last_moved > _SECONDS_BETWEEN_MOVES:
            self._bar.update(self._task, completed=self._done, description=text or None, refresh=True)
            self._last_moved = time.monotonic()

    def end(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class FetchProgress(TerminalProgress):
    """Shows a download: each note on a line, each file's progress in place on a terminal."""

    def begin(self, text: str, total: int | None) -> None:
        """Begin a file of `total` bytes, if that is known."""
        self._name, self._num_bytes, self._done, self._tenth = text, total, 0, -1

    def advance(self, amount: int, text: str = "") -> None:  # noqa: ARG002
        """Show tenths of a file, or every megabyte where the size is not known."""
        self._done += amount
        tenth = self._done * 10 // self._num_bytes if self._num_bytes else self._done >> 20
        if tenth != self._tenth:
            self._tenth = tenth
            of_total = f" of {self._num_bytes / 1e6:.1f}" if self._num_bytes else ""
            line = f"  {self._name}: {self._done / 1e6:.1f}{of_total} MB"
            self._console.print(line, highlight=False, end="\r" if self._console.is_terminal else "\n")
