"""A page to draw on: networks, their forward pass and the preparation of pictures in one HTML file without a network.

A run is not trusted: names reach the page as JSON in a block that is never run, and are shown as text; a policy in
the page lets no other script run than its own, and nothing be fetched.
"""

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import torch

from lenet_mnist.config import Activation
from lenet_mnist.errors import ConfigError
from lenet_mnist.training.checkpoint import TrainedNetwork

_SCRIPTS = ("picture.js", "network.js", "page.js")
_DRAWN = (Activation.SIGMOID, Activation.TANH, Activation.RELU)  # ACTIVATIONS in network.js, SCALES in page.js


def drawing_page(networks: Sequence[tuple[str, TrainedNetwork]]) -> str:
    """Return the page that lets the networks read what is drawn, side by side, each under its name.

    Raises: ConfigError if the page cannot compute one.
    """
    for _, trained in networks:
        if trained.network.activation not in _DRAWN:
            known, own = ", ".join(_DRAWN), trained.network.activation
            raise ConfigError(f"--format html: the page computes {known}, not {own}; safetensors takes any network")
    script = "\n".join(_part(name) for name in _SCRIPTS)
    style = _part("page.css")
    policy = f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'"
    data = {"networks": [_packed(name, trained) for name, trained in networks]}
    values = {"policy": policy, "style": style, "script": script, "data": inert_json(data)}
    return re.sub(r"\{\{(\w+)\}\}", lambda match: values[match[1]], _part("page.html"))


def inert_json(value: Any) -> str:
    """Return JSON that can stand in an HTML page: nothing in it ends its block or begins a comment."""
    text = json.dumps(value, allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _packed(name: str, trained: TrainedNetwork) -> dict[str, Any]:
    """Return a network as plain values; weights in base64, float32, least significant byte first."""
    return {
        "name": name,
        "activation": trained.network.activation.value,
        "epoch": trained.epoch,
        "classNames": list(trained.class_names),
        "mean": trained.normalization.mean,
        "std": trained.normalization.std,
        "weights": {key: _base64(value) for key, value in trained.network.state_dict().items()},
    }


def _base64(tensor: torch.Tensor) -> str:
    return base64.b64encode(tensor.detach().cpu().numpy().astype("<f4").tobytes()).decode()


def _digest(text: str) -> str:
    """Return the name of a script or style in a Content-Security-Policy. Source: W3C, CSP level 3, 2.3.1."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _part(name: str) -> str:
    return files("lenet_mnist.inference").joinpath("templates", name).read_text(encoding="utf-8")
