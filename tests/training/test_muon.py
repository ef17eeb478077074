"""Muon against its published form in float64, in torch and in C."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch
from tests.tiny import config_of
from torch import Tensor
from torch.optim import AdamW

from lenet_mnist.config import Activation
from lenet_mnist.model.engines import ResolvedEngine
from lenet_mnist.model.lenet import LeNet, initialise
from lenet_mnist.randomness import Purpose, torch_generator
from lenet_mnist.training.muon import ADAM_RATE, Muon, optimizer_of, orthogonalised

SHAPES = ((16, 150), (120, 400), (84, 120))
SPECTRA: dict[str, Callable[[int], Tensor]] = {
    "even": lambda count: torch.ones(count),
    "steep": lambda count: torch.logspace(0, -6, count),
    "few directions": lambda count: (torch.arange(count) < 5).float(),
}


def published(gradient: Tensor) -> Tensor:
    """Jordan's zeropower_via_newtonschulz5, in the precision of `gradient`."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = gradient / (gradient.norm() + 1e-7)
    if gradient.size(0) > gradient.size(1):
        x = x.T
    for _ in range(5):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if gradient.size(0) > gradient.size(1) else x


def matrices(spectrum: str, size: float) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randn(shape, generator=generator) for shape in SHAPES]
    return [size * matrix * SPECTRA[spectrum](matrix.shape[1]) for matrix in drawn]


def native_directions(engine: ResolvedEngine, given: Sequence[Tensor]) -> list[Tensor]:
    """Return what the C form subtracts from weights of 0 at rate -1, without momentum."""
    assert engine.muon is not None
    network = LeNet(Activation.RELU, 10, 28)
    sizes = [parameter.numel() for parameter in network.parameters()]
    gradient, weights, momenta = torch.zeros(3, sum(sizes))
    for part, matrix in zip(torch.split(gradient, sizes)[2:8:2], given, strict=True):
        part.copy_(matrix.flatten())
    mean, square = torch.zeros(2, sum(sizes) - sum(matrix.numel() for matrix in given))
    engine.muon(gradient, [weights, momenta, mean, square], [0.0, -1.0, 0.0, 0.0, 1.0], True)
    return [part.view_as(x) for part, x in zip(torch.split(weights, sizes)[2:8:2], given, strict=True)]


@pytest.mark.parametrize("size", [1.0, 1e-5, 1e-12, 0.0])
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_the_directions_are_those_of_the_published_form(engine: ResolvedEngine, spectrum: str, size: float) -> None:
    """The C form works on squares, which costs digits of the weakest directions."""
    given = matrices(spectrum, size)
    found = [(orthogonalised(given), 1e-4)]
    if engine.muon is not None:
        error = {"even": 1e-5, "steep": 3e-3, "few directions": 1e-2}[spectrum]
        found.append((native_directions(engine, given), error))
    for directions, error in found:
        for matrix, direction in zip(given, directions, strict=True):
            expected = published(matrix.double())
            torch.testing.assert_close(direction.double(), expected, rtol=0, atol=error * float(expected.abs().max()))
            if spectrum == "even" and size > 1e-7:
                lengths = torch.linalg.svdvals(direction)
                assert 0.6 < lengths.min() < lengths.max() < 1.3


def test_the_number_of_threads_changes_nothing(engine: ResolvedEngine) -> None:
    given, found = matrices("steep", 1.0), []
    if engine.muon is None:
        pytest.skip("no native engine")
    for threads in (2, 3, 64, 1):
        engine.set_threads(threads)
        found.append(native_directions(engine, given))
    for one, *others in zip(*found, strict=True):
        for other in others:
            torch.testing.assert_close(other, one, rtol=0, atol=1e-6)


def test_trainings_in_two_threads_do_not_disturb_each_other(engine: ResolvedEngine) -> None:
    if engine.muon is None:
        pytest.skip("no native engine")
    given = [matrices(spectrum, 1.0) for spectrum in SPECTRA]
    alone = [native_directions(engine, each) for each in given]
    with ThreadPoolExecutor(len(given)) as pool:
        for _ in range(20):
            for found, expected in zip(pool.map(partial(native_directions, engine), given), alone, strict=True):
                assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


def test_a_matrix_with_more_rows_than_columns_is_turned_over() -> None:
    tall = matrices("even", 1.0)[1].T
    (direction,) = orthogonalised([tall])
    expected = (400 / 120) ** 0.5 * published(tall.double())
    torch.testing.assert_close(direction.double(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("momentum", [0.8, 0.3])
@pytest.mark.parametrize("image_size", [28, 12])  # with 12, C5 has more units than inputs
def test_updates_are_those_of_a_plain_reference(image_size: int, momentum: float) -> None:
    network = initialise(LeNet(Activation.RELU, 10, image_size), torch_generator(0, Purpose.INITIALISATION)).double()
    check_updates(network, momentum, 1e-9)


@pytest.mark.parametrize("momentum", [0.8, 0.3])
def test_updates_in_c_are_those_of_a_plain_reference(engine: ResolvedEngine, momentum: float) -> None:
    network = initialise(LeNet(Activation.RELU, 10, 28, engine), torch_generator(0, Purpose.INITIALISATION))
    check_updates(network, momentum, 1e-5)


def check_updates(network: LeNet, momentum: float, error: float) -> None:
    config = config_of(optimizer="muon", momentum=momentum, weight_decay=0.3)
    optimizer = optimizer_of(network, config.training)
    weights = [parameter.detach().clone().double().requires_grad_() for parameter in network.parameters()]
    hidden, others = weights[2:8:2], [*weights[:2], *weights[3:8:2], *weights[8:]]
    adamw = AdamW(others, lr=1, weight_decay=0.3)
    buffers = [torch.zeros_like(each) for each in hidden]
    for number in range(1, 12):
        lr = 0.05 / number
        gradients = random_gradients(weights, number)
        flat = torch.cat([each.flatten() for each in gradients]).to(network.c1.weight.dtype)
        optimizer.step(flat, lr, torch.zeros(()))
        for each, gradient in zip(weights, gradients, strict=True):
            each.grad = gradient
        adamw.param_groups[0]["lr"] = ADAM_RATE * lr
        adamw.step()
        with torch.no_grad():
            for each, buffer in zip(hidden, buffers, strict=True):
                buffer.mul_(momentum).add_((1 - momentum) * each.grad)
                if number % Muon.interval == 0:
                    update = ((1 - momentum) * each.grad + momentum * buffer).flatten(start_dim=1)
                    scale = max(1, update.shape[0] / update.shape[1]) ** 0.5
                    each.mul_(1 - lr * 0.3).sub_(lr * scale * published(update).view_as(each))
        for each, parameter in zip(weights, network.parameters(), strict=True):
            torch.testing.assert_close(parameter.detach().double(), each.detach(), rtol=error, atol=error)
    before = [each.clone() for each in (*network.parameters(), *optimizer.memory.values())]
    optimizer.step(torch.full_like(flat, torch.nan), 0.05, torch.ones(()))
    after = [*network.parameters(), *optimizer.memory.values()]
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))


def random_gradients(like: Sequence[Tensor], seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(each.shape, generator=generator, dtype=each.dtype) for each in like]
