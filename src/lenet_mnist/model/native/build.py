"""Compile the C files with the system's C compiler, once, into the user's cache.

Built on first use, not at installation: the wheel stays pure Python, every processor gets code of its own, and without
a compiler only speed is lost. A library is keyed by source, flags, compiler and processor; the digest of its content is
part of its name, so that a damaged one is noticed before it is loaded, and built again.
"""

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lenet_mnist.errors import StorageError
from lenet_mnist.files.storage import read_bounded, write_bytes

_DIRECTORY = Path(__file__).parent
SOURCES = tuple(_DIRECTORY / name for name in ("lenet.c", "convolution.c", "classifier.c", "augment.c"))
_HEADER = _DIRECTORY / "lenet.h"
# -Wno-psabi: vectors wider than the processor's are passed between inlined functions only.
FLAGS = ("-O3", "-std=gnu11", "-fopenmp", "-shared", "-fPIC", "-Wno-psabi")
BUILD_LOG = "build-{}.log"  # of each compiler that failed
_TIMEOUT_SECONDS = 120
_MAX_BYTES = 16 << 20  # of a library, which has about 100 KB


class NativeUnavailableError(Exception):
    """The native engine cannot be built or loaded here; the text says why, in one line."""


def load_library(cache_dir: Path, processor: str = "native") -> ctypes.CDLL:
    """Return the compiled network, built now if it is not in `cache_dir` yet.

    `processor` is the value of the compiler's -march: this machine's own processor, or an older one.

    Raises: NativeUnavailableError if there is no compiler, all fail, or the cache cannot be used.
    """
    compilers = _compilers()
    _require_private(cache_dir)
    flags = (*FLAGS, f"-march={processor}")
    keys = {compiler: _key(compiler, flags) for compiler in compilers}
    reasons = []
    for compiler, key in sorted(keys.items(), key=lambda item: _find(cache_dir, item[1]) is None):
        try:
            return _loaded(_find(cache_dir, key) or _build(compiler, flags, cache_dir, key))
        except NativeUnavailableError as error:
            reasons.append(str(error))
        except StorageError as error:  # a different compiler would not help
            raise NativeUnavailableError(f"the cache cannot be written: {error}") from error
    raise NativeUnavailableError("; ".join(reasons))


def _loaded(path: Path) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise NativeUnavailableError(f"the compiled library cannot be loaded: {error}") from error
    if not hasattr(library, "lenet_forward"):
        raise NativeUnavailableError("the compiled library is not lenet's")
    return library


def _compilers() -> list[Path]:
    """Return the C compilers, in the order in which they are tried.

    Each is called by its name in PATH: it may be a link to a program such as ccache, which acts by the link's name.
    """
    found = [Path(path).absolute() for name in ("cc", "gcc", "clang") if (path := shutil.which(name))]
    if not found:
        raise NativeUnavailableError("there is no C compiler (cc, gcc or clang)")
    return found


def _key(compiler: Path, flags: tuple[str, ...]) -> str:
    """Return a name for (source, flags, compiler, processor)."""
    status = compiler.stat()
    hasher = hashlib.sha256()
    for source in (*SOURCES, _HEADER):
        hasher.update(source.read_bytes())
    for part in (flags, str(compiler), status.st_size, status.st_mtime_ns, _processor()):
        hasher.update(f"\0{part}".encode())
    return hasher.hexdigest()[:20]


def _processor() -> str:
    """Return what -march=native depends on: the processor's instruction sets, in words."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.is_file():
        return f"{platform.machine()} {platform.processor()} {platform.release()}"
    first_core = cpuinfo.read_text(errors="replace").partition("\n\n")[0]
    wanted = ("vendor_id", "cpu family", "model", "stepping", "flags", "Features", "CPU part")
    return "\n".join(line for line in first_core.splitlines() if line.startswith(wanted))


def _require_private(cache_dir: Path) -> None:
    """Make the cache, or refuse one into which somebody else could put a library."""
    try:
        cache_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = cache_dir.stat()
    except OSError as error:
        raise NativeUnavailableError(f"{cache_dir}: cannot make the cache: {error.strerror}") from error
    if hasattr(os, "getuid") and status.st_uid != os.getuid():
        raise NativeUnavailableError(f"{cache_dir}: belongs to a different user, so no code is loaded from it")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise NativeUnavailableError(f"{cache_dir}: others can write to it, so no code is loaded from it")


def _find(cache_dir: Path, key: str) -> Path | None:
    """Return a library in the cache whose content has the digest in its name."""
    for path in sorted(cache_dir.glob(f"lenet-{key}-*.so")):
        try:
            if path.name == _file_name(key, _content(path)):
                return path
        except StorageError:
            continue
    return None


def _build(compiler: Path, flags: tuple[str, ...], cache_dir: Path, key: str) -> Path:
    """Compile into the cache, in one step; processes that build at the same time write different names."""
    with _temporary_directory() as directory:
        target = Path(directory) / "lenet.so"
        command = [str(compiler), *flags, *map(str, SOURCES), "-o", str(target)]
        try:
            finished = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_TIMEOUT_SECONDS,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NativeUnavailableError(f"{compiler.name} cannot be run: {error}") from error
        if finished.returncode != 0 or not target.is_file():
            log = cache_dir / BUILD_LOG.format(compiler.name)
            write_bytes(log, f"{shlex.join(command)}\n{finished.stdout}{finished.stderr}".encode())
            raise NativeUnavailableError(
                f"{compiler.name} failed with exit code {finished.returncode}; its output is in {log}"
            )
        content = _content(target)
    path = cache_dir / _file_name(key, content)
    write_bytes(path, content)
    return path


def _content(path: Path) -> bytes:
    return read_bounded(path, max_bytes=_MAX_BYTES, error=StorageError)


@contextmanager
def _temporary_directory() -> Iterator[str]:
    try:
        with tempfile.TemporaryDirectory(prefix="lenet-mnist-") as directory:
            yield directory
    except OSError as error:
        raise NativeUnavailableError(f"cannot write temporary files: {error.strerror}") from error


def _file_name(key: str, content: bytes) -> str:
    return f"lenet-{key}-{hashlib.sha256(content).hexdigest()[:20]}.so"
