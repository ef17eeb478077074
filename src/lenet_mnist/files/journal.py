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

    A last line without its end, of a process that died while writing it, is cut off.

    Raises: DataError if another line is damaged; StorageError if the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.documents: list[Any] = []
        content = read_bounded(path, max_bytes=_MAX_BYTES, error=DataError) if path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                self.documents.append(json.loads(line))
            except (ValueError, RecursionError) as error:
                raise DataError(f"{path}: line {number}: not JSON: {error}") from None
        if len(whole) < len(content):
            with storage_errors(path, "mend"):
                os.truncate(path, len(whole))

    def add(self, document: Any) -> None:
        """Append a document; when this returns, it is on the disk. Raises: StorageError."""
        line = json.dumps(document, allow_nan=False) + "\n"
        with storage_errors(self._path, "append"), self._path.open("ab") as file:
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
        self.documents.append(document)
