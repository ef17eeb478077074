"""The ONNX file: what it says of itself, and that two other runtimes compute the network from it."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from tests.inference.test_page import network_of

from lenet_mnist import __version__
from lenet_mnist.config import Activation
from lenet_mnist.data.sets import Normalization, TrainVal
from lenet_mnist.inference.agreement import compare
from lenet_mnist.inference.onnx_file import onnx_content
from lenet_mnist.inference.onnx_runtime import OnnxNetwork
from lenet_mnist.model.lenet import LeNet
from lenet_mnist.runs.directory import RunDirectory
from lenet_mnist.training.checkpoint import TrainedNetwork, weights_digest


def written(path: Path, trained: TrainedNetwork) -> Path:
    path.write_bytes(onnx_content(trained, is_of_mnist=True))
    return path


@pytest.mark.parametrize("activation", Activation)
def test_onnx_runtime_gives_torchs_answers(tmp_path: Path, small: TrainVal, activation: Activation) -> None:
    trained = network_of(activation, small)
    found = compare(trained, OnnxNetwork(written(tmp_path / "lenet.onnx", trained)), small.train.images.numpy())
    assert found.holds
    assert found.num_same == found.num_images == 2000
    assert found.largest_logit_difference < 2e-5
    assert found.largest_logit > 1


@pytest.mark.parametrize("activation", Activation)
def test_the_reference_of_onnx_gives_torchs_answers(small: TrainVal, activation: Activation) -> None:
    trained = network_of(activation, small)
    images = small.val.images[:5]
    logits, probabilities = ReferenceEvaluator(onnx_content(trained, is_of_mnist=True)).run(
        None, {"images": images.numpy()}
    )
    with torch.inference_mode():
        expected = trained.network(trained.normalization.apply(images))
    assert np.abs(logits - expected.numpy()).max() < 1e-4
    assert np.abs(probabilities - expected.softmax(dim=1).numpy()).max() < 1e-4


def test_other_sizes_and_classes(tmp_path: Path) -> None:
    network = LeNet(Activation.RELU, num_classes=3, image_size=17)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters_in_order:
            parameter.normal_(std=0.1, generator=generator)
    trained = TrainedNetwork(network, Normalization(0.5, 0.3), ("a", "b", 'c"<é'), epoch=1)
    images = np.random.default_rng(0).integers(0, 256, (40, 17, 17), dtype=np.uint8)
    assert compare(trained, OnnxNetwork(written(tmp_path / "lenet.onnx", trained)), images).holds


def test_the_same_weights_give_the_same_bytes(small: TrainVal) -> None:
    trained = network_of(Activation.TANH, small)
    content = onnx_content(trained, is_of_mnist=True)
    assert onnx_content(network_of(Activation.TANH, small), is_of_mnist=True) == content
    with torch.no_grad():
        trained.network.output.bias[0] += 1
    other = onnx_content(trained, is_of_mnist=True)
    assert other != content
    assert onnx_content(replace(trained, class_names=tuple("abcdefghij")), is_of_mnist=True) != other


def test_the_file_says_what_it_is(small: TrainVal) -> None:
    trained = network_of(Activation.RELU, small)
    model = onnx.load_from_string(onnx_content(trained, is_of_mnist=True))
    onnx.checker.check_model(model, full_check=True)
    assert [(each.domain, each.version) for each in model.opset_import] == [("", 13)]
    assert model.ir_version == 7
    assert (model.producer_name, model.producer_version) == ("lenet_mnist", __version__)
    assert "images: uint8, N x 28 x 28, grey, white on black" in model.doc_string

    def signature(value: onnx.ValueInfoProto) -> tuple[Any, ...]:
        kind = value.type.tensor_type
        return value.name, kind.elem_type, [each.dim_param or each.dim_value for each in kind.shape.dim]

    assert [signature(value) for value in model.graph.input] == [("images", onnx.TensorProto.UINT8, ["N", 28, 28])]
    assert [signature(value) for value in model.graph.output] == [
        ("logits", onnx.TensorProto.FLOAT, ["N", 10]),
        ("probabilities", onnx.TensorProto.FLOAT, ["N", 10]),
    ]
    about = {each.key: each.value for each in model.metadata_props}
    assert json.loads(about.pop("class_names")) == list("0123456789")
    assert about.pop("input") in model.doc_string
    assert about.pop("output") in model.doc_string
    assert about == {
        "activation": "relu",
        "mean": repr(small.normalization.mean),
        "std": repr(small.normalization.std),
        "epoch": "3",
        "weights_sha256": weights_digest(trained.network.state_dict()),
        "lenet_mnist_version": __version__,
    }
    weights = {each.name: onnx.numpy_helper.to_array(each) for each in model.graph.initializer}
    for name, value in trained.network.state_dict().items():
        assert np.array_equal(weights[name], value.numpy())


def test_onnx_runtime_reports_nothing(run: RunDirectory, mnist_dir: Path, tmp_path: Path) -> None:
    """From 1.29 on it leaves an identifier and a database of events in the cache, unless it is told not to."""
    home = tmp_path / "home"
    home.mkdir()
    # Nothing else of this environment: on CI it reports nothing anyway.
    environment = {"HOME": str(home), "LENET_DATA_DIR": str(mnist_dir), "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "lenet_mnist", "export", str(run.path), "--format", "onnx", "--offline"]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "checked with ONNX Runtime" in finished.stdout
    assert finished.stderr == ""
    assert [path.name for path in home.rglob("*") if path.is_file()] == []


def test_light_and_dark_are_named_where_they_are_known(small: TrainVal) -> None:
    trained = network_of(Activation.TANH, small)
    for is_of_mnist in (True, False):
        model = onnx.load_from_string(onnx_content(trained, is_of_mnist))
        texts = [model.doc_string, *(entry.value for entry in model.metadata_props if entry.key == "input")]
        assert len(texts) == 2
        assert {"white on black" in text for text in texts} == {is_of_mnist}
