"""The training loop. There is one, and everything that trains calls it.

It knows no disk and no screen: it hands out a row after each update and after each epoch.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from lenet_mnist.config import Config
from lenet_mnist.data.batches import TrainBatches, evaluation_batches
from lenet_mnist.tally import Tally, count
from lenet_mnist.training.context import Context
from lenet_mnist.training.rows import EpochRow, StepRow
from lenet_mnist.training.state import TrainState
from lenet_mnist.training.updates import updates


class StopReason(StrEnum):
    """Why training ended."""

    MAX_EPOCHS = "max-epochs"
    NO_IMPROVEMENT = "no-improvement"
    DIVERGED = "diverged"
    INTERRUPTED = "interrupted"


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


def train(
    config: Config,
    context: Context,
    state: TrainState,
    on_step: Callable[[StepRow], bool] = lambda _row: False,
    on_epoch: Callable[[EpochRow], None] = lambda _row: None,
) -> TrainResult:
    """Train `state` from where it is until early stopping, the last epoch, a divergence or an interruption.

    `on_step` gets a row after each update, and returns whether to stop there; `on_epoch` gets a row after each epoch,
    when `state` already knows whether its weights are kept. At each of these moments `state`, which holds the rows
    too, can be saved, and a later call with the restored state comes to the same weights.

    Several ranks that call this with equal states train one network together: each takes its share of each batch and
    of the validation images, and all come to the same weights and decisions.

    Source: lecture points 9 and 12.
    """
    training, data, ranks = config.training, context.data, context.ranks
    train_batches = TrainBatches(data, config, context.device, context.engine.resample, ranks)
    val_part = data.val.part(ranks.shard(len(data.val)))
    val_batches = evaluation_batches(val_part, data.normalization, context.device)
    num_steps = training.max_epochs * len(train_batches)

    while state.epoch <= training.max_epochs and not state.stopping.should_stop:
        started = time.perf_counter() - state.seconds

        # Show every training image once, and correct the weights after each batch.
        batches = train_batches.of_epoch(state.epoch, start=state.batches_done)
        if context.teachers is not None:
            batches = context.teachers.teach(batches, train_batches.view(state.epoch), ranks)
        for step_rows in updates(state, batches, training, num_steps, ranks):
            state.seconds = time.perf_counter() - started
            state.histories.steps.extend(row for row in step_rows if row.is_finite and row.is_recorded)
            stop_requests = [on_step(row) for row in step_rows if row.is_finite]
            if not step_rows[-1].is_finite:
                return TrainResult(StopReason.DIVERGED, divergence_at(step_rows[-1]))
            if ranks.any(any(stop_requests)):
                return TrainResult(StopReason.INTERRUPTED)

        # Measure on images that no weight was fitted to: their loss decides which epoch is the best, and when to stop.
        val = count(state.network, val_batches, ranks)
        if not math.isfinite(val.mean_loss):
            return TrainResult(StopReason.DIVERGED, Divergence("validation loss", state.epoch, state.step, state.lr))
        state.stopping = state.stopping.after(state.epoch, val.mean_loss)
        state.plateau = state.plateau.after(val.mean_loss)
        if state.stopping.kept_epoch == state.epoch:
            state.keep_weights()
        row = epoch_row(state, val, time.perf_counter() - started)
        state.histories.history.append(row)
        state.begin_next_epoch()
        on_epoch(row)

    return TrainResult(StopReason.NO_IMPROVEMENT if state.stopping.should_stop else StopReason.MAX_EPOCHS)


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
