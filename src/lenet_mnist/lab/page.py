"""The page of the lab: one file with the engine, the images, and all scripts; it needs no server and no network.

The images are those that `lenet train` uses with the same `data.limit_train` and `data.val_size`, in the same order.
"""

import base64
import gzip
import os
import re
import sys
import webbrowser
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lenet_mnist.analysis.advice import LIMITS
from lenet_mnist.config import Activation, DataConfig
from lenet_mnist.config_file import load_config
from lenet_mnist.data.load import load_test, load_train_val
from lenet_mnist.data.mnist import DataAccess
from lenet_mnist.data.sets import ImageSet, TrainVal
from lenet_mnist.data.split import limit
from lenet_mnist.errors import ConfigError
from lenet_mnist.files.pages import filled, inert_json, policy_source, style_of
from lenet_mnist.files.storage import make_directory, open_regular, write_text
from lenet_mnist.lab.exchange import MOST_CLASSES, Origin, settings_of

_PAGE = Path(__file__).with_name("page")
_DRAWING = Path(__file__).parents[1] / "inference" / "templates"  # the page to draw on has two scripts as well
_WORKER = [_PAGE / f"{name}.js" for name in ("engine", "training", "worker")]
_SCRIPTS = [_DRAWING / "picture.js", _DRAWING / "drawing.js"]
_NAMES = ("charts", "advice", "texts", "missions", "mission_texts", "views", "digits", "controls", "saving", "page")
_SCRIPTS += [_PAGE / f"{name}.js" for name in _NAMES]
_RECIPES = (Activation.RELU, Activation.SIGMOID, Activation.TANH)
_MARK = '<meta name="generator" content="lenet lab">'
_VAL_SHARE = 5  # training images for one of validation, and for one of the test


def parse_images(text: str) -> int | None:
    """Return the number of training images that --images asks for, None for all. Raises: ConfigError."""
    if text == "all":
        return None
    if not re.fullmatch(r"[1-9][0-9]{2,8}", text):
        raise ConfigError(f"--images {text}: expected a number of training images from 100 on, or all")
    return int(text)


def write_lab(config: DataConfig, num_images: int | None, output: Path, access: DataAccess) -> None:
    """Write the page, with at most `num_images` training images and a fifth of that for validation and test each.

    Raises: ConfigError for a file there that is no lab, or for too many classes; DataError; StorageError.
    """
    _require_free(output)
    data = load_train_val(config, access)
    most = {} if num_images is None else {"limit_train": num_images, "val_size": num_images // _VAL_SHARE}
    there = {"limit_train": len(data.train), "val_size": len(data.val)}
    sizes = {key: count for key, count in most.items() if count < there[key]}
    if sizes:
        config = config.model_copy(update=sizes)
        data = load_train_val(config, access)
    if data.num_classes > MOST_CLASSES:
        raise ConfigError(f"{config.source}: has {data.num_classes} classes; the lab shows at most {MOST_CLASSES}")
    test: ImageSet = load_test(config, access)
    num_test = min(len(test), most.get("val_size", len(test)))
    test = test.part(torch.from_numpy(limit(np.arange(len(test)), test.labels.numpy(), num_test, config.split_seed)))
    content = _page(_values(Origin.of_data(config, data), data, {"train": data.train, "val": data.val, "test": test}))
    make_directory(output.parent)
    write_text(output, content)


def open_lab(path: Path) -> None:
    """Open the page in the user's browser, where there is one that has a window."""
    if sys.platform != "linux" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(path.resolve().as_uri())


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
        "wasm": _text(_PAGE.with_name("lab.wasm").read_bytes()),
        "source": origin.data.source,
        "classNames": list(data.class_names),
        "counts": {name: len(part) for name, part in parts.items()},
        "levels": _text(levels.numpy().astype("<f4").tobytes()),
        "mean": origin.mean,
        "std": origin.std,
        "guessingLoss": origin.manifest["guessing_loss"],
        "images": _packed(part.images for part in parts.values()),
        "labels": _packed(part.labels for part in parts.values()),
        "recipes": {name.value: settings_of(load_config(name.value).config) for name in _RECIPES},
        "advice": LIMITS._asdict(),
        "versions": origin.manifest["versions"],
        "origin": origin.model_dump(mode="json"),
    }


def _page(values: dict[str, Any]) -> str:
    template, *texts = (path.read_text(encoding="utf-8") for path in (_PAGE / "lab.html", *_SCRIPTS, *_WORKER))
    script, worker = "\n".join(texts[: len(_SCRIPTS)]), "\n".join(texts[len(_SCRIPTS) :])
    policy = (
        f"default-src 'none'; script-src {policy_source(script)} 'wasm-unsafe-eval'; worker-src blob:; "
        f"style-src {policy_source(style_of(template))}; img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    marked = template.replace("<head>", f"<head>\n{_MARK}", 1)
    return filled(marked, {"policy": policy, "script": script, "worker": worker, "data": inert_json(values)})


def _packed(arrays: Iterable[Tensor]) -> str:
    content = b"".join(array.to(torch.uint8).numpy().tobytes() for array in arrays)
    return _text(gzip.compress(content, mtime=0))


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()
