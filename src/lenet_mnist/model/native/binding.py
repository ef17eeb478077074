"""The network in C, as one differentiable function of PyTorch.

Loss and Muon's update are in C too. The other optimizers, and the state dict, are PyTorch's.
"""

import ctypes
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lenet_mnist.config import Activation
from lenet_mnist.model.engines import Target, torch_network
from lenet_mnist.model.native.build import Library

_MAX_IMAGES = 1_000_000  # the C code counts in 32 bits
_MAX_CLASSES = 10_000
_MAX_KNOTS = 18  # MOST_KNOTS in augment.c
_INT, _POINTER = ctypes.c_int, ctypes.c_void_p


class NativeNetwork:
    """The compiled network, as a function."""

    image_size = 28
    activations = (Activation.SIGMOID, Activation.TANH, Activation.RELU)  # in the order of the enum in lenet.h

    def __init__(self, library: Library) -> None:
        functions, self.origin, self.digest = library
        self.threads = 1
        network = [_INT] * 3 + [_POINTER] * 3  # how many images, of how many classes; the activation; where all is
        self.workspace = _declare(functions.lenet_workspace, [_INT] * 3, ctypes.c_int64)
        self.forward = _declare(functions.lenet_forward, [*network, _POINTER, _INT])
        self.backward = _declare(functions.lenet_backward, [*network, *[_POINTER] * 2, _INT])
        targets = [_POINTER, *[ctypes.c_float] * 2]
        self._gradient = _declare(functions.lenet_gradient, [*network, *targets, *[_POINTER] * 2, _INT], _INT)
        self.peak = _declare(functions.lenet_peak, [ctypes.c_int64, _POINTER, _INT], ctypes.c_double)
        self._muon_workspace = _declare(functions.lenet_muon_workspace, [], ctypes.c_int64)
        numbers = [_INT, *[_POINTER] * 2, *[ctypes.c_float] * 5, _INT, _POINTER, _INT]
        self._muon = _declare(functions.lenet_muon, numbers)
        numbers = [_INT, _POINTER, _INT, *[_POINTER] * 3, _INT, *[_POINTER] * 2, *[ctypes.c_float] * 2, _POINTER, _INT]
        self.augment = _declare(functions.lenet_augment, numbers, _INT)

    def __call__(self, images: Tensor, parameters: Sequence[Tensor], activation: Activation) -> Tensor:
        """Return the logits. Shapes: images N 1 28 28 float32; parameters as in the state dict; result N K.

        With an activation that C does not know, as a teacher may have, torch computes them.
        """
        if activation not in self.activations:
            return torch_network(images, parameters, activation)
        logits: Tensor = _Network.apply(self, activation, images, *parameters)
        return logits

    def set_threads(self, count: int) -> None:
        """Compute with `count` threads, and let torch have one: while its own wait for work, they keep a core busy."""
        self.threads = count
        torch.set_num_threads(1)

    def begin(
        self, images: Tensor, parameters: Sequence[Tensor], activation: Activation
    ) -> tuple[tuple[int, int, int], Tensor]:
        """Check what a pass is given. Return the numbers of images, classes and activation, and a workspace."""
        num_images, num_classes = len(images), len(parameters[-1])
        if num_images > _MAX_IMAGES or num_classes > _MAX_CLASSES:
            given, most = f"{num_images:,} images, {num_classes:,} classes", f"{_MAX_IMAGES:,} and {_MAX_CLASSES:,}"
            raise ValueError(f"{given}: at most {most} are possible")
        _require("images", images, (num_images, 1, self.image_size, self.image_size))
        for (name, shape), parameter in zip(parameter_shapes(num_classes).items(), parameters, strict=True):
            _require(name, parameter, shape)
        workspace = _bytes(self.workspace(num_images, num_classes, self.threads))
        return (num_images, num_classes, self.activations.index(activation)), workspace

    def gradient(self, images: Tensor, parameters: Sequence[Tensor], activation: Activation, target: Target) -> Tensor:
        """Return the gradient of the loss, and behind it the loss of the labels and the images right.

        Shapes: images N 1 28 28, N at least 1; result one for each weight, in the order of the state dict, and 2.
        """
        numbers, workspace = self.begin(images, parameters, activation)
        _require("labels", target.labels, numbers[:1], torch.int64)
        sums = torch.empty(sum(parameter.numel() for parameter in parameters) + 2)
        gradients = torch.split(sums, [*(parameter.numel() for parameter in parameters), 2])
        given = (images.data_ptr(), _pointers(parameters), workspace.data_ptr(), target.labels.data_ptr())
        options = (target.label_smoothing, 1 / target.num_images)
        written = (_pointers(gradients), gradients[-1].data_ptr())
        if not self._gradient(*numbers, *given, *options, *written, self.threads):
            raise IndexError(f"one of the labels does not exist: there are {numbers[1]:,} classes")
        return sums

    def muon(self, gradient: Tensor, tensors: Sequence[Tensor], settings: Sequence[float], moves: bool) -> None:
        """Make one update of Muon; the same as in training/muon.py. With `moves` false, C3, C5 and F6 stay as they are.

        `tensors`: the weights, their momenta, Adam's mean and mean square of all weights outside C3, C5 and F6.
        `settings`: momentum, rate, weight decay, Adam's rate, and its updates so far, this one included.
        """
        count = len(gradient)
        others = count - 16 * 150 - 120 * 400 - 84 * 120
        for tensor, length in zip((gradient, *tensors), (count, count, count, others, others), strict=True):
            _require("tensor", tensor, (length,))
        workspace = _bytes(self._muon_workspace())  # of this call: trainings in two threads share the network
        where = (gradient.data_ptr(), _pointers(tensors))
        self._muon(count, *where, *settings, moves, workspace.data_ptr(), self.threads)

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
        if not self.augment(*given, *weights, out.data_ptr(), self.threads):
            raise IndexError(f"one of the chosen images does not exist: there are {count:,}")
        return out


