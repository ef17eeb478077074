"""An ONNX file, computed by ONNX Runtime on the CPU, as whoever gets the file would do it."""

import os
from pathlib import Path

import torch

from lenet_mnist.errors import CheckFailedError
from lenet_mnist.inference.agreement import Answer, Pixels

# From 1.29 on ONNX Runtime reports to its maker, and leaves an identifier in the user's cache, unless it finds this in
# the environment when it is loaded. What it does on Windows since before that is turned off by a call.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime

onnxruntime.disable_telemetry_events()

VERSION = onnxruntime.__version__

_ERRORS_ONLY = 3


class OnnxNetwork:
    """The network in an ONNX file. Raises: CheckFailedError if ONNX Runtime cannot open it."""

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = _ERRORS_ONLY
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors have no base of their own
            raise CheckFailedError(f"ONNX Runtime {onnxruntime.__version__} cannot open it: {error}") from None

    def __call__(self, images: Pixels) -> Answer:
        """Return logits and probabilities. Shapes: images N H W uint8."""
        return Answer(*self._session.run(["logits", "probabilities"], {"images": images}))
