"""What takes long and comes out the same each time is done once in a process of tests.

Pictures, MNIST's files off the disk, the command line's parser: of each, what was made from the very same things is
taken again. Tests of these themselves, and processes that tests start, do without.
"""

import hashlib
import io
import pickle
from collections.abc import Callable
from functools import cache, wraps
from pathlib import Path
from typing import Any

import pytest
import typer
from matplotlib.figure import Figure
from torch import Tensor

from lenet_mnist.data import mnist
from lenet_mnist.data.mnist import read_verified
from lenet_mnist.files.storage import write_bytes
from lenet_mnist.model.lenet import LeNet
from lenet_mnist.reporting import compare_plots, pixels, plots
from lenet_mnist.reporting.style import save_figure
from lenet_mnist.runs.directory import RunDirectory
from lenet_mnist.training.checkpoint import weights_digest

_made: dict[tuple[str, bytes], Any] = {}
_pictures: dict[Figure, bytes] = {}
_verified: dict[tuple[Any, ...], Any] = {}
_command_of = cache(typer.main.get_command)

# Functions of what they show, and of nothing else.
_FIGURES = {
    plots: ("loss_figure", "accuracy_figure", "layers_figure", "confusion_figure", "calibration_figure"),
    compare_plots: ("loss_curves_figure", "accuracy_curves_figure"),
}


def draw_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no picture be drawn twice: the same bytes are written, by the same write, each time.

    Whatever is another in what it shows, down to a bit, is drawn anew.
    """
    for module, names in _FIGURES.items():
        for name in (*names, "tiles_figure"):
            monkeypatch.setattr(module, name, _made_once(getattr(module, name)))
        monkeypatch.setattr(module, "save_figure", _save_figure)
    monkeypatch.setattr(pixels, "_png", _made_once(pixels._png))


def read_and_parse_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a file of MNIST be read and verified once for as long as it stays as it is, and the parser be made once."""
    monkeypatch.setattr(mnist, "read_verified", _read_verified)
    monkeypatch.setattr(typer.main, "get_command", _command_of)


def _made_once(make: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(make)
    def made(*arguments: Any) -> Any:
        key = make.__qualname__, _content(arguments)
        if key not in _made:
            _made[key] = make(*arguments)
        return _made[key]

    return made


def _save_figure(figure: Figure, path: Path) -> None:
    if figure in _pictures:
        write_bytes(path, _pictures[figure])
    else:
        save_figure(figure, path)
        _pictures[figure] = path.read_bytes()
        figure.clear()  # it takes far more memory


def _read_verified(file: mnist.IdxFile, directory: Path) -> Any:
    path = mnist.find(file, directory)
    if path is None:
        return read_verified(file, directory)
    seen = path.stat()
    key = (file.sha256, path, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)
    if key not in _verified:
        _verified[key] = read_verified(file, directory)
    return _verified[key]


def _content(value: Any) -> bytes:
    """Return the SHA-256 of all that `value` holds; of a run directory its name alone, wherever it lies."""
    content = io.BytesIO()
    _Content(content).dump(value)
    return hashlib.sha256(content.getbuffer()).digest()


class _Content(pickle.Pickler):
    def persistent_id(self, value: Any) -> object:
        if isinstance(value, RunDirectory):
            return value.id
        if isinstance(value, LeNet):
            return weights_digest(value.state_dict())
        return value.numpy().tobytes() if isinstance(value, Tensor) else None
