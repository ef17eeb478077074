"""Measure the loss before the first update: why ReLU's output layer starts at zero (model/lenet.py).

    python scripts/measure_initial_loss.py

Seeds 0 to 9, on the validation images: the network as it is initialised, and with an output layer of Glorot's size.
"""

import torch

from common import CPU, Config, context_of
from lenet_mnist.config import Activation
from lenet_mnist.data.batches import evaluation_batches
from lenet_mnist.randomness import Purpose, torch_generator
from lenet_mnist.tally import count
from lenet_mnist.training.state import TrainState


def losses(activation: Activation, seed: int) -> tuple[float, float]:
    config = Config().replace({"seed": seed, "model.activation": activation})
    context = context_of(config)
    batches = evaluation_batches(context.data.val, context.data.normalization, CPU)
    network = TrainState.start(config, context).network
    as_it_is = count(network, batches).mean_loss
    torch.nn.init.xavier_uniform_(network.output.weight, generator=torch_generator(seed, Purpose.SUBSET))
    return as_it_is, count(network, batches).mean_loss


for activation in Activation:
    as_it_is, with_glorot = zip(*(losses(activation, seed) for seed in range(10)), strict=True)
    print(
        f"{activation:8} as it is {min(as_it_is):.2f} to {max(as_it_is):.2f} nats, "
        f"with Glorot's output layer {min(with_glorot):.2f} to {max(with_glorot):.2f}"
    )
