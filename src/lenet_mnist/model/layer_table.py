"""What each layer computes, and what it costs: the lecture's "156 parameters", row by row.

Source: lecture points 3, 4 and 7.
"""

from dataclasses import dataclass

from lenet_mnist.config import Activation
from lenet_mnist.model.activations import ACTIVATIONS
from lenet_mnist.model.engines import C1_PADDING, POOL_SIZE
from lenet_mnist.model.lenet import (
    C1_CHANNELS,
    C3_CHANNELS,
    C5_UNITS,
    F6_UNITS,
    KERNEL_SIZE,
    feature_map_sizes,
)


@dataclass(frozen=True)
class LayerRow:
    """One layer. `output_shape` is (C, H, W) for maps and (units,) for vectors; costs are for one image."""

    name: str
    operation: str
    formula: str
    output_shape: tuple[int, ...]
    num_parameters: int
    num_multiply_adds: int


def layer_table(activation: Activation, num_classes: int, image_size: int) -> list[LayerRow]:
    """Return one row a layer, from the image to the logits, by arithmetic alone (no network is built)."""
    c1, s2, c3, s4 = feature_map_sizes(image_size)
    return [
        _convolution("C1", 1, C1_CHANNELS, c1, f", pad {C1_PADDING}"),
        _activation("C1", activation, (C1_CHANNELS, c1, c1)),
        _pooling("S2", C1_CHANNELS, s2),
        _convolution("C3", C1_CHANNELS, C3_CHANNELS, c3),
        _activation("C3", activation, (C3_CHANNELS, c3, c3)),
        _pooling("S4", C3_CHANNELS, s4),
        _dense("C5", C3_CHANNELS * s4**2, C5_UNITS),
        _activation("C5", activation, (C5_UNITS,)),
        _dense("F6", C5_UNITS, F6_UNITS),
        _activation("F6", activation, (F6_UNITS,)),
        _dense("output", F6_UNITS, num_classes),
    ]


def _convolution(name: str, channels_in: int, channels_out: int, size: int, extra: str = "") -> LayerRow:
    weights = KERNEL_SIZE**2 * channels_in * channels_out
    return LayerRow(
        name,
        f"convolution {channels_out} @ {KERNEL_SIZE}x{KERNEL_SIZE}x{channels_in}{extra}",
        "F(i,j,c) = b_c + sum_mnk I(i+m, j+n, k) w_c(m,n,k)",
        (channels_out, size, size),
        num_parameters=weights + channels_out,
        num_multiply_adds=weights * size**2,
    )


def _pooling(name: str, channels: int, size: int) -> LayerRow:
    operation = f"max pooling {POOL_SIZE}x{POOL_SIZE}, stride {POOL_SIZE}"
    formula = "F(i,j,c) = max of I(2i..2i+1, 2j..2j+1, c)"
    return LayerRow(name, operation, formula, (channels, size, size), 0, 0)


def _activation(layer: str, activation: Activation, shape: tuple[int, ...]) -> LayerRow:
    return LayerRow(
        f"{layer} {activation.value}", "activation", f"F(x) = {ACTIVATIONS[activation].formula}", shape, 0, 0
    )


def _dense(name: str, units_in: int, units_out: int) -> LayerRow:
    weights = units_in * units_out
    return LayerRow(
        name,
        f"fully connected {units_in} -> {units_out}",
        "F(i) = b_i + sum_j w_ij x_j",
        (units_out,),
        num_parameters=weights + units_out,
        num_multiply_adds=weights,
    )
