"""The network as one function of images and parameters, and the choice of the engine that computes it.

`torch` is the form that everyone can read and that is always there; `native` is the same in C (native/lenet.c). Both
give the same logits and gradients up to float32's rounding, from the same parameters.

Source: lecture points 3, 4 and 7.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
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


class Target(NamedTuple):
    """What the logits of a batch are compared with. Shapes: labels N int64. The loss is the mean over `num_images`."""

    labels: Tensor
    label_smoothing: float
    num_images: int


# (the same, target) -> the gradient of the loss, flat; behind it the loss of the labels, and the number of images right
GradientFunction = Callable[[Tensor, Sequence[Tensor], Activation, Target], Tensor]

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


def losses_of(logits: Tensor, target: Target) -> tuple[Tensor, Tensor]:
    """Return the loss of the labels, and the one to train on: the same, or smoothed. Shapes: logits N K."""
    total = F.cross_entropy(logits, target.labels, reduction="sum") / target.num_images
    if target.label_smoothing == 0:
        return total, total
    smoothed = F.cross_entropy(logits, target.labels, reduction="sum", label_smoothing=target.label_smoothing)
    return total, smoothed / target.num_images


def gradient_and_figures(
    loss: Tensor, labels_loss: Tensor, logits: Tensor, labels: Tensor, parameters: Sequence[Tensor]
) -> Tensor:
    """Return the gradient of `loss`, flat; behind it, the loss of the labels and the number of images right."""
    gradients = torch.autograd.grad(loss, parameters)
    num_correct = (logits.detach().argmax(dim=1) == labels).sum().to(loss.dtype)
    return torch.cat([*(part.flatten() for part in gradients), torch.stack([labels_loss.detach(), num_correct])])


def torch_gradient(images: Tensor, parameters: Sequence[Tensor], activation: Activation, target: Target) -> Tensor:
    """Return the gradient, flat, and the figures behind it. Shapes: images N 1 H W; result one per weight, and 2."""
    logits = torch_network(images, parameters, activation)
    labels_loss, loss = losses_of(logits, target)
    return gradient_and_figures(loss, labels_loss, logits, target.labels, parameters)


@dataclass(frozen=True)
class ResolvedEngine:
    """The engine that is used, and why: its forms of the network and of its gradient.

    Where it has its own, also those of data/augment.py's resampling and of training/muon.py's update. `set_threads`
    says with how many threads it computes.
    """

    name: Engine
    reason: str
    forward: NetworkFunction
    gradient: GradientFunction
    set_threads: Callable[[int], None]
    resample: Callable[..., Tensor] | None = None
    muon: Callable[[Tensor, Sequence[Tensor], Sequence[float], bool], None] | None = None
    library: str | None = None  # which one it is: another compiler's, or another version's, has other last bits


TORCH = ResolvedEngine(Engine.TORCH, "asked for", torch_network, torch_gradient, torch.set_num_threads)


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
        return ResolvedEngine(
            Engine.NATIVE,
            f"{network.origin}, and its gradients checked",
            network,
            network.gradient,
            network.set_threads,
            network.resample,
            network.muon,
            network.digest,
        )
    reason = f"native is not available: {missing}"
    if engine is Engine.NATIVE:
        raise ConfigError(reason, key="training.engine")
    return replace(TORCH, reason=reason)


@cache
def _native_network(cache_dir: Path) -> "NativeNetwork | str":
    """Return the native network, after it gave the torch form's logits and gradients, or why there is none.

    Once a process: neither the build nor the check is tried again.
    """
    try:
        from lenet_mnist.model.native.binding import NativeNetwork, parameter_shapes
        from lenet_mnist.model.native.build import NativeUnavailableError, load_library
    except ImportError:
        return "it is not installed"
    try:
        network = NativeNetwork(load_library(cache_dir))
    except NativeUnavailableError as error:
        return str(error)
    for activation in network.activations:
        given = check_problem(activation, network.image_size, parameter_shapes(_CHECK_CLASSES).values())
        expected, (images, parameters, _, target) = torch_gradient(*given), given
        logits = network(images, parameters, activation)  # and back through autograd, as with teachers
        labels_loss, loss = losses_of(logits, target)
        through_autograd = gradient_and_figures(loss, labels_loss, logits, target.labels, parameters)
        if not (agree(network.gradient(*given), expected) and agree(through_autograd, expected)):
            return f"its {activation.value} network does not agree with torch's on this machine"
    return network


def check_problem(
    activation: Activation, image_size: int, shapes: Iterable[Sequence[int]]
) -> tuple[Tensor, list[Tensor], Activation, Target]:
    """Return random images, parameters and labels, on which two ways of computing a gradient must agree.

    `shapes` are those of the parameters, for 10 classes.
    """
    generator = torch_generator(0, Purpose.ENGINE_CHECK)
    images = torch.randn(_CHECK_IMAGES, 1, image_size, image_size, generator=generator)
    parameters = [torch.randn(tuple(shape), generator=generator).mul_(0.2).requires_grad_() for shape in shapes]
    labels = torch.randint(_CHECK_CLASSES, (_CHECK_IMAGES,), generator=generator)
    return images, parameters, activation, Target(labels, label_smoothing=0.1, num_images=_CHECK_IMAGES)


def agree(found: Tensor, expected: Tensor) -> bool:
    """Return whether two gradients are the same up to float32's rounding; NaN agrees with nothing."""
    return bool((found - expected).abs().max() <= _CHECK_TOLERANCE * expected.abs().max())
