"""The network as an ONNX file: from the pixels as they lie in MNIST's files to logits and probabilities.

The graph is put together node by node. Its values bear the lecture's names of the layers, its weights those of the
state dict.

Source: lecture points 3, 4, 7 and 8; github.com/onnx/onnx, docs/IR.md and docs/Operators.md.
"""

import json
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from lenet_mnist import __version__
from lenet_mnist.errors import ConfigError
from lenet_mnist.model.activations import ACTIVATIONS
from lenet_mnist.model.engines import C1_PADDING, POOL_SIZE
from lenet_mnist.training.checkpoint import TrainedNetwork, weights_digest

OPSET = 13  # of 2020; the newest operator that is needed, Softmax along the last axis, came with it
_Step = tuple[str, list[str], str, dict[str, Any]]  # operator, inputs, output, attributes
_IR_VERSION = 7  # that of the same release of ONNX
_INPUT = "images: uint8, N x {size} x {size}, grey, {ground}. Scaling and normalisation are inside."
_OUTPUT = "logits: float, N x {classes}, one for each of class_names; probabilities: the same after softmax."


def onnx_content(trained: TrainedNetwork, is_of_mnist: bool) -> bytes:
    """Return the network as the content of an ONNX file: the same bytes for the same weights.

    Shapes: images N H W uint8; logits and probabilities N K float32. N is free.
    Raises: ConfigError if there is no operator for the activation.
    """
    network, normalization = trained.network, trained.normalization
    size, num_classes = network.image_size, network.num_classes
    activation = ACTIVATIONS[network.activation].onnx
    if activation is None:
        raise ConfigError(
            f"--format onnx: no operator is known for {network.activation}; safetensors takes any network"
        )
    steps = [
        ("Cast", ["images"], "pixels", {"to": TensorProto.FLOAT}),
        ("Div", ["pixels", "white"], "scaled", {}),
        ("Sub", ["scaled", "mean"], "centred", {}),
        ("Div", ["centred", "std"], "normalised", {}),
        ("Unsqueeze", ["normalised", "channel_axis"], "input", {}),
        *_convolution("input", "c1", "s2", activation, padding=C1_PADDING),
        *_convolution("s2", "c3", "s4", activation, padding=0),
        ("Flatten", ["s4"], "features", {"axis": 1}),
        *_dense("features", "c5", activation),
        *_dense("c5", "f6", activation),
        ("Gemm", ["f6", "output.weight", "output.bias"], "logits", {"transB": 1}),
        ("Softmax", ["logits"], "probabilities", {"axis": -1}),
    ]
    constants = {
        "white": np.float32(255),
        "mean": np.float32(normalization.mean),
        "std": np.float32(normalization.std),
        "channel_axis": np.array([1]),
        **{name: value.detach().cpu().numpy() for name, value in network.state_dict().items()},
    }
    graph = helper.make_graph(
        [helper.make_node(kind, inputs, [output], name=output, **options) for kind, inputs, output, options in steps],
        "lenet",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", size, size])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", num_classes])
            for name in ("logits", "probabilities")
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=_IR_VERSION,
        producer_name="lenet_mnist",
        producer_version=__version__,
        doc_string=f"{_input(size, is_of_mnist)} {_OUTPUT.format(classes=num_classes)}",
    )
    helper.set_model_props(model, _metadata(trained, is_of_mnist))
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _convolution(source: str, layer: str, result: str, activation: str, padding: int) -> list[_Step]:
    """Return a convolution with what follows it; the maximum is taken before the activation, as in model/engines.py."""
    pool = {"kernel_shape": [POOL_SIZE] * 2, "strides": [POOL_SIZE] * 2}
    return [
        ("Conv", [source, f"{layer}.weight", f"{layer}.bias"], layer, {"pads": [padding] * 4}),
        ("MaxPool", [layer], f"{result}.pooled", pool),
        (activation, [f"{result}.pooled"], result, {}),
    ]


def _dense(source: str, layer: str, activation: str) -> list[_Step]:
    return [
        ("Gemm", [source, f"{layer}.weight", f"{layer}.bias"], f"{layer}.sums", {"transB": 1}),
        (activation, [f"{layer}.sums"], layer, {}),
    ]


def _input(size: int, is_of_mnist: bool) -> str:
    """Say what goes in; of data other than MNIST nobody knows here which is ground and which is ink."""
    ground = "white on black: 0 is the ground, 255 the ink, as in MNIST's files"
    return _INPUT.format(size=size, ground=ground if is_of_mnist else "as those that it was trained on")


def _metadata(trained: TrainedNetwork, is_of_mnist: bool) -> dict[str, str]:
    size = trained.network.image_size
    return {
        "class_names": json.dumps(trained.class_names),
        "input": _input(size, is_of_mnist),
        "output": _OUTPUT.format(classes=len(trained.class_names)),
        "activation": trained.network.activation.value,
        "mean": repr(trained.normalization.mean),
        "std": repr(trained.normalization.std),
        "epoch": str(trained.epoch),
        "weights_sha256": weights_digest(trained.network.state_dict()),
        "lenet_mnist_version": __version__,
    }
