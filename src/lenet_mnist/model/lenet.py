"""LeNet, as the lecture draws it: a convolutional block (features) and a fully connected block (classification).

The network, its starting weights, and the table of its layers with their parameters: 156 in C1.

The layers carry the names of the paper: C1, S2, C3, S4, C5, F6, output. Unlike the paper, and like the lecture,
every C3 map sees all six S2 maps, pooling takes the maximum, and the output is linear (its softmax is taken where
probabilities are shown).

Source: lecture points 3-8; LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document
recognition", Proc. IEEE 86(11), 1998, section II.B.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lenet_mnist.config import Activation
from lenet_mnist.model.activations import ACTIVATIONS
from lenet_mnist.model.engines import C1_PADDING, POOL_SIZE, TORCH, LayerOutputs, ResolvedEngine, layer_outputs

C1_CHANNELS = 6
C3_CHANNELS = 16
C5_UNITS = 120
F6_UNITS = 84
KERNEL_SIZE = 5
NUM_LAYERS = 5  # that have weights
_DENSE = "F(i) = b_i + sum_j w_ij x_j"


def feature_map_sizes(image_size: int) -> tuple[int, int, int, int]:
    """Return the height (= width) of the maps of C1, S2, C3, S4: 28, 14, 10, 5 for images of 28.

    Raises: ValueError if no whole feature map is left after S4.
    """
    c1 = image_size + 2 * C1_PADDING - KERNEL_SIZE + 1
    s2 = c1 // POOL_SIZE
    c3 = s2 - KERNEL_SIZE + 1
    s4 = c3 // POOL_SIZE
    if s4 < 1:
        raise ValueError(f"image_size is {image_size}, but LeNet needs images of at least 12 x 12 pixels")
    return c1, s2, c3, s4


class _Convolution(nn.Conv2d):
    """A convolution without values: torch would draw them from the global generator."""

    def reset_parameters(self) -> None:
        """Leave the parameters as they are."""


class _Dense(nn.Linear):
    """A fully connected layer without values: torch would draw them from the global generator."""

    def reset_parameters(self) -> None:
        """Leave the parameters as they are."""


class LeNet(nn.Module):
    """LeNet for square grey images. The parameters are uninitialised: `initialise` gives them their values.

    Args:
        activation: the function between the layers.
        num_classes: K, the number of outputs.
        image_size: H = W, in pixels.
        engine: what computes the network; the parameters are the same for all.
    """

    def __init__(
        self, activation: Activation, num_classes: int, image_size: int, engine: ResolvedEngine = TORCH
    ) -> None:
        super().__init__()
        *_, s4_size = feature_map_sizes(image_size)
        if num_classes < 2:
            raise ValueError(f"num_classes is {num_classes}, but a choice needs at least 2")
        self.activation = activation
        self.engine = engine
        self.num_classes = num_classes
        self.image_size = image_size
        self.c1 = _Convolution(1, C1_CHANNELS, KERNEL_SIZE, padding=C1_PADDING)
        self.c3 = _Convolution(C1_CHANNELS, C3_CHANNELS, KERNEL_SIZE)
        self.c5 = _Dense(C3_CHANNELS * s4_size**2, C5_UNITS)
        self.f6 = _Dense(C5_UNITS, F6_UNITS)
        self.output = _Dense(F6_UNITS, num_classes)
        # In the order of the state dict; asking the modules for them again at each update would take longer than adding
        # up their gradients.
        self.parameters_in_order = tuple(self.parameters())
        self.weights_in_order = self.parameters_in_order[::2]

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of each class.

        Shapes: images N 1 H W float, normalised; result N K.
        Raises: ValueError if the images have another shape.
        Source: lecture points 3-8.
        """
        expected = (1, self.image_size, self.image_size)
        if images.dim() != 4 or tuple(images.shape[1:]) != expected:
            raise ValueError(f"images have shape {tuple(images.shape)}, expected (N, {', '.join(map(str, expected))})")
        return self.engine.forward(images, self.parameters_in_order, self.activation)

    def layer_outputs(self, images: Tensor) -> LayerOutputs:
        """Return what each layer gives out, by the torch form whatever the engine. Shapes: images N 1 H W."""
        return layer_outputs(images, self.parameters_in_order, self.activation)


