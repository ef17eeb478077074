"""Find the compiled network, or compile it: a library that came with the package, one built before, one built now.

A wheel for one system brings libraries (scripts/build_wheels.py), one for each kind of processor. Without them, the C
files are compiled on first use, for this very processor, into the user's cache; and without a compiler only speed is
lost. The digest of its content is part of a library's name, so that a damaged one is noticed before it is loaded.
"""

import ctypes
import hashlib
import importlib.util
import os
import platform
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from lenet_mnist.errors import StorageError
from lenet_mnist.files.storage import read_bounded, write_bytes

_DIRECTORY = Path(__file__).parent
PREBUILT = _DIRECTORY / "prebuilt"
SOURCES = tuple(sorted(_DIRECTORY.glob("*.c")))
_HEADERS = tuple(sorted(_DIRECTORY.glob("*.h")))
SUFFIX = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")
# Of x86-64, by the number that lenet_processor gives; elsewhere there is only the first.
VARIANTS = ("baseline", "avx2", "avx512")
# -Wno-psabi: vectors wider than the processor's are passed between inlined functions only.
FLAGS = ("-O3", "-std=gnu11", "-pthread", "-shared", "-fPIC", "-Wno-psabi")
BUILD_LOG = "build-{}.log"  # of each compiler that failed
_TIMEOUT_SECONDS = 120
_MAX_BYTES = 16 << 20  # of a library, which has about 100 KB


class NativeUnavailableError(Exception):
    """The native engine cannot be built or loaded here; the text says why, in one line."""


class Library(NamedTuple):
    """The compiled network, where it comes from, in words, and what it is: the beginning of its SHA-256."""

    functions: ctypes.CDLL
    origin: str
    digest: str


class _Compiler(NamedTuple):
    """A C compiler: its name, what it is called with, and a file that changes with its version."""

    name: str
    command: tuple[str, ...]
    file: Path


def load_library(cache_dir: Path, processor: str = "native", prebuilt: Path = PREBUILT) -> Library:
    """Return the library in `prebuilt` that fits, or one from `cache_dir`, compiled now if there is none yet.

    `processor` is the value of the compiler's -march: this machine's own processor, or an older one.

    Raises: NativeUnavailableError if there is no compiler, all fail, or the cache cannot be used.
    """
    reasons: list[str] = []
    if prebuilt.is_dir():
        try:
            return _prebuilt(prebuilt, reasons)
        except NativeUnavailableError as error:
            reasons.append(str(error))
    try:
        return _compiled(cache_dir, processor, reasons)
    except NativeUnavailableError as error:
        raise NativeUnavailableError("; ".join([*reasons, str(error)])) from error


def source_key() -> str:
    """Return a name for what the C files contain: part of the names of the libraries that are made of them."""
    hasher = hashlib.sha256()
    for source in (*SOURCES, *_HEADERS):
        hasher.update(source.read_bytes())
    return hasher.hexdigest()[:12]


def file_name(key: str, content: bytes, suffix: str = SUFFIX) -> str:
    """Return the name of the library with this content."""
    return f"lenet-{key}-{hashlib.sha256(content).hexdigest()[:20]}{suffix}"


def _prebuilt(directory: Path, reasons: list[str]) -> Library:
    """Return the fastest library of a directory that this processor can run; add to `reasons` what is skipped."""
    version = source_key()
    found = {variant: _find(directory, f"{variant}-{version}") for variant in VARIANTS}
    if found["baseline"] is None:
        raise NativeUnavailableError(f"{directory}: no library of this version and intact is in it")
    functions = _loaded(found["baseline"])
    for variant in reversed(VARIANTS[: functions.lenet_processor() + 1]):
        if path := found[variant]:
            return _library(path, f"prebuilt for {variant}", reasons)
        reasons.append(f"{directory}: the library for {variant} is missing or damaged")
    raise AssertionError("the baseline is among them")


