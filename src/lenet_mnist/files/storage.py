"""Files written whole or not at all, and read only up to a given size.

Every operation is one call of the module `os`, so that a test can refuse, or kill at, any single one.
"""

import codecs
import errno
import logging
import os
import re
import secrets
import socket
import stat
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path
from typing import BinaryIO

import platformdirs

from lenet_mnist.errors import LenetError, StorageError

if sys.platform == "darwin":
    import fcntl

_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)  # Windows has neither this flag nor the next
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)  # for the other end of a pipe
_BINARY = getattr(os, "O_BINARY", 0)  # only Windows has this one
_ADVICE = dict.fromkeys(
    (errno.ENOSPC, errno.EDQUOT, errno.EFBIG), ". Free some space, or choose another directory"
) | dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), ". Check the permissions, or choose another directory")
_UNFINISHED = re.compile(r"\..*\.([0-9a-f]{8})-(\d{1,9})-[0-9a-f]{8}\.part", re.DOTALL)
_LONGEST_WRITE_SECONDS = 24 * 3600
_WAITS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)  # seconds between attempts to replace a file that another program has open


def user_cache() -> Path:
    """Return where a user's data and compiled code are kept, also for a user without a home directory."""
    try:
        path = platformdirs.user_cache_path("lenet-mnist", appauthor=False)
    except RuntimeError:
        path = Path("~")
    if path.is_absolute() or sys.platform == "win32":
        return path
    return Path(os.environ.get("TMPDIR") or "/tmp").absolute() / f"lenet-mnist-{os.getuid()}"


