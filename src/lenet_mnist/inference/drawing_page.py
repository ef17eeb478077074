"""A page to draw on: one HTML file, with networks, their forward pass and the preparation of pictures inside.

A run is not trusted: names reach the page as JSON in a block that is never run, and are shown as text; a policy in
the page lets no script but its own run, and nothing be fetched.
"""

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from lenet_mnist.config import Activation
from lenet_mnist.errors import ConfigError
from lenet_mnist.training.checkpoint import TrainedNetwork

_SCRIPTS = ("picture.js", "network.js", "page.js")
_DRAWN = (Activation.SIGMOID, Activation.TANH, Activation.RELU)  # ACTIVATIONS in network.js, SCALES in page.js


def drawing_page(networks: Sequence[tuple[str, TrainedNetwork]]) -> str:
    """Return the page on which the networks, side by side, each under its name, classify what is drawn.

    Raises: ConfigError if the page cannot compute one of them.
    """
    for _, trained in networks:
        if (own := trained.network.activation) not in _DRAWN:
            raise ConfigError(
                f"--format html: the page computes {', '.join(_DRAWN)}, not {own}; use --format safetensors"
            )
    page, *scripts = (
        files("lenet_mnist.inference").joinpath("templates", name).read_text(encoding="utf-8")
        for name in ("page.html", *_SCRIPTS)
    )
    script, style = "\n".join(scripts), page.partition("<style>")[2].partition("</style>")[0]
    values = {
        "policy": f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'",
        "script": script,
        "data": inert_json({"networks": [_packed(name, trained) for name, trained in networks]}),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: values[match[1]], page)


def inert_json(value: Any) -> str:
    """Return JSON that can stand in an HTML page: nothing in it ends its block or begins a comment."""
    text = json.dumps(value, allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _packed(name: str, trained: TrainedNetwork) -> dict[str, Any]:
    """Return a network as plain values; weights in base64, float32, least significant byte first."""
    weights = {key: value.detach().cpu().numpy().astype("<f4") for key, value in trained.network.state_dict().items()}
    return {
        "name": name,
        "activation": trained.network.activation.value,
        "epoch": trained.epoch,
        "classNames": list(trained.class_names),
        "mean": trained.normalization.mean,
        "std": trained.normalization.std,
        "weights": {key: base64.b64encode(value.tobytes()).decode() for key, value in weights.items()},
    }


def _digest(text: str) -> str:
    """Return the name of a script or style in a Content-Security-Policy. Source: W3C, CSP level 3, 2.3.1."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
