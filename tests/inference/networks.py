"""Networks for tests that look at what becomes of one elsewhere."""

import torch

from lenet_mnist.config import Activation
from lenet_mnist.data.sets import TrainVal
from lenet_mnist.model.lenet import LeNet
from lenet_mnist.training.checkpoint import TrainedNetwork

_SPREAD = {Activation.SIGMOID: 0.5, Activation.TANH: 0.2, Activation.RELU: 0.1}


def network_of(activation: Activation, small: TrainVal) -> TrainedNetwork:
    """A network with weights and biases that make its answers differ from picture to picture."""
    network = LeNet(activation, small.num_classes, 28)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters_in_order:
            parameter.normal_(std=_SPREAD[activation], generator=generator)
    return TrainedNetwork(network, small.normalization, small.class_names, epoch=3)
