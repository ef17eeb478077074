"""Muon: it moves the weights of a layer along their momentum made orthogonal, and so learns much from few images.

A gradient is mostly made of a few directions that many images agree on. The weights of a layer are a matrix, units x
inputs; made orthogonal, its momentum keeps all its directions and makes them equally strong. This is done for the
layers in the middle: C3, C5 and F6. C1, the output layer and all biases are moved by AdamW, at a tenth of the rate.

To make a momentum orthogonal takes more than half as long as all else in an update of 64 images (docs/accuracy.md). So
it is done at every fourth update only, and the momentum gathers the gradients in between: it leads as far.

Source: Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024,
https://kellerjordan.github.io/posts/muon; Bernstein and Newhouse, "Old optimizer, new norm: an anthology", 2024.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.optim.sgd import sgd

from lenet_mnist.config import Optimizer, TrainingConfig
from lenet_mnist.model.lenet import LeNet
from lenet_mnist.training.optimizer import FlatOptimizer, flatten

ADAM_RATE = 0.1  # of Muon's
_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
_NUM_STEPS = 5
_EPS = 1e-7

# Settings that a call leaves out are off.
_sgd: Callable[..., None] = partial(
    sgd, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False, maximize=False, fused=True
)


class Muon(FlatOptimizer):
    """Muon on the weights of C3, C5 and F6, AdamW on all others.

    `memory` holds their momentum, in a tensor as long as all weights, and what Adam remembers of the others.
    """

    interval = 4

    def __init__(self, network: LeNet, training: TrainingConfig) -> None:
        self._flat = flatten(network)
        self._sizes = [parameter.numel() for parameter in network.parameters()]
        self._native = network.engine.muon
        is_other = torch.ones_like(self._flat, dtype=torch.bool)
        self._shapes = [(len(weights), -1) for weights in network.weights_in_order[1:4]]
        for matrix in self._matrices(is_other):
            matrix.fill_(False)
        self._others = is_other.nonzero().squeeze(1)
        super().__init__(self._flat[self._others], training)
        self.memory["momentum_buffer"] = torch.zeros_like(self._flat)

    @torch.no_grad()
    def step(self, gradient: Tensor, lr: float, has_failed: Tensor) -> None:
        """Make one update at learning rate `lr`, or none if `has_failed` is 1. Shapes: gradient as all weights."""
        moves = (self.num_steps + 1) % self.interval == 0
        if self._native is None:
            self._step(gradient, lr, has_failed, moves)
        else:
            self.num_steps += 1
            if not has_failed:
                self.memory["step"] += 1
                buffers = [self.memory[name] for name in ("momentum_buffer", "exp_avg", "exp_avg_sq")]
                rates = (self._training.momentum, lr, self._training.weight_decay, ADAM_RATE * lr)
                self._native(gradient, [self._flat, *buffers], [*rates, self.memory["step"].item()], moves)

    def _step(self, gradient: Tensor, lr: float, has_failed: Tensor, moves: bool) -> None:
        torch.index_select(self._flat, 0, self._others, out=self._weights)
        super().step(gradient.index_select(0, self._others), ADAM_RATE * lr, has_failed)
        self._flat.index_copy_(0, self._others, self._weights)
        momentum, decay, buffer = self._training.momentum, self._training.weight_decay, self.memory["momentum_buffer"]
        # At rate 0 torch's SGD changes the momentum alone: to its mean with the gradient.
        _sgd([self._flat], [gradient], [buffer], lr=0.0, momentum=momentum, dampening=momentum, found_inf=has_failed)
        if moves:
            directions = orthogonalised(self._matrices(torch.lerp(gradient, buffer, momentum)))
            _sgd(self._matrices(self._flat), directions, [None] * 3, lr=lr, weight_decay=decay, found_inf=has_failed)

    def _matrices(self, flat: Tensor) -> list[Tensor]:
        """Return views of what belongs to the weights of C3, C5 and F6. Shapes: each units x inputs."""
        parts = torch.split(flat, self._sizes)[2:8:2]
        return [part.view(shape) for part, shape in zip(parts, self._shapes, strict=True)]


def orthogonalised(matrices: Sequence[Tensor]) -> list[Tensor]:
    """Return for each matrix one with the same singular vectors, and singular values near 1 (0.7 to 1.2).

    By five Newton-Schulz steps: x <- a x + (b g + c g g) x, where g = x x^T. With more rows than columns, which only
    smaller images than 28 x 28 have, the values grow with the root of rows / columns.
    """
    return [
        _newton_schulz(x) if len(x) <= x.shape[1] else _newton_schulz(x.T).T * (len(x) / x.shape[1]) ** 0.5
        for x in matrices
    ]


def _newton_schulz(x: Tensor) -> Tensor:
    a, b, c = _NEWTON_SCHULZ
    x = x / (x.norm() + _EPS)
    for _ in range(_NUM_STEPS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


def optimizer_of(network: LeNet, training: TrainingConfig) -> FlatOptimizer:
    """Return the configured optimizer of the weights of `network`, which become views of one tensor."""
    if training.optimizer is Optimizer.MUON:
        return Muon(network, training)
    return FlatOptimizer(flatten(network), training)
