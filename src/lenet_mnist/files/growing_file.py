"""Files that only grow, line by line: what was there at a mark can be found again, whatever happened afterwards."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from lenet_mnist.errors import DataError
from lenet_mnist.files.storage import BINARY, NO_FOLLOW, read_bounded, storage_errors, write_all

_MAX_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class FileMark:
    """How far a file that only grows had grown at some moment, and what it held."""

    num_bytes: int
    sha256: str


class GrowingFile:
    """Lines at the end of a file that exists. They wait in memory for `sync`, which puts them on the disk.

    Raises: DataError if the file does not begin with what `mark` says; StorageError if it cannot be written. What comes
    after the mark, the work of a process that died before its next mark, is cut off.
    """

    def __init__(self, path: Path, mark: FileMark) -> None:
        self._path = path
        self._lines: list[str] = []
        self._hasher = hashlib.sha256(_beginning(path, mark))
        self._num_bytes = mark.num_bytes
        with storage_errors(path, "append"):
            self._handle = os.open(path, os.O_WRONLY | os.O_APPEND | BINARY | NO_FOLLOW)
            os.ftruncate(self._handle, mark.num_bytes)

    def append(self, line: str) -> None:
        """Take a line, with its end."""
        self._lines.append(line)

    def sync(self) -> FileMark:
        """Write the lines that wait, and return how far the file has grown. Raises: StorageError."""
        content = "".join(self._lines).encode("utf-8")
        self._lines.clear()
        with storage_errors(self._path, "append"):
            write_all(self._handle, content)
            os.fsync(self._handle)
        self._hasher.update(content)
        self._num_bytes += len(content)
        return FileMark(self._num_bytes, self._hasher.hexdigest())

    def close(self) -> None:
        """Close the file; lines that still wait are given up."""
        os.close(self._handle)


def mark_of(content: bytes) -> FileMark:
    """Return the mark of a file that holds `content`."""
    return FileMark(len(content), hashlib.sha256(content).hexdigest())


def has_grown_from(path: Path, mark: FileMark) -> bool:
    """Whether the file begins with what `mark` says."""
    try:
        _beginning(path, mark)
    except DataError:
        return False
    return True


def _beginning(path: Path, mark: FileMark) -> bytes:
    content = read_bounded(path, max_bytes=_MAX_BYTES, error=DataError)[: mark.num_bytes]
    if mark_of(content) != mark:
        raise DataError(f"{path}: damaged: it does not hold the rows that were written into it")
    return content
