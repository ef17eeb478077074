"""Finished pieces of work on disk, one JSON document a line: a crash loses at most the piece that was under way."""

import json
import os
from pathlib import Path
from typing import Any

from lenet_mnist.errors import DataError
from lenet_mnist.files.storage import read_bounded, storage_errors

_MAX_BYTES = 1024 * 1024 * 1024


class Journal:
    """The documents in `path`, in their order, to which more are added.

    A last line without its end is passed over. It is of a process that died while writing it, or is still at it:
    before something is added, it is cut off.

    Raises: DataError if another line is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.documents: list[Any] = []
        content = read_bounded(path, max_bytes=_MAX_BYTES, error=DataError) if path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        self._mended_size = len(whole) if len(whole) < len(content) else None
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                self.documents.append(json.loads(line))
            except (ValueError, RecursionError) as error:
                raise DataError(f"{path}: line {number}: not JSON: {error}") from None

    def add(self, document: Any) -> None:
        """Append a document; when this returns, it is on the disk. For the one process that holds the run's lock.

        Raises: StorageError.
        """
        if self._mended_size is not None:
            with storage_errors(self._path, "mend"):
                os.truncate(self._path, self._mended_size)
            self._mended_size = None
        line = json.dumps(document, allow_nan=False) + "\n"
        with storage_errors(self._path, "append"), self._path.open("ab") as file:
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
        self.documents.append(document)
