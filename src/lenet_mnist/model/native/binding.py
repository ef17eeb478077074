"""The network in C, as one differentiable function of PyTorch.

Everything around it (loss, optimizer, weight decay, state dict) is ordinary PyTorch and needs no change.
"""

import ctypes
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lenet_mnist.config import Activation
from lenet_mnist.model.engines import torch_network
from lenet_mnist.model.native.build import NativeUnavailableError, load_library

__all__ = ["NativeNetwork", "NativeUnavailableError", "parameter_shapes"]

_MAX_IMAGES = 1_000_000  # the C code counts in 32 bits
_MAX_CLASSES = 10_000
_MAX_KNOTS = 18  # MOST_KNOTS in augment.c
_INT, _POINTER = ctypes.c_int, ctypes.c_void_p


class NativeNetwork:
    """The compiled network, as a function. Raises: NativeUnavailableError if it cannot be built or loaded."""

    image_size = 28
    activations = (Activation.SIGMOID, Activation.TANH, Activation.RELU)  # in the order of the enum in lenet.h

    def __init__(self, cache_dir: Path, processor: str = "native") -> None:
        library = load_library(cache_dir, processor)
        self.forward = _declare(library.lenet_forward, [_INT] * 3 + [_POINTER] * 5 + [_INT])
        self.peak = _declare(library.lenet_peak, [ctypes.c_int64, _INT], ctypes.c_double)
        self.backward = _declare(library.lenet_backward, [_INT] * 3 + [_POINTER] * 7 + [_INT])
        self.sizes = cache(partial(_sizes, _declare(library.lenet_sizes, [_INT, _POINTER])))
        numbers = [_INT, _POINTER, _INT, *[_POINTER] * 3, _INT, *[_POINTER] * 2, *[ctypes.c_float] * 2, _POINTER, _INT]
        self.augment = _declare(library.lenet_augment, numbers, _INT)

    def __call__(self, images: Tensor, parameters: Sequence[Tensor], activation: Activation) -> Tensor:
        """Return the logits. Shapes: images N 1 28 28 float32; parameters as in the state dict; result N K.

        With an activation that C does not know, as a teacher may have, torch computes them.
        """
        if activation not in self.activations:
            return torch_network(images, parameters, activation)
        logits: Tensor = _Network.apply(self, activation, images, *parameters)
        return logits

    def resample(
        self,
        images: Tensor,
        chosen: Tensor,
        distortions: tuple[Tensor, Tensor, Tensor, Tensor],
        black: float,
        factor: float,
    ) -> Tensor:
        """Return the chosen images, augmented and normalised; the same as `resample` of data/augment.py."""
        maps, noise, across, down = distortions
        size, count, knots = self.image_size, len(images), len(across)
        if knots > _MAX_KNOTS:
            raise ValueError(f"{knots} knots: at most {_MAX_KNOTS} are possible")
        _require("images", images, (count, size, size), torch.uint8)
        _require("chosen", chosen, (len(chosen),), torch.int64)
        _require("maps", maps, (count, 2, 3))
        _require("noise", noise, (count, knots, knots), torch.uint8)
        _require("across", across, (knots, size))
        _require("down", down, (size, knots))
        out = torch.empty(len(chosen), 1, size, size)
        given = (len(chosen), chosen.data_ptr(), count, images.data_ptr(), maps.data_ptr(), noise.data_ptr())
        weights = (knots, across.data_ptr(), down.data_ptr(), black, factor)
        if not self.augment(*given, *weights, out.data_ptr(), torch.get_num_threads()):
            raise IndexError(f"one of the chosen images does not exist: there are {count:,}")
        return out


