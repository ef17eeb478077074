"""The training loop. There is one, and everything that trains calls it.

It knows no disk and no screen: it hands out a row after each update and after each epoch.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import torch
import torch.nn.functional as F

from lenet_mnist.config import Config, Schedule, TrainingConfig
from lenet_mnist.data.batches import Batch, TrainBatches, evaluation_batches
from lenet_mnist.data.sets import TrainVal
from lenet_mnist.metrics import Tally, count
from lenet_mnist.model.engines import NetworkFunction, torch_network
from lenet_mnist.training.early_stopping import label_entropy
from lenet_mnist.training.probe import update_ratios
from lenet_mnist.training.schedule import rate_factor
from lenet_mnist.training.state import TrainState


class StopReason(StrEnum):
    """Why training ended."""

    MAX_EPOCHS = "max-epochs"
    NO_IMPROVEMENT = "no-improvement"
    DIVERGED = "diverged"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class StepRow:
    """One update. `train_loss` is the mean over the batch, in nats, before the update.

    `gradient_norm` is the Euclidean norm of the whole gradient there, `c1_gradient_norm` that of C1's weights alone:
    where gradients vanish (lecture point 5), the second is far smaller than the first.
    """

    step: int
    epoch: int
    lr: float
    train_loss: float
    gradient_norm: float
    c1_gradient_norm: float

    @property
    def is_finite(self) -> bool:
        """Whether the update could be made."""
        return math.isfinite(self.train_loss) and math.isfinite(self.gradient_norm)

    @property
    def is_recorded(self) -> bool:
        """Whether this update is one of those that are kept on disk: the first 200, then every 20th."""
        return self.step <= 200 or self.step % 20 == 0


@dataclass(frozen=True)
class EpochRow:
    """One epoch: means over the training images as they were seen, and over all validation images at its end.

    `lr` is the learning rate of the epoch's last update.
    """

    epoch: int
    step: int
    lr: float
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    seconds: float


@dataclass(frozen=True)
class Divergence:
    """What was not finite, and where."""

    what: str
    epoch: int
    step: int
    lr: float

    def __str__(self) -> str:
        return f"the {self.what} is not finite in epoch {self.epoch}, step {self.step}, at learning rate {self.lr:.3g}"


@dataclass(frozen=True)
class TrainResult:
    """How training ended. The state that was passed in holds the weights."""

    stop_reason: StopReason
    divergence: Divergence | None = None


def start_training(
    config: Config, data: TrainVal, device: torch.device, engine: NetworkFunction = torch_network
) -> TrainState:
    """Return the state before the first update, for a network that fits `data`."""
    class_counts = torch.bincount(data.val.labels, minlength=data.num_classes).tolist()
    guessing_loss = label_entropy(class_counts)
    return TrainState.start(config, data.num_classes, data.train.image_size, guessing_loss, device, engine)


def train(
    config: Config,
    data: TrainVal,
    state: TrainState,
    on_step: Callable[[StepRow], bool],
    on_epoch: Callable[[EpochRow], None],
) -> TrainResult:
    """Train `state` from where it is until early stopping, the last epoch, a divergence or an interruption.

    `on_step` gets a row after each update, and answers whether to stop there; `on_epoch` gets a row after each epoch,
    when `state` already knows whether it was the best. At each of these moments `state` can be saved, and a later call
    with the restored state goes on to the same weights.

    Source: lecture points 9 and 12.
    """
    training = config.training
    device = next(state.network.parameters()).device
    train_batches = TrainBatches(
        data.train,
        data.normalization,
        training.batch_size,
        config.seed,
        device,
        augmentation=config.augmentation,
        engine=state.network.engine,
    )
    val_batches = evaluation_batches(data.val, data.normalization, device)

    while state.epoch <= training.max_epochs and not state.stopping.should_stop:
        started = time.perf_counter() - state.seconds

        # Show every training image once, and correct the weights after each batch.
        for batch in train_batches.of_epoch(state.epoch, start=state.batches_done):
            is_last = state.batches_done + 1 == len(train_batches)
            step_row = train_step(state, batch, learning_rate(training, state, len(train_batches)), is_last)
            if not step_row.is_finite:
                return TrainResult(StopReason.DIVERGED, divergence_at(step_row))
            state.seconds = time.perf_counter() - started
            if on_step(step_row):
                return TrainResult(StopReason.INTERRUPTED)

        # Measure on images that no weight was fitted to; that loss alone decides what is best and when to stop.
        val = count(state.network, val_batches)
        if not math.isfinite(val.mean_loss):
            return TrainResult(StopReason.DIVERGED, Divergence("validation loss", state.epoch, state.step, state.lr))
        state.stopping = state.stopping.after(state.epoch, val.mean_loss)
        state.plateau = state.plateau.after(val.mean_loss)
        if state.stopping.best_epoch == state.epoch:
            state.keep_weights_as_best()
        row = epoch_row(state, val, time.perf_counter() - started)
        state.begin_next_epoch()
        on_epoch(row)

    return TrainResult(StopReason.NO_IMPROVEMENT if state.stopping.should_stop else StopReason.MAX_EPOCHS)


def train_step(state: TrainState, batch: Batch, lr: float, is_measured: bool = False) -> StepRow:
    """Make one update at learning rate `lr`, unless the loss or the gradient is not finite; then change nothing.

    If it `is_measured`, the state also remembers by how much of itself it changed the weights of each layer.
    """
    logits = state.network(batch.images)
    loss = F.cross_entropy(logits, batch.labels)
    gradients = torch.autograd.grad(loss, state.network.parameters_in_order)
    gradient = torch.cat([part.flatten() for part in gradients])
    seen = torch.stack([loss.detach(), gradient.norm(), gradients[0].norm()])  # one wait for the device, not three
    row = StepRow(state.step + 1, state.epoch, lr, *seen.tolist())
    if not row.is_finite:
        return row
    weights_before = [weights.detach().clone() for weights in state.network.weights_in_order] if is_measured else []
    state.optimizer.step(gradient, lr)
    if is_measured:
        state.update_ratios = update_ratios(weights_before, state.network.weights_in_order)
    num_correct = int((logits.detach().argmax(dim=1) == batch.labels).sum())
    state.tally += Tally(len(batch.labels), num_correct, row.train_loss * len(batch.labels))
    state.step += 1
    state.batches_done += 1
    state.lr = lr
    return row


def learning_rate(training: TrainingConfig, state: TrainState, batches_per_epoch: int) -> float:
    """Return the learning rate of the next update."""
    num_steps = training.max_epochs * batches_per_epoch
    factor = rate_factor(training.schedule, training.warmup, state.step, num_steps)
    if training.schedule is Schedule.PLATEAU:
        factor *= state.plateau.factor
    return training.peak_learning_rate * factor


def epoch_row(state: TrainState, val: Tally, seconds: float) -> EpochRow:
    """Put the epoch that has just ended into one row."""
    return EpochRow(
        epoch=state.epoch,
        step=state.step,
        lr=state.lr,
        train_loss=state.tally.mean_loss,
        train_accuracy=state.tally.accuracy,
        val_loss=val.mean_loss,
        val_accuracy=val.accuracy,
        seconds=seconds,
    )


def divergence_at(row: StepRow) -> Divergence:
    """Say which of the two was not finite."""
    what = "gradient" if math.isfinite(row.train_loss) else "training loss"
    return Divergence(what, row.epoch, row.step, row.lr)
