"""One writer at a time, and any number of readers."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lenet_mnist.errors import StorageError
from lenet_mnist.files.storage import NO_FOLLOW, storage_errors, write_all


@contextmanager
def exclusive_lock(directory: Path) -> Iterator[None]:
    """Be the only process that writes into `directory`; the lock ends with the process, however that ends.

    Raises: StorageError, naming the holder, if another process has the lock. (Windows has no such locks: nothing is
    done there.)
    """
    if os.name == "nt":
        yield
        return
    import fcntl

    path = directory / ".lock"
    with storage_errors(path, "lock"):
        handle = os.open(path, os.O_RDWR | os.O_CREAT | NO_FOLLOW, 0o666)
    try:
        with storage_errors(path, "lock"):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.read(handle, 200).decode("utf-8", errors="replace").strip() or "another process"
                raise StorageError(f"{directory}: {holder} is at work here: wait for its end") from None
            os.ftruncate(handle, 0)
            write_all(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        yield
    finally:
        os.close(handle)


def is_locked(directory: Path) -> bool:
    """Whether a process is at work in `directory`. (On Windows, where that is not known: yes.)"""
    if os.name == "nt":
        return True
    import fcntl

    try:
        handle = os.open(directory / ".lock", os.O_RDONLY | NO_FOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False
