"""docs/export.md: each block of Python on it gives the network's answers, as it stands there."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.inference.test_page import network_of

from lenet_mnist.config import Activation
from lenet_mnist.data.sets import TrainVal
from lenet_mnist.runs.directory import RunDirectory
from lenet_mnist.training.checkpoint import read_network, weights_digest, write_network

Lenet = Callable[..., Any]
PAGE = Path(__file__).parents[2] / "docs" / "export.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("activation", Activation)
def test_every_block_of_python_works(
    lenet: Lenet, run: RunDirectory, small: TrainVal, monkeypatch: pytest.MonkeyPatch, activation: Activation
) -> None:
    write_network(run.model_path, network_of(activation, small))
    trained = read_network(run.model_path)
    digest = weights_digest(trained.network.state_dict())
    run.write_manifest(run.read_manifest().model_copy(update={"weights_sha256": digest}))
    for format_name in ("onnx", "safetensors"):
        assert lenet("export", run.path, "--format", format_name).code == 0
    monkeypatch.chdir(run.export_path)
    images = small.val.images[:20]
    with torch.inference_mode():
        expected = trained.network(trained.normalization.apply(images)).numpy()
    names: dict[str, Any] = {"images": images.numpy()}
    num_answers = 0
    for block in BLOCKS:
        exec(block, names)
        if "answers" in names:
            assert np.abs(np.asarray(names.pop("logits")) - expected).max() < 1e-4
            assert names.pop("answers") == [str(digit) for digit in expected.argmax(axis=1)]
            num_answers += 1
    assert (len(BLOCKS), num_answers) == (4, 3)