@torch.no_grad()
def initialise(network: LeNet, generator: torch.Generator) -> LeNet:
    """Give every parameter of `network` its starting value, drawn from `generator`, and return it.

    | activation    | weights of the hidden layers         | weights of the output layer | biases |
    |---------------|--------------------------------------|-----------------------------|--------|
    | sigmoid, tanh | Glorot: U(-a, a), a^2 = 6 / (in+out) | Glorot                      | 0      |
    | relu          | Kaiming: U(-a, a), a^2 = 6 / in      | 0                           | 0      |

    `in` and `out` count the connections of a unit: for a convolution, channels x 5 x 5. Kaiming keeps the scale of the
    signal through a ReLU, but max pooling raises it: with an output layer of the usual size the network would start
    sure of random answers, far above chance level (docs/lab-notes.md). Zeros there start it at exactly
    ln K; their own gradient is not zero, so that the first update sets them going. Sigmoid deliberately gets the plain
    Glorot of the textbooks: an initialisation made for it would hide the lesson about its vanishing gradients (lecture
    point 5).

    Source: Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks", AISTATS
    2010, equation 16; He, Zhang, Ren and Sun, "Delving deep into rectifiers", ICCV 2015, equation 10; the zeros as in
    Zhang, Dauphin and Ma, "Fixup initialization", ICLR 2019, section 3.
    """
    for layer in (network.c1, network.c3, network.c5, network.f6, network.output):
        if not ACTIVATIONS[network.activation].is_rectifier:
            nn.init.xavier_uniform_(layer.weight, generator=generator)
        elif layer is not network.output:
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu", generator=generator)
        else:
            nn.init.zeros_(layer.weight)
        assert layer.bias is not None
        nn.init.zeros_(layer.bias)
    return network


@dataclass(frozen=True)
class LayerRow:
    """One layer. `output_shape` is (C, H, W) for maps and (units,) for vectors; costs are for one image."""

    name: str
    operation: str
    formula: str
    output_shape: tuple[int, ...]
    num_parameters: int = 0
    num_multiply_adds: int = 0


def layer_table(activation: Activation, num_classes: int, image_size: int) -> list[LayerRow]:
    """Return one row a layer, from the image to the logits, by arithmetic alone (no network is built).

    Source: lecture points 3, 4 and 7.
    """
    c1, s2, c3, s4 = feature_map_sizes(image_size)
    rows: list[LayerRow] = []

    def add(name: str, operation: str, formula: str, shape: tuple[int, ...], num_weights: int = 0) -> None:
        num_biases = shape[0] if num_weights else 0
        rows.append(
            LayerRow(name, operation, formula, shape, num_weights + num_biases, num_weights * math.prod(shape[1:]))
        )

    def add_activation() -> None:
        last = rows[-1]
        add(f"{last.name} {activation}", "activation", f"F(x) = {ACTIVATIONS[activation].formula}", last.output_shape)

    for name, pool, inputs, outputs, size, pooled_size in (
        ("C1", "S2", 1, C1_CHANNELS, c1, s2),
        ("C3", "S4", C1_CHANNELS, C3_CHANNELS, c3, s4),
    ):
        operation = f"convolution {outputs} @ {KERNEL_SIZE}x{KERNEL_SIZE}x{inputs}"
        padding = f", pad {C1_PADDING}" if name == "C1" else ""
        formula = "F(i,j,c) = b_c + sum_mnk I(i+m, j+n, k) w_c(m,n,k)"
        add(name, operation + padding, formula, (outputs, size, size), KERNEL_SIZE**2 * inputs * outputs)
        add_activation()
        operation = f"max pooling {POOL_SIZE}x{POOL_SIZE}, stride {POOL_SIZE}"
        add(pool, operation, "F(i,j,c) = max of I(2i..2i+1, 2j..2j+1, c)", (outputs, pooled_size, pooled_size))
    for name, inputs, outputs in (("C5", C3_CHANNELS * s4**2, C5_UNITS), ("F6", C5_UNITS, F6_UNITS)):
        add(name, f"fully connected {inputs} -> {outputs}", _DENSE, (outputs,), inputs * outputs)
        add_activation()
    add("output", f"fully connected {F6_UNITS} -> {num_classes}", _DENSE, (num_classes,), F6_UNITS * num_classes)
    return rows
