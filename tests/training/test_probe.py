"""What the probe says of a network, against loops that count it one by one."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from tests.tiny import config_of, start, trained

from lenet_mnist.config import Activation
from lenet_mnist.data.batches import CPU
from lenet_mnist.data.sets import TrainVal
from lenet_mnist.model.activations import ACTIVATIONS, ActivationFunction
from lenet_mnist.training.checkpoint import weights_digest
from lenet_mnist.training.context import Context
from lenet_mnist.training.loop import train
from lenet_mnist.training.probe import NUM_IMAGES, Probe, update_ratios
from lenet_mnist.training.rows import EpochRow, Layer, ProbeRow, StepRow
from lenet_mnist.training.state import TrainState


def look(data: TrainVal, state: TrainState) -> dict[Layer, ProbeRow]:
    return {row.layer: row for row in Probe.of(data, 0, CPU).look(state)}


def silu(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return x / (1 + np.exp(np.minimum(-x, 700)))


def slope(outputs: npt.NDArray[np.float64], activation: Activation) -> npt.NDArray[np.float64]:
    """The derivative of the activation by its output, as a fraction of the largest."""
    match activation:
        case Activation.RELU:
            return (outputs > 0).astype(float)
        case Activation.SIGMOID:
            return 4 * outputs * (1 - outputs)
        case Activation.TANH:
            return 1 - outputs**2


@pytest.mark.parametrize("activation", Activation)
def test_the_rows_are_what_loops_count(tiny: TrainVal, activation: Activation) -> None:
    """With weights four times as large, many units are saturated, and some of ReLU's are dead."""
    state = start(config_of(activation), tiny)
    with torch.no_grad():
        for parameter in state.network.parameters():
            parameter.mul_(4)
        state.network.f6.bias[:7] = -1000.0
    rows = look(tiny, state)
    batch = Probe.of(tiny, 0, CPU).batch
    outputs = state.network.layer_outputs(batch.images)
    for layer, output in zip(rows, outputs, strict=True):
        values = output.detach().double().numpy()
        assert rows[layer].mean == pytest.approx(values.mean(), rel=1e-6, abs=1e-5)
        assert rows[layer].deviation == pytest.approx(values.std(), rel=1e-4)
        if layer is Layer.OUTPUT:
            assert (rows[layer].saturated, rows[layer].dead) == (0, 0)
            continue
        flat = slope(values, activation) < 0.05
        dead = [all(flat[image, unit].all() for image in range(len(flat))) for unit in range(flat.shape[1])]
        assert rows[layer].saturated == pytest.approx(flat.mean(), abs=1e-4)
        assert rows[layer].dead == pytest.approx(np.mean(dead), abs=1e-6)
    assert rows[Layer.F6].dead >= 7 / 84
    assert rows[Layer.C5].saturated > 0.2


