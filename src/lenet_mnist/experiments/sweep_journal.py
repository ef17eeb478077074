"""What a sweep has done so far, in journal.jsonl: request, range tests, plan, trainings, extensions, end."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from lenet_mnist.config import Activation
from lenet_mnist.errors import DataError
from lenet_mnist.files.tables import Journal
from lenet_mnist.tuning.plan import Plan, SweepRequest
from lenet_mnist.tuning.range_test import RangePoint
from lenet_mnist.tuning.sweep import Extension
from lenet_mnist.tuning.trial import Trial, TrialResult


@dataclass(frozen=True)
class RangeTestResult:
    """A range test, and how long it took."""

    activation: Activation
    seed: int
    seconds: float
    points: tuple[RangePoint, ...]


@dataclass(frozen=True)
class Finished:
    """Nothing is lacking any more."""


Entry = SweepRequest | RangeTestResult | Plan | TrialResult | Extension | Finished
_KINDS: dict[str, type[Any]] = {
    "request": SweepRequest,
    "range_test": RangeTestResult,
    "plan": Plan,
    "trial": TrialResult,
    "extension": Extension,
    "finished": Finished,
}
_ADAPTERS = {name: TypeAdapter(kind) for name, kind in _KINDS.items()}


class SweepJournal:
    """The entries of a sweep's journal, by their kinds. Raises: DataError if one is damaged."""

    def __init__(self, path: Path, require_lock: Callable[[], None] = lambda: None) -> None:
        self._journal = Journal(path, require_lock)
        self.require_lock = require_lock
        self.request: SweepRequest | None = None
        self.plan: Plan | None = None
        self.ranges: dict[tuple[Activation, int], RangeTestResult] = {}
        self.results: dict[Trial, TrialResult] = {}
        self.extensions: list[Extension] = []
        self.is_finished = False
        for number, document in enumerate(self._journal.documents(), start=1):
            try:
                ((name, value),) = document.items()
                self._take(_ADAPTERS[name].validate_python(value))
            except (AttributeError, KeyError, ValueError, ValidationError):
                raise DataError(f"{path}: line {number}: no part of a sweep") from None

    def add(self, entry: Entry) -> None:
        """Keep `entry`; when this returns, it is on the disk. Raises: StorageError."""
        name = next(name for name, kind in _KINDS.items() if isinstance(entry, kind))
        self._journal.add({name: _ADAPTERS[name].dump_python(entry, mode="json")})
        self._take(entry)

    def _take(self, entry: Entry) -> None:
        match entry:
            case SweepRequest():
                self.request = entry
            case RangeTestResult():
                self.ranges[entry.activation, entry.seed] = entry
            case Plan():
                self.plan = entry
            case TrialResult():
                self.results[entry.trial] = entry
            case Extension():
                self.extensions.append(entry)
            case Finished():
                self.is_finished = True
