"""Files written whole or not at all, and read only up to a size that was decided beforehand."""

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lenet_mnist.errors import LenetError, StorageError


@contextmanager
def storage_errors(path: Path, action: str) -> Iterator[None]:
    """Turn the operating system's refusals into a StorageError that names `path`."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"{path}: cannot {action}: {error.strerror or error}{_advice(error)}") from error


def _advice(error: OSError) -> str:
    """Say what to do about it, where that is known."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return ". Free some space, or choose another directory"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return ". Check the permissions, or choose another directory"
    return ""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same directory; when the block ends well it becomes `path`, in one step.

    The content and the directory entry are synced before this returns, so that a crash at any moment leaves either the
    old file or the new one, complete.

    Raises: StorageError if the operating system refuses a write, a sync or the renaming. `path` is then as it was,
    unless only the last sync, that of the directory, failed: then it is new and complete, but a crash could undo it.
    """
    with storage_errors(path, "write"), _synced_at_the_end(path.parent):
        temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
        try:
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all. Raises: StorageError."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content`, whole or not at all. Raises: StorageError."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def exclusive_lock(directory: Path) -> Iterator[None]:
    """Be the only process that writes into `directory`; the lock ends with the process, however that ends.

    Raises: StorageError if another process has the lock. (Windows has no such locks: nothing is done there.)
    """
    if os.name == "nt":
        yield
        return
    import fcntl

    path = directory / ".lock"
    with storage_errors(path, "lock"):
        file = path.open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise StorageError(f"{directory}: another process is at work here: wait for its end") from None
    with file:
        yield


def make_directory(path: Path) -> None:
    """Make `path` and its parents where they are missing. Raises: StorageError."""
    with storage_errors(path, "make this directory"):
        path.mkdir(parents=True, exist_ok=True)


def read_bounded(path: Path, *, max_bytes: int, error: type[LenetError]) -> bytes:
    """Return the content of a regular file of at most `max_bytes`.

    Raises: `error` if there is no such file, it is no regular file, cannot be read or is larger; nothing beyond
    `max_bytes` is read into memory.
    """
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise error(f"{path}: is a directory, a file was expected")
        if not stat.S_ISREG(status.st_mode):
            raise error(f"{path}: is not a regular file")
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
    except FileNotFoundError:
        raise error(f"{path}: no such file") from None
    except (OSError, ValueError) as failure:  # ValueError: a null character in the name
        raise error(f"{path}: cannot be read: {getattr(failure, 'strerror', None) or failure}") from failure
    if len(content) > max_bytes:
        raise error(f"{path}: larger than the {max_bytes:,} bytes that such a file can have")
    return content


@contextmanager
def _synced_at_the_end(directory: Path) -> Iterator[None]:
    """Sync the entries of `directory` after the block; it is opened before, so that a refusal changes nothing."""
    if os.name == "nt":  # Windows cannot open directories; its renames are journalled
        yield
        return
    handle = os.open(directory, os.O_RDONLY)
    try:
        yield
        os.fsync(handle)
    finally:
        os.close(handle)
