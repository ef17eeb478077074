import copy
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lenet_mnist.config import Activation, AugmentationConfig, Config, ModelConfig, Optimizer, Schedule, TrainingConfig
from lenet_mnist.data.batches import SoftTargets, TrainBatch, TrainBatches, evaluation_batches
from lenet_mnist.data.sets import Normalization, TrainSet, TrainVal, ValSet
from lenet_mnist.model.lenet import LeNet
from lenet_mnist.tally import Tally, count
from lenet_mnist.training import updates
from lenet_mnist.training.checkpoint import parse_state, state_bytes, weights_digest
from lenet_mnist.training.context import Context
from lenet_mnist.training.loop import StopReason, TrainResult, train
from lenet_mnist.training.probe import Probe
from lenet_mnist.training.rows import EpochRow, StepRow
from lenet_mnist.training.state import TrainState
from lenet_mnist.training.updates import train_step

CPU = torch.device("cpu")
STEPS_PER_EPOCH = 7
RESUMED: dict[str, dict[str, Any]] = {
    "sgd linear": {"optimizer": "sgd", "schedule": "linear"},
    "sgd plateau": {"optimizer": "sgd", "schedule": "plateau", "learning_rate": 0.5, "plateau_patience": 0},
    "plain sgd one-cycle": {"optimizer": "sgd", "schedule": "one-cycle", "momentum": 0.0},
    "adam linear": {"optimizer": "adam", "schedule": "linear", "learning_rate": 3e-3},
    "adam plateau": {"optimizer": "adam", "schedule": "plateau", "learning_rate": 0.05, "plateau_patience": 0},
    "adamw linear": {"optimizer": "adamw", "schedule": "linear", "learning_rate": 3e-3},
    "adamw plateau": {"optimizer": "adamw", "schedule": "plateau", "learning_rate": 0.05, "plateau_patience": 0},
}


def part_of(data: TrainVal, num_train: int, num_val: int) -> TrainVal:
    train_set = TrainSet(data.train.images[:num_train], data.train.labels[:num_train], data.train.indices[:num_train])
    val_set = ValSet(data.val.images[:num_val], data.val.labels[:num_val], data.val.indices[:num_val])
    return replace(data, train=train_set, val=val_set)


@pytest.fixture(scope="module")
def tiny(small: TrainVal) -> TrainVal:
    """200 training images, which are 7 batches of 32 of which the last has 8, and 100 for validation."""
    return part_of(small, 200, 100)


def config_of(seed: int = 0, activation: Activation = Activation.TANH, **training: Any) -> Config:
    values = {"max_epochs": 3, "batch_size": 32, **training}
    return Config(seed=seed, model=ModelConfig(activation=activation), training=TrainingConfig(**values))


@dataclass
class Run:
    """What a training left behind."""

    state: TrainState
    result: TrainResult
    steps: list[StepRow]
    epochs: list[EpochRow]

    @property
    def digest(self) -> str:
        return weights_digest(self.state.network.state_dict())

    @property
    def rows(self) -> list[EpochRow]:
        """The epochs without the time that they took."""
        return [replace(row, seconds=0.0) for row in self.epochs]


def run(
    config: Config,
    data: TrainVal,
    state: TrainState | None = None,
    stop: Callable[[StepRow], bool] = lambda _row: False,
) -> Run:
    """Train from `state`, or from the start, until `stop` says so."""
    state = state or TrainState.start(config, Context(data))
    steps: list[StepRow] = []
    epochs: list[EpochRow] = []

    def on_step(row: StepRow) -> bool:
        steps.append(row)
        return stop(row)

    result = train(config, Context(data), state, on_step, epochs.append)
    return Run(state, result, steps, epochs)


def val_tally(network: LeNet, data: TrainVal) -> Tally:
    return count(network, evaluation_batches(data.val, data.normalization, CPU))


def weights(network: LeNet) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


# What training does