def _compiled(cache_dir: Path, processor: str, reasons: list[str]) -> Library:
    """Return the library of the first compiler that can make one; those that have made one before come first."""
    compilers = _compilers()
    _require_private(cache_dir)
    flags = (*FLAGS, f"-march={processor}")
    keys = {compiler: _key(compiler, flags) for compiler in compilers}
    failures: list[str] = []
    for compiler, key in sorted(keys.items(), key=lambda item: _find(cache_dir, item[1]) is None):
        try:
            path = _find(cache_dir, key) or _build(compiler, flags, cache_dir, key)
            return _library(path, f"compiled by {compiler.name}", [*reasons, *failures])
        except NativeUnavailableError as error:
            failures.append(str(error))
        except StorageError as error:  # a different compiler would not help
            raise NativeUnavailableError(f"the cache cannot be written: {error}") from error
    raise NativeUnavailableError("; ".join(failures))


def _library(path: Path, origin: str, reasons: list[str]) -> Library:
    words = f"{origin} ({'; '.join(reasons)})" if reasons else origin
    return Library(_loaded(path), words, path.stem.rpartition("-")[2])


def _loaded(path: Path) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise NativeUnavailableError(f"the library cannot be loaded: {error}") from error
    if not hasattr(library, "lenet_forward"):
        raise NativeUnavailableError(f"{path}: is not lenet's")
    return library


def _compilers() -> list[_Compiler]:
    """Return the C compilers, in the order in which they are tried: clang's code is faster (docs/lab-notes.md).

    Each is called by its name in PATH: it may be a link to a program such as ccache, which acts by the link's name.
    """
    found = [
        _Compiler(name, (path,), Path(path))
        for name in ("clang", "cc", "gcc")
        if (path := shutil.which(name)) is not None
    ]
    if (zig := importlib.util.find_spec("ziglang")) is not None and zig.origin is not None:
        found.append(_Compiler("zig", (sys.executable, "-m", "ziglang", "cc"), Path(zig.origin)))
    if not found:
        raise NativeUnavailableError("there is no C compiler (clang, cc, gcc or the package ziglang)")
    return found


def _key(compiler: _Compiler, flags: tuple[str, ...]) -> str:
    """Return a name for (source, flags, compiler, processor)."""
    status = compiler.file.stat()
    parts = (source_key(), flags, compiler.command, status.st_size, status.st_mtime_ns, _processor())
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:20]


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
    if not hasattr(os, "getuid"):  # Windows, whose own rules keep others out of a user's directories
        return
    if status.st_uid != os.getuid():
        raise NativeUnavailableError(f"{cache_dir}: belongs to a different user, so no code is loaded from it")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise NativeUnavailableError(f"{cache_dir}: others can write to it, so no code is loaded from it")


def _find(directory: Path, key: str) -> Path | None:
    """Return a library in the directory whose content has the digest in its name."""
    for path in sorted(directory.glob(f"lenet-{key}-*{SUFFIX}")):
        try:
            if path.name == file_name(key, read_bounded(path, max_bytes=_MAX_BYTES, error=StorageError)):
                return path
        except StorageError:
            continue
    return None


def _build(compiler: _Compiler, flags: tuple[str, ...], cache_dir: Path, key: str) -> Path:
    """Compile into the cache, in one step; processes that build at the same time write different names."""
    try:
        with tempfile.TemporaryDirectory(prefix="lenet-mnist-") as directory:
            target = Path(directory) / f"lenet{SUFFIX}"
            command = [*compiler.command, *flags, *map(str, SOURCES), "-o", str(target)]
            finished = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=_TIMEOUT_SECONDS,
            )
            content = target.read_bytes() if finished.returncode == 0 and target.is_file() else None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NativeUnavailableError(f"{compiler.name} cannot be run: {error}") from error
    if content is None:
        log = cache_dir / BUILD_LOG.format(compiler.name)
        write_bytes(log, f"{shlex.join(command)}\n{finished.stdout}".encode())
        raise NativeUnavailableError(
            f"{compiler.name} failed with exit code {finished.returncode}; its output is in {log}"
        )
    path = cache_dir / file_name(key, content)
    write_bytes(path, content)
    return path
