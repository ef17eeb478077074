"""What happens inside the network, on a fixed set of training images: gradients, updates, saturated and dead units.

The lecture says it of sigmoid ("vanishing gradients: the weights do not update") and of ReLU ("dead neurons"). Here
both are one question, asked of each unit and image: is the activation flat there, so that no gradient comes through?

- saturated: the share of units and images at which it is, on average over both
- dead: the share of units that are saturated on every image of the probe

A unit of a convolution is one of its feature maps after pooling, with all its places: it is dead if it is flat at all
of them. Flat is a slope of at most a twentieth of the largest: that of ReLU where its output is zero.

Source: lecture points 5 and 6.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lenet_mnist.config import Activation
from lenet_mnist.data.batches import Batch
from lenet_mnist.data.sets import TrainVal
from lenet_mnist.model.activations import ACTIVATIONS
from lenet_mnist.model.engines import POOL_SIZE, activate, layer_outputs
from lenet_mnist.randomness import Purpose, random_order
from lenet_mnist.training.rows import Layer, ProbeRow
from lenet_mnist.training.state import TrainState

NUM_IMAGES = 512
_FLAT = 0.05  # of the largest slope


@dataclass(frozen=True, eq=False)
class Probe:
    """A fixed set of training images; nothing is chosen by them."""

    batch: Batch

    @classmethod
    def of(cls, data: TrainVal, seed: int, device: torch.device) -> "Probe":
        """Draw 512 of the training images by `seed`, or take all if there are fewer."""
        chosen = torch.from_numpy(random_order(seed, Purpose.PROBE, len(data.train))[:NUM_IMAGES])
        images = data.normalization.apply(data.train.images[chosen])
        return cls(Batch(images.to(device), data.train.labels[chosen].to(device)))

    def look(self, state: TrainState) -> list[ProbeRow]:
        """Return a row a layer, of `state` after its last whole epoch; 0 is the moment before the first update.

        The network is computed by the torch form, whatever its engine, and left as it is.
        """
        network = state.network
        sums: list[Tensor] = []  # what the activations are applied to

        def apply(x: Tensor, activation: Activation) -> Tensor:
            sums.append(x)
            return activate(x, activation)

        outputs = layer_outputs(self.batch.images, network.parameters_in_order, network.activation, apply)
        flat = [_is_flat(*pair, network.activation) for pair in zip(outputs, sums, strict=False)]
        flat.append(torch.zeros_like(outputs.logits))  # they have no activation
        loss = F.cross_entropy(outputs.logits, self.batch.labels)
        gradients = torch.autograd.grad(loss, network.weights_in_order)
        found = []
        for weights, gradient, output, is_flat in zip(network.weights_in_order, gradients, outputs, flat, strict=True):
            values = output.detach()
            by_unit = is_flat.transpose(0, 1).flatten(start_dim=1)  # units x (images and places)
            sizes = [gradient.norm(), weights.detach().norm()]
            units = [is_flat.mean(), by_unit.amin(dim=1).mean(), values.mean(), values.std(correction=0)]
            found.append(torch.stack([*sizes, *units]))
        table = torch.stack(found).tolist()  # one wait for the device
        rows = zip(Layer, state.update_ratios, table, strict=True)
        return [
            ProbeRow(state.epoch - 1, state.step, layer, gradient, weights, ratio, saturated, dead, mean, deviation)
            for layer, ratio, (gradient, weights, saturated, dead, mean, deviation) in rows
        ]


def update_ratios(before: Sequence[Tensor], after: Sequence[Tensor]) -> tuple[float, ...]:
    """Return by how much of itself each of the five layers' weights have changed, 0 if they were zero."""
    changes = [(new - old).norm() / old.norm() for old, new in zip(before, after, strict=True)]
    return tuple(torch.stack(changes).nan_to_num(nan=0.0, posinf=0.0).tolist())


def passed_gradients(probe: Sequence[ProbeRow]) -> tuple[list[ProbeRow], str]:
    """Return the rows whose gradients tell something, and how C1's compares with the output's at the first of them.

    Where the output's weights are zero, as a ReLU network's before the first update, no gradient passes to the layers
    below: that says nothing of what passes through those.
    """
    rows, words = list(probe), ""
    start = {row.layer: row.gradient_norm for row in probe if row.epoch == 0}
    if start.pop(Layer.OUTPUT, 0.0) > 0 and not any(start.values()):
        rows = [row for row in rows if row.epoch > 0]
        words = "\nnot at epoch 0: the output's weights are zero, and pass none"
    first = {row.layer: row.gradient_norm for row in rows if row.epoch == rows[0].epoch}
    if Layer.C1 in first and Layer.OUTPUT in first:
        times = first[Layer.OUTPUT] / first[Layer.C1] if first[Layer.C1] > 0 else math.inf
        compared = f"the output's is {float(f'{times:.2g}'):g} times C1's" if times < math.inf else "none reaches C1"
        words = f"\nepoch {rows[0].epoch}: {compared}{words}"
    return rows, words.strip()


def _is_flat(outputs: Tensor, sums: Tensor, activation: Activation) -> Tensor:
    """Return 1 for each of the outputs at which the slope of the activation is next to nothing, else 0."""
    (slopes,) = torch.autograd.grad(outputs.sum(), sums, retain_graph=True)
    if slopes.shape != outputs.shape:  # pooled after the activation: only the winner of each window has a slope
        slopes = F.avg_pool2d(slopes, POOL_SIZE, divisor_override=1)
    return (slopes.abs() <= _FLAT * ACTIVATIONS[activation].largest_slope).float()
