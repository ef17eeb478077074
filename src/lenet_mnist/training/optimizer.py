"""SGD with momentum, Adam and AdamW on all weights as one contiguous tensor.

The arithmetic is torch's own, in its functional form: the classes of `torch.optim` import torch's compiler when the
first one is made, and their `step` takes longer (docs/performance.md).
"""

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

from lenet_mnist.config import Optimizer, TrainingConfig
from lenet_mnist.model.lenet import LeNet

_BETA1, _BETA2, _EPS = 0.9, 0.999, 1e-8


class FlatOptimizer:
    """Updates `weights`, and keeps what the configured optimizer remembers of earlier gradients in `memory`.

    Each tensor in `memory` has the shape of `weights`, apart from Adam's count of steps, which has none. `num_steps`
    counts the updates, as `TrainState.step` does once it has read them; every `interval`-th moves all weights.
    """

    interval = 1

    def __init__(self, weights: Tensor, training: TrainingConfig) -> None:
        self._weights = weights
        self._training = training
        self.name = training.optimizer.value
        self.num_steps = 0
        self.memory: dict[str, Tensor] = {}
        if training.optimizer is not Optimizer.SGD:
            self.memory["exp_avg"] = torch.zeros_like(weights)
            self.memory["exp_avg_sq"] = torch.zeros_like(weights)
            self.memory["step"] = weights.new_zeros(())
        elif training.momentum > 0:
            self.memory["momentum_buffer"] = torch.zeros_like(weights)

    @torch.no_grad()
    def step(self, gradient: Tensor, lr: float, has_failed: Tensor) -> None:
        """Make one update at learning rate `lr`, or none if `has_failed` is 1, which the device itself looks up.

        Shapes: gradient as the weights; has_failed none.
        """
        self.num_steps += 1
        training = self._training
        match training.optimizer:
            case Optimizer.SGD:
                sgd(
                    [self._weights],
                    [gradient],
                    [self.memory.get("momentum_buffer")],
                    lr=lr,
                    momentum=training.momentum,
                    nesterov=training.nesterov,
                    weight_decay=training.weight_decay,
                    dampening=0.0,
                    maximize=False,
                    fused=True,
                    found_inf=has_failed,
                )
            case Optimizer.ADAM | Optimizer.ADAMW | Optimizer.MUON:  # of Muon, the weights that are in no matrix
                update = adam if training.optimizer is Optimizer.ADAM else adamw
                update(
                    [self._weights],
                    [gradient],
                    [self.memory["exp_avg"]],
                    [self.memory["exp_avg_sq"]],
                    [],
                    [self.memory["step"]],
                    lr=lr,
                    beta1=_BETA1,
                    beta2=_BETA2,
                    eps=_EPS,
                    weight_decay=training.weight_decay,
                    amsgrad=False,
                    maximize=False,
                    fused=True,
                    found_inf=has_failed,
                )


def flatten(network: LeNet) -> Tensor:
    """Make all parameters views of one contiguous tensor, and return it: an update is then one operation, not ten."""
    parameters = list(network.parameters())
    weights = torch.cat([parameter.detach().flatten() for parameter in parameters])
    parts = torch.split(weights, [parameter.numel() for parameter in parameters])
    for parameter, part in zip(parameters, parts, strict=True):
        parameter.data = part.view_as(parameter)
    return weights
