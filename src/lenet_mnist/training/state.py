"""All that training is between two updates, in one object that is saved and restored as one thing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from lenet_mnist.config import Config
from lenet_mnist.model.lenet import NUM_LAYERS, LeNet, initialise
from lenet_mnist.randomness import Purpose, torch_generator
from lenet_mnist.tally import Tally
from lenet_mnist.training.context import Context
from lenet_mnist.training.early_stopping import EarlyStopping
from lenet_mnist.training.muon import optimizer_of
from lenet_mnist.training.optimizer import FlatOptimizer
from lenet_mnist.training.rows import Histories
from lenet_mnist.training.schedule import Plateau


@dataclass
class TrainState:
    """Valid after every update, not only at the end of an epoch.

    `epoch` is the one under way, counted from 1; `batches_done` those of it that have been trained on, in `seconds`;
    `step` all updates so far; `lr` the learning rate of the last one; `update_ratios` by how much of itself the last
    update of an epoch that moved all weights changed those of each layer (0 before there was one); `tally` what the
    epoch's batches have given until now; `kept_weights` those of `stopping.kept_epoch`, empty before the first epoch
    has ended; `histories` the rows so far.
    """

    network: LeNet
    optimizer: FlatOptimizer
    stopping: EarlyStopping
    plateau: Plateau
    epoch: int = 1
    batches_done: int = 0
    step: int = 0
    lr: float = 0.0
    seconds: float = 0.0
    update_ratios: tuple[float, ...] = (0.0,) * NUM_LAYERS
    tally: Tally = field(default_factory=Tally)
    kept_weights: dict[str, Tensor] = field(default_factory=dict)
    histories: Histories = field(default_factory=Histories)

    @classmethod
    def start(cls, config: Config, context: Context) -> TrainState:
        """Return the state before the first update; the weights are a pure function of (seed, activation, sizes)."""
        data, training = context.data, config.training
        network = LeNet(config.model.activation, data.num_classes, data.train.image_size, context.engine)
        initialise(network, torch_generator(config.seed, Purpose.INITIALISATION))
        network.to(context.device)
        return cls(
            network=network,
            optimizer=optimizer_of(network, training),
            stopping=EarlyStopping(training.patience, training.min_delta, context.guessing_loss, training.keep),
            plateau=Plateau.of(training),
        )

    @property
    def device(self) -> torch.device:
        return self.network.parameters_in_order[0].device

    def begin_next_epoch(self) -> None:
        self.epoch += 1
        self.batches_done = 0
        self.seconds = 0.0
        self.tally = Tally()

    def keep_weights(self) -> None:
        self.kept_weights = {name: value.detach().clone() for name, value in self.network.state_dict().items()}

    def kept_network(self) -> LeNet | None:
        """Return a new network with the kept weights, on the CPU, or None before the first epoch has ended."""
        if not self.kept_weights:
            return None
        network = LeNet(self.network.activation, self.network.num_classes, self.network.image_size)
        network.load_state_dict(self.kept_weights)
        return network

    def tensors(self) -> dict[str, Tensor]:
        """Return every tensor by a name of its own; with `scalars` and `histories` that is the whole state.

        The kept weights are called `best` there, as in files of the time when the best ones were always those kept.
        """
        named = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        named |= {f"best.{name}": value for name, value in self.kept_weights.items()}
        named |= {f"optimizer.{name}": value for name, value in self.optimizer.memory.items()}
        return {name: value.detach().cpu().contiguous() for name, value in named.items()}

    def scalars(self) -> dict[str, Any]:
        """Return everything in the state that is not a tensor, as plain values for JSON."""
        return {
            "optimizer": self.optimizer.name,
            "epoch": self.epoch,
            "batches_done": self.batches_done,
            "step": self.step,
            "lr": self.lr,
            "seconds": self.seconds,
            "update_ratios": self.update_ratios,
            "tally": asdict(self.tally),
            "stopping": asdict(self.stopping),
            "plateau": asdict(self.plateau),
        }

    def expected_tensors(self, has_kept: bool) -> dict[str, Tensor]:
        """Return, by name, a tensor of the shape and type of each one that such a state has."""
        expected = {name: value for name, value in self.tensors().items() if not name.startswith("best.")}
        if has_kept:
            expected |= {f"best.{name}": value for name, value in self.network.state_dict().items()}
        return expected

    def restore(self, tensors: Mapping[str, Tensor], scalars: Mapping[str, Any], histories: Histories) -> None:
        """Become the state that gave these, all known to fit (see checkpoint.parse_state).

        What the configuration decides stays as it is here: a patience that was raised counts.
        """
        parts: dict[str, dict[str, Tensor]] = {"network": {}, "best": {}, "optimizer": {}}
        for name, value in tensors.items():
            part, rest = name.split(".", 1)
            parts[part][rest] = value
        device = self.device
        self.network.load_state_dict(parts["network"])
        self.kept_weights = {name: value.to(device) for name, value in parts["best"].items()}
        for name, value in parts["optimizer"].items():
            self.optimizer.memory[name].copy_(value)
        self.optimizer.num_steps = scalars["step"]
        for name in ("epoch", "batches_done", "step", "lr", "seconds", "update_ratios", "tally"):
            setattr(self, name, scalars[name])
        self.histories = histories
        settings = self.stopping
        self.stopping = replace(scalars["stopping"], patience=settings.patience, min_delta=settings.min_delta)
        reduction, patience = self.plateau.reduction, self.plateau.patience
        self.plateau = replace(scalars["plateau"], reduction=reduction, patience=patience)
