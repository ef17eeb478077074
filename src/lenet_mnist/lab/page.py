"""The page of the lab: one file with the engine, the images, and all scripts; it needs no server and no network.

Images and recipes -> JSON in a block that is never run -> page/lab.html -> lenet-lab.html

The images are those that `lenet train` uses with the same `data.limit_train` and `data.val_size`, in the same order.
"""

import base64
import gzip
import os
import sys
import webbrowser
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lenet_mnist.analysis.advice import LIMITS
from lenet_mnist.config import Activation, DataConfig
from lenet_mnist.config_file import load_config
from lenet_mnist.data.load import load_train_val
from lenet_mnist.data.mnist import DataAccess
from lenet_mnist.data.sets import ImageSet, TrainVal
from lenet_mnist.data.split import limit
from lenet_mnist.errors import ConfigError
from lenet_mnist.files.pages import filled, inert_json, policy_source, style_of
from lenet_mnist.files.storage import make_directory, open_regular, write_bytes
from lenet_mnist.lab.exchange import MOST_CLASSES, Origin, settings_of
from lenet_mnist.study.evaluation import carried_test_images

_ROOM = files("lenet_mnist.lab")
_WORKER = ("engine.js", "training.js", "worker.js")
_DRAWING = files("lenet_mnist.inference") / "templates"  # the page to draw on has these two as well
_SHARED = ("picture.js", "drawing.js")
_SCRIPTS = (
    *("charts.js", "advice.js", "texts.js", "missions.js", "mission_texts.js", "views.js"),
    *("digits.js", "controls.js", "saving.js", "page.js"),
)
_RECIPES = (Activation.RELU, Activation.SIGMOID, Activation.TANH)
_MARK = '<meta name="generator" content="lenet lab">'
_VAL_SHARE = 5  # training images for one of validation, and for one of the test
_LEAST_IMAGES = 100


@dataclass(frozen=True)
class Lab:
    """A page that was written. The fields are the keys of `--json`."""

    path: Path
    num_bytes: int
    images: dict[str, int]

    def __str__(self) -> str:
        train, val, test = self.images.values()
        parts = f"{train:,} images for training, {val:,} for validation, {test:,} for the test"
        return f"{self.path}\n{self.num_bytes / 1e6:.1f} MB, with {parts}"


def parse_images(text: str) -> int | None:
    """Return the number of training images that --images asks for, None for all. Raises: ConfigError."""
    if text == "all":
        return None
    if not text.isascii() or not text.isdigit() or int(text[:9]) < _LEAST_IMAGES:
        raise ConfigError(f"--images {text}: expected a number of training images from {_LEAST_IMAGES} on, or all")
    return int(text[:9])


def write_lab(config: DataConfig, num_images: int | None, output: Path, access: DataAccess) -> Lab:
    """Write the page, with at most `num_images` training images and a fifth of that for validation and test each.

    Raises: ConfigError for a file there that is no lab, or for too many classes; DataError; StorageError.
    """
    _require_free(output)
    data, config = _part(config, num_images, access)
    if data.num_classes > MOST_CLASSES:
        raise ConfigError(f"{config.source}: has {data.num_classes} classes; the lab shows at most {MOST_CLASSES}")
    test: ImageSet = carried_test_images(config, access)
    if num_images is not None and len(test) > num_images // _VAL_SHARE:
        chosen = limit(np.arange(len(test)), test.labels.numpy(), num_images // _VAL_SHARE, config.split_seed)
        test = test.part(torch.from_numpy(chosen))
    parts = {"train": data.train, "val": data.val, "test": test}
    content = _page(_values(Origin.of(config, data), data, parts)).encode()
    make_directory(output.parent)
    write_bytes(output, content)
    return Lab(output, len(content), {name: len(part) for name, part in parts.items()})


def open_lab(path: Path) -> None:
    """Open the page in the user's browser, where there is one that has a window."""
    if sys.platform != "linux" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(path.resolve().as_uri())


def _part(config: DataConfig, num_images: int | None, access: DataAccess) -> tuple[TrainVal, DataConfig]:
    """Return so many of the images, and the configuration that gives them."""
    data = load_train_val(config, access)
    sizes: dict[str, int] = {}
    if num_images is not None and len(data.train) > num_images:
        sizes["limit_train"] = num_images
    if num_images is not None and len(data.val) > num_images // _VAL_SHARE:
        sizes["val_size"] = num_images // _VAL_SHARE
    if not sizes:
        return data, config
    config = config.model_copy(update=sizes)
    return load_train_val(config, access), config


def _require_free(output: Path) -> None:
    """Raise ConfigError for a name that would overwrite any other file than an older lab."""
    if output.suffix.lower() != ".html":
        raise ConfigError(f"--output {output}: expected a name that ends in .html")
    if output.exists():
        with open_regular(output, ConfigError) as file:
            if _MARK.encode() not in file.read(1000):
                raise ConfigError(f"--output {output}: is there already, and is no page of the lab: name another file")


def _values(origin: Origin, data: TrainVal, parts: dict[str, ImageSet]) -> dict[str, Any]:
    """Return what the page is told, as plain values; arrays in base64, the long ones as gzip."""
    levels = data.normalization.apply(torch.arange(256, dtype=torch.uint8).view(1, 16, 16))
    return {
        "wasm": _text((_ROOM / "lab.wasm").read_bytes()),
        "source": origin.data.source,
        "classNames": list(data.class_names),
        "counts": {name: len(part) for name, part in parts.items()},
        "levels": _text(levels.numpy().astype("<f4").tobytes()),
        "mean": origin.mean,
        "std": origin.std,
        "guessingLoss": origin.guessing_loss,
        "images": _packed(part.images for part in parts.values()),
        "labels": _packed(part.labels for part in parts.values()),
        "recipes": {name.value: settings_of(load_config(name.value).config) for name in _RECIPES},
        "advice": LIMITS._asdict(),
        "versions": origin.versions,
        "origin": origin.model_dump(mode="json"),
    }


def _page(values: dict[str, Any]) -> str:
    room = _ROOM / "page"
    template = _read(room / "lab.html")
    script = "\n".join([_read(_DRAWING / name) for name in _SHARED] + [_read(room / name) for name in _SCRIPTS])
    worker = "\n".join(_read(room / name) for name in _WORKER)
    policy = (
        f"default-src 'none'; script-src {policy_source(script)} 'wasm-unsafe-eval'; worker-src blob:; "
        f"style-src {policy_source(style_of(template))}; img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    marked = template.replace("<head>", f"<head>\n{_MARK}", 1)
    return filled(marked, {"policy": policy, "script": script, "worker": worker, "data": inert_json(values)})


def _read(path: Traversable) -> str:
    return path.read_text(encoding="utf-8")


def _packed(arrays: Iterable[Tensor]) -> str:
    content = b"".join(array.to(torch.uint8).numpy().tobytes() for array in arrays)
    return _text(gzip.compress(content, mtime=0))


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()
