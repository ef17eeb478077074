"""The histories of a training: one row per epoch, one for some of the updates, one per epoch and layer."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from lenet_mnist.errors import DataError
from lenet_mnist.files.tables import first_error, header_line, row_line


@dataclass(frozen=True, slots=True)  # there may be a million
class EpochRow:
    """One epoch: means over the training images as they were seen, and over all validation images at its end.

    `lr` is the learning rate of the epoch's last update.
    """

    epoch: int
    step: int
    lr: float
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    seconds: float


@dataclass(frozen=True, slots=True)
class StepRow:
    """One update. `train_loss` is the mean over the batch, in nats, before the update: that of the labels, always.

    `gradient_norm` is the Euclidean norm of the whole gradient there, `c1_gradient_norm` that of C1's weights alone:
    where gradients vanish (lecture point 5), the second is far smaller than the first.
    """

    step: int
    epoch: int
    lr: float
    train_loss: float
    gradient_norm: float
    c1_gradient_norm: float

    @property
    def is_finite(self) -> bool:
        return math.isfinite(self.train_loss) and math.isfinite(self.gradient_norm)

    @property
    def is_recorded(self) -> bool:
        """Whether a history keeps this update: the first 200, then every 20th."""
        return self.step <= 200 or self.step % 20 == 0


class Layer(StrEnum):
    """The layers that have weights. The outputs of C1 and C3 are observed after pooling, as S2 and S4."""

    C1 = "C1"
    C3 = "C3"
    C5 = "C5"
    F6 = "F6"
    OUTPUT = "output"


@dataclass(frozen=True, slots=True)
class ProbeRow:
    """One layer after one epoch, on the images of training/probe.py; epoch 0 is before the first update.

    `gradient_norm` and `weight_norm` are Euclidean, of the weights without biases; `update_ratio` is the norm of the
    epoch's last update as a fraction of the weights before it, and 0 before the first; with Muon, of the last that
    moved all weights. `mean` and `deviation` are those of the layer's outputs, over units and images; the output
    layer's are of its logits, which cannot saturate.
    """

    epoch: int
    step: int
    layer: Layer
    gradient_norm: float
    weight_norm: float
    update_ratio: float
    saturated: float
    dead: float
    mean: float
    deviation: float


_Row = TypeVar("_Row", EpochRow, StepRow, ProbeRow)


class Rows(Sequence[_Row], Generic[_Row]):
    """Rows of one kind, to which more are appended, and `lines`: the same as the lines of a CSV file.

    The lines grow with the rows, so that a checkpoint of a long training does not format every row again.
    """

    def __init__(self, kind: type[_Row]) -> None:
        self.header = header_line(kind).encode()
        self.lines = bytearray()
        self._kind: type[_Row] = kind
        self._rows: list[_Row] = []

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, place: Any) -> Any:
        return self._rows[place]

    def __iter__(self) -> Iterator[_Row]:
        return iter(self._rows)

    def append(self, row: _Row) -> None:
        self._rows.append(row)
        self.lines += row_line(row)

    def extend(self, rows: Iterable[_Row]) -> None:
        for row in rows:
            self.append(row)

    def parse(self, lines: bytes, path: Path) -> "Rows[_Row]":
        """Return the rows that `lines`, those of a checkpoint at `path`, hold. Raises: DataError."""
        names = [field.name for field in fields(self._kind)]
        adapter = TypeAdapter(self._kind)
        parsed = Rows(self._kind)
        parsed.lines += lines
        try:
            cells = (line.split(",") for line in lines.decode().splitlines())
            parsed._rows = [adapter.validate_python(dict(zip(names, row, strict=True))) for row in cells]
        except ValidationError as error:
            raise DataError(f"{path}: damaged rows: {first_error(error)}") from None
        except ValueError as error:
            raise DataError(f"{path}: damaged rows: {error}") from None
        return parsed


@dataclass(eq=False)
class Histories:
    """All rows of a training; history.csv, steps.csv and probe.csv of a run are views of them."""

    history: Rows[EpochRow] = field(default_factory=lambda: Rows(EpochRow))
    steps: Rows[StepRow] = field(default_factory=lambda: Rows(StepRow))
    probe: Rows[ProbeRow] = field(default_factory=lambda: Rows(ProbeRow))

    def by_name(self) -> dict[str, Rows[Any]]:
        """Return them by the names of their files, without .csv."""
        return {"history": self.history, "steps": self.steps, "probe": self.probe}