@pytest.mark.parametrize("activation", Activation)
def test_32_images_are_learnt_by_heart(small: TrainVal, activation: Activation) -> None:
    data = part_of(small, 32, 10)
    config = config_of(
        activation=activation, optimizer="adam", learning_rate=0.01, weight_decay=0.0, max_epochs=200, patience=None
    )
    done = run(config, data)
    train_tally = count(done.state.network, evaluation_batches(data.train, data.normalization, CPU))
    assert (train_tally.num_correct, done.epochs[-1].train_accuracy) == (32, 1.0)
    assert train_tally.mean_loss < 0.1


@pytest.mark.parametrize("activation", [Activation.TANH, Activation.RELU])
def test_unseen_digits_are_recognised_after_three_epochs(small: TrainVal, activation: Activation) -> None:
    done = run(config_of(activation=activation), small)
    assert done.epochs[-1].val_accuracy > 0.85
    assert done.epochs[-1].val_loss < 0.5 * done.epochs[0].train_loss


def test_epochs_and_steps_are_counted_from_one(tiny: TrainVal) -> None:
    done = run(config_of(), tiny)
    assert [row.epoch for row in done.epochs] == [1, 2, 3]
    assert [row.step for row in done.epochs] == [7, 14, 21]
    assert [(row.step, row.epoch) for row in done.steps] == [(n + 1, n // 7 + 1) for n in range(21)]
    assert (done.state.step, done.result) == (21, TrainResult(StopReason.MAX_EPOCHS))


def test_a_finished_training_has_nothing_left_to_do(tiny: TrainVal) -> None:
    config = config_of()
    done = run(config, tiny)
    again = run(config, tiny, done.state)
    assert (again.result.stop_reason, again.steps, again.epochs) == (StopReason.MAX_EPOCHS, [], [])


# The same again


def test_a_seed_decides_the_weights(tiny: TrainVal) -> None:
    first, again, other = (run(config_of(seed), tiny) for seed in (1, 1, 2))
    assert (first.digest, first.rows, first.steps) == (again.digest, again.rows, again.steps)
    assert first.digest != other.digest


def test_a_seed_decides_the_weights_to_start_from(tiny: TrainVal) -> None:
    starts = [TrainState.start(config_of(seed), Context(tiny)).network.state_dict() for seed in (1, 1, 2)]
    first, again, other = map(weights_digest, starts)
    assert first == again
    assert first != other


def test_a_seed_decides_the_order_of_the_images_too(tiny: TrainVal) -> None:
    first, other = (run(config_of(seed), tiny, TrainState.start(config_of(1), Context(tiny))) for seed in (1, 2))
    assert first.digest != other.digest


def test_distortions_reach_the_training_images_and_no_others(tiny: TrainVal) -> None:
    plain, distorted = (
        config_of(max_epochs=1),
        config_of(max_epochs=1).model_copy(update={"augmentation": AugmentationConfig(rotation=20, elastic=1)}),
    )
    first, other = run(plain, tiny), run(distorted, tiny)
    assert first.steps[0].gradient_norm != other.steps[0].gradient_norm
    assert other.epochs[0].val_loss == val_tally(other.state.network, tiny).mean_loss
    start = TrainState.start(distorted, Context(tiny))
    assert Probe.of(tiny, 0, CPU).look(start) == Probe.of(tiny, 0, CPU).look(TrainState.start(plain, Context(tiny)))


def test_callbacks_cannot_change_the_weights(tiny: TrainVal) -> None:
    config = config_of(optimizer="adam", learning_rate=1e-3)
    state = TrainState.start(config, Context(tiny))

    def make_noise(_row: object) -> bool:
        random.random()
        np.random.rand(3)
        torch.manual_seed(5)
        torch.rand(3)
        val_tally(state.network, tiny)
        state.network.zero_grad()
        state.kept_network()
        return False

    train(config, Context(tiny), state, make_noise, make_noise)
    assert weights_digest(state.network.state_dict()) == run(config, tiny).digest


def test_training_leaves_the_global_generators_untouched(tiny: TrainVal) -> None:
    before = torch.get_rng_state(), random.getstate(), str(np.random.get_state())
    run(config_of(), tiny)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), str(np.random.get_state())) == before[1:]


