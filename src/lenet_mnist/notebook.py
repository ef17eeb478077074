"""What Python sees of a training: rows as they come, rows as columns, and in a notebook a curve that grows."""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import fields
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_mnist.errors import one_line
from lenet_mnist.progress import Progress
from lenet_mnist.provenance import require_packages
from lenet_mnist.reporting.terminal import StderrConsole, TerminalProgress
from lenet_mnist.training.rows import Rows

_SECONDS_BETWEEN_PICTURES = 1.0  # each takes a fifth of one


class Columns(dict[str, npt.NDArray[Any]]):
    """Rows of a run, column by column."""

    @classmethod
    def of(cls, kind: type[Any], rows: Sequence[Any]) -> "Columns":
        return cls({each.name: np.array([getattr(row, each.name) for row in rows]) for each in fields(kind)})

    @property
    def frame(self) -> Any:
        """The same as a pandas DataFrame. Raises: InstallationError where pandas is not installed."""
        require_packages("frame", "pandas")
        return import_module("pandas").DataFrame(self)


class RowLog:
    """Hands on rows, each to its function, once they are there (a log of training/context.py)."""

    def __init__(self, *told: tuple[Rows[Any], Callable[[Any], object] | None]) -> None:
        self._told = [(rows, tell) for rows, tell in told if tell is not None]
        self._num_told = [len(rows) for rows, _ in self._told]

    def write(self) -> None:
        for k, (rows, tell) in enumerate(self._told):
            for row in rows[self._num_told[k] :]:
                self._num_told[k] += 1
                tell(row)

    def close(self) -> None:
        """Nothing is open."""


class NotebookProgress(TerminalProgress):
    """Draws what is trained in one place of a cell's output, instead of a line for each epoch; notes stay lines."""

    def __init__(self) -> None:
        super().__init__(StderrConsole())
        self._handle: Any = None
        self._next = 0.0

    def note(self, text: str) -> None:
        if not text.startswith("epoch "):
            super().note(text)

    def show(self, run: object, is_last: bool = False) -> None:
        """Draw `run`, which has a _repr_html_: at most once a second, and at the end."""
        if time.monotonic() < self._next and not is_last:
            return
        display: Any = sys.modules["IPython"].display.display
        try:
            if self._handle is None:
                self._handle = display(run, display_id=True)
            else:
                self._handle.update(run)
        except Exception as error:  # a training is worth more than its picture
            self.note(f"note: the curve is not drawn: {one_line(str(error)) or type(error).__name__}")
        self._next = time.monotonic() + _SECONDS_BETWEEN_PICTURES


def progress_of(is_shown: bool) -> Progress:
    """Return what shows how far a training is: nothing, a picture where a notebook's kernel runs this, or lines."""
    ipython = sys.modules.get("IPython")
    has_kernel = ipython is not None and getattr(ipython.get_ipython(), "kernel", None) is not None
    return (NotebookProgress() if has_kernel else TerminalProgress(StderrConsole())) if is_shown else Progress()
