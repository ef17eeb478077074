"""Each cause, on a training that shows it, and on the nearest one that does not."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from lenet_mnist.analysis.faults import diagnose
from lenet_mnist.analysis.findings import Cause, Finding, TrainingRecord
from lenet_mnist.config import Activation, Config
from lenet_mnist.training.rows import EpochRow, Layer, ProbeRow, StepRow

LN10 = math.log(10)
EPOCHS, BATCHES = 10, 100
WEIGHTS = {Layer.C1: 1.4, Layer.C3: 3.0, Layer.C5: 13.6, Layer.F6: 10.0, Layer.OUTPUT: 4.1}

Curve = Callable[[int], float]


def healthy(epoch: int) -> ProbeRow:
    """One layer after `epoch`, with nothing wrong in it."""
    return ProbeRow(epoch, BATCHES * epoch, Layer.C1, 0.1, 1.0, 0.01 if epoch else 0.0, 0.1, 0.0, 0.3, 0.5)


def record(
    *,
    train_loss: Curve = lambda e: 0.6 * 0.6**e,
    val_loss: Curve = lambda e: 0.02 + 0.6 * 0.6**e,
    train_accuracy: Curve = lambda e: 1 - 0.2 * 0.6**e,
    val_accuracy: Curve = lambda e: 0.99 - 0.2 * 0.6**e,
    probe: Callable[[int, Layer], Mapping[str, float]] = lambda _e, _l: {},
    num_epochs: int = EPOCHS,
    activation: Activation = Activation.TANH,
    **changes: Any,
) -> TrainingRecord:
    """A training that learns, with whatever is changed; curves are functions of the epoch, from 1."""
    training = {"max_epochs": EPOCHS, **changes.pop("training", {})}
    sections = {name: changes.pop(name, {}) for name in ("data", "augmentation")}
    config = Config.model_validate({"model": {"activation": activation.value}, "training": training, **sections})
    peak = config.training.peak_learning_rate

    def lr(epoch: float) -> float:
        return peak * (1 - epoch / EPOCHS)

    history = [
        EpochRow(e, e * BATCHES, lr(e), train_loss(e), train_accuracy(e), val_loss(e), val_accuracy(e), 1.0)
        for e in range(1, num_epochs + 1)
    ]
    steps = [
        StepRow(s, 1 + (s - 1) // BATCHES, lr(s / BATCHES), train_loss(1 + (s - 1) // BATCHES), 1.0, 0.1)
        for s in range(1, num_epochs * BATCHES + 1)
    ]
    rows = [
        replace(healthy(e), **{"layer": layer, "weight_norm": WEIGHTS[layer], **probe(e, layer)})
        for e in range(num_epochs + 1)
        for layer in Layer
    ]
    values = {
        "config": config,
        "num_train": 6400,
        "num_val": 5000,
        "guessing_loss": LN10,
        "stop_reason": "max-epochs",
        "history": history,
        "steps": steps,
        "probe": rows,
    }
    return TrainingRecord(**{**values, **changes})


def guessing(**changes: Any) -> TrainingRecord:
    """A training that never left the loss of guessing."""
    flat: dict[str, Any] = {
        "train_loss": lambda _: LN10,
        "val_loss": lambda _: LN10 + 0.001,
        "train_accuracy": lambda _: 0.11,
        "val_accuracy": lambda _: 0.11,
    }
    return record(**{**flat, **changes})


def causes(of: TrainingRecord) -> list[Cause]:
    findings = diagnose(of)
    for finding in findings:
        assert finding.headline
        assert finding.remedy
        assert all(finding.evidence)
    return [finding.cause for finding in findings]


def only(of: TrainingRecord) -> Finding:
    (finding,) = diagnose(of)
    return finding


@pytest.mark.parametrize("activation", Activation)
def test_in_a_healthy_training_nothing_is_found(activation: Activation) -> None:
    assert causes(record(activation=activation)) == []


@pytest.mark.parametrize("activation", Activation)
def test_in_a_healthy_training_on_distorted_images_nothing_is_found(activation: Activation) -> None:
    """What it trains on is harder than what it is validated on: a higher loss, a lower accuracy, to the end."""
    distorted = record(
        activation=activation,
        train_loss=lambda e: 0.05 + 0.9 * 0.6**e,
        train_accuracy=lambda e: 0.985 - 0.3 * 0.6**e,
        val_accuracy=lambda e: 0.993 - 0.2 * 0.6**e,
        augmentation={"rotation": 10.0, "elastic": 0.85},
    )
    assert all(row.train_loss > row.val_loss for row in distorted.history)
    assert causes(distorted) == []


@pytest.mark.parametrize("num_epochs", [0, 1, 2])
def test_a_training_that_has_hardly_begun_can_be_looked_at(num_epochs: int) -> None:
    assert causes(record(num_epochs=num_epochs, stop_reason=None)) == []
    nothing = record(num_epochs=0, probe=lambda _e, _l: {}, stop_reason="diverged")
    assert causes(replace(nothing, probe=())) == [Cause.DIVERGED]


def test_dead_units_say_that_the_rate_is_too_high() -> None:
    of = record(probe=lambda e, layer: {"dead": 0.6} if e > 3 and layer is Layer.C5 else {})
    assert causes(of) == [Cause.LEARNING_RATE, Cause.DEAD_UNITS]
    assert all(finding.next_command == "lenet train --config {config} --lr 0.01" for finding in diagnose(of))
    assert causes(record(probe=lambda e, _: {"dead": 0.4} if e > 3 else {})) == []
    from_the_start = record(probe=lambda _e, layer: {"dead": 0.6} if layer is Layer.C5 else {})
    assert causes(from_the_start) == []  # no rate has done that


@pytest.mark.parametrize(
    ("activation", "flat", "is_found"),
    [
        (Activation.RELU, 0.79, False),
        (Activation.RELU, 0.81, True),
        (Activation.SIGMOID, 0.66, False),
        (Activation.SIGMOID, 0.68, True),
        (Activation.TANH, 0.49, False),
        (Activation.TANH, 0.51, True),
    ],
)
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_flat_outputs_say_that_the_rate_is_too_high(
    activation: Activation, flat: float, is_found: bool, optimizer: str
) -> None:
    """The median of the hidden layers counts: one that is flat, and one that is not, change nothing."""
    shares = {Layer.C1: 1.0, Layer.C3: flat, Layer.C5: flat, Layer.F6: 0.1, Layer.OUTPUT: 0.0}
    of = record(
        activation=activation,
        probe=lambda _, layer: {"saturated": shares[layer]},
        training={"optimizer": optimizer},
    )
    steady = [replace(row, lr=of.config.training.peak_learning_rate) for row in of.history]
    for each in (of, replace(of, history=steady)):  # annealed, and not
        assert causes(each) == ([Cause.LEARNING_RATE] if is_found else [])


@pytest.mark.parametrize(("jumps_in", "is_found"), [(10, True), (5, False)])
def test_a_validation_loss_that_jumps_at_the_full_rate(jumps_in: int, is_found: bool) -> None:
    of = record(val_loss=lambda e: 0.15 if e == jumps_in else 0.1, num_epochs=10)
    steady = [replace(row, lr=of.config.training.peak_learning_rate) for row in of.history]
    assert causes(replace(of, history=steady)) == ([Cause.LEARNING_RATE] if is_found else [])
    assert causes(of) == []  # annealed


def test_a_rate_that_did_no_harm_is_not_called_too_high() -> None:
    """The loss oscillated, and many outputs are flat; the network is right all the same."""
    of = record(
        train_loss=lambda e: 3.5 if e == 2 else 0.01,
        val_loss=lambda _: 0.01,
        val_accuracy=lambda _: 1.0,
        probe=lambda e, layer: {"saturated": 0.95} if e and layer is not Layer.OUTPUT else {},
    )
    assert causes(of) == []
    assert causes(replace(of, history=[replace(row, val_loss=0.1) for row in of.history]))[0] is Cause.LEARNING_RATE


BROKEN: dict[str, dict[str, Any]] = {
    "a layer has died": {"probe": lambda e, layer: {"dead": 1.0} if e and layer is Layer.C3 else {}},
    "the loss fell and came back": {"train_loss": lambda e: LN10 if e > 3 else 0.5},
    "no gradient at C1": {"activation": Activation.RELU},
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_rate_that_is_too_high_comes_before_labels_and_decay(broken: str) -> None:
    """What it breaks looks like labels without a meaning (training loss below, validation loss above chance level)."""
    changes: dict[str, Any] = {
        "train_loss": lambda e: LN10 - 0.02 * e,
        "val_loss": lambda e: LN10 + 0.01 * e,
        "training": {"weight_decay": 0.001},
        **BROKEN[broken],
    }
    shrunk = changes.get("probe", lambda _e, _l: {})
    of = guessing(
        **changes | {"probe": lambda e, layer: {"weight_norm": WEIGHTS[layer] * (0.01 if e else 1), **shrunk(e, layer)}}
    )
    if broken == "no gradient at C1":
        of = replace(of, steps=[replace(row, c1_gradient_norm=0.0) for row in of.steps])
    first, *rest = diagnose(of)
    assert (first.cause, first.next_command) == (Cause.LEARNING_RATE, "lenet train --config {config} --lr 0.004")
    assert not {Cause.LABELS, Cause.WEIGHT_DECAY, Cause.OVER_FITTING} & {finding.cause for finding in rest}


@pytest.mark.parametrize(("kept", "decay", "is_found"), [(0.01, 1.0, True), (0.5, 1.0, False), (0.01, 0.0, False)])
def test_weight_decay(kept: float, decay: float, is_found: bool) -> None:
    of = guessing(
        training={"weight_decay": decay}, probe=lambda e, layer: {"weight_norm": WEIGHTS[layer] * (kept if e else 1)}
    )
    assert (Cause.WEIGHT_DECAY in causes(of)) == is_found


def test_labels_that_have_nothing_to_do_with_the_images() -> None:
    by_heart = guessing(train_loss=lambda e: LN10 - 0.02 * e, val_loss=lambda e: LN10 + 0.01 * e)
    assert causes(by_heart)[0] is Cause.LABELS
    assert Cause.LABELS not in causes(guessing())
    slow = guessing(train_loss=lambda e: LN10 - 0.02 * e, val_loss=lambda e: LN10 - 0.02 * e)
    assert Cause.LABELS not in causes(slow)


@pytest.mark.parametrize(
    ("nats", "update_ratio", "num_train", "is_found"),
    [(6.0, 0.01, 6400, True), (3.3, 0.01, 6400, False), (6.0, 0.001, 6400, False), (6.0, 0.01, 100, False)],
)
def test_labels_of_which_some_are_wrong(nats: float, update_ratio: float, num_train: int, is_found: bool) -> None:
    floor: dict[str, Any] = {
        "train_loss": lambda _: 0.06 * nats,
        "val_loss": lambda _: 0.06 * nats,
        "train_accuracy": lambda _: 0.94,
        "val_accuracy": lambda _: 0.94,
    }
    of = record(**floor, num_train=num_train, probe=lambda e, _: {"update_ratio": update_ratio if e else 0.0})
    assert (Cause.LABELS in causes(of)) == is_found


def test_momentum_is_named_where_the_steps_are_too_large() -> None:
    thrown: dict[str, Any] = {"train_loss": lambda e: 5.0 + e, "val_loss": lambda e: 5.0 + e}
    assert causes(guessing(**thrown, training={"momentum": 0.999}))[0] is Cause.MOMENTUM
    assert Cause.MOMENTUM not in causes(guessing(**thrown, training={"momentum": 0.9}))
    assert Cause.MOMENTUM not in causes(record(training={"momentum": 0.999}))


def test_the_advice_on_the_learning_rate_names_the_next_one() -> None:
    finding = diagnose(guessing(training={"learning_rate": 1e-6}))[0]
    assert (finding.cause, finding.next_command) == (Cause.LEARNING_RATE, "lenet train --config {config} --lr 1e-05")


def test_a_cause_at_the_root_explains_the_curve_and_no_rate_is_advised() -> None:
    assert Cause.LEARNING_RATE in causes(guessing())
    decayed = guessing(
        training={"weight_decay": 1.0}, probe=lambda e, layer: {"weight_norm": WEIGHTS[layer] * (0.01 if e else 1)}
    )
    assert causes(decayed) == [Cause.WEIGHT_DECAY, Cause.STUCK_AT_GUESSING]


def test_validation_images_of_one_class_tell_nothing() -> None:
    assert causes(guessing(guessing_loss=0.0, val_loss=lambda _: 0.0, val_accuracy=lambda _: 1.0)) == []


def test_a_divergence() -> None:
    finding = diagnose(record(stop_reason="diverged", training={"learning_rate": 10.0}))[0]
    assert (finding.cause, finding.next_command) == (Cause.DIVERGED, "lenet train --config {config} --lr 1")


@pytest.mark.parametrize(("gradient", "is_found"), [(1e-4, True), (0.01, False)])
def test_gradients_that_vanish_while_the_loss_rests(gradient: float, is_found: bool) -> None:
    of = guessing(
        activation=Activation.SIGMOID,
        probe=lambda _e, layer: {"gradient_norm": gradient if layer is Layer.C1 else 0.1},
    )
    assert (Cause.VANISHING_GRADIENTS in causes(of)) == is_found
    assert Cause.STUCK_AT_GUESSING in causes(of)
    relu = of.config.model_copy(update={"model": of.config.model.model_copy(update={"activation": Activation.RELU})})
    assert Cause.VANISHING_GRADIENTS not in causes(replace(of, config=relu))


def test_gradients_that_were_small_for_a_moment_only_are_no_finding() -> None:
    of = record(
        activation=Activation.SIGMOID,
        val_loss=lambda e: LN10 if e < 3 else 0.3 * 0.6**e,
        probe=lambda e, layer: {"gradient_norm": 1e-4 if layer is Layer.C1 and e < 3 else 0.1},
    )
    assert causes(of) == []


def test_a_validation_loss_that_has_turned() -> None:
    turned: dict[str, Any] = {"val_loss": lambda e: 0.1 + 0.01 * (e - 4) ** 2}
    finding = only(record(**turned, data={"limit_train": 6400}))
    assert finding.cause is Cause.OVER_FITTING
    assert finding.next_command == "lenet train --config {config} --set data.limit_train=null"
    assert "lowest after epoch 4, at 0.1" in finding.evidence[1]
    assert "distort them" in finding.remedy
    assert "distort them" not in only(record(**turned, augmentation={"rotation": 10.0})).remedy
    assert causes(record(**turned, num_val=4)) == []  # may be chance


def test_a_gap_of_accuracies_counts_beyond_chance() -> None:
    gap: dict[str, Any] = {"train_accuracy": lambda _: 0.99, "val_accuracy": lambda _: 0.92}
    assert causes(record(**gap)) == [Cause.OVER_FITTING]
    assert causes(record(**gap, num_val=100)) == []


@pytest.mark.parametrize(
    ("changes", "is_found"),
    [
        ({}, True),
        ({"stop_reason": "max-epochs"}, False),
        ({"training": {"patience": 5}}, False),
        ({"num_val": 5000}, False),
        ({"train_loss": lambda e: 0.1 if e > 2 else 0.5}, False),
    ],
)
def test_a_stop_by_chance_is_too_early(changes: dict[str, Any], is_found: bool) -> None:
    noisy = lambda e: 0.15 if e == 4 else 0.3 - 0.06 * e  # noqa: E731
    stopped: dict[str, Any] = {
        "val_loss": noisy,
        "num_epochs": 4,
        "num_val": 100,
        "stop_reason": "no-improvement",
        "training": {"patience": 1},
    }
    assert (Cause.STOPPED_TOO_EARLY in causes(record(**{**stopped, **changes}))) == is_found