@pytest.fixture(scope="module")
def unbroken(tiny: TrainVal) -> Callable[[str], Run]:
    """The training that was never stopped, made once for each configuration."""
    return cache(lambda name: run(config_of(**RESUMED[name]), tiny))


def write_state(path: Path, state: TrainState) -> None:
    path.write_bytes(state_bytes(state))


def read_state(path: Path, state: TrainState) -> None:
    saved = parse_state(path.read_bytes(), path, state)
    state.restore(saved.tensors, saved.scalars, saved.histories)


def without_seconds(state: TrainState) -> dict[str, Any]:
    return state.scalars() | {"seconds": None}


@pytest.mark.parametrize("stop_after", [1, 6, 7, 8, 13, 14, 20, 21])
@pytest.mark.parametrize("name", RESUMED)
def test_resumed_equals_never_stopped(
    tmp_path: Path, tiny: TrainVal, unbroken: Callable[[str], Run], name: str, stop_after: int
) -> None:
    config, whole = config_of(**RESUMED[name]), unbroken(name)
    first = run(config, tiny, stop=lambda row: row.step == stop_after)
    assert first.result == TrainResult(StopReason.INTERRUPTED)
    assert len(first.steps) == stop_after
    write_state(tmp_path / "state", first.state)

    state = TrainState.start(config, Context(tiny))
    read_state(tmp_path / "state", state)
    second = run(config, tiny, state)

    assert second.digest == whole.digest
    assert weights_digest(state.tensors()) == weights_digest(whole.state.tensors())
    assert first.steps + second.steps == whole.steps
    assert first.rows + second.rows == whole.rows
    assert without_seconds(state) == without_seconds(whole.state)
    assert second.result == whole.result


@pytest.mark.parametrize("name", [name for name in RESUMED if "plateau" in name])
def test_the_plateau_of_the_resumed_trainings_is_reached(unbroken: Callable[[str], Run], name: str) -> None:
    rates = [row.lr for row in unbroken(name).epochs]
    assert rates[2] < rates[0]


@pytest.mark.parametrize("name", ["sgd linear", "adam plateau"])
def test_a_state_saved_at_the_end_of_an_epoch_goes_on_from_there(
    tmp_path: Path, tiny: TrainVal, unbroken: Callable[[str], Run], name: str
) -> None:
    config, whole = config_of(**RESUMED[name]), unbroken(name)
    state = TrainState.start(config, Context(tiny))
    train(config, Context(tiny), state, on_epoch=lambda row: write_state(tmp_path / str(row.epoch), state))
    for epoch in (1, 2, 3):
        restored = TrainState.start(config, Context(tiny))
        read_state(tmp_path / str(epoch), restored)
        rest = run(config, tiny, restored)
        assert (rest.digest, rest.rows) == (whole.digest, whole.rows[epoch:])


def test_stopping_at_every_step_makes_the_same_weights(tiny: TrainVal, unbroken: Callable[[str], Run]) -> None:
    config = config_of(**RESUMED["sgd linear"])
    state = TrainState.start(config, Context(tiny))
    reasons = [run(config, tiny, state, stop=lambda _row: True).result.stop_reason for _ in range(22)]
    assert reasons == [StopReason.INTERRUPTED] * 21 + [StopReason.MAX_EPOCHS]
    assert weights_digest(state.network.state_dict()) == unbroken("sgd linear").digest


# What the rows say


