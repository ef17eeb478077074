"""`lenet doctor`: can a training run here? What is there, what is not well, and what to do about it.

What may be broken is imported and looked at inside `_looked`: nothing that it raises ends the examination.
"""

import os
import platform
import re
import shutil
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from lenet_mnist import __version__
from lenet_mnist.cores import THREADS, usable_cores
from lenet_mnist.errors import InstallationError, LenetError
from lenet_mnist.files.storage import require_directory, storage_errors, user_cache
from lenet_mnist.reporting.text import counted

_TORCH = (2, 10)  # as in pyproject.toml
_OPTIONAL = {
    "onnx": "lenet export --format onnx",
    "onnxruntime": "lenet export --format onnx",
    "tensorboard": "lenet train --log tensorboard",
    "scikit-learn": "lenet train --config digits",
    "pillow-heif": "HEIC pictures",
}
_ROOM = 100_000_000  # bytes: MNIST has 55 million, a run some 2
_WIDTH = 80


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. The fields are the keys of `--json`.

    `exit_code` is that of a training that cannot run because of it (errors.py), 0 if one can all the same.
    """

    about: str
    found: str
    advice: str = ""
    exit_code: int = 0


@dataclass(frozen=True)
class Examination:
    """All that was looked at; `exit_code` is the first that is not 0. The fields are the keys of `--json`."""

    exit_code: int
    findings: tuple[Finding, ...]

    def __str__(self) -> str:
        lines = [
            textwrap.fill(
                text,
                _WIDTH,
                initial_indent=first,
                subsequent_indent=" " * 16,
                break_long_words=False,  # a path can be copied
                break_on_hyphens=False,
            )
            for each in self.findings
            for first, text in (
                (f"{'bad ' if each.exit_code else 'note' if each.advice else 'ok  '}  {each.about:10}", each.found),
                (" " * 16, each.advice and f"-> {each.advice}"),
            )
            if text
        ]
        end = "Not all is well: see the lines marked bad." if self.exit_code else "A training can run here."
        return "\n".join([*lines, end])


def examine(data_dir: Path, runs_dir: Path) -> Examination:
    """Look at everything; no network is used, and nothing is left behind."""
    looks: dict[str, Callable[[], Iterator[Finding]]] = {
        "Python": _python,
        "packages": _packages,
        "torch": _torch,
        "engine": _engine,
        "data": lambda: _data(data_dir),
        "runs": lambda: _runs(runs_dir),
        "cache": _cache,
    }
    findings = tuple(finding for about, look in looks.items() for finding in _looked(about, look))
    return Examination(next((each.exit_code for each in findings if each.exit_code), 0), findings)


def _looked(about: str, look: Callable[[], Iterator[Finding]]) -> list[Finding]:
    findings: list[Finding] = []
    try:
        findings.extend(look())
    except LenetError as error:
        findings.append(Finding(about, str(error), exit_code=error.exit_code))
    except Exception as error:
        advice = "install lenet again, in a new virtual environment"
        findings.append(Finding(about, f"{type(error).__name__}: {error}", advice, InstallationError.exit_code))
    return findings


def _python() -> Iterator[Finding]:
    yield Finding("lenet", f"{__version__}, with Python {platform.python_version()} ({sys.executable})")
    cores = f"{usable_cores()} of {os.cpu_count()} cores may be used here"
    yield Finding("threads", f"{THREADS} (--threads and OMP_NUM_THREADS change it); {cores}")


def _packages() -> Iterator[Finding]:
    try:
        found = (re.match(r"[\w-]+(?!.*extra)", line) for line in requires("lenet-mnist") or ())
        required = [match[0] for match in found if match and match[0] != "torchvision"]  # see _torch
    except PackageNotFoundError:
        required = ["torch"]  # run from a directory, without an installation
    missing = [name for name in required if _version(name) is None]
    if missing:
        advice = f"pip install {' '.join(missing)}"
        yield Finding("packages", f"missing: {', '.join(missing)}", advice, InstallationError.exit_code)
    there = [f"{name} {_version(name)}" for name in _OPTIONAL if _version(name)]
    lacking = [name for name in _OPTIONAL if not _version(name)]
    uses = dict.fromkeys(_OPTIONAL[name] for name in lacking)
    advice = f"only for {', '.join(uses)}: pip install {' '.join(lacking)}" if lacking else ""
    yield Finding("optional", ", ".join([*there, *(f"no {name}" for name in lacking)]), advice)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _torch() -> Iterator[Finding]:
    import torch

    beside = _version("torchvision")
    found = f"{torch.__version__}, {f'torchvision {beside}' if beside else 'without torchvision'}"
    if tuple(map(int, re.findall(r"\d+", torch.__version__)[:2])) < _TORCH:
        wanted = ".".join(map(str, _TORCH))
        yield Finding("torch", found, f"pip install 'torch>={wanted}' torchvision", InstallationError.exit_code)
    else:
        yield Finding("torch", found, "" if beside else "needed only to download data: pip install torchvision")
    gpus = [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())]
    gpus += ["Apple's GPU (--device mps)"] * torch.backends.mps.is_available()
    yield Finding("devices", ", ".join(["cpu", *gpus]))


def _engine() -> Iterator[Finding]:
    import torch

    from lenet_mnist.config import Engine
    from lenet_mnist.model.engines import resolve_engine

    engine = resolve_engine(Engine.AUTO, torch.device("cpu"), 28)
    advice = "" if engine.name is Engine.NATIVE else "training works, several times slower: docs/platforms.md"
    yield Finding("engine", f"{engine.name}: {engine.reason}", advice)


def _data(directory: Path) -> Iterator[Finding]:
    from lenet_mnist.config import Source
    from lenet_mnist.data.mnist import FILES, find, raw_directory, read_verified

    files = FILES[Source.MNIST]
    missing = [file.name for file in files if find(file, directory) is None]
    num_good = 0
    for file in files:
        if file.name not in missing:
            try:
                read_verified(file, directory)
                num_good += 1
            except LenetError as error:
                yield Finding("data", str(error), exit_code=error.exit_code)
    found, advice = f"{directory}: {num_good} of {len(files)} files of MNIST are there and intact", ""
    if missing:
        _require_writable(raw_directory(directory))
        advice = "the first training downloads the missing ones, as does `lenet data fetch`"
    yield _with_space("data", found, directory, advice)


def _runs(directory: Path) -> Iterator[Finding]:
    _require_writable(directory)
    with storage_errors(directory, "list"):
        number = sum((path / "manifest.json").is_file() for path in directory.iterdir()) if directory.is_dir() else 0
    yield _with_space("runs", f"{directory.absolute()}: can be written, holds {counted(number, 'run')}", directory)


def _cache() -> Iterator[Finding]:
    cache = user_cache()
    try:
        sizes = {place.name: _size(place) for place in sorted(cache.iterdir())} if cache.is_dir() else {}
    except OSError as error:
        yield Finding("cache", f"{cache}: cannot be read: {error.strerror}", "check its permissions")
    else:
        parts = ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in sizes.items()) or "empty"
        yield Finding("cache", f"{cache}: {parts}")


def _size(place: Path) -> int:
    return sum(path.stat().st_size for path in (place, *place.rglob("*")) if path.is_file())


def _nearest(directory: Path) -> Path:
    return next(place for place in (directory.absolute(), *directory.absolute().parents) if place.exists())


def _with_space(about: str, found: str, directory: Path, advice: str = "") -> Finding:
    with storage_errors(directory, "open"):
        free = shutil.disk_usage(_nearest(directory)).free
    if free < _ROOM:
        advice = f"free some space, or choose another directory{'; ' * bool(advice)}{advice}"
    return Finding(about, f"{found}; {free / 1e9:.3g} GB free", advice)


def _require_writable(directory: Path) -> None:
    """Raise StorageError unless a few bytes can be written where the directory is, or would be made."""
    require_directory(directory)
    with storage_errors(directory, "write"), tempfile.TemporaryFile(dir=_nearest(directory)) as file:
        file.write(bytes(4096))
        file.flush()
