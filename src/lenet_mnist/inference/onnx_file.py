"""The network as an ONNX file, from MNIST's pixels to logits and probabilities, and its check by ONNX Runtime.

The graph is put together node by node. Values have the lecture's names of the layers, weights those of the state dict.

Source: lecture points 3, 4, 7 and 8; github.com/onnx/onnx, docs/IR.md and docs/Operators.md.
"""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from onnx import TensorProto, helper, numpy_helper

from lenet_mnist import __version__
from lenet_mnist.data.batches import EVALUATION_CHUNK
from lenet_mnist.data.decoding import Pixels
from lenet_mnist.errors import CheckFailedError, ConfigError, DataError
from lenet_mnist.model.activations import ACTIVATIONS
from lenet_mnist.model.engines import C1_PADDING, POOL_SIZE
from lenet_mnist.training.checkpoint import TrainedNetwork, weights_digest

# From 1.29 on, ONNX Runtime reports to its maker and leaves an identifier in the user's cache, unless the environment
# forbids it when the library is loaded. On Windows, which has had this for longer, a call turns it off.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime

onnxruntime.disable_telemetry_events()

OPSET = 13  # of 2020, the first with Softmax along the last axis
RUNTIME_VERSION = onnxruntime.__version__
BATCH_SIZES = (1, 7, 1000)  # one image; with a smaller last batch; many
TOLERANCE = 1e-4
_ROUNDING = 2e-6  # of the largest logit; random networks differ by up to 1.1e-6: docs/export.md
_IR_VERSION = 7  # of the same release of ONNX as OPSET
_Step = tuple[str, list[str], str, dict[str, Any]]  # operator, inputs, output, attributes
# Pixels N H W uint8 -> logits and probabilities, N K float32 each
Runtime = Callable[[Pixels], tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]