def test_an_epochs_loss_is_the_sum_over_images_and_not_the_mean_of_ragged_batches(tiny: TrainVal) -> None:
    done = run(config_of(max_epochs=1), tiny)
    losses, sizes = [row.train_loss for row in done.steps], [32] * 6 + [8]
    expected = sum(loss * size for loss, size in zip(losses, sizes, strict=True)) / 200
    assert done.epochs[0].train_loss == pytest.approx(expected, rel=1e-12)
    assert done.epochs[0].train_loss != pytest.approx(sum(losses) / 7, rel=1e-4)


def test_an_epoch_sees_every_training_image_once(tiny: TrainVal) -> None:
    """At a rate that moves no weight, the epoch's means are those of the training images."""
    done = run(config_of(max_epochs=2, learning_rate=1e-30), tiny)
    expected = count(done.state.network, evaluation_batches(tiny.train, tiny.normalization, CPU))
    for row in done.epochs:
        assert row.train_loss == pytest.approx(expected.mean_loss, rel=1e-6)
        assert row.train_accuracy == expected.accuracy
    assert [row.train_loss for row in done.steps[:7]] != [row.train_loss for row in done.steps[7:]]


def test_a_step_tells_the_loss_and_the_gradient_before_the_update(tiny: TrainVal) -> None:
    state = TrainState.start(config_of(), Context(tiny))
    batch = next(iter(TrainBatches(tiny, config_of()).of_epoch(1)))
    before = copy.deepcopy(state.network)
    loss = F.cross_entropy(before(batch.images), batch.labels)
    loss.backward()
    squares = sum(float((p.grad.double() ** 2).sum()) for p in before.parameters())
    row = train_step(state, batch, 0.1)
    assert row.train_loss == loss.item()
    assert row.gradient_norm == pytest.approx(math.sqrt(squares), rel=1e-5)
    assert before.c1.weight.grad is not None
    assert row.c1_gradient_norm == pytest.approx(before.c1.weight.grad.norm().item(), rel=1e-5)


def test_label_smoothing_changes_the_gradient_and_no_loss_that_is_shown(tiny: TrainVal) -> None:
    """With teachers, it smooths the labels' share of the loss."""
    config = config_of(label_smoothing=0.2, momentum=0.0, weight_decay=0.0, max_epochs=1)
    for teachers_weight in (None, 0.25):
        state = TrainState.start(config, Context(tiny))
        batch = next(iter(TrainBatches(tiny, config).of_epoch(1)))
        before = copy.deepcopy(state.network)
        logits = before(batch.images)
        loss = F.cross_entropy(logits, batch.labels, label_smoothing=0.2)
        if teachers_weight is not None:
            targets = SoftTargets(torch.randn(logits.shape), 1.0, teachers_weight)
            divergence = F.kl_div(logits.log_softmax(1), targets.logits.softmax(1), reduction="batchmean")
            loss = (1 - teachers_weight) * loss + teachers_weight * divergence
            batch = batch._replace(soft_targets=targets)
        gradients = torch.autograd.grad(loss, list(before.parameters()))
        row = train_step(state, batch, 0.1)
        assert row.train_loss == F.cross_entropy(logits, batch.labels).item()
        for old, new, gradient in zip(before.parameters(), state.network.parameters(), gradients, strict=True):
            torch.testing.assert_close(old - new, 0.1 * gradient)
    done = run(config, tiny)
    assert done.epochs[0].val_loss == pytest.approx(val_tally(done.state.network, tiny).mean_loss)
    assert done.digest != run(config.replace({"training.label_smoothing": 0.0}), tiny).digest


def test_the_best_network_has_the_validation_loss_of_its_row(tiny: TrainVal) -> None:
    config = config_of(learning_rate=0.1, max_epochs=6)
    state = TrainState.start(config, Context(tiny))
    best_rows = []

    def on_epoch(row: EpochRow) -> None:
        now = val_tally(state.network, tiny)
        assert (row.val_loss, row.val_accuracy) == (now.mean_loss, now.accuracy)
        if state.stopping.best_epoch == row.epoch:
            best_rows.append(row)
        best = state.kept_network()
        assert best is not None
        assert val_tally(best, tiny).mean_loss == best_rows[-1].val_loss == state.stopping.best_loss

    train(config, Context(tiny), state, on_epoch=on_epoch)
    assert best_rows


