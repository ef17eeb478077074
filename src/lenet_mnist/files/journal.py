"""Finished pieces of work on disk, one JSON document a line: a crash loses at most the piece that was under way."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lenet_mnist.errors import DataError
from lenet_mnist.files.storage import append_line, open_in_place, open_regular, storage_errors
from lenet_mnist.files.tables import num_values

_MAX_LINES = 100_000
_MAX_LINE_BYTES = 32 * 1024 * 1024
_MAX_VALUES = 15_000_000  # of all lines: 2,000 trainings of 20 epochs, or 90 cross-validations of MNIST


class Journal:
    """The documents in `path`, in their order, to which more are added.

    A last line without its end is passed over. It is of a process that died while writing it, or is still at it:
    before something is added, it is cut off. `require_lock` raises StorageError if that must not be.
    """

    def __init__(self, path: Path, require_lock: Callable[[], None] = lambda: None) -> None:
        self._path = path
        self._is_mended = False
        self.require_lock = require_lock

    def documents(self) -> Iterator[Any]:
        """Yield them, one at a time. Raises: DataError if a line is damaged, or there are more than work can make."""
        if not os.path.lexists(self._path):
            return
        room = _MAX_VALUES
        with open_regular(self._path, DataError) as file:
            for number, line in enumerate(iter(lambda: file.readline(_MAX_LINE_BYTES), b""), start=1):
                room -= num_values(line)
                if number > _MAX_LINES or room < 0 or len(line) == _MAX_LINE_BYTES:
                    raise DataError(f"{self._path}: line {number}: larger than a journal can be")
                if not line.endswith(b"\n"):
                    return
                try:
                    yield json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise DataError(f"{self._path}: line {number}: not JSON: {error}") from None

    def add(self, document: Any) -> None:
        """Append a document; when this returns, it is on the disk. For the one process that holds the run's lock.

        Raises: StorageError.
        """
        line = json.dumps(document, allow_nan=False) + "\n"
        self.require_lock()
        if not self._is_mended and os.path.lexists(self._path):
            self._mend()
        self._is_mended = True
        append_line(self._path, line.encode())

    def _mend(self) -> None:
        """Cut off a last line without its end."""
        with storage_errors(self._path, "mend"), os.fdopen(open_in_place(self._path, os.O_RDWR), "r+b") as file:
            start = max(0, os.fstat(file.fileno()).st_size - _MAX_LINE_BYTES)
            file.seek(start)
            rest = file.read()
            if not rest.endswith(b"\n"):
                os.ftruncate(file.fileno(), start + rest.rfind(b"\n") + 1)