def onnx_content(trained: TrainedNetwork, is_of_mnist: bool) -> bytes:
    """Return the network as the content of an ONNX file: the same bytes for the same weights.

    Shapes: images N H W uint8; logits and probabilities N K float32. N is free.
    Raises: ConfigError if there is no operator for the activation.
    """
    network, normalization = trained.network, trained.normalization
    size, num_classes = network.image_size, network.num_classes
    activation = ACTIVATIONS[network.activation].onnx
    if activation is None:
        raise ConfigError(f"--format onnx: ONNX has no operator for {network.activation}; use --format safetensors")
    steps: list[_Step] = [
        ("Cast", ["images"], "pixels", {"to": TensorProto.FLOAT}),
        ("Div", ["pixels", "white"], "scaled", {}),
        ("Sub", ["scaled", "mean"], "centred", {}),
        ("Div", ["centred", "std"], "normalised", {}),
        ("Unsqueeze", ["normalised", "channel_axis"], "input", {}),
    ]
    pool = {"kernel_shape": [POOL_SIZE] * 2, "strides": [POOL_SIZE] * 2}
    for source, layer, result, padding in (("input", "c1", "s2", C1_PADDING), ("s2", "c3", "s4", 0)):
        steps += [
            ("Conv", [source, f"{layer}.weight", f"{layer}.bias"], layer, {"pads": [padding] * 4}),
            ("MaxPool", [layer], f"{result}.pooled", pool),  # before the activation, as in model/engines.py
            (activation, [f"{result}.pooled"], result, {}),
        ]
    steps.append(("Flatten", ["s4"], "features", {"axis": 1}))
    for source, layer in (("features", "c5"), ("c5", "f6")):
        steps += [
            ("Gemm", [source, f"{layer}.weight", f"{layer}.bias"], f"{layer}.sums", {"transB": 1}),
            (activation, [f"{layer}.sums"], layer, {}),
        ]
    steps += [
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
    tensor = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node(kind, inputs, [output], name=output, **options) for kind, inputs, output, options in steps],
        "lenet",
        [tensor("images", TensorProto.UINT8, ["N", size, size])],
        [tensor(name, TensorProto.FLOAT, ["N", num_classes]) for name in ("logits", "probabilities")],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    # Of data other than MNIST nobody knows here which pixels are ink.
    of_mnist, of_others = "white on black: 0 is the ground, 255 the ink, as in MNIST's files", "as in its training"
    ground = of_mnist if is_of_mnist else of_others
    about = {
        "class_names": json.dumps(trained.class_names),
        "input": f"images: uint8, N x {size} x {size}, grey, {ground}. Scaling and normalisation are inside.",
        "output": f"logits: float, N x {num_classes}, one for each of class_names; probabilities: after softmax.",
        "activation": network.activation.value,
        "mean": repr(normalization.mean),
        "std": repr(normalization.std),
        "epoch": str(trained.epoch),
        "weights_sha256": weights_digest(network.state_dict()),
        "lenet_mnist_version": __version__,
    }
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=_IR_VERSION, producer_name="lenet_mnist"
    )
    model.producer_version, model.doc_string = __version__, f"{about['input']} {about['output']}"
    helper.set_model_props(model, about)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def open_onnx(content: bytes) -> Runtime:
    """Open the content of an ONNX file in ONNX Runtime, on the CPU. Raises: CheckFailedError if it cannot be opened."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors only
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no common base class
        raise CheckFailedError(f"ONNX Runtime {RUNTIME_VERSION} cannot open it: {error}") from None
    return lambda images: tuple(session.run(["logits", "probabilities"], {"images": images}))


@dataclass(frozen=True)
class Agreement:
    """How close a runtime comes to torch: the largest differences over all images and batch sizes.

    An image is the same if its answer is, at every batch size, and a tie if a different answer is within rounding of
    the best. Rounding grows with the logits: differences may be 1e-4, or 2e-6 of the largest logit where that is more.
    """

    num_images: int
    num_same: int
    num_ties: int
    largest_logit: float
    largest_logit_difference: float
    largest_probability_difference: float
    tolerance: float

    @property
    def holds(self) -> bool:
        """Whether the other runtime computes the same network."""
        differences = self.largest_logit_difference, self.largest_probability_difference
        return max(differences) <= self.tolerance and self.num_same + self.num_ties == self.num_images


@torch.inference_mode()
def compare(trained: TrainedNetwork, runtime: Runtime, images: Pixels) -> Agreement:
    """Compare what `runtime` computes with torch's logits and probabilities. Shapes: images N H W.

    Raises: DataError if torch's logits are not finite; CheckFailedError if those of `runtime` are not.
    """
    chunks = torch.split(torch.from_numpy(images), EVALUATION_CHUNK)
    logits = torch.cat([trained.network(trained.normalization.apply(chunk)) for chunk in chunks])
    if not bool(logits.isfinite().all()):
        raise DataError("the logits are not finite: the weights have overflowed")
    expected = logits.numpy(), logits.softmax(dim=1).numpy()
    best, largest = expected[0].argmax(axis=1), float(logits.abs().max())
    same, tied, differences = np.full(len(images), True), np.full(len(images), True), np.zeros(2)
    for batch_size in BATCH_SIZES:
        parts = [runtime(images[start : start + batch_size]) for start in range(0, len(images), batch_size)]
        found = [np.concatenate(values) for values in zip(*parts, strict=True)]
        if not all(np.isfinite(values).all() for values in found):
            raise CheckFailedError(f"in batches of {batch_size} its answers are not finite")
        answers = found[0].argmax(axis=1)
        same &= answers == best
        tied &= expected[0].max(axis=1) - expected[0][np.arange(len(images)), answers] <= _ROUNDING * largest
        differences = np.maximum(differences, [np.abs(a - b).max() for a, b in zip(found, expected, strict=True)])
    return Agreement(
        num_images=len(images),
        num_same=int(same.sum()),
        num_ties=int((tied & ~same).sum()),
        largest_logit=largest,
        largest_logit_difference=float(differences[0]),
        largest_probability_difference=float(differences[1]),
        tolerance=max(TOLERANCE, _ROUNDING * largest),
    )
