"""The training loop: what it does, to the last bit however often it is interrupted, and where it ends."""

import copy
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.tiny import Trained, config_of, part_of, saved_and_restored, start, tally_of, trained
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer

from lenet_mnist.config import Activation, AugmentationConfig, Config, Schedule
from lenet_mnist.data.batches import CPU, SoftTargets, TrainBatch, TrainBatches
from lenet_mnist.data.sets import Normalization, TrainVal
from lenet_mnist.tally import Tally
from lenet_mnist.training import updates
from lenet_mnist.training.checkpoint import weights_digest
from lenet_mnist.training.context import Context
from lenet_mnist.training.early_stopping import label_entropy
from lenet_mnist.training.loop import StopReason, TrainResult, train
from lenet_mnist.training.probe import Probe
from lenet_mnist.training.rows import EpochRow, StepRow
from lenet_mnist.training.state import TrainState
from lenet_mnist.training.updates import train_step

RESUMED: dict[str, Config] = {
    "sgd linear": config_of(optimizer="sgd", schedule="linear"),
    "sgd plateau": config_of(optimizer="sgd", schedule="plateau", learning_rate=0.5, plateau_patience=0),
    "plain sgd one-cycle": config_of(optimizer="sgd", schedule="one-cycle", momentum=0.0),
    "adam plateau": config_of(optimizer="adam", schedule="plateau", learning_rate=0.05, plateau_patience=0),
    "adamw linear": config_of(optimizer="adamw", schedule="linear", learning_rate=3e-3),
    "muon linear": config_of(optimizer="muon", schedule="linear", momentum=0.95),
}
OVERFITTING: dict[str, Any] = {"learning_rate": 0.05, "schedule": "constant", "weight_decay": 0.0}


def weights(state: TrainState) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in state.network.state_dict().items()}


# What training does


@pytest.mark.parametrize("activation", Activation)
def test_32_images_are_learnt_by_heart(small: TrainVal, activation: Activation) -> None:
    data = part_of(small, 32, 10)
    config = config_of(
        activation, optimizer="adam", learning_rate=0.01, weight_decay=0.0, max_epochs=200, patience=None
    )
    done = trained(config, data)
    tally = tally_of(done.state.network, data, "train")
    assert (tally.num_correct, done.epochs[-1].train_accuracy) == (32, 1.0)
    assert tally.mean_loss < 0.1


def test_unseen_digits_are_recognised_after_three_epochs(small: TrainVal) -> None:
    for activation in (Activation.TANH, Activation.RELU):
        done = trained(config_of(activation), small)
        assert done.epochs[-1].val_accuracy > 0.85
        assert done.epochs[-1].val_loss < 0.5 * done.epochs[0].train_loss


def test_epochs_and_steps_are_counted_from_one(tiny: TrainVal) -> None:
    done = trained(config_of(), tiny)
    assert [(row.epoch, row.step) for row in done.epochs] == [(1, 7), (2, 14), (3, 21)]
    assert [(row.step, row.epoch) for row in done.steps] == [(n + 1, n // 7 + 1) for n in range(21)]
    assert (done.state.step, done.result) == (21, TrainResult(StopReason.MAX_EPOCHS))
    before = done.everything
    assert trained(config_of(), tiny, done.state).everything == before  # nothing is left to do


# The same again


def test_a_seed_decides_weights_and_order(tiny: TrainVal) -> None:
    first, again, other = (trained(config_of(seed=seed), tiny) for seed in (1, 1, 2))
    assert first.everything == again.everything
    assert first.digest != other.digest
    starts = [weights_digest(weights(start(config_of(seed=seed), tiny))) for seed in (1, 2)]
    assert starts[0] != starts[1]
    assert trained(config_of(seed=2), tiny, start(config_of(seed=1), tiny)).digest not in (first.digest, other.digest)


def test_distortions_reach_the_training_images_and_no_others(tiny: TrainVal) -> None:
    plain = config_of(max_epochs=1)
    distorted = config_of(max_epochs=1, augmentation=AugmentationConfig(rotation=20, elastic=1))
    first, other = trained(plain, tiny), trained(distorted, tiny)
    assert first.steps[0].gradient_norm != other.steps[0].gradient_norm
    assert other.epochs[0].val_loss == tally_of(other.state.network, tiny).mean_loss
    probe = Probe.of(tiny, 0, CPU)
    assert probe.look(start(distorted, tiny)) == probe.look(start(plain, tiny))


def test_callbacks_cannot_change_the_weights_and_training_no_global_generator(tiny: TrainVal) -> None:
    config = config_of(optimizer="adam", learning_rate=1e-3)
    before = torch.get_rng_state(), random.getstate(), str(np.random.get_state())
    expected = trained(config, tiny).digest
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), str(np.random.get_state())) == before[1:]
    state = start(config, tiny)

    def make_noise(_row: object) -> bool:
        random.random()
        np.random.rand(3)
        torch.manual_seed(5)
        torch.rand(3)
        tally_of(state.network, tiny)
        state.network.zero_grad()
        state.kept_network()
        return False

    train(config, Context(tiny), state, make_noise, make_noise)
    assert weights_digest(weights(state)) == expected


