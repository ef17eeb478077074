import math

import pytest
import torch
import torch.nn.functional as F
from scipy import stats

from lenet_mnist.config import Activation
from lenet_mnist.data.sets import TrainVal
from lenet_mnist.model.lenet import LeNet, initialise
from lenet_mnist.training.checkpoint import weights_digest

LAYERS = ("c1", "c3", "c5", "f6", "output")
CONNECTIONS = {"c1": (25, 150), "c3": (150, 400), "c5": (400, 120), "f6": (120, 84), "output": (84, 10)}  # in, out
UNIFORM = [(activation, layer) for activation in Activation for layer in LAYERS
           if (activation, layer) != (Activation.RELU, "output")]  # fmt: skip


def network_of(activation: Activation, seed: int = 0) -> LeNet:
    return initialise(LeNet(activation, 10, 28), torch.Generator().manual_seed(seed))


def loss_of(network: LeNet, data: TrainVal, num_images: int = 2000) -> torch.Tensor:
    images = data.normalization.apply(data.train.images[:num_images])
    return F.cross_entropy(network(images), data.train.labels[:num_images])


def gradient_norms(network: LeNet, data: TrainVal) -> dict[str, float]:
    """Size of the gradient of each layer's weights on the first 256 images."""
    network.zero_grad()
    loss_of(network, data, 256).backward()
    return {layer: getattr(network, layer).weight.grad.norm().item() for layer in LAYERS}


def bound(activation: Activation, layer: str) -> float:
    fan_in, fan_out = CONNECTIONS[layer]
    return math.sqrt(6 / fan_in) if activation is Activation.RELU else math.sqrt(6 / (fan_in + fan_out))


@pytest.mark.parametrize("activation", Activation)
def test_a_seed_decides_the_weights(activation: Activation) -> None:
    first, again, other = (weights_digest(network_of(activation, seed).state_dict()) for seed in (1, 1, 2))
    assert first == again
    assert first != other


@pytest.mark.parametrize("activation", Activation)
def test_every_parameter_gets_a_value(activation: Activation) -> None:
    network = LeNet(activation, 10, 28)
    for parameter in network.parameters():
        torch.nn.init.constant_(parameter, math.nan)
    initialise(network, torch.Generator().manual_seed(0))
    assert all(bool(parameter.isfinite().all()) for parameter in network.parameters())


@pytest.mark.parametrize(("activation", "layer"), UNIFORM)
def test_weights_are_uniform_between_the_bounds_of_the_table(activation: Activation, layer: str) -> None:
    scaled = getattr(network_of(activation), layer).weight.detach().flatten() / bound(activation, layer)
    assert scaled.abs().max() <= 1 + 1e-6
    assert scaled.abs().max() > 0.97
    assert stats.kstest(scaled.numpy(), stats.uniform(-1, 2).cdf).pvalue > 1e-3


def test_relu_starts_from_an_output_layer_of_zeros() -> None:
    assert not network_of(Activation.RELU).output.weight.any()


@pytest.mark.parametrize("activation", Activation)
@pytest.mark.parametrize("layer", LAYERS)
def test_biases_are_zero(activation: Activation, layer: str) -> None:
    assert not getattr(network_of(activation), layer).bias.any()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("activation", "tolerance"), [(Activation.SIGMOID, 0.5), (Activation.TANH, 0.3), (Activation.RELU, 1e-5)]
)
def test_the_first_loss_is_near_that_of_guessing(
    small: TrainVal, activation: Activation, tolerance: float, seed: int
) -> None:
    """Measured over 20 seeds: sigmoid 0.10 to 0.37 nats above ln 10, tanh 0.02 below to 0.19 above."""
    with torch.inference_mode():
        loss = loss_of(network_of(activation, seed), small).item()
    assert loss == pytest.approx(math.log(10), abs=tolerance)


def test_initialising_leaves_the_global_generator_untouched() -> None:
    before = torch.get_rng_state()
    for activation in Activation:
        network_of(activation)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("seed", range(3))
def test_the_lesson_sigmoids_gradient_vanishes_on_its_way_to_the_first_layer(small: TrainVal, seed: int) -> None:
    """Of the output layer's gradient, C1 gets 0.002 to 0.005 with sigmoid and 0.7 to 2.3 with tanh (20 seeds)."""
    sigmoid, tanh = (gradient_norms(network_of(a, seed), small) for a in (Activation.SIGMOID, Activation.TANH))
    assert 50 * sigmoid["c1"] / sigmoid["output"] < tanh["c1"] / tanh["output"]
    assert 20 * sigmoid["c1"] < tanh["c1"]


def test_sigmoids_gradient_falls_from_layer_to_layer(small: TrainVal) -> None:
    norms = gradient_norms(network_of(Activation.SIGMOID), small)
    dense = [norms["output"], norms["f6"], norms["c5"]]
    assert dense == sorted(dense, reverse=True)
    assert max(norms["c1"], norms["c3"]) < 0.1 * norms["output"]


def test_relus_first_update_sets_the_other_layers_going(small: TrainVal) -> None:
    network = network_of(Activation.RELU)
    first = gradient_norms(network, small)
    assert [first[layer] for layer in LAYERS[:-1]] == [0, 0, 0, 0]
    torch.optim.SGD(network.parameters(), lr=0.04).step()
    assert min(gradient_norms(network, small).values()) > 0
