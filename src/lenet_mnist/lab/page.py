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
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lenet_mnist.analysis.advice import LIMITS
from lenet_mnist.config import Activation, DataConfig
from lenet_mnist.config_file import load_config, parse_yaml
from lenet_mnist.data.load import load_test, load_train_val
from lenet_mnist.data.mnist import DataAccess
from lenet_mnist.data.sets import IMAGE_SIZE, ImageSet, Normalization, TrainVal
from lenet_mnist.data.split import limit
from lenet_mnist.errors import ConfigError
from lenet_mnist.files.pages import filled, inert_json, policy_source
from lenet_mnist.files.storage import make_directory, open_regular, write_text
from lenet_mnist.lab.exchange import DRAWN, MOST_CLASSES, ONLY_IN_PAGE, SETTINGS, Origin, settings_of
from lenet_mnist.model.lenet import layer_table

_PARTS = Path(__file__).with_name("page")
_SHARED = ("drawing", "texts")  # with the page to draw on
_LAB = (*_SHARED, "advice", "charts", "views", "missions", "controls", "saving", "page")
_WORKER = ("engine", "training", "worker")
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
    values = _values(config, data, {"train": data.train, "val": data.val, "test": test})
    template = _read("lab.html").replace("<head>", f"<head>\n{_MARK}", 1)
    content = page_of(template, _scripts(*_LAB), values, worker=_scripts(*_WORKER))
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


def reader_page(template: str, script: str, values: dict[str, Any]) -> str:
    """Return the lab without training: a page whose `script` may use the engine, the paper and the texts of the lab."""
    return page_of(template, f"{_scripts('engine', *_SHARED)}\n{script}", values)


def page_of(template: str, script: str, values: dict[str, Any], worker: str = "") -> str:
    """Return a page of the lab's parts: it runs only its own scripts, and is told `values`, engine and texts."""
    style, wasm = _read("page.css"), base64_of(_PARTS.with_name("lab.wasm").read_bytes())
    policy = (
        f"default-src 'none'; script-src {policy_source(script)} 'wasm-unsafe-eval'; worker-src blob:; "
        f"style-src {policy_source(style)}; img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    parts = {"policy": policy, "style": style, "paper": _read("paper.html"), "script": script, "worker": worker}
    return filled(template, {**parts, "data": inert_json({**values, "wasm": wasm, "texts": _yaml("texts.yaml")})})


def levels_of(normalization: Normalization) -> str:
    """Return what the 256 grey levels are for the network, in base64."""
    levels = normalization.apply(torch.arange(256, dtype=torch.uint8).view(1, 16, 16))
    return base64_of(levels.numpy().astype("<f4").tobytes())


def _values(config: DataConfig, data: TrainVal, parts: dict[str, ImageSet]) -> dict[str, Any]:
    """Return what the lab is told, as plain values; arrays in base64, the long ones as gzip."""
    origin = Origin.of_data(config, data)
    usual = DataConfig().model_dump(mode="json")
    layers = layer_table(Activation.RELU, data.num_classes, IMAGE_SIZE)
    return {
        "missions": _yaml("missions.yaml"),
        "settings": {name: setting._asdict() for name, setting in (SETTINGS | ONLY_IN_PAGE).items()},
        "recipes": {name.value: settings_of(load_config(name.value).config) for name in DRAWN},
        "layers": [asdict(row) for row in layers if row.num_parameters or row.name.startswith("S")],
        "classNames": list(data.class_names),
        "counts": {name: len(part) for name, part in parts.items()},
        "levels": levels_of(data.normalization),
        "images": _packed(part.images for part in parts.values()),
        "labels": _packed(part.labels for part in parts.values()),
        "guessingLoss": origin.manifest["guessing_loss"],
        "advice": LIMITS._asdict(),
        "origin": origin.model_dump(mode="json"),
        "limit": config.limit_train,
        "changes": {
            f"data.{name}": value
            for name, value in origin.data.model_dump(mode="json").items()
            if value != usual[name] and name != "limit_train"
        },
    }


def _read(name: str) -> str:
    return (_PARTS / name).read_text(encoding="utf-8")


def _yaml(name: str) -> Any:
    return parse_yaml(_read(name), name)


def _scripts(*names: str) -> str:
    return "\n".join(_read(f"{name}.js") for name in names)


def _packed(arrays: Iterable[Tensor]) -> str:
    content = b"".join(array.to(torch.uint8).numpy().tobytes() for array in arrays)
    return base64_of(gzip.compress(content, mtime=0))


def base64_of(content: bytes) -> str:
    """Return bytes as text for the page's JSON."""
    return base64.b64encode(content).decode()