def test_of_a_function_that_is_pooled_after_it_the_winner_is_looked_at(
    tiny: TrainVal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SiLU is flat near -1.28, where it turns, and further left; |slope| / 1.0998 is what the probe measures."""
    monkeypatch.setitem(ACTIVATIONS, Activation.TANH, ActivationFunction(F.silu, ""))
    state = start(config_of(), tiny)
    network = state.network
    with torch.no_grad():
        network.c1.weight.mul_(3)
        network.c1.bias.sub_(torch.arange(6))
        network.c1.bias[5] = -1000.0
        sums = network.c1(Probe.of(tiny, 0, CPU).batch.images).double().numpy()
    windows = sums.reshape(*sums.shape[:2], 14, 2, 14, 2).swapaxes(3, 4).reshape(*sums.shape[:2], 14, 14, 4)
    winners = np.take_along_axis(windows, silu(windows).argmax(axis=-1)[..., None], axis=-1)[..., 0]
    flat = abs(silu(winners + 1e-6) - silu(winners - 1e-6)) / 2e-6 < 0.05 * 1.0998
    row = look(tiny, state)[Layer.C1]
    assert 0.1 < row.saturated == pytest.approx(flat.mean(), abs=1e-3)
    assert row.dead == pytest.approx(flat.all(axis=(0, 2, 3)).mean())
    assert row.dead >= 1 / 6


@pytest.mark.parametrize("activation", Activation)
def test_the_gradients_are_those_of_the_mean_loss(tiny: TrainVal, activation: Activation) -> None:
    state = start(config_of(activation), tiny)
    batch = Probe.of(tiny, 0, CPU).batch
    for parameter in state.network.parameters():
        torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(0))
    rows = look(tiny, state)
    F.cross_entropy(state.network(batch.images), batch.labels).backward()
    network = state.network
    layers = (network.c1, network.c3, network.c5, network.f6, network.output)
    for row, layer in zip(rows.values(), layers, strict=True):
        assert row.gradient_norm == pytest.approx(float(layer.weight.grad.norm()), rel=1e-5)
        assert row.weight_norm == pytest.approx(float(layer.weight.detach().norm()), rel=1e-5)
        assert row.gradient_norm > 0


@pytest.mark.parametrize(("optimizer", "shown"), [("adam", (7, 14)), ("muon", (4, 12))])
def test_the_update_is_the_last_of_the_epoch_that_moves_all_weights(
    tiny: TrainVal, optimizer: str, shown: tuple[int, int]
) -> None:
    config = config_of(optimizer=optimizer, learning_rate=0.01, max_epochs=2)
    state = start(config, tiny)
    seen: list[list[torch.Tensor]] = []
    looks = [look(tiny, state)]

    def on_step(_: StepRow) -> bool:
        seen.append([weights.detach().clone() for weights in state.network.weights_in_order])
        return False

    def on_epoch(row: EpochRow) -> None:
        looks.append(look(tiny, state))
        before, after = seen[shown[row.epoch - 1] - 2], seen[shown[row.epoch - 1] - 1]
        for row, old, new in zip(looks[-1].values(), before, after, strict=True):
            assert row.update_ratio == pytest.approx(float((new - old).norm() / old.norm()), rel=1e-5)

    train(config, Context(tiny), state, on_step, on_epoch)
    assert [(rows[Layer.C1].epoch, rows[Layer.C1].step) for rows in looks] == [(0, 0), (1, 7), (2, 14)]
    assert all(row.update_ratio == 0 for row in looks[0].values())
    assert all(row.update_ratio > 1e-6 for row in looks[1].values())


def test_an_update_of_weights_that_were_zero_has_no_ratio(tiny: TrainVal) -> None:
    state = start(config_of(), tiny)
    before = [weights.detach().clone() for weights in state.network.weights_in_order]
    before[-1].zero_()
    *others, output = update_ratios(before, [weights + 1 for weights in before])
    assert output == 0
    assert all(0 < ratio < 100 for ratio in others)


def test_looking_changes_nothing(tiny: TrainVal) -> None:
    state = start(config_of(Activation.RELU), tiny)
    before = (weights_digest(state.tensors()), state.scalars())
    first = look(tiny, state)
    assert (weights_digest(state.tensors()), state.scalars()) == before
    assert first == look(tiny, state)
    assert all(parameter.grad is None for parameter in state.network.parameters())


def test_the_images_are_always_the_same_training_images(small: TrainVal, tiny: TrainVal) -> None:
    batch, again, other = (Probe.of(small, seed, CPU).batch for seed in (3, 3, 4))
    assert len(batch.labels) == NUM_IMAGES
    assert torch.equal(batch.images, again.images)
    assert not torch.equal(batch.images, other.images)
    normalised = small.normalization.apply(small.train.images)
    pixels = {image.numpy().tobytes(): int(label) for image, label in zip(normalised, small.train.labels, strict=True)}
    chosen = [image.numpy().tobytes() for image in batch.images]
    assert [pixels[image] for image in chosen] == batch.labels.tolist()
    assert len(set(chosen)) == NUM_IMAGES
    all_of_them = Probe.of(tiny, 0, CPU).batch.labels.tolist()
    assert sorted(all_of_them) == sorted(tiny.train.labels.tolist())


def test_the_gradient_of_a_sigmoid_network_vanishes_on_its_way_to_c1(small: TrainVal) -> None:
    """Lecture point 5, seen after the first epoch, when all layers of both networks learn."""
    share = {}
    for activation in (Activation.SIGMOID, Activation.RELU):
        rows = look(small, trained(config_of(activation, max_epochs=1), small).state)
        share[activation] = rows[Layer.C1].gradient_norm / rows[Layer.OUTPUT].gradient_norm
    assert share[Activation.SIGMOID] < share[Activation.RELU] / 20


def test_a_network_whose_units_are_all_dead_is_seen_to_be(tiny: TrainVal) -> None:
    state = start(config_of(Activation.RELU), tiny)
    with torch.no_grad():
        state.network.c3.bias.fill_(-1000.0)
    rows = look(tiny, state)
    assert rows[Layer.C3].dead == rows[Layer.C3].saturated == 1
    assert rows[Layer.C1].gradient_norm == rows[Layer.C3].gradient_norm == rows[Layer.C5].gradient_norm == 0
