"""The values that training starts from.

| activation    | weights of the hidden layers         | weights of the output layer | biases |
|---------------|--------------------------------------|-----------------------------|--------|
| sigmoid, tanh | Glorot: U(-a, a), a^2 = 6 / (in+out) | Glorot                      | 0      |
| relu          | Kaiming: U(-a, a), a^2 = 6 / in      | 0                           | 0      |

`in` and `out` count the connections of a unit: for a convolution, channels x 5 x 5. Kaiming keeps the scale of the
signal through a ReLU, but max pooling raises it, so that with an output layer of the usual size the network would start
sure of random answers, far above the loss of guessing (scripts/measure_initial_loss.py). Zeros there start it at
exactly ln K; their own gradient is not zero, so that the first update sets them going. For sigmoid this is deliberately
the plain Glorot of the textbooks: an initialisation made for the sigmoid would hide the lesson about its vanishing
gradients (lecture point 5).

Source: Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks", AISTATS 2010,
equation 16; He, Zhang, Ren and Sun, "Delving deep into rectifiers", ICCV 2015, equation 10; the zeros as in Zhang,
Dauphin and Ma, "Fixup initialization", ICLR 2019, section 3.
"""

import torch
from torch import nn

from lenet_mnist.model.activations import ACTIVATIONS
from lenet_mnist.model.lenet import LeNet


@torch.no_grad()
def initialise(network: LeNet, generator: torch.Generator) -> LeNet:
    """Give every parameter of `network` its starting value, drawn from `generator`, and return it."""
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
