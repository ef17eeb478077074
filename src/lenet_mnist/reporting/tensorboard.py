"""`lenet train --log tensorboard`: the values of a run's CSV files, written for TensorBoard while training goes on."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lenet_mnist.errors import one_line
from lenet_mnist.experiments.training import Spectator
from lenet_mnist.provenance import require_packages
from lenet_mnist.training.loop import EpochRow
from lenet_mnist.training.probe import ProbeRow
from lenet_mnist.training.updates import StepRow

_POSITIONS = {"epoch", "step", "layer"}  # columns that say where a value belongs
_LAYOUT = {
    "training and validation": {
        name: ["Multiline", [f"history/{part}_{name}" for part in ("train", "val")]] for name in ("loss", "accuracy")
    }
}


class TensorBoardLog:
    """Writes event files into runs/<id>/tensorboard/, and passes on everything to the screen.

    Tags are history/<column>, steps/<column> and probe_<column>/<layer>; their position is the number of updates. A
    resumed training continues in a new file, which hides what an earlier one has of later updates. If a file cannot be
    written, a note says so, and training goes on.

    Raises: InstallationError if tensorboard is not installed.
    """

    def __init__(self, screen: Spectator) -> None:
        require_packages("--log tensorboard", "tensorboard", "tensorboard")
        self._screen = screen
        self._writer: Any = None

    def note(self, text: str) -> None:
        """Show one line."""
        self._screen.note(text)

    def begin(self, run: Path, step: int, max_epochs: int, steps_per_epoch: int) -> None:
        """Open an event file for updates after `step`."""
        self._screen.begin(run, step, max_epochs, steps_per_epoch)

        def open_file() -> None:
            from torch.utils import tensorboard  # takes seconds

            make_writer: Any = tensorboard.SummaryWriter
            self._writer = make_writer(run / "tensorboard", purge_step=step + 1 if step else None, flush_secs=5)
            self._writer.add_custom_scalars(_LAYOUT)

        self._try(open_file)

    def add_step(self, row: StepRow) -> None:
        """Write one update, if it is one that steps.csv keeps."""
        self._screen.add_step(row)
        if row.is_recorded:
            self._write("steps/{}", row)

    def add_probe(self, rows: Sequence[ProbeRow]) -> None:
        """Write what was measured inside the network."""
        self._screen.add_probe(rows)
        for row in rows:
            self._write(f"probe_{{}}/{row.layer}", row)

    def add_epoch(self, row: EpochRow, is_best: bool) -> None:
        """Write one epoch."""
        self._screen.add_epoch(row, is_best)
        self._write("history/{}", row)

    def end(self) -> None:
        """Close the event file."""
        self._screen.end()
        if self._writer is not None:
            self._try(self._writer.close)
        self._writer = None

    def _write(self, tag: str, row: Any) -> None:
        for name, value in asdict(row).items():
            if name not in _POSITIONS and self._writer is not None:
                self._try(lambda name=name, value=value: self._writer.add_scalar(tag.format(name), value, row.step))  # type: ignore[misc]

    def _try(self, action: Callable[[], object]) -> None:
        """Do it, or give up logging: a training is worth more than its log."""
        try:
            action()
        except Exception as error:
            self._writer = None
            self.note(f"warning: --log tensorboard: stopped: {one_line(str(error)) or type(error).__name__}")
