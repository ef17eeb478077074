"""`lenet train --log tensorboard`: the values of a run's CSV files, written for TensorBoard while training goes on."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lenet_mnist.errors import one_line
from lenet_mnist.training.rows import Histories

_POSITIONS = {"epoch", "step", "layer"}  # columns that say where a value belongs
_LAYOUT = {
    "training and validation": {
        name: ["Multiline", [f"history/{part}_{name}" for part in ("train", "val")]] for name in ("loss", "accuracy")
    }
}


class TensorBoardLog:
    """Writes event files into runs/<id>/tensorboard/.

    Tags are history/<column>, steps/<column> and probe_<column>/<layer>; their position is the number of updates. A
    resumed training continues in a new file, which hides what an earlier one has of later updates. If a file cannot be
    written, a note says so, and training goes on.
    """

    def __init__(self, run: Path, histories: Histories, note: Callable[[str], None]) -> None:
        self._histories = histories.by_name()
        self._num_written = {name: len(rows) for name, rows in self._histories.items()}
        self._note = note
        self._writer: Any = None
        self._try(lambda: self._open(run / "tensorboard"))

    def write(self) -> None:
        if self._writer is not None:
            self._try(self._write_rows)

    def close(self) -> None:
        if self._writer is not None:
            self._try(self._writer.close)
        self._writer = None

    def _open(self, directory: Path) -> None:
        from torch.utils import tensorboard  # takes seconds

        make_writer: Any = tensorboard.SummaryWriter
        last = max((rows[-1].step for rows in self._histories.values() if len(rows)), default=0)
        self._writer = make_writer(directory, purge_step=last + 1 if last else None, flush_secs=5)
        self._writer.add_custom_scalars(_LAYOUT)

    def _write_rows(self) -> None:
        for name, rows in self._histories.items():
            for row in rows[self._num_written[name] :]:
                tag = f"probe_{{}}/{row.layer}" if name == "probe" else f"{name}/{{}}"
                for column, value in asdict(row).items():
                    if column not in _POSITIONS:
                        self._writer.add_scalar(tag.format(column), value, row.step)
            self._num_written[name] = len(rows)

    def _try(self, action: Callable[[], object]) -> None:
        """Do it, or give up logging: a training is worth more than its log."""
        try:
            action()
        except Exception as error:
            self._writer = None
            self._note(f"warning: --log tensorboard: stopped: {one_line(str(error)) or type(error).__name__}")