@contextmanager
def storage_errors(path: Path, action: str) -> Iterator[None]:
    """Turn the operating system's refusals into a StorageError that names `path`."""
    try:
        yield
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, "")
        raise StorageError(f"{path}: cannot {action}: {error.strerror or error}{advice}") from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content`, whole or not at all, even after a crash; a link at `path` is replaced, not followed.

    Raises: StorageError if the operating system refuses a write, a sync or the renaming. `path` is then unchanged,
    unless only the sync of the directory failed: then it is new and complete, but a crash could undo that.
    """
    temporary = path.with_name(f".{path.name[:40]}.{_this_machine()}-{os.getpid()}-{secrets.token_hex(4)}.part")
    with storage_errors(path, "write"), synced_entries(path.parent):
        try:
            _fill(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o666), content)
            _replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise


def _fill(handle: int, content: bytes) -> None:
    """Write all of `content` to the disk, and close the file. macOS's fsync would leave it in the disk's cache."""
    try:
        write_all(handle, content)
        if sys.platform == "darwin":
            with suppress(OSError):  # not every file system has it
                fcntl.fcntl(handle, fcntl.F_FULLFSYNC)
                return
        os.fsync(handle)
    finally:
        os.close(handle)


def _replace(temporary: Path, path: Path) -> None:
    """Rename a file over another one; on Windows, wait a little for a virus scanner or an editor that has it open."""
    for seconds in _WAITS if sys.platform == "win32" else ():
        with suppress(PermissionError):
            temporary.replace(path)
            return
        time.sleep(seconds)
    temporary.replace(path)


def open_in_place(path: Path, flags: int) -> int:
    """Open a file of a run that is written in place, or read while it is.

    Raises: OSError; StorageError unless it is a regular file with one name: a link, even a hard link, which an archive
    can contain, may lead to a file of the user; a pipe or a device may block for ever.
    """
    try:
        handle = os.open(path, flags | _NO_FOLLOW | _NO_WAIT | _BINARY, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a symbolic link, a pipe
            raise StorageError(f"{path}: is not a regular file: move it away") from None
        raise
    status = os.fstat(handle)
    is_regular = stat.S_ISREG(status.st_mode)
    if is_regular and status.st_nlink <= 1:  # 0: it has just been removed
        return handle
    os.close(handle)
    hint = "is a hard link, and writing would change the other file: put a copy in its place"
    raise StorageError(f"{path}: {hint if is_regular else 'is not a regular file: move it away'}")


def append_line(path: Path, line: bytes) -> None:
    """Append a line to a file, which may be new; when this returns, it is on disk. Raises: StorageError."""
    with storage_errors(path, "append"), synced_entries(path.parent):
        _fill(open_in_place(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT), line)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all. Raises: StorageError."""
    write_bytes(path, text.encode("utf-8"))


def prepare_to_write(directory: Path) -> None:
    """Remove what dead processes left anywhere in `directory`.

    Raises: StorageError if there is a symbolic link in it: nothing is written through one.
    """
    with storage_errors(directory, "open"):
        places = [str(directory)]
        for place in places:  # which grows in this loop
            for entry in [*os.scandir(place)]:
                if entry.is_symlink():
                    hint = "nothing is written through one: put what it points to in its place"
                    raise StorageError(f"{entry.path}: is a symbolic link, and {hint}")
                if entry.is_dir():
                    places.append(entry.path)
                else:
                    _remove_if_left_over(entry)


def tidy_up(directory: Path) -> None:
    """Remove what dead processes left in `directory`, if that is permitted."""
    with suppress(OSError):
        for entry in [*os.scandir(directory)]:
            _remove_if_left_over(entry)


def _remove_if_left_over(entry: os.DirEntry[str]) -> None:
    """Remove a file that was left by a `write_bytes` whose process is dead."""
    if match := _UNFINISHED.fullmatch(entry.name):
        with suppress(FileNotFoundError):  # another process tidies up, too
            is_old = time.time() - entry.stat().st_mtime > _LONGEST_WRITE_SECONDS
            if is_old or (match[1] == _this_machine() and not _is_at_work(int(match[2]))):
                Path(entry.path).unlink()


def _is_at_work(process: int) -> bool:
    """Whether a process of this machine, other than this one, is alive. True where nobody knows."""
    if sys.platform == "win32":  # where this signal would be a Ctrl-C
        return True
    try:
        os.kill(process, 0)
    except OSError as error:
        return not isinstance(error, ProcessLookupError)  # else it is another user's
    return process != os.getpid()


def _this_machine() -> str:
    return f"{zlib.crc32(socket.gethostname().encode()):08x}"


def make_directory(path: Path) -> None:
    """Make `path` and its missing parents; when this returns, their names are on disk. Raises: StorageError."""
    with storage_errors(path, "make this directory"):
        require_directory(path)
        for place in reversed([*takewhile(lambda place: not place.exists(), (path, *path.parents))]):
            with synced_entries(place.parent):
                place.mkdir(exist_ok=True)


def require_directory(path: Path) -> None:
    """Raise StorageError if `path`, or its nearest parent that exists, is not a directory."""
    with storage_errors(path, "open"):
        nearest = next((place for place in (path, *path.parents) if os.path.lexists(place)), None)
        if nearest is not None and not nearest.is_dir():
            what = "is a dangling link" if nearest.is_symlink() else "is not a directory"
            raise StorageError(f"{nearest}: {what}: name a different place, or move it away")


def read_bounded(path: Path, *, max_bytes: int, error: type[LenetError]) -> bytes:
    """Return the content of a regular file of at most `max_bytes`; never more is read into memory.

    Raises: `error` if it does not exist, is not a regular file, cannot be read or is larger.
    """
    try:
        with open_regular(path, error) as file:
            size = os.fstat(file.fileno()).st_size
            content = file.read(min(size, max_bytes) + 1)  # asking for all that is allowed would allocate it
            if len(content) > size:  # it has grown since
                content += file.read(max_bytes + 1 - len(content))
    except OSError as failure:
        raise error(f"{path}: cannot be read: {failure.strerror or failure}") from failure
    if len(content) > max_bytes:
        raise error(f"{path}: larger than the limit of {max_bytes:,} bytes")
    return content


def open_regular(path: Path, error: type[LenetError]) -> BinaryIO:
    """Open a file to read it. Raises: `error` if it is missing, or not a regular file; a pipe does not block."""
    try:
        handle = os.open(path, os.O_RDONLY | _NO_WAIT | _BINARY)
    except FileNotFoundError:
        raise error(f"{path}: no such file") from None
    except (OSError, ValueError) as failure:  # ValueError: a null character in the name
        raise error(f"{path}: cannot be read: {getattr(failure, 'strerror', None) or failure}") from failure
    mode = os.fstat(handle).st_mode
    if stat.S_ISREG(mode):
        logging.getLogger(__name__).info("reads %s", path)
        return os.fdopen(handle, "rb")
    os.close(handle)
    raise error(f"{path}: is {'a directory, not a file' if stat.S_ISDIR(mode) else 'not a regular file'}")


def decode_text(content: bytes, path: Path, error: type[LenetError]) -> str:
    """Return the text of a file that a person saved: UTF-8, with or without a byte-order mark. Raises: `error`."""
    is_every_other_byte_null = len(content) > 1 and 2 * content.count(0) >= len(content) - 1
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or is_every_other_byte_null:  # of Windows
        raise error(f"{path}: is UTF-16 text: save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as failure:
        raise error(f"{path}: is not UTF-8 text (byte {failure.start}): save it as UTF-8") from failure


@contextmanager
def synced_entries(directory: Path) -> Iterator[None]:
    """Sync the entries of `directory` after the block; it is opened before, so that a refusal changes nothing."""
    if sys.platform == "win32":  # which cannot open directories; its renames are journalled
        yield
        return
    handle = os.open(directory, os.O_RDONLY)
    try:
        yield
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems cannot sync directories
                raise
    finally:
        os.close(handle)


def write_all(handle: int, content: bytes) -> None:
    """Write all of `content`: one call may write only a part."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(handle, rest) :]
