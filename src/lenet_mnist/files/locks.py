"""One writer at a time, and any number of readers."""

import errno
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lenet_mnist.errors import StorageError
from lenet_mnist.files.storage import open_in_place, storage_errors, write_all

_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EINVAL)  # of a file system that cannot lock


@contextmanager
def exclusive_lock(directory: Path, note: Callable[[str], None]) -> Iterator[Callable[[], None]]:
    """Be the only process that writes into `directory`; the lock ends with the process, even if that is killed.

    Yields a function to call before each write, which raises StorageError if the lock's file has been removed. `note`
    gets one line where the file system has no locks: then nothing is locked.

    Raises: StorageError, naming the holder, if another process has the lock.
    """
    from filelock import FileLock, Timeout  # readers do without

    path = directory / ".lock"
    lock = FileLock(path, blocking=False, fallback_to_soft=False, preserve_lock_file=True, on_acquired=_write_holder)
    with storage_errors(path, "lock"):
        handle = open_in_place(path, os.O_RDWR | os.O_CREAT)  # a hard link, which filelock would take, is refused
    try:
        with storage_errors(path, "lock"):
            try:
                lock.acquire()
            except Timeout:
                holder = os.read(handle, 200).decode("utf-8", errors="replace").strip() or "another process"
                raise StorageError(f"{directory}: locked by {holder}; wait for it to finish") from None
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                note(f"{directory}: this file system has no locks: make sure that no other process writes there")

        def require_held() -> None:
            with suppress(FileNotFoundError):
                if os.path.samestat(path.lstat(), os.fstat(handle)):
                    return
            raise StorageError(f"{path}: was removed, so another process may be writing here: nothing is written")

        yield require_held
    finally:
        lock.release()
        os.close(handle)


def is_locked(directory: Path) -> bool:
    """Whether a process writes into `directory`. True where nobody knows: on Windows, or without locks.

    Needs no permission to write there, unlike filelock.
    """
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        handle = open_in_place(directory / ".lock", os.O_RDONLY)
    except (OSError, StorageError):
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def _write_holder(handle: int) -> None:
    os.ftruncate(handle, 0)
    write_all(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
