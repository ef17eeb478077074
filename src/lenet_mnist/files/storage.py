"""Files written whole or not at all, and read only up to a size that was decided beforehand.

Every operation goes through the module `os`, one call each: a test can refuse, or kill at, any single one of them.
"""

import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lenet_mnist.errors import LenetError, StorageError

NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)  # Windows has no such flag
BINARY = getattr(os, "O_BINARY", 0)  # Windows alone has this one


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


def write_bytes(path: Path, content: bytes, check: Callable[[Path], None] = lambda _path: None) -> None:
    """Write `content`, whole or not at all; a link at `path` is replaced, not followed.

    Content and directory entry are synced before this returns, so that a crash at any moment leaves either the old
    file or the new one, complete. `check` gets the path of the complete file before it takes the place of the old one:
    if it raises, nothing has changed.

    Raises: StorageError if the operating system refuses a write, a sync or the renaming. `path` is then as it was,
    unless only the last sync, that of the directory, failed: then it is new and complete, but a crash could undo it.
    """
    temporary = path.with_name(f".{path.name[:80]}.{os.getpid()}-{secrets.token_hex(4)}.part")
    with storage_errors(path, "write"), _synced_at_the_end(path.parent):
        try:
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | BINARY, 0o666)
            try:
                write_all(handle, content)
                os.fsync(handle)
            finally:
                os.close(handle)
            check(temporary)
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise


def remove_unfinished(directory: Path) -> None:
    """Remove what processes left in `directory` that died while writing; there must be no other that writes there.

    Raises: StorageError.
    """
    with storage_errors(directory, "tidy up"):
        for path in directory.glob(".*.part"):
            path.unlink()


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all. Raises: StorageError."""
    write_bytes(path, text.encode("utf-8"))


def remove(path: Path) -> None:
    """Remove a file. Raises: StorageError."""
    with storage_errors(path, "remove"):
        path.unlink()


def refuse_links(directory: Path) -> None:
    """Raise StorageError if there is a symbolic link anywhere in `directory`: nothing is written through one."""
    with storage_errors(directory, "look into it"):
        for place, directories, files in os.walk(directory):
            for name in (*directories, *files):
                if Path(place, name).is_symlink():
                    raise StorageError(
                        f"{Path(place, name)}: is a symbolic link, and nothing is written into a run through one: "
                        "put what it points to in its place"
                    )


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
            content = file.read(min(status.st_size, max_bytes) + 1)  # to ask for all that is allowed would take it all
            if len(content) > status.st_size:  # it has grown since
                content += file.read(max_bytes + 1 - len(content))
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


def write_all(handle: int, content: bytes) -> None:
    """Write all of it: one call may take a part only."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(handle, rest) :]
