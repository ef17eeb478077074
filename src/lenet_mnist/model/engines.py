"""The network as one function of images and parameters, and the choice of the engine that computes it.

`torch` is the form that everyone can read and that is always there; `native` is the same in C (native/lenet.c). Both
give the same logits and gradients up to float32's rounding, from the same parameters.

Source: lecture points 3, 4 and 7.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lenet_mnist.config import Activation, Engine
from lenet_mnist.errors import ConfigError
from lenet_mnist.files.storage import user_cache
from lenet_mnist.model.activations import ACTIVATIONS
from lenet_mnist.randomness import Purpose, torch_generator

if TYPE_CHECKING:
    from lenet_mnist.model.native.binding import NativeNetwork

C1_PADDING = 2
POOL_SIZE = 2

# (images, parameters in the order of the state dict, activation) -> logits
NetworkFunction = Callable[[Tensor, Sequence[Tensor], Activation], Tensor]

# The native gradients of the check below differ by at most this from torch's, relative to the largest.
_CHECK_TOLERANCE = 1e-4
_CHECK_IMAGES = 9
_CHECK_CLASSES = 10
_CACHE_DIR = user_cache() / "native"


class LayerOutputs(NamedTuple):
    """What the layers give out, after their activations. Shapes: N 6 14 14, N 16 5 5, N 120, N 84, N K."""

    s2: Tensor
    s4: Tensor
    c5: Tensor
    f6: Tensor
    logits: Tensor


def activate(x: Tensor, activation: Activation) -> Tensor:
    """Apply `activation` to each element of `x`."""
    return ACTIVATIONS[activation].function(x)


def layer_outputs(
    images: Tensor,
    parameters: Sequence[Tensor],
    activation: Activation,
    apply: Callable[[Tensor, Activation], Tensor] = activate,
) -> LayerOutputs:
    """Return what each layer gives out for `images`. Shapes: images N 1 H W; parameters as in the state dict.

    The maximum is taken before a monotone activation: the features are the same as in the lecture's order, from a
    quarter of the evaluations. (Bit for bit, except where torch's own sigmoid gives the same number another last bit at
    another place of a tensor.) `apply` is `activate`, or does something besides.
    """
    c1_weight, c1_bias, c3_weight, c3_bias, c5_weight, c5_bias, f6_weight, f6_bias, output_weight, output_bias = (
        parameters
    )
    # A single channel has the same memory layout first or last. Called last, torch keeps the maps of all layers pixel
    # by pixel, which it convolves and pools faster on the CPU (docs/performance.md).
    images = images.squeeze(1).unsqueeze(3).permute(0, 3, 1, 2)

    def pooled(maps: Tensor) -> Tensor:
        if ACTIVATIONS[activation].is_monotone:
            return apply(F.max_pool2d(maps, POOL_SIZE), activation)
        return F.max_pool2d(apply(maps, activation), POOL_SIZE)

    s2 = pooled(F.conv2d(images, c1_weight, c1_bias, padding=C1_PADDING))
    s4 = pooled(F.conv2d(s2, c3_weight, c3_bias))
    c5 = apply(F.linear(s4.flatten(start_dim=1), c5_weight, c5_bias), activation)
    f6 = apply(F.linear(c5, f6_weight, f6_bias), activation)
    return LayerOutputs(s2, s4, c5, f6, F.linear(f6, output_weight, output_bias))


def torch_network(images: Tensor, parameters: Sequence[Tensor], activation: Activation) -> Tensor:
    """Return the logits. Shapes: images N 1 H W; parameters as in the state dict; result N K."""
    return layer_outputs(images, parameters, activation).logits


@dataclass(frozen=True)
class ResolvedEngine:
    """The engine that is used, why, and its form of the network and, if it has one, of data/augment.py's resampling."""

    name: Engine
    reason: str
    forward: NetworkFunction
    resample: Callable[..., Tensor] | None = None


TORCH = ResolvedEngine(Engine.TORCH, "asked for", torch_network)


def resolve_engine(
    engine: Engine,
    device: torch.device,
    image_size: int,
    cache_dir: Path = _CACHE_DIR,
    activation: Activation = Activation.RELU,
) -> ResolvedEngine:
    """Return the engine to use: `auto` takes the native one where it can be had and covers the settings.

    Raises: ConfigError if `native` is asked for and cannot be had.
    """
    if engine is Engine.TORCH:
        return TORCH
    if device.type != "cpu":
        missing = f"it runs on the CPU, not on {device.type}"
    elif isinstance(network := _native_network(cache_dir), str):
        missing = network
    elif image_size != network.image_size:
        missing = f"it takes images of {network.image_size} x {network.image_size} pixels, not {image_size}"
    elif activation not in network.activations:
        missing = f"it computes {', '.join(network.activations)}, not {activation}"
    else:
        return ResolvedEngine(Engine.NATIVE, "built, and its gradients checked", network, network.resample)
    reason = f"native is not available: {missing}"
    if engine is Engine.NATIVE:
        raise ConfigError(reason, key="training.engine")
    return ResolvedEngine(Engine.TORCH, reason, torch_network)


@cache
def _native_network(cache_dir: Path) -> "NativeNetwork | str":
    """Return the native network, after it gave the torch form's logits and gradients, or why there is none.

    Once a process: neither the build nor the check is tried again.
    """
    try:
        from lenet_mnist.model.native.binding import NativeNetwork, NativeUnavailableError, parameter_shapes
    except ImportError:
        return "it is not installed"
    try:
        network = NativeNetwork(cache_dir)
    except NativeUnavailableError as error:
        return str(error)
    generator = torch_generator(0, Purpose.ENGINE_CHECK)
    images = torch.randn(_CHECK_IMAGES, 1, network.image_size, network.image_size, generator=generator)
    shapes = parameter_shapes(_CHECK_CLASSES).values()
    parameters = [torch.randn(shape, generator=generator).mul_(0.2) for shape in shapes]
    weights = torch.randn(_CHECK_IMAGES, _CHECK_CLASSES, generator=generator)
    for activation in network.activations:
        expected = _logits_and_gradients(torch_network, images, parameters, weights, activation)
        found = _logits_and_gradients(network, images, parameters, weights, activation)
        for one, other in zip(expected, found, strict=True):
            if not bool((one - other).abs().max() <= _CHECK_TOLERANCE * one.abs().max()):
                return f"its {activation.value} network does not agree with torch's on this machine"
    return network


def _logits_and_gradients(
    network: NetworkFunction, images: Tensor, parameters: list[Tensor], weights: Tensor, activation: Activation
) -> list[Tensor]:
    leaves = [parameter.clone().requires_grad_() for parameter in parameters]
    logits = network(images, leaves, activation)
    return [logits.detach(), *torch.autograd.grad((logits * weights).sum(), leaves)]
