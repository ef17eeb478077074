"""`lenet doctor`: can a training run here? What is there, what is not well, and what to do about it.

What may be broken is imported inside the look at it: what it raises becomes a finding, and the others are made.
"""

import os
import platform
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import NamedTuple

from lenet_mnist import __version__
from lenet_mnist.config import Engine, Source
from lenet_mnist.cores import THREADS, usable_cores
from lenet_mnist.errors import InstallationError, LenetError
from lenet_mnist.files.storage import require_directory, storage_errors, user_cache
from lenet_mnist.reporting.text import Result

_OPTIONAL = {"onnx": "export", "onnxruntime": "export", "tensorboard": "--log", "scikit-learn": "digits"}
_OPTIONAL |= {"pillow-heif": "HEIC pictures", "torchvision": "download of data"}
_ROOM = 100_000_000  # bytes: MNIST has 55 million, a run some 2
_BROKEN = InstallationError.exit_code


class Finding(NamedTuple):
    """One thing that was looked at; `exit_code` is 0 (well, or not needed), or what a command ends with (errors.py)."""

    about: str
    found: str
    advice: str = ""
    exit_code: int = 0


def examine(data_dir: Path, runs_dir: Path) -> Result:
    """Look at everything. No network is used, and nothing is left behind. `exit_code` is the first that is not 0."""
    findings: list[Finding] = []
    looks = {"lenet": _lenet(), "packages": _packages(), "torch": _torch()}
    looks |= {"data": _data(data_dir), "disk": _disk(runs_dir), "cache": _cache()}
    for about, look in looks.items():
        try:
            findings.extend(look)
        except LenetError as error:
            findings.append(Finding(about, str(error), exit_code=error.exit_code))
        except Exception as error:
            advice = "install lenet again, in a new virtual environment"
            findings.append(Finding(about, f"{type(error).__name__}: {error}", advice, _BROKEN))
    code = next((each.exit_code for each in findings if each.exit_code), 0)
    lines = [
        f"{'bad ' if each.exit_code else 'note' if each.advice else 'ok  '}  {each.about:8}  {each.found}"
        + (f"\n{'':16}-> {each.advice}" if each.advice else "")
        for each in findings
    ]
    end = "not all is well: see the lines marked bad" if code else "a training can run here"
    return Result({"exit_code": code, "findings": [each._asdict() for each in findings]}, "\n".join([*lines, end]))


def _lenet() -> Iterator[Finding]:
    yield Finding("lenet", f"{__version__}, with Python {platform.python_version()} ({sys.executable})")
    yield Finding("threads", f"{THREADS}; {usable_cores()} of {os.cpu_count()} cores may be used here")


def _packages() -> Iterator[Finding]:
    required = (re.fullmatch(r"([\w-]+)>=([\d.]+)", line) for line in requires("lenet-mnist") or ())  # no extras
    lowest = {found[1]: found[2] for found in required if found and found[1] not in _OPTIONAL}
    bad = [f"{name}>={least}" for name, least in lowest.items() if _numbers(_version(name)) < _numbers(least)]
    if bad:
        yield Finding("packages", f"missing, or too old: {', '.join(bad)}", f"pip install {shlex.join(bad)}", _BROKEN)
    lacking = " ".join(name for name in _OPTIONAL if not _version(name))
    found = ", ".join(f"{name} {_version(name) or f'is missing ({use})'}" for name, use in _OPTIONAL.items())
    yield Finding("optional", found, lacking and f"if you need it: pip install {lacking}")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)[:2]))


def _torch() -> Iterator[Finding]:
    import torch

    from lenet_mnist.model.engines import resolve_engine

    yield Finding("torch", torch.__version__)
    gpus = [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())]
    yield Finding("devices", ", ".join(["cpu", *gpus, *["mps"] * torch.backends.mps.is_available()]))
    engine = resolve_engine(Engine.AUTO, torch.device("cpu"), 28)
    advice = "" if engine.name is Engine.NATIVE else "training works, several times slower: see docs/platforms.md"
    yield Finding("engine", f"{engine.name}: {engine.reason}", advice)


def _data(directory: Path) -> Iterator[Finding]:
    from lenet_mnist.data.mnist import FILES, find, raw_directory, read_verified

    files = FILES[Source.MNIST]
    there = [file for file in files if find(file, directory)]
    for file in there:
        try:
            read_verified(file, directory)
        except LenetError as error:
            yield Finding("data", str(error), exit_code=error.exit_code)
    advice = ""
    if len(there) < len(files):
        yield from _disk(raw_directory(directory))
        advice = "the first training downloads the others, as does `lenet data fetch`"
    yield Finding("data", f"{directory}: {len(there)} of {len(files)} files of MNIST, SHA-256 compared", advice)


def _disk(directory: Path) -> Iterator[Finding]:
    """Write a few bytes where a directory is, or would be made. Raises: StorageError."""
    require_directory(directory)
    nearest = next(place for place in (directory.absolute(), *directory.absolute().parents) if place.exists())
    with storage_errors(directory, "write"), tempfile.TemporaryFile(dir=nearest) as file:
        file.write(bytes(4096))
        file.flush()
        free = shutil.disk_usage(nearest).free
    advice = "free some space, or choose another directory" if free < _ROOM else ""
    yield Finding("disk", f"{directory.absolute()}: can be written; {free / 1e9:.3g} GB free", advice)


def _cache() -> Iterator[Finding]:
    sizes = {}
    with storage_errors(user_cache(), "read"):
        for place in sorted(user_cache().glob("*")):
            sizes[place.name] = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
    parts = ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in sizes.items()) or "empty"
    yield Finding("cache", f"{user_cache()}: {parts}")
