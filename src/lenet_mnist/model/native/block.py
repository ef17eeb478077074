"""The convolutional block in C, as one differentiable function of PyTorch.

Everything after it (dense layers, loss, optimizer, state dict) is ordinary PyTorch and does not know the difference.
"""

import ctypes
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lenet_mnist.config import Activation
from lenet_mnist.model.native.build import NativeUnavailableError, load_library

__all__ = ["IMAGE_SIZE", "NativeBlock", "NativeUnavailableError"]

IMAGE_SIZE = 28
_NUM_FEATURES = 400
_MAX_IMAGES = 1_000_000  # the C code counts in 32 bits
_ACTIVATIONS = (Activation.SIGMOID, Activation.TANH, Activation.RELU)  # in the order of the enum in features.c
_SHAPES = {"C1 weights": (6, 1, 5, 5), "C1 biases": (6,), "C3 weights": (16, 6, 5, 5), "C3 biases": (16,)}


class NativeBlock:
    """The compiled block, ready to be called. Raises NativeUnavailableError if it cannot be had."""

    def __init__(self, cache_dir: Path, processor: str = "native") -> None:
        library = load_library(cache_dir, processor)
        self.forward = _declare(library.lenet_forward, "ii" + "p" * 9 + "i")
        self.backward = _declare(library.lenet_backward, "ii" + "p" * 12 + "i")
        sizes = (ctypes.c_int * 3)()
        library.lenet_sizes(sizes)
        self.s2_floats, self.s2_winners, self.sums_bytes = sizes

    def __call__(
        self,
        images: Tensor,
        c1_weight: Tensor,
        c1_bias: Tensor,
        c3_weight: Tensor,
        c3_bias: Tensor,
        activation: Activation,
    ) -> Tensor:
        """Return the features of S4, flattened. Shapes: images N 1 28 28 float32; result N 400."""
        features: Tensor = _Block.apply(self, activation, images, c1_weight, c1_bias, c3_weight, c3_bias)
        return features


class _Block(torch.autograd.Function):
    """Forward and backward in C. Second derivatives and the gradient of the images are not offered."""

    @staticmethod
    def forward(ctx: Any, block: NativeBlock, activation: Activation, images: Tensor, *parameters: Tensor) -> Tensor:
        num_images = _require_images(images)
        for (name, shape), value in zip(_SHAPES.items(), parameters, strict=True):
            _require(name, value, shape)
        if images.requires_grad:
            raise RuntimeError("the native engine gives no gradient of the images; use training.engine=torch")
        features = torch.empty(num_images, _NUM_FEATURES)
        s2 = torch.empty(num_images, block.s2_floats)
        winners2 = torch.empty(num_images, block.s2_winners, dtype=torch.uint8)
        winners4 = torch.empty(num_images, _NUM_FEATURES, dtype=torch.uint8)
        code = _ACTIVATIONS.index(activation)
        outputs = (features, s2, winners2, winners4)
        pointers = [value.data_ptr() for value in (images, *parameters, *outputs)]
        block.forward(num_images, code, *pointers, torch.get_num_threads())
        ctx.block, ctx.code = block, code
        ctx.save_for_backward(images, parameters[2], *outputs)
        return features

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_features: Tensor) -> tuple[Tensor | None, ...]:
        images, c3_weight, features, *rest = ctx.saved_tensors
        g_features = g_features.contiguous()
        _require("gradient of the features", g_features, features.shape)
        gradients = [torch.empty(shape) for shape in _SHAPES.values()]
        threads = torch.get_num_threads()
        scratch = torch.empty(threads * ctx.block.sums_bytes, dtype=torch.uint8)
        inputs = (images, c3_weight, features, *rest, g_features, *gradients, scratch)
        ctx.block.backward(len(images), ctx.code, *(value.data_ptr() for value in inputs), threads)
        return None, None, None, *gradients


def _declare(function: Any, arguments: str) -> Any:
    function.restype = None
    function.argtypes = [ctypes.c_int if kind == "i" else ctypes.c_void_p for kind in arguments]
    return function


def _require_images(images: Tensor) -> int:
    _require("images", images, (len(images), 1, IMAGE_SIZE, IMAGE_SIZE))
    if len(images) > _MAX_IMAGES:
        raise ValueError(f"{len(images):,} images at once, at most {_MAX_IMAGES:,} are taken")
    return len(images)


def _require(name: str, value: Tensor, shape: tuple[int, ...]) -> None:
    """Check all that the C code takes for granted, before a pointer is passed on."""
    if tuple(value.shape) != tuple(shape) or value.dtype != torch.float32 or value.device.type != "cpu":
        raise ValueError(
            f"{name}: {value.dtype} {tuple(value.shape)} on {value.device}, expected float32 {tuple(shape)} on the CPU"
        )
    if not value.is_contiguous():
        raise ValueError(f"{name}: not contiguous in memory")