# Windows: on a GPU, and with several ranks, figures are read only now and then


@pytest.mark.parametrize("window", [2, 3, 20])
@pytest.mark.parametrize("name", ["sgd linear", "adam plateau"])
def test_reading_the_figures_later_changes_none(
    monkeypatch: pytest.MonkeyPatch, tiny: TrainVal, unbroken: Callable[[str], Run], name: str, window: int
) -> None:
    whole = unbroken(name)
    monkeypatch.setattr(updates, "window_on", lambda _device, _ranks: window)
    done = run(config_of(**RESUMED[name]), tiny)
    assert (done.digest, done.rows, done.steps) == (whole.digest, whole.rows, whole.steps)
    assert weights_digest(done.state.tensors()) == weights_digest(whole.state.tensors())
    assert without_seconds(done.state) == without_seconds(whole.state)


def test_a_window_ends_where_a_state_is_to_be_saved_and_at_the_end_of_an_epoch(
    monkeypatch: pytest.MonkeyPatch, tiny: TrainVal
) -> None:
    monkeypatch.setattr(updates, "window_on", lambda _device, _ranks: 4)
    config = config_of(max_epochs=2, checkpoint_every_steps=3)
    state = TrainState.start(config, Context(tiny))
    saved: dict[int, str] = {}

    def on_step(row: StepRow) -> bool:
        if row.step % 3 == 0:
            assert state.step == row.step
            saved[row.step] = weights_digest(state.tensors())
        return False

    train(config, Context(tiny), state, on_step)
    assert sorted(saved) == [3, 6, 9, 12]
    for step, digest in saved.items():
        until_there = run(config, tiny, stop=lambda row, step=step: row.step == step)
        assert weights_digest(until_there.state.tensors()) == digest


@pytest.mark.parametrize("optimizer", Optimizer)
@pytest.mark.parametrize("window", [1, 3, 20])
def test_no_update_is_made_from_the_first_that_is_not_finite(
    monkeypatch: pytest.MonkeyPatch, tiny: TrainVal, optimizer: Optimizer, window: int
) -> None:
    """Nobody looks before the window ends: the device itself leaves the weights as they were."""
    config = config_of(optimizer=optimizer, learning_rate=1e-3)
    good = run(config, tiny, stop=lambda row: row.step == 4)
    of_epoch = TrainBatches.of_epoch

    def with_a_spoilt_fifth(self: TrainBatches, epoch: int, start: int = 0) -> Iterator[TrainBatch]:
        for number, batch in enumerate(of_epoch(self, epoch, start), start=1):
            yield batch._replace(images=batch.images * math.nan) if number == 5 else batch

    monkeypatch.setattr(updates, "window_on", lambda _device, _ranks: window)
    monkeypatch.setattr(TrainBatches, "of_epoch", with_a_spoilt_fifth)
    done = run(config, tiny)
    assert_diverged(done, "training loss", 1, 5)
    assert [row.step for row in done.steps] == [1, 2, 3, 4]
    assert (done.state.step, done.state.batches_done, done.state.tally) == (4, 4, good.state.tally)
    assert weights_digest(done.state.tensors()) == weights_digest(good.state.tensors())


# When training ends


def test_early_stopping_keeps_the_best_weights_and_not_the_last(small: TrainVal) -> None:
    data = part_of(small, 64, 100)
    config = config_of(max_epochs=300, learning_rate=0.05, schedule="constant", weight_decay=0.0, patience=3)
    done = run(config, data)
    losses = [row.val_loss for row in done.epochs]
    best_epoch = losses.index(min(losses)) + 1
    assert done.result == TrainResult(StopReason.NO_IMPROVEMENT)
    assert len(losses) == best_epoch + 3 < 300
    assert done.state.stopping.best_epoch == best_epoch
    best = done.state.kept_network()
    assert best is not None
    assert val_tally(best, data).mean_loss == min(losses)
    assert weights_digest(best.state_dict()) != done.digest
    assert val_tally(done.state.network, data).mean_loss == losses[-1]


