"""One writer at a time, and any number of readers."""

import errno
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lenet_mnist.errors import StorageError
from lenet_mnist.files.storage import open_in_place, storage_errors, write_all

_HAS_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EINVAL)  # says a file system that cannot lock


@contextmanager
def exclusive_lock(directory: Path, note: Callable[[str], None]) -> Iterator[Callable[[], None]]:
    """Be the only process that writes into `directory`; the lock ends with the process, however that ends.

    What is yielded raises StorageError if the lock's file was removed since: to be called before something is written.
    Where the file system cannot lock, `note` gets a line that says so. (On Windows nothing is done.)

    Raises: StorageError, naming the holder, if another process has the lock.
    """
    if os.name == "nt":
        yield lambda: None
        return
    path = directory / ".lock"
    with storage_errors(path, "lock"):
        handle = open_in_place(path, os.O_RDWR | os.O_CREAT)
    try:
        with storage_errors(path, "lock"):
            has_lock = _try_lock(handle, is_exclusive=True)
            if has_lock is None:
                note(f"{directory}: this file system has no locks: take care that no other process writes there")
            elif not has_lock or not _is_at(path, handle):
                holder = os.read(handle, 200).decode("utf-8", errors="replace").strip() or "another process"
                raise StorageError(f"{directory}: {holder} is at work here: wait for its end")
            os.ftruncate(handle, 0)
            write_all(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode())

        def require_held() -> None:
            if not _is_at(path, handle):
                raise StorageError(
                    f"{path}: was removed, and another process could be at work here: nothing is written"
                )

        yield require_held
    finally:
        os.close(handle)


def is_locked(directory: Path) -> bool:
    """Whether a process is at work in `directory`. (Where that is not known, on Windows or without locks: yes.)"""
    if os.name == "nt":
        return True
    try:
        handle = open_in_place(directory / ".lock", os.O_RDONLY)
    except (OSError, StorageError):
        return False
    try:
        return _try_lock(handle, is_exclusive=False) is not True
    finally:
        os.close(handle)


def _try_lock(handle: int, *, is_exclusive: bool) -> bool | None:
    """Lock a file if no other process has; return whether that was so, or None if the file system has no locks."""
    import fcntl

    try:
        fcntl.flock(handle, (fcntl.LOCK_EX if is_exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _HAS_NO_LOCKS:
            return None
        raise
    return True


def _is_at(path: Path, handle: int) -> bool:
    """Whether the open file is still the one at `path`."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(handle))
    except FileNotFoundError:
        return False
