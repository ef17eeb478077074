"""Measure the loss before the first update: why ReLU's output layer starts at zero (model/lenet.py).

    python scripts/measure_initial_loss.py

Seeds 0 to 9, on the validation images: the network as it is initialised, and with an output layer of Glorot's size.
"""

import torch

from common import data_access
from lenet_mnist.config import Activation, Config
from lenet_mnist.data.batches import evaluation_batches
from lenet_mnist.data.load import load_train_val
from lenet_mnist.randomness import Purpose, torch_generator
from lenet_mnist.tally import count
from lenet_mnist.training.context import Context
from lenet_mnist.training.state import TrainState

SEEDS = range(10)


def main() -> None:
    cpu = torch.device("cpu")
    data = load_train_val(Config().data, data_access())
    batches = evaluation_batches(data.val, data.normalization, cpu)
    for activation in Activation:
        as_it_is, with_glorot = [], []
        for seed in SEEDS:
            config = Config.model_validate({"seed": seed, "model": {"activation": activation}})
            network = TrainState.start(config, Context(data)).network
            as_it_is.append(count(network, batches).mean_loss)
            torch.nn.init.xavier_uniform_(network.output.weight, generator=torch_generator(seed, Purpose.SUBSET))
            with_glorot.append(count(network, batches).mean_loss)
        print(
            f"{activation.value:8} as it is {min(as_it_is):.2f} to {max(as_it_is):.2f} nats, "
            f"with Glorot's output layer {min(with_glorot):.2f} to {max(with_glorot):.2f}"
        )


if __name__ == "__main__":
    main()
