"""Updates of the weights: forward, backward, correct. What they say of themselves is read in windows of a few.

On a GPU the figures of an update are read only with those of nineteen others: the processor never waits for the device
in between. The same holds for several ranks, which then agree on whether to stop once a window. Alone on a CPU, a
window is one update.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from lenet_mnist.config import Schedule, TrainingConfig
from lenet_mnist.data.batches import TrainBatch
from lenet_mnist.distributed import SINGLE, Ranks
from lenet_mnist.model.engines import Target, gradient_and_figures, losses_of
from lenet_mnist.model.lenet import LeNet
from lenet_mnist.tally import Tally
from lenet_mnist.training.distillation import distilled_loss
from lenet_mnist.training.probe import update_ratios
from lenet_mnist.training.rows import StepRow
from lenet_mnist.training.schedule import rate_factor
from lenet_mnist.training.state import TrainState


class _Unread(NamedTuple):
    """An update that was made, or asked of the device. Shapes: seen 4, as `make_update` gives it."""

    lr: float
    num_images: int
    seen: Tensor


def updates(
    state: TrainState,
    batches: Iterable[TrainBatch],
    training: TrainingConfig,
    num_steps: int,
    ranks: Ranks = SINGLE,
) -> Iterator[list[StepRow]]:
    """Make one update a batch, and yield the rows of each window once `state` is what it is at the window's end.

    `num_steps` are all updates of the training, over which its schedule stretches. A window ends with an epoch, and
    wherever a checkpoint is due.

    A row that is not finite is the last one: neither its update nor a later one was made.
    """
    device = state.device
    window = window_on(device, ranks)
    has_failed = torch.zeros((), device=device)
    unread: list[_Unread] = []
    for batch in batches:
        step = state.step + len(unread) + 1
        lr = learning_rate(training, state, step, num_steps)
        unread.append(_Unread(lr, batch.num_images, make_update(state, batch, lr, has_failed, ranks)))
        is_due = training.checkpoint_every_steps is not None and step % training.checkpoint_every_steps == 0
        if len(unread) == window or batch.num_left == 0 or is_due:
            yield _read(state, unread)
            unread = []


def window_on(device: torch.device, ranks: Ranks) -> int:
    """Return how many updates are made before their figures are read."""
    return 1 if device.type == "cpu" and ranks.is_single else 20


def learning_rate(training: TrainingConfig, state: TrainState, step: int, num_steps: int) -> float:
    """Return the learning rate of update `step`, counted from 1, of `num_steps`."""
    factor = rate_factor(training.schedule, training.warmup, step - 1, num_steps)
    if training.schedule is Schedule.PLATEAU:
        factor *= state.plateau.factor
    return training.peak_learning_rate * factor


def train_step(state: TrainState, batch: TrainBatch, lr: float) -> StepRow:
    """Make one update at learning rate `lr`, unless the loss or the gradient is not finite; then change nothing."""
    has_failed = torch.zeros((), device=batch.images.device)
    return _read(state, [_Unread(lr, batch.num_images, make_update(state, batch, lr, has_failed))])[0]


def make_update(
    state: TrainState,
    batch: TrainBatch,
    lr: float,
    has_failed: Tensor,
    ranks: Ranks = SINGLE,
) -> Tensor:
    """Make one update, unless it or an earlier one was not finite: `has_failed` is then 1, and the weights stay.

    Every rank adds its share of the batch to one sum, so that all make the same update, that of the whole batch. After
    the last of an epoch that moves all weights, the state also knows by how much of itself it has changed each layer's.
    The loss that is returned is that of the labels, without label smoothing or teachers.

    Shapes: the result, on the device, is [loss, norm of the gradient, norm of C1's, images right].
    """
    sums = share_of_gradient(state.network, batch)
    sums = ranks.all_reduce_sum(sums)
    gradient, loss, num_correct = sums[:-2], sums[-2], sums[-1]
    c1_gradient = gradient[: state.network.c1.weight.numel()]
    seen = torch.stack([loss, gradient.norm(), c1_gradient.norm(), num_correct])
    torch.maximum(has_failed, (~seen.isfinite().all()).float(), out=has_failed)
    weights, optimizer = state.network.weights_in_order, state.optimizer
    is_measured = batch.num_left < optimizer.interval and (optimizer.num_steps + 1) % optimizer.interval == 0
    weights_before = [each.detach().clone() for each in weights] if is_measured else []
    optimizer.step(gradient, lr, has_failed)
    if is_measured:
        state.update_ratios = update_ratios(weights_before, weights)
    return seen


def share_of_gradient(network: LeNet, batch: TrainBatch) -> Tensor:
    """Return this rank's share of the gradient, flat; behind it, of the loss of the labels and of the images right."""
    parameters, target = network.parameters_in_order, Target(batch.labels, batch.label_smoothing, batch.num_images)
    if len(batch.labels) == 0:  # there are more ranks than images in an epoch's last batch
        return batch.images.new_zeros(sum(parameter.numel() for parameter in parameters) + 2)
    if batch.soft_targets is None:
        return network.engine.gradient(batch.images, parameters, network.activation, target)
    logits = network(batch.images)
    labels_loss, loss = losses_of(logits, target)
    loss = distilled_loss(loss, logits, batch.soft_targets, batch.num_images)
    return gradient_and_figures(loss, labels_loss, logits, batch.labels, parameters)


def _read(state: TrainState, unread: list[_Unread]) -> list[StepRow]:
    """Wait for the device, and count what it has done."""
    rows: list[StepRow] = []
    figures = torch.stack([update.seen for update in unread]).tolist()
    for (lr, num_images, _), (loss, gradient_norm, c1_gradient_norm, num_correct) in zip(unread, figures, strict=True):
        row = StepRow(state.step + 1, state.epoch, lr, loss, gradient_norm, c1_gradient_norm)
        rows.append(row)
        if not row.is_finite:
            break
        state.tally += Tally(num_images, int(num_correct), loss * num_images)
        state.step += 1
        state.batches_done += 1
        state.lr = lr
    return rows