@pytest.fixture(scope="module")
def unbroken(tiny: TrainVal) -> Callable[[str], Trained]:
    """The training that was never stopped, made once for each configuration."""
    return cache(lambda name: trained(RESUMED[name], tiny))


@pytest.mark.parametrize("name", RESUMED)
def test_resumed_after_every_update_equals_never_stopped(
    tiny: TrainVal, unbroken: Callable[[str], Trained], name: str
) -> None:
    """Each update is made by a new process, as it were: from the content of a file alone."""
    config, state = RESUMED[name], start(RESUMED[name], tiny)
    for step in range(1, 22):
        done = trained(config, tiny, state, stop=lambda _row: True)
        assert (done.result.stop_reason, len(done.steps)) == (StopReason.INTERRUPTED, step)
        state = saved_and_restored(state, config, tiny)
    assert trained(config, tiny, state).everything == unbroken(name).everything
    if "plateau" in name:
        assert unbroken(name).epochs[2].lr < unbroken(name).epochs[0].lr  # or nothing of it would have been resumed


# What the rows say


def test_an_epochs_loss_is_the_sum_over_images_and_not_the_mean_of_ragged_batches(tiny: TrainVal) -> None:
    done = trained(config_of(max_epochs=1), tiny)
    losses, sizes = [row.train_loss for row in done.steps], [32] * 6 + [8]
    expected = sum(loss * size for loss, size in zip(losses, sizes, strict=True)) / 200
    assert done.epochs[0].train_loss == pytest.approx(expected, rel=1e-12)
    assert done.epochs[0].train_loss != pytest.approx(sum(losses) / 7, rel=1e-4)


def test_an_epoch_sees_every_training_image_once(tiny: TrainVal) -> None:
    """At a rate that moves no weight, the epoch's means are those of the training images."""
    done = trained(config_of(max_epochs=2, learning_rate=1e-30), tiny)
    expected = tally_of(done.state.network, tiny, "train")
    for row in done.epochs:
        assert row.train_loss == pytest.approx(expected.mean_loss, rel=1e-6)
        assert row.train_accuracy == expected.accuracy
    assert [row.train_loss for row in done.steps[:7]] != [row.train_loss for row in done.steps[7:]]


def test_a_step_tells_the_loss_and_the_gradient_before_the_update(tiny: TrainVal) -> None:
    state = start(config_of(), tiny)
    batch = next(iter(TrainBatches(tiny, config_of()).of_epoch(1)))
    before = copy.deepcopy(state.network)
    loss = F.cross_entropy(before(batch.images), batch.labels)
    loss.backward()
    squares = sum(float((p.grad.double() ** 2).sum()) for p in before.parameters())
    row = train_step(state, batch, 0.1)
    assert row.train_loss == loss.item()
    assert row.gradient_norm == pytest.approx(math.sqrt(squares), rel=1e-5)
    assert row.c1_gradient_norm == pytest.approx(before.c1.weight.grad.norm().item(), rel=1e-5)


def test_label_smoothing_changes_the_gradient_and_no_loss_that_is_shown(tiny: TrainVal) -> None:
    """With teachers, it smooths the labels' share of the loss."""
    config = config_of(label_smoothing=0.2, momentum=0.0, weight_decay=0.0, max_epochs=1)
    for teachers_weight in (None, 0.25):
        state = start(config, tiny)
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
    done = trained(config, tiny)
    assert done.epochs[0].val_loss == pytest.approx(tally_of(done.state.network, tiny).mean_loss)
    assert done.digest != trained(config.replace({"training.label_smoothing": 0.0}), tiny).digest


