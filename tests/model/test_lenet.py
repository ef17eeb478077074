import itertools
import math
import re
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from lenet_mnist.config import Activation
from lenet_mnist.data.sets import TrainVal
from lenet_mnist.model.activations import ACTIVATIONS, ActivationFunction
from lenet_mnist.model.engines import activate
from lenet_mnist.model.lenet import LeNet, feature_map_sizes, initialise
from lenet_mnist.training.checkpoint import weights_digest

Array = npt.NDArray[np.float64]

FORMULAS: dict[Activation, Callable[[Array], Array]] = {
    Activation.SIGMOID: lambda x: 1 / (1 + np.exp(-x)),
    Activation.TANH: lambda x: (np.exp(x) - np.exp(-x)) / (np.exp(x) + np.exp(-x)),
    Activation.RELU: lambda x: np.where(x > 0, x, 0.0),
}
LECTURES_POOLING = ([[12, 20, 30, 0], [8, 12, 2, 0], [34, 70, 37, 4], [112, 100, 25, 12]], [[20, 30], [112, 37]])


def drawn(activation: Activation, num_classes: int = 10, image_size: int = 28) -> LeNet:
    """A network in double precision with every parameter drawn, so that no bias and no output weight is zero."""
    network = LeNet(activation, num_classes, image_size)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.3, generator=generator)
    return network.double()


