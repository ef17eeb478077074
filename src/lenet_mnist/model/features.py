"""The convolutional block behind one function, and the choice of the engine that computes it.

`torch` is the form that everyone can read and that is always there; `native` is the same in C (native/features.c).
Both give the same features and gradients up to float32's rounding, from the same parameters.

Source: lecture points 3, 4 and 7.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import platformdirs
import torch
import torch.nn.functional as F
from torch import Tensor

from lenet_mnist.config import Activation, Engine
from lenet_mnist.errors import ConfigError
from lenet_mnist.randomness import Purpose, torch_generator

C1_PADDING = 2
POOL_SIZE = 2

# images, C1 weights, C1 biases, C3 weights, C3 biases, activation -> features of S4, N x (16 x 5 x 5)
FeatureBlock = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Activation], Tensor]

# The native gradients of the check below lie within this of the torch form's, relative to the largest.
_CHECK_TOLERANCE = 1e-4
_NATIVE_IMAGE_SIZE = 28
_CACHE_DIR = platformdirs.user_cache_path("lenet-mnist", appauthor=False) / "native"


def torch_block(
    images: Tensor, c1_weight: Tensor, c1_bias: Tensor, c3_weight: Tensor, c3_bias: Tensor, activation: Activation
) -> Tensor:
    """Return the features of S4, flattened. Shapes: images N 1 H W; result N 400 for images of 28 x 28.

    The maximum is taken before the activation: all three activations are monotone, so that the features are the same
    as in the lecture's order, from a quarter of the evaluations. (Bit for bit, except where torch's own sigmoid gives
    the same number another last bit at another place of a tensor.)
    """
    s2 = activate(F.max_pool2d(F.conv2d(images, c1_weight, c1_bias, padding=C1_PADDING), POOL_SIZE), activation)
    s4 = activate(F.max_pool2d(F.conv2d(s2, c3_weight, c3_bias), POOL_SIZE), activation)
    return s4.flatten(start_dim=1)


def activate(x: Tensor, activation: Activation) -> Tensor:
    """Apply `activation` to each element of `x`."""
    match activation:
        case Activation.SIGMOID:
            return torch.sigmoid(x)
        case Activation.TANH:
            return torch.tanh(x)
        case Activation.RELU:
            return torch.relu(x)


@dataclass(frozen=True)
class ResolvedEngine:
    """The engine that is used, why, and its block."""

    name: Engine
    reason: str
    block: FeatureBlock


def resolve_engine(
    engine: Engine, device: torch.device, image_size: int, cache_dir: Path = _CACHE_DIR
) -> ResolvedEngine:
    """Return the engine to use: `auto` takes the native one where it can be had and covers the settings.

    Raises: ConfigError if `native` is asked for and cannot be had.
    """
    if engine is Engine.TORCH:
        return ResolvedEngine(Engine.TORCH, "asked for", torch_block)
    if device.type != "cpu":
        missing = f"it runs on the CPU, not on {device.type}"
    elif image_size != _NATIVE_IMAGE_SIZE:
        missing = f"it takes images of {_NATIVE_IMAGE_SIZE} x {_NATIVE_IMAGE_SIZE} pixels, not {image_size}"
    else:
        block_or_reason = _native_block(cache_dir)
        if not isinstance(block_or_reason, str):
            return ResolvedEngine(Engine.NATIVE, "built, and its gradients checked", block_or_reason)
        missing = block_or_reason
    reason = f"native is not available: {missing}"
    if engine is Engine.NATIVE:
        raise ConfigError(reason, key="training.engine")
    return ResolvedEngine(Engine.TORCH, reason, torch_block)


@cache
def _native_block(cache_dir: Path) -> FeatureBlock | str:
    """Return the native block, after it gave the torch form's features and gradients, or why there is none.

    Once a process: neither the build nor the check is tried again.
    """
    try:
        from lenet_mnist.model.native.block import NativeBlock, NativeUnavailableError
    except ImportError:
        return "it is not installed"
    try:
        block = NativeBlock(cache_dir)
    except NativeUnavailableError as error:
        return str(error)
    generator = torch_generator(0, Purpose.ENGINE_CHECK)
    images = torch.randn(8, 1, _NATIVE_IMAGE_SIZE, _NATIVE_IMAGE_SIZE, generator=generator)
    shapes = ((6, 1, 5, 5), (6,), (16, 6, 5, 5), (16,))
    parameters = [torch.randn(shape, generator=generator).mul_(0.2) for shape in shapes]
    weights = torch.randn(8, 400, generator=generator)
    for activation in Activation:
        expected = _features_and_gradients(torch_block, images, parameters, weights, activation)
        found = _features_and_gradients(block, images, parameters, weights, activation)
        for one, other in zip(expected, found, strict=True):
            if not bool((one - other).abs().max() <= _CHECK_TOLERANCE * one.abs().max()):
                return f"its {activation.value} block does not agree with torch's on this machine"
    return block


def _features_and_gradients(
    block: FeatureBlock, images: Tensor, parameters: list[Tensor], weights: Tensor, activation: Activation
) -> list[Tensor]:
    leaves = [parameter.clone().requires_grad_() for parameter in parameters]
    c1_weight, c1_bias, c3_weight, c3_bias = leaves
    features = block(images, c1_weight, c1_bias, c3_weight, c3_bias, activation)
    return [features.detach(), *torch.autograd.grad((features * weights).sum(), leaves)]