def test_the_last_weights_are_kept_if_that_is_wished(small: TrainVal) -> None:
    data = part_of(small, 64, 100)
    config = config_of(
        max_epochs=30, learning_rate=0.05, schedule="constant", weight_decay=0.0, patience=3, keep="last"
    )
    done = run(config, data)
    losses = [row.val_loss for row in done.epochs]
    kept = done.state.kept_network()
    assert kept is not None
    assert weights_digest(kept.state_dict()) == done.digest
    assert done.state.stopping.best_epoch == losses.index(min(losses)) + 1 == len(losses) - 3
    assert done.state.stopping.kept_epoch == len(losses)


def test_without_patience_training_goes_on_to_the_last_epoch(small: TrainVal) -> None:
    data = part_of(small, 32, 50)
    config = config_of(max_epochs=40, learning_rate=0.05, schedule="constant", weight_decay=0.0, patience=None)
    done = run(config, data)
    assert (done.result.stop_reason, len(done.epochs)) == (StopReason.MAX_EPOCHS, 40)
    assert done.state.stopping.best_epoch < 35


def test_the_loss_of_guessing_is_the_entropy_of_the_validation_labels(tiny: TrainVal) -> None:
    shares = torch.bincount(tiny.val.labels).double() / len(tiny.val)
    guessing = TrainState.start(config_of(), Context(tiny)).stopping.guessing_loss
    assert guessing == pytest.approx(float(-(shares * shares.log()).sum()))


def test_the_best_network_is_a_copy_of_its_own(tiny: TrainVal) -> None:
    state = TrainState.start(config_of(), Context(tiny))
    assert state.kept_network() is None
    state.keep_weights()
    kept = weights_digest(state.network.state_dict())
    with torch.no_grad():
        state.network.c1.bias.add_(1)
    best = state.kept_network()
    assert best is not None
    assert weights_digest(best.state_dict()) == kept
    assert best is not state.kept_network()


# A loss or gradient that is not finite


def assert_diverged(done: Run, what: str, epoch: int, step: int) -> None:
    divergence = done.result.divergence
    assert done.result.stop_reason is StopReason.DIVERGED
    assert divergence is not None
    assert (divergence.what, divergence.epoch, divergence.step) == (what, epoch, step)
    assert f"the {what} is not finite in epoch {epoch}, step {step}, at learning rate" in str(divergence)


def test_a_poisoned_weight_stops_before_the_first_update(tiny: TrainVal) -> None:
    config = config_of(schedule="constant", warmup=0.0, learning_rate=0.03)
    state = TrainState.start(config, Context(tiny))
    with torch.no_grad():
        state.network.f6.bias[0] = math.nan
    before = weights_digest(state.network.state_dict())
    done = run(config, tiny, state)
    assert_diverged(done, "training loss", 1, 1)
    assert str(done.result.divergence).endswith("at learning rate 0.03")
    assert (done.digest, done.steps, done.epochs) == (before, [], [])
    assert (state.step, state.batches_done, state.tally, state.kept_network()) == (0, 0, Tally(), None)


def test_a_poisoned_input_stops_before_the_first_update(tiny: TrainVal) -> None:
    config = config_of()
    before = weights_digest(TrainState.start(config, Context(tiny)).network.state_dict())
    done = run(config, replace(tiny, normalization=Normalization(math.nan, 1.0)))
    assert_diverged(done, "training loss", 1, 1)
    assert done.digest == before