def test_the_best_network_has_the_validation_loss_of_its_row(tiny: TrainVal) -> None:
    config = config_of(learning_rate=0.1, max_epochs=6)
    state = start(config, tiny)
    best_rows = []

    def on_epoch(row: EpochRow) -> None:
        now = tally_of(state.network, tiny)
        assert (row.val_loss, row.val_accuracy) == (now.mean_loss, now.accuracy)
        if state.stopping.best_epoch == row.epoch:
            best_rows.append(row)
        best = tally_of(state.kept_network(), tiny)
        assert best.mean_loss == best_rows[-1].val_loss == state.stopping.best_loss

    train(config, Context(tiny), state, on_epoch=on_epoch)
    assert best_rows


# Windows: on a GPU, and with several ranks, figures are read only now and then


@pytest.fixture
def set_window(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let figures be read after so many updates."""
    return lambda window: monkeypatch.setattr(updates, "window_on", lambda _device, _ranks: window)


def test_reading_the_figures_later_changes_none(
    set_window: Callable[[int], None], tiny: TrainVal, unbroken: Callable[[str], Trained]
) -> None:
    whole = {name: unbroken(name).everything for name in ("sgd linear", "adam plateau", "muon linear")}
    for window in (2, 20):
        set_window(window)
        for name, expected in whole.items():
            assert trained(RESUMED[name], tiny).everything == expected


def test_a_window_ends_where_a_state_is_to_be_saved_and_at_the_end_of_an_epoch(
    set_window: Callable[[int], None], tiny: TrainVal
) -> None:
    set_window(4)
    config = config_of(max_epochs=2, checkpoint_every_steps=3)
    state = start(config, tiny)
    saved: dict[int, str] = {}

    def on_step(row: StepRow) -> bool:
        if row.step % 3 == 0:
            assert state.step == row.step
            saved[row.step] = weights_digest(state.tensors())
        return False

    train(config, Context(tiny), state, on_step)
    assert sorted(saved) == [3, 6, 9, 12]
    set_window(1)
    for step, digest in saved.items():
        until_there = trained(config, tiny, stop=lambda row, step=step: row.step == step)
        assert weights_digest(until_there.state.tensors()) == digest


def test_no_update_is_made_from_the_first_that_is_not_finite(
    set_window: Callable[[int], None], monkeypatch: pytest.MonkeyPatch, tiny: TrainVal
) -> None:
    """Nobody looks before the window ends: the device itself leaves the weights as they were."""
    configs = [config_of(optimizer=optimizer, learning_rate=1e-3) for optimizer in ("sgd", "adam", "adamw", "muon")]
    good = [trained(config, tiny, stop=lambda row: row.step == 4).everything[1:] for config in configs]
    of_epoch = TrainBatches.of_epoch

    def with_a_spoilt_fifth(self: TrainBatches, epoch: int, start: int = 0) -> Iterator[TrainBatch]:
        for number, batch in enumerate(of_epoch(self, epoch, start), start=1):
            yield batch._replace(images=batch.images * math.nan) if number == 5 else batch

    monkeypatch.setattr(TrainBatches, "of_epoch", with_a_spoilt_fifth)
    for window in (1, 20):
        set_window(window)
        for config, expected in zip(configs, good, strict=True):
            done = trained(config, tiny)
            assert_diverged(done, "training loss", 1, 5)
            assert done.everything[1:] == expected


# When training ends


def test_early_stopping_keeps_the_best_weights_or_if_that_is_wished_the_last(small: TrainVal) -> None:
    data = part_of(small, 64, 100)
    done, last = (trained(config_of(**OVERFITTING, max_epochs=60, patience=3, keep=k), data) for k in ("best", "last"))
    losses = [row.val_loss for row in done.epochs]
    best_epoch = losses.index(min(losses)) + 1
    assert done.result == TrainResult(StopReason.NO_IMPROVEMENT)
    assert len(losses) == best_epoch + 3 < 60
    best = done.state.kept_network()
    assert tally_of(best, data).mean_loss == min(losses)
    assert tally_of(done.state.network, data).mean_loss == losses[-1]
    assert weights_digest(best.state_dict()) != done.digest == last.digest
    assert weights_digest(last.state.kept_network().state_dict()) == last.digest
    stops = [(each.state.stopping.best_epoch, each.state.stopping.kept_epoch) for each in (done, last)]
    assert stops == [(best_epoch, best_epoch), (best_epoch, len(losses))]


def test_without_patience_training_goes_on_to_the_last_epoch(small: TrainVal) -> None:
    done = trained(config_of(**OVERFITTING, max_epochs=40, patience=None), part_of(small, 32, 50))
    assert (done.result.stop_reason, len(done.epochs)) == (StopReason.MAX_EPOCHS, 40)
    assert done.state.stopping.best_epoch < 35


def test_chance_level_is_the_entropy_of_the_validation_labels(tiny: TrainVal) -> None:
    expected = label_entropy(tiny.val.labels.bincount().tolist())
    assert start(config_of(), tiny).stopping.guessing_loss == pytest.approx(expected)


def test_the_best_network_is_a_copy_of_its_own(tiny: TrainVal) -> None:
    state = start(config_of(), tiny)
    assert state.kept_network() is None
    state.keep_weights()
    kept = weights_digest(weights(state))
    with torch.no_grad():
        state.network.c1.bias.add_(1)
    assert weights_digest(state.kept_network().state_dict()) == kept
    assert state.kept_network() is not state.kept_network()


# A loss or gradient that is not finite


def assert_diverged(done: Trained, what: str, epoch: int, step: int) -> None:
    divergence = done.result.divergence
    assert done.result.stop_reason is StopReason.DIVERGED
    assert (divergence.what, divergence.epoch, divergence.step) == (what, epoch, step)
    assert what in str(divergence)


@pytest.mark.parametrize(
    ("activation", "poison", "what"),
    [
        (Activation.TANH, math.nan, "training loss"),
        # ReLU starts from an output layer of zeros: the loss is ln 10 whatever is below, the gradient is not.
        (Activation.RELU, 3e38, "gradient"),
    ],
)
def test_a_poisoned_weight_stops_before_the_first_update(
    tiny: TrainVal, activation: Activation, poison: float, what: str
) -> None:
    config = config_of(activation, schedule="constant", warmup=0.0, learning_rate=0.03)
    state = start(config, tiny)
    with torch.no_grad():
        state.network.f6.bias.fill_(poison)
    before = weights_digest(weights(state))
    done = trained(config, tiny, state)
    assert_diverged(done, what, 1, 1)
    assert done.result.divergence.lr == 0.03
    assert (done.digest, done.steps, done.epochs) == (before, [], [])
    assert (state.step, state.batches_done, state.tally, state.kept_network()) == (0, 0, Tally(), None)


def test_a_poisoned_input_stops_before_the_first_update(tiny: TrainVal) -> None:
    before = weights_digest(weights(start(config_of(), tiny)))
    done = trained(config_of(), replace(tiny, normalization=Normalization(math.nan, 1.0)))
    assert_diverged(done, "training loss", 1, 1)
    assert done.digest == before


def test_an_enormous_learning_rate_stops_before_the_update_that_would_ruin_the_weights(tiny: TrainVal) -> None:
    for activation in Activation:
        config = config_of(activation, learning_rate=1e6, schedule="constant", warmup=0.0, weight_decay=1e3)
        state = start(config, tiny)
        last_good = [weights_digest(weights(state))]

        def remember(_row: StepRow, state: TrainState = state, last_good: list[str] = last_good) -> bool:
            last_good.append(weights_digest(weights(state)))
            return False

        done = trained(config, tiny, state, stop=remember)
        num_steps = len(done.steps)
        assert_diverged(done, done.result.divergence.what, num_steps // 7 + 1, num_steps + 1)
        assert done.result.divergence.lr == 1e6
        assert (done.digest, state.step) == (last_good[-1], num_steps)
        assert all(row.is_finite for row in done.steps)


def test_a_validation_loss_that_is_not_finite_ends_training_and_keeps_the_best(tiny: TrainVal) -> None:
    state = start(config_of(), tiny)

    def poison_the_last_step(row: StepRow) -> bool:
        if row.step == 14:
            with torch.no_grad():
                state.network.output.bias[3] = math.nan
        return False

    done = trained(config_of(), tiny, state, stop=poison_the_last_step)
    assert_diverged(done, "validation loss", 2, 14)
    assert done.result.divergence.lr == done.steps[-1].lr
    assert [row.epoch for row in done.epochs] == [1]
    assert tally_of(state.kept_network(), tiny).mean_loss == done.epochs[0].val_loss


# The update itself

PLAIN: list[tuple[dict[str, Any], Callable[[list[Tensor]], Optimizer]]] = [
    ({"optimizer": "sgd", "momentum": 0.8, "weight_decay": 0.01}, partial(SGD, momentum=0.8, weight_decay=0.01)),
    (
        {"optimizer": "sgd", "momentum": 0.8, "nesterov": True, "weight_decay": 0.01},
        partial(SGD, momentum=0.8, nesterov=True, weight_decay=0.01),
    ),
    ({"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0}, SGD),
    ({"optimizer": "adam", "weight_decay": 0.01}, partial(Adam, weight_decay=0.01)),
    ({"optimizer": "adamw", "weight_decay": 0.5}, partial(AdamW, weight_decay=0.5)),
]


def gradients_of(state: TrainState) -> dict[str, Tensor]:
    """Return a dictionary that will hold the gradients of the last update, by the names of their parameters."""
    named = dict(state.network.named_parameters())
    gradients: dict[str, Tensor] = {}
    step = state.optimizer.step

    def watched(gradient: Tensor, lr: float, has_failed: Tensor) -> None:
        parts = torch.split(gradient, [parameter.numel() for parameter in named.values()])
        gradients.update({name: part.view_as(named[name]) for name, part in zip(named, parts, strict=True)})
        step(gradient, lr, has_failed)

    state.optimizer.step = watched
    return gradients


def test_the_fused_optimizer_takes_the_steps_of_the_plain_one(tiny: TrainVal) -> None:
    for training, make_oracle in PLAIN:
        state = start(config_of(**training), tiny)
        gradients = gradients_of(state)
        copies = [parameter.detach().clone().requires_grad_() for parameter in state.network.parameters()]
        oracle = make_oracle(copies, lr=1, foreach=False, fused=False)
        for number, batch in enumerate(TrainBatches(tiny, config_of()).of_epoch(1), start=1):
            lr = 0.02 / number
            train_step(state, batch, lr)
            for one, gradient in zip(copies, gradients.values(), strict=True):
                one.grad = gradient.clone()
            oracle.param_groups[0]["lr"] = lr
            oracle.step()
            for one, other in zip(copies, state.network.parameters(), strict=True):
                torch.testing.assert_close(other, one, rtol=0, atol=1e-6)


def test_the_schedules_rate_reaches_the_weights(tiny: TrainVal) -> None:
    """Without momentum or decay, an update is the gradient times the rate of its row."""
    for schedule in Schedule:
        config = config_of(optimizer="sgd", momentum=0.0, weight_decay=0.0, schedule=schedule, max_epochs=2)
        state = start(config, tiny)
        gradients, before = gradients_of(state), weights(state)

        def check(
            row: StepRow,
            state: TrainState = state,
            gradients: dict[str, Tensor] = gradients,
            before: dict[str, Tensor] = before,
        ) -> bool:
            after = weights(state)
            for name, gradient in gradients.items():
                torch.testing.assert_close(after[name], before[name] - row.lr * gradient, rtol=0, atol=1e-7)
            before.update(after)
            return False

        done = trained(config, tiny, state, stop=check)
        assert [row.lr for row in done.epochs] == [done.steps[6].lr, done.steps[13].lr]
        assert max(row.lr for row in done.steps) <= config.training.peak_learning_rate
        assert done.steps[0].lr < done.steps[1].lr


def test_the_schedule_spans_all_updates_of_all_epochs(small: TrainVal) -> None:
    data = part_of(small, 130, 20)
    for schedule, factor in (
        ("constant", lambda _share: 1),
        ("linear", lambda share: 1 - share),
        ("cosine", lambda share: (1 + math.cos(math.pi * share)) / 2),
    ):
        factors = [1 / 3, 2 / 3, *(factor(n / 18) for n in range(18))]
        done = trained(config_of(schedule=schedule, warmup=0.1, learning_rate=0.08, max_epochs=4), data)
        assert [row.lr for row in done.steps] == pytest.approx([0.08 * factor for factor in factors])


def test_the_plateau_lowers_the_rate_after_each_epoch_without_improvement(tiny: TrainVal) -> None:
    plateau = {"schedule": "plateau", "warmup": 0.0, "plateau_factor": 0.5, "plateau_patience": 0}
    done = trained(config_of(optimizer="adam", learning_rate=0.05, **plateau, max_epochs=6, patience=None), tiny)
    losses = [row.val_loss for row in done.epochs]
    rates = [0.05]
    for epoch, loss in enumerate(losses[:-1]):
        improves = all(loss < earlier for earlier in losses[:epoch])
        rates.append(rates[-1] * (1 if improves else 0.5))
    assert [row.lr for row in done.epochs] == pytest.approx(rates)
    assert rates[-1] < rates[0]
