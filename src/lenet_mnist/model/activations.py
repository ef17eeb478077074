"""The functions between the layers. All that is asked of one anywhere is in its entry; docs/activation.md adds one.

Source: lecture points 5 and 6.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from lenet_mnist.config import Activation


@dataclass(frozen=True)
class ActivationFunction:
    """A function of each element of a tensor, by torch operations that have a gradient, and what follows from its form.

    is_monotone: it never falls, so that pooling before it gives the same numbers from a quarter of the evaluations.
    is_rectifier: about x to the right and about 0 to the left. Weights start as ReLU's (model/lenet.py), and
        a small gradient near the input is no sign that it vanishes on the way.
    flat_word: what an output is called where the slope is next to nothing, so that no gradient comes through.
    onnx: the operator that computes it, of opset 13 or earlier; taken after pooling, and so of a monotone one only.
    """

    function: Callable[[Tensor], Tensor]
    formula: str
    is_monotone: bool = False
    is_rectifier: bool = False
    flat_word: str = "flat"
    onnx: str | None = None

    @cached_property
    def largest_slope(self) -> float:
        """The largest slope, up or down, between -10 and 10."""
        x = (torch.arange(-1000, 1001, dtype=torch.float64) / 100).requires_grad_()
        (slope,) = torch.autograd.grad(self.function(x).sum(), x)
        return float(slope.abs().max())


ACTIVATIONS = {
    Activation.SIGMOID: ActivationFunction(
        torch.sigmoid, "1 / (1 + e^-x)", is_monotone=True, flat_word="saturated", onnx="Sigmoid"
    ),
    Activation.TANH: ActivationFunction(
        torch.tanh, "(e^x - e^-x) / (e^x + e^-x)", is_monotone=True, flat_word="saturated", onnx="Tanh"
    ),
    Activation.RELU: ActivationFunction(
        torch.relu, "max(0, x)", is_monotone=True, is_rectifier=True, flat_word="zero", onnx="Relu"
    ),
}