@pytest.mark.parametrize("activation", Activation)
def test_an_enormous_learning_rate_stops_before_the_update_that_would_ruin_the_weights(
    tiny: TrainVal, activation: Activation
) -> None:
    config = config_of(activation=activation, learning_rate=1e6, schedule="constant", warmup=0.0, weight_decay=1e3)
    state = TrainState.start(config, Context(tiny))
    last_good = [weights_digest(state.network.state_dict())]

    def remember(_row: StepRow) -> bool:
        last_good.append(weights_digest(state.network.state_dict()))
        return False

    done = run(config, tiny, state, stop=remember)
    divergence = done.result.divergence
    assert divergence is not None
    assert_diverged(done, divergence.what, (len(done.steps)) // STEPS_PER_EPOCH + 1, len(done.steps) + 1)
    assert divergence.lr == 1e6
    assert done.digest == last_good[-1]
    assert state.step == len(done.steps)
    assert all(row.is_finite for row in done.steps)


def test_a_gradient_that_is_not_finite_is_caught_under_a_finite_loss(tiny: TrainVal) -> None:
    """Relu starts from an output layer of zeros: the loss is ln 10 whatever is below, the gradient is not."""
    config = config_of(activation=Activation.RELU)
    state = TrainState.start(config, Context(tiny))
    with torch.no_grad():
        state.network.f6.bias.fill_(3e38)
    before = weights_digest(state.network.state_dict())
    done = run(config, tiny, state)
    assert_diverged(done, "gradient", 1, 1)
    assert done.digest == before


def test_a_validation_loss_that_is_not_finite_ends_training_and_keeps_the_best(tiny: TrainVal) -> None:
    config = config_of()
    state = TrainState.start(config, Context(tiny))

    def poison_the_last_step(row: StepRow) -> bool:
        if row.step == 14:
            with torch.no_grad():
                state.network.output.bias[3] = math.nan
        return False

    done = run(config, tiny, state, stop=poison_the_last_step)
    assert_diverged(done, "validation loss", 2, 14)
    assert done.result.divergence.lr == done.steps[-1].lr
    assert [row.epoch for row in done.epochs] == [1]
    best = state.kept_network()
    assert best is not None
    assert val_tally(best, tiny).mean_loss == done.epochs[0].val_loss


# The update itself

PLAIN: dict[str, tuple[dict[str, Any], Callable[[list[Tensor]], torch.optim.Optimizer]]] = {
    "momentum": (
        {"optimizer": "sgd", "momentum": 0.8, "weight_decay": 0.01},
        lambda p: torch.optim.SGD(p, lr=1, momentum=0.8, weight_decay=0.01, foreach=False, fused=False),
    ),
    "nesterov": (
        {"optimizer": "sgd", "momentum": 0.8, "nesterov": True, "weight_decay": 0.01},
        lambda p: torch.optim.SGD(p, lr=1, momentum=0.8, nesterov=True, weight_decay=0.01, foreach=False, fused=False),
    ),
    "plain": (
        {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0},
        lambda p: torch.optim.SGD(p, lr=1, foreach=False, fused=False),
    ),
    "adam": (
        {"optimizer": "adam", "weight_decay": 0.01},
        lambda p: torch.optim.Adam(p, lr=1, weight_decay=0.01, foreach=False, fused=False),
    ),
    "adamw": (
        {"optimizer": "adamw", "weight_decay": 0.5},
        lambda p: torch.optim.AdamW(p, lr=1, weight_decay=0.5, foreach=False, fused=False),
    ),
}


def gradients_of(state: TrainState) -> dict[str, Tensor]:
    """Return a dictionary that will hold the gradients of the last update, by the names of their parameters."""
    named = dict(state.network.named_parameters())
    gradients: dict[str, Tensor] = {}
    step = state.optimizer.step

    def watched(gradient: Tensor, lr: float, has_failed: Tensor) -> None:
        parts = torch.split(gradient, [parameter.numel() for parameter in named.values()])
        gradients.update({name: part.view_as(named[name]) for name, part in zip(named, parts, strict=True)})
        step(gradient, lr, has_failed)

    state.optimizer.step = watched  # type: ignore[method-assign]
    return gradients


@pytest.mark.parametrize("name", PLAIN)
def test_the_fused_optimizer_takes_the_steps_of_the_plain_one(tiny: TrainVal, name: str) -> None:
    training, make_oracle = PLAIN[name]
    state = TrainState.start(config_of(**training), Context(tiny))
    gradients = gradients_of(state)
    copies = [parameter.detach().clone().requires_grad_() for parameter in state.network.parameters()]
    oracle = make_oracle(copies)
    for number, batch in enumerate(TrainBatches(tiny, config_of()).of_epoch(1), start=1):
        lr = 0.02 / number
        train_step(state, batch, lr)
        for one, gradient in zip(copies, gradients.values(), strict=True):
            one.grad = gradient.clone()
        oracle.param_groups[0]["lr"] = lr
        oracle.step()
        for one, other in zip(copies, state.network.parameters(), strict=True):
            torch.testing.assert_close(other, one, rtol=0, atol=1e-6)


def test_each_configured_optimizer_takes_another_step(tiny: TrainVal) -> None:
    digests = {run(config_of(max_epochs=1, **training), tiny).digest for training, _ in PLAIN.values()}
    assert len(digests) == len(PLAIN)


@pytest.mark.parametrize("schedule", Schedule)
def test_the_schedules_rate_reaches_the_weights(tiny: TrainVal, schedule: Schedule) -> None:
    """Without momentum or decay, an update is the gradient times the rate of its row."""
    config = config_of(optimizer=Optimizer.SGD, momentum=0.0, weight_decay=0.0, schedule=schedule, max_epochs=2)
    state = TrainState.start(config, Context(tiny))
    gradients = gradients_of(state)
    before = [weights(state.network)]

    def check(row: StepRow) -> bool:
        for name, gradient in gradients.items():
            expected = before[0][name] - row.lr * gradient
            torch.testing.assert_close(weights(state.network)[name], expected, rtol=0, atol=1e-7)
        before[0] = weights(state.network)
        return False

    done = run(config, tiny, state, stop=check)
    assert [row.lr for row in done.epochs] == [done.steps[6].lr, done.steps[13].lr]
    assert max(row.lr for row in done.steps) <= config.training.peak_learning_rate
    assert done.steps[0].lr < done.steps[1].lr


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        ("constant", [1 / 3, 2 / 3, *[1.0] * 18]),
        ("linear", [1 / 3, 2 / 3, *[1 - n / 18 for n in range(18)]]),
        ("cosine", [1 / 3, 2 / 3, *[(1 + math.cos(math.pi * n / 18)) / 2 for n in range(18)]]),
    ],
)
def test_the_schedule_spans_all_updates_of_all_epochs(small: TrainVal, schedule: str, factors: list[float]) -> None:
    data = part_of(small, 130, 20)
    done = run(config_of(schedule=schedule, warmup=0.1, learning_rate=0.08, max_epochs=4), data)
    assert [row.lr for row in done.steps] == pytest.approx([0.08 * factor for factor in factors])


def test_the_plateau_lowers_the_rate_after_each_epoch_without_improvement(tiny: TrainVal) -> None:
    config = config_of(
        optimizer="adam",
        learning_rate=0.05,
        schedule="plateau",
        warmup=0.0,
        plateau_factor=0.5,
        plateau_patience=0,
        max_epochs=6,
        patience=None,
    )
    done = run(config, tiny)
    losses = [row.val_loss for row in done.epochs]
    rates = [0.05]
    for epoch, loss in enumerate(losses[:-1]):
        improves = all(loss < earlier for earlier in losses[:epoch])
        rates.append(rates[-1] * (1 if improves else 0.5))
    assert [row.lr for row in done.epochs] == pytest.approx(rates)
    assert rates[-1] < rates[0]