class _Network(torch.autograd.Function):
    """Forward and backward in C, without second derivatives and without the gradient of the images."""

    @staticmethod
    def forward(
        ctx: Any, network: NativeNetwork, activation: Activation, images: Tensor, *parameters: Tensor
    ) -> Tensor:
        numbers, workspace = network.begin(images, parameters, activation)
        if images.requires_grad:
            raise RuntimeError("the native engine has no gradient of the images; use training.engine=torch")
        logits = torch.empty(numbers[:2])
        where = (images.data_ptr(), _pointers(parameters), workspace.data_ptr())
        network.forward(*numbers, *where, logits.data_ptr(), network.threads)
        ctx.network, ctx.numbers, ctx.threads = network, numbers, network.threads
        ctx.save_for_backward(images, workspace, *parameters)
        return logits

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_logits: Tensor) -> tuple[Tensor | None, ...]:
        images, workspace, *parameters = ctx.saved_tensors
        num_images, num_classes, _ = ctx.numbers
        if num_images == 0:
            return None, None, None, *(torch.zeros_like(parameter) for parameter in parameters)
        g_logits = g_logits.contiguous()
        _require("gradient of the logits", g_logits, (num_images, num_classes))
        gradients = [torch.empty_like(parameter) for parameter in parameters]
        where = (images.data_ptr(), _pointers(parameters), workspace.data_ptr())
        ctx.network.backward(*ctx.numbers, *where, g_logits.data_ptr(), _pointers(gradients), ctx.threads)
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


def _bytes(count: int) -> Tensor:
    return torch.empty(count, dtype=torch.uint8)


def _pointers(tensors: Sequence[Tensor]) -> Any:
    return (_POINTER * len(tensors))(*(tensor.data_ptr() for tensor in tensors))


def _require(name: str, value: Tensor, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> None:
    """Check everything that the C code relies on, before it gets a pointer."""
    if value.shape != shape or value.dtype != dtype or value.device.type != "cpu":
        raise ValueError(
            f"{name}: {value.dtype} {tuple(value.shape)} on {value.device}, "
            f"expected {str(dtype).removeprefix('torch.')} {tuple(shape)} on the CPU"
        )
    if not value.is_contiguous():
        raise ValueError(f"{name}: not contiguous in memory")