def pictures(num_images: int, size: int = 28) -> Tensor:
    return torch.randn(num_images, 1, size, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def convolution(image: Array, weights: Array, biases: Array) -> Array:
    """The lecture's F(i,j,c) = b_c + sum_m sum_n sum_k I(i+m, j+n, k) w_c(m,n,k), letter by letter."""
    num_m, num_n, _, num_maps = weights.shape
    height, width = image.shape[0] - num_m + 1, image.shape[1] - num_n + 1
    result = np.empty((height, width, num_maps))
    for i in range(height):
        for j in range(width):
            for c in range(num_maps):
                result[i, j, c] = biases[c] + (image[i : i + num_m, j : j + num_n] * weights[..., c]).sum()
    return result


def pooling(maps: Array) -> Array:
    """The largest of each 2x2 square; a last row or column without a partner is left out."""
    height, width = maps.shape[0] // 2, maps.shape[1] // 2
    return np.array([[maps[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].max(axis=(0, 1)) for j in range(width)]
                     for i in range(height)])  # fmt: skip


def of_lecture(weight: Tensor) -> Array:
    """Torch's order c,k,m,n of a kernel's indices in the lecture's m,n,k,c."""
    return weight.detach().numpy().transpose(2, 3, 1, 0)


def lecture_forward(network: LeNet, image: Array) -> Array:
    """One image through LeNet in the lecture's order: convolution, activation, pooling; indices i,j,c."""
    act = FORMULAS[network.activation]
    values = {name: value.detach().numpy() for name, value in network.named_parameters()}
    x = np.pad(image, ((2, 2), (2, 2), (0, 0)))
    x = pooling(act(convolution(x, of_lecture(network.c1.weight), values["c1.bias"])))
    x = pooling(act(convolution(x, of_lecture(network.c3.weight), values["c3.bias"])))
    x = x.transpose(2, 0, 1).ravel()
    x = act(values["c5.weight"] @ x + values["c5.bias"])
    x = act(values["f6.weight"] @ x + values["f6.bias"])
    return values["output.weight"] @ x + values["output.bias"]


def test_a_convolution_computes_the_lectures_formula_over_all_maps() -> None:
    network = drawn(Activation.RELU)
    maps_in = torch.randn(2, 6, 14, 14, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for layer, images, padding in ((network.c1, pictures(2), 2), (network.c3, maps_in, 0)):
        found = layer(images).detach().numpy()
        for image, maps in zip(images.numpy(), found, strict=True):
            padded = np.pad(image.transpose(1, 2, 0), ((padding, padding), (padding, padding), (0, 0)))
            expected = convolution(padded, of_lecture(layer.weight), layer.bias.detach().numpy())
            np.testing.assert_allclose(maps.transpose(1, 2, 0), expected, rtol=0, atol=1e-12)


def test_pooling_gives_the_lectures_example() -> None:
    """C1 and C3 are made to hand pixels through, and the example's windows lie apart, one for each window of S4."""
    example, expected = LECTURES_POOLING
    network = LeNet(Activation.RELU, 10, 28)
    with torch.no_grad():
        for layer in (network.c1, network.c3):
            layer.weight.zero_()
            layer.bias.zero_()
        network.c1.weight[0, 0, 2, 2] = 1
        network.c3.weight[0, 0, 0, 0] = 1
    images = torch.zeros(1, 1, 28, 28)
    for row, column in itertools.product((0, 1), repeat=2):
        window = torch.tensor(example)[2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        images[0, 0, 4 * row : 4 * row + 2, 4 * column : 4 * column + 2] = window
    s4 = network.layer_outputs(images).s4[0]
    assert s4[0, :2, :2].tolist() == expected
    assert pooling(np.array(example, dtype=float)[..., None])[..., 0].tolist() == expected


@pytest.mark.parametrize("activation", Activation)
def test_the_network_computes_what_the_lecture_draws(activation: Activation) -> None:
    for num_classes, image_size in ((10, 28), (3, 12), (4, 29)):
        network, images = drawn(activation, num_classes, image_size), pictures(2, image_size)
        expected = [lecture_forward(network, image.transpose(1, 2, 0)) for image in images.numpy()]
        np.testing.assert_allclose(network(images).detach().numpy(), expected, rtol=1e-10, atol=1e-10)


def test_a_function_that_falls_somewhere_is_taken_before_pooling(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the lecture: the largest of -3, -1 is another place after GELU than before."""
    monkeypatch.setitem(ACTIVATIONS, Activation.TANH, ActivationFunction(F.gelu, ""))
    gelu = np.vectorize(lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2)
    monkeypatch.setitem(FORMULAS, Activation.TANH, gelu)
    network, images = drawn(Activation.TANH), pictures(2)
    expected = [lecture_forward(network, image.transpose(1, 2, 0)) for image in images.numpy()]
    np.testing.assert_allclose(network(images).detach().numpy(), expected, rtol=1e-10, atol=1e-10)


def test_what_is_called_monotone_never_falls() -> None:
    x = torch.linspace(-30, 30, 100_001, dtype=torch.float64)
    assert ACTIVATIONS.keys() == set(Activation)
    for each in ACTIVATIONS.values():
        assert not each.is_monotone or bool((each.function(x).diff() >= 0).all())


@pytest.mark.parametrize("activation", Activation)
def test_pooling_before_the_activation_changes_nothing(small: TrainVal, activation: Activation) -> None:
    network = initialise(LeNet(activation, 10, 28), torch.Generator().manual_seed(0))

    def in_lectures_order(images: Tensor) -> Tensor:
        x = F.max_pool2d(activate(network.c1(images), activation), 2)
        return F.max_pool2d(activate(network.c3(x), activation), 2)

    images = small.normalization.apply(small.train.images[:128])
    batches = [*torch.split(images, 64), *torch.split(images, 7), images[:1]]
    # torch's sigmoid gives one number another last bit at another place of a tensor; the others agree to the bit.
    tolerance = 3e-7 if activation is Activation.SIGMOID else 0
    with torch.no_grad():
        for batch in batches:
            expected = in_lectures_order(batch.squeeze(1).unsqueeze(3).permute(0, 3, 1, 2))  # laid out alike
            torch.testing.assert_close(network.layer_outputs(batch).s4, expected, rtol=tolerance, atol=0)


def test_activations_are_the_lectures_functions() -> None:
    x = torch.linspace(-6, 6, 241, dtype=torch.float64)
    for activation, formula in FORMULAS.items():
        np.testing.assert_allclose(activate(x, activation).numpy(), formula(x.numpy()), rtol=1e-12, atol=1e-15)


@given(st.lists(st.lists(st.floats(-1e4, 1e4, width=32), min_size=10, max_size=10), min_size=1, max_size=20))
def test_softmax_is_a_distribution_and_keeps_the_predicted_class(values: list[list[float]]) -> None:
    logits = torch.tensor(values, dtype=torch.float64)
    probabilities = logits.softmax(dim=1)
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(len(values), dtype=torch.float64))
    at_the_prediction = probabilities.gather(1, logits.argmax(dim=1, keepdim=True)).squeeze(1)
    assert torch.equal(at_the_prediction, probabilities.amax(dim=1))


def test_the_network_returns_logits_whose_softmax_predicts_the_same(small: TrainVal) -> None:
    for activation in (Activation.TANH, Activation.RELU):  # an untrained sigmoid says one class to all
        logits = drawn(activation).float()(small.normalization.apply(small.val.images))
        assert not torch.allclose(logits.sum(dim=1), torch.ones(len(logits)))
        assert torch.equal(logits.softmax(dim=1).argmax(dim=1), logits.argmax(dim=1))
        assert len(logits.argmax(dim=1).unique()) > 1


def test_an_image_gets_its_answer_whatever_stands_beside_it() -> None:
    network, images = drawn(Activation.TANH), pictures(5)
    together = network(images)
    assert together.shape == (5, 10)
    alone = torch.cat([network(image[None]) for image in images])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)
    assert network(pictures(0)).shape == (0, 10)


def test_sizes_that_cannot_be_are_refused_with_what_is_expected() -> None:
    network = drawn(Activation.RELU)
    for shape in (
        (28, 28),
        (1, 28, 28),
        (3, 28, 28),
        (2, 3, 28, 28),
        (2, 1, 27, 28),
        (2, 1, 28, 32),
        (2, 1, 28, 28, 1),
    ):
        with pytest.raises(ValueError, match=re.escape(f"{shape}, expected (N, 1, 28, 28)")):
            network(torch.zeros(shape, dtype=torch.float64))
    for num_classes, image_size, says in (
        *((10, size, f"image_size is {size}, .*12 x 12") for size in (-28, 0, 1, 11)),
        *((number, 28, f"num_classes is {number}, .*at least 2") for number in (-1, 0, 1)),
    ):
        with pytest.raises(ValueError, match=says):
            LeNet(Activation.RELU, num_classes, image_size)


def test_feature_map_sizes() -> None:
    for image_size, sizes in ((28, (28, 14, 10, 5)), (32, (32, 16, 12, 6)), (12, (12, 6, 2, 1))):
        assert feature_map_sizes(image_size) == sizes


# The starting weights

LAYERS = ("c1", "c3", "c5", "f6", "output")
CONNECTIONS = {"c1": (25, 150), "c3": (150, 400), "c5": (400, 120), "f6": (120, 84), "output": (84, 10)}  # in, out


def network_of(activation: Activation, seed: int = 0) -> LeNet:
    return initialise(LeNet(activation, 10, 28), torch.Generator().manual_seed(seed))


def gradient_norms(network: LeNet, data: TrainVal) -> dict[str, float]:
    """Size of the gradient of each layer's weights on the first 256 images."""
    network.zero_grad()
    images = data.normalization.apply(data.train.images[:256])
    F.cross_entropy(network(images), data.train.labels[:256]).backward()
    return {layer: getattr(network, layer).weight.grad.norm().item() for layer in LAYERS}


@pytest.mark.parametrize("activation", Activation)
def test_starting_weights_are_uniform_between_the_bounds_of_the_table_and_decided_by_the_seed(
    activation: Activation,
) -> None:
    before = torch.get_rng_state()
    network = LeNet(activation, 10, 28)
    for parameter in network.parameters():
        torch.nn.init.constant_(parameter, math.nan)  # every one gets a value
    initialise(network, torch.Generator().manual_seed(0))
    for layer, (fan_in, fan_out) in CONNECTIONS.items():
        weights = getattr(network, layer).weight.detach().flatten()
        assert not getattr(network, layer).bias.any()
        if activation is Activation.RELU and layer == "output":
            assert not weights.any()
            continue
        bound = math.sqrt(6 / fan_in) if activation is Activation.RELU else math.sqrt(6 / (fan_in + fan_out))
        assert 0.97 < (weights / bound).abs().max() <= 1 + 1e-6
        assert stats.kstest((weights / bound).numpy(), stats.uniform(-1, 2).cdf).pvalue > 1e-3
    again, other = (weights_digest(network_of(activation, seed).state_dict()) for seed in (0, 1))
    assert weights_digest(network.state_dict()) == again != other
    assert torch.equal(torch.get_rng_state(), before)  # the global generator is left alone


def test_the_first_loss_is_near_chance_level(small: TrainVal) -> None:
    """Measured over 20 seeds: sigmoid 0.10 to 0.37 nats above ln 10, tanh 0.02 below to 0.19 above."""
    images = small.normalization.apply(small.train.images)
    for activation, tolerance in ((Activation.SIGMOID, 0.5), (Activation.TANH, 0.3), (Activation.RELU, 1e-5)):
        for seed in range(2):
            with torch.inference_mode():
                loss = F.cross_entropy(network_of(activation, seed)(images), small.train.labels).item()
            assert loss == pytest.approx(math.log(10), abs=tolerance)


def test_the_lesson_sigmoids_gradient_vanishes_on_its_way_to_the_first_layer(small: TrainVal) -> None:
    """Of the output layer's gradient, C1 gets 0.002 to 0.005 with sigmoid and 0.7 to 2.3 with tanh (20 seeds)."""
    for seed in range(3):
        sigmoid, tanh = (gradient_norms(network_of(a, seed), small) for a in (Activation.SIGMOID, Activation.TANH))
        assert 50 * sigmoid["c1"] / sigmoid["output"] < tanh["c1"] / tanh["output"]
        assert 20 * sigmoid["c1"] < tanh["c1"]
        assert sigmoid["output"] > sigmoid["f6"] > sigmoid["c5"]
        assert max(sigmoid["c1"], sigmoid["c3"]) < 0.1 * sigmoid["output"]


def test_relus_first_update_sets_the_other_layers_going(small: TrainVal) -> None:
    network = network_of(Activation.RELU)
    first = gradient_norms(network, small)
    assert [first[layer] for layer in LAYERS[:-1]] == [0, 0, 0, 0]
    torch.optim.SGD(network.parameters(), lr=0.04).step()
    assert min(gradient_norms(network, small).values()) > 0
