"""What takes long and comes out the same each time is done once in a process of tests.

MNIST's files off the disk, the small pictures of a report: of each, what was made from the very same things is taken
again; and pictures have few dots, or none. Tests of these themselves, and processes that tests start, do without.
"""

import pickle
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from PIL import Image

from lenet_mnist.data import mnist
from lenet_mnist.data.mnist import read_verified
from lenet_mnist.reporting import report_pictures

_png = report_pictures._png
_savefig = Figure.savefig
_pngs: dict[bytes, Any] = {}
_verified: dict[tuple[Any, ...], Any] = {}


def draw_roughly(monkeypatch: pytest.MonkeyPatch, dots: int = 10) -> None:
    """Let pictures be drawn with few dots an inch, or not at all, without a layout: most of an evaluation."""

    def save_roughly(figure: Figure, file: Any, **options: Any) -> None:
        figure.set_layout_engine("none")
        match options["format"], dots:
            case "png", 0:
                Image.new("L", (1, 1)).save(file, format="png")
            case "png", _:
                figure.canvas.print_figure(file, format="png", dpi=dots)
            case _, 0:
                file.write("<svg><metadata></metadata></svg>")
            case _:
                _savefig(figure, file, **options)

    monkeypatch.setattr(Figure, "savefig", save_roughly)
    monkeypatch.setattr(report_pictures, "_png", _png_once)


def read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a file of MNIST be read and verified once for as long as it stays as it is."""
    monkeypatch.setattr(mnist, "read_verified", _read_verified)


def _read_verified(file: mnist.IdxFile, directory: Path) -> Any:
    path = mnist.find(file, directory)
    if path is None:
        return read_verified(file, directory)
    seen = path.stat()
    key = (file.sha256, path, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)
    if key not in _verified:
        _verified[key] = read_verified(file, directory)
    return _verified[key]


def _png_once(values: Any) -> Any:
    key = pickle.dumps(values)
    if key not in _pngs:
        _pngs[key] = _png(values)
    return _pngs[key]