class _Network(torch.autograd.Function):
    """Forward and backward in C, without second derivatives and without the gradient of the images."""

    @staticmethod
    def forward(
        ctx: Any, network: NativeNetwork, activation: Activation, images: Tensor, *parameters: Tensor
    ) -> Tensor:
        num_images, num_classes = _require_images(images, network.image_size), _require_parameters(parameters)
        if images.requires_grad:
            raise RuntimeError("the native engine has no gradient of the images; use training.engine=torch")
        image_bytes, _, _, weights_bytes = network.sizes(num_classes)
        activations, weights = _bytes(num_images * image_bytes), _bytes(weights_bytes)
        logits = torch.empty(num_images, num_classes)
        numbers = (num_images, num_classes, network.activations.index(activation))
        given, written = (images.data_ptr(), _pointers(parameters)), (activations, weights, logits)
        network.forward(*numbers, *given, *(each.data_ptr() for each in written), torch.get_num_threads())
        ctx.network, ctx.numbers = network, numbers
        ctx.save_for_backward(images, activations, *parameters)
        return logits

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_logits: Tensor) -> tuple[Tensor | None, ...]:
        images, activations, *parameters = ctx.saved_tensors
        num_images, num_classes, _ = ctx.numbers
        if num_images == 0:
            return None, None, None, *(torch.zeros_like(parameter) for parameter in parameters)
        g_logits = g_logits.contiguous()
        _require("gradient of the logits", g_logits, (num_images, num_classes))
        threads = torch.get_num_threads()
        _, deltas_bytes, sums_bytes, _ = ctx.network.sizes(num_classes)
        deltas, sums = _bytes(num_images * deltas_bytes), _bytes(threads * sums_bytes)
        gradients = [torch.empty_like(parameter) for parameter in parameters]
        saved = (images.data_ptr(), _pointers(parameters), activations.data_ptr(), g_logits.data_ptr())
        written = (deltas.data_ptr(), sums.data_ptr(), _pointers(gradients))
        ctx.network.backward(*ctx.numbers, *saved, *written, threads)
        return None, None, None, *gradients


@cache
def parameter_shapes(num_classes: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the parameters that the C code expects, by their names in messages."""
    return {
        "C1 weights": (6, 1, 5, 5),
        "C1 biases": (6,),
        "C3 weights": (16, 6, 5, 5),
        "C3 biases": (16,),
        "C5 weights": (120, 400),
        "C5 biases": (120,),
        "F6 weights": (84, 120),
        "F6 biases": (84,),
        "output weights": (num_classes, 84),
        "output biases": (num_classes,),
    }


def _declare(function: Any, arguments: list[Any], result: Any = None) -> Any:
    function.restype = result
    function.argtypes = arguments
    return function


def _sizes(function: Any, num_classes: int) -> list[int]:
    """Return the bytes that the C code needs: per image forward and backward, per thread, for the weights."""
    sizes = (ctypes.c_int64 * 4)()
    function(num_classes, ctypes.addressof(sizes))
    return list(sizes)


def _bytes(count: int) -> Tensor:
    return torch.empty(count, dtype=torch.uint8)


def _pointers(tensors: Sequence[Tensor]) -> Any:
    return (_POINTER * len(tensors))(*(tensor.data_ptr() for tensor in tensors))


def _require_images(images: Tensor, size: int) -> int:
    _require("images", images, (len(images), 1, size, size))
    if len(images) > _MAX_IMAGES:
        raise ValueError(f"{len(images):,} images at once: at most {_MAX_IMAGES:,} are possible")
    return len(images)


def _require_parameters(parameters: Sequence[Tensor]) -> int:
    """Return the number of classes."""
    num_classes = len(parameters[-1])
    if num_classes > _MAX_CLASSES:
        raise ValueError(f"{num_classes:,} classes: at most {_MAX_CLASSES:,} are possible")
    for (name, shape), parameter in zip(parameter_shapes(num_classes).items(), parameters, strict=True):
        _require(name, parameter, shape)
    return num_classes


def _require(name: str, value: Tensor, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> None:
    """Check everything that the C code relies on, before it gets a pointer."""
    if value.shape != shape or value.dtype != dtype or value.device.type != "cpu":
        raise ValueError(
            f"{name}: {value.dtype} {tuple(value.shape)} on {value.device}, "
            f"expected {str(dtype).removeprefix('torch.')} {tuple(shape)} on the CPU"
        )
    if not value.is_contiguous():
        raise ValueError(f"{name}: not contiguous in memory")
