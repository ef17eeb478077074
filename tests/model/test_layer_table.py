import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lenet_mnist.config import Activation
from lenet_mnist.model.layer_table import LayerRow, layer_table
from lenet_mnist.model.lenet import LeNet

LECTURE = [
    ("C1", (6, 28, 28), 156, 117_600),
    ("C1 relu", (6, 28, 28), 0, 0),
    ("S2", (6, 14, 14), 0, 0),
    ("C3", (16, 10, 10), 2_416, 240_000),
    ("C3 relu", (16, 10, 10), 0, 0),
    ("S4", (16, 5, 5), 0, 0),
    ("C5", (120,), 48_120, 48_000),
    ("C5 relu", (120,), 0, 0),
    ("F6", (84,), 10_164, 10_080),
    ("F6 relu", (84,), 0, 0),
    ("output", (10,), 850, 840),
]
SIZES = [(10, 28), (2, 12), (26, 28), (47, 29), (3, 64)]


def table(num_classes: int = 10, image_size: int = 28) -> list[LayerRow]:
    return layer_table(Activation.RELU, num_classes, image_size)


def zeroed(num_classes: int, image_size: int) -> LeNet:
    network = LeNet(Activation.RELU, num_classes, image_size)
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    return network


def observed_shapes(network: LeNet) -> dict[str, tuple[int, ...]]:
    """What one image looks like on its way: behind each layer, and where it enters the next one."""
    images = torch.zeros(1, 1, network.image_size, network.image_size)
    s2, s4, c5, f6, logits = network.layer_outputs(images)
    outputs = {"C1": network.c1(images), "S2": s2, "C3": network.c3(s2), "S4": s4, "flat": s4.flatten(start_dim=1)}
    outputs |= {"C5": c5, "C5 relu": c5, "F6": f6, "F6 relu": f6, "output": logits}
    return {layer: tuple(output.shape[1:]) for layer, output in outputs.items()}


@pytest.mark.parametrize(("row", "expected"), list(zip(table(), LECTURE, strict=True)), ids=[row[0] for row in LECTURE])
def test_each_row_is_the_lectures(row: LayerRow, expected: tuple[str, tuple[int, ...], int, int]) -> None:
    assert (row.name, row.output_shape, row.num_parameters, row.num_multiply_adds) == expected


def test_the_totals_are_the_lectures() -> None:
    assert sum(row.num_parameters for row in table()) == 61_706
    assert sum(row.num_multiply_adds for row in table()) == 416_520


@pytest.mark.parametrize(("num_classes", "image_size"), SIZES)
def test_each_layer_has_as_many_parameters_as_the_real_one(num_classes: int, image_size: int) -> None:
    network = LeNet(Activation.RELU, num_classes, image_size)
    real = {name: sum(p.numel() for p in layer.parameters()) for name, layer in network.named_children()}
    rows = table(num_classes, image_size)
    assert {row.name.lower(): row.num_parameters for row in rows if row.num_parameters} == real
    assert sum(row.num_parameters for row in rows) == sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(("num_classes", "image_size"), SIZES)
def test_each_shape_is_the_one_that_passes_through_the_network(num_classes: int, image_size: int) -> None:
    seen = observed_shapes(zeroed(num_classes, image_size))
    shapes = {row.name: row.output_shape for row in table(num_classes, image_size)}
    (flat,) = seen.pop("flat")
    assert {name: shapes[name] for name in seen} == seen
    assert shapes["S4"][0] * shapes["S4"][1] * shapes["S4"][2] == flat
    assert (shapes["C1 relu"], shapes["C3 relu"]) == (shapes["C1"], shapes["C3"])


@pytest.mark.parametrize(("num_classes", "image_size"), SIZES)
def test_the_multiply_adds_are_those_that_torch_counts(num_classes: int, image_size: int) -> None:
    network = zeroed(num_classes, image_size)
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 1, image_size, image_size))
    flops_of_one_multiply_add = 2
    counted = counter.get_total_flops() / flops_of_one_multiply_add
    assert sum(row.num_multiply_adds for row in table(num_classes, image_size)) == counted


@pytest.mark.parametrize("activation", Activation)
def test_the_activation_is_named_and_has_no_cost(activation: Activation) -> None:
    rows = [row for row in layer_table(activation, 10, 28) if row.operation == "activation"]
    assert [row.name for row in rows] == [f"{layer} {activation.value}" for layer in ("C1", "C3", "C5", "F6")]
    assert all(row.num_parameters == row.num_multiply_adds == 0 for row in rows)


def test_each_activation_has_a_formula_of_its_own() -> None:
    assert len({layer_table(activation, 10, 28)[1].formula for activation in Activation}) == len(Activation)


def test_operations_are_written_with_their_sizes() -> None:
    operations = {row.name: row.operation for row in table()}
    assert operations["C1"] == "convolution 6 @ 5x5x1, pad 2"
    assert operations["C3"] == "convolution 16 @ 5x5x6"
    assert operations["S2"] == operations["S4"] == "max pooling 2x2, stride 2"
    assert operations["C5"] == "fully connected 400 -> 120"
    assert operations["output"] == "fully connected 84 -> 10"


def test_images_too_small_for_a_map_have_no_table() -> None:
    with pytest.raises(ValueError, match=r"image_size is 11.*at least 12 x 12"):
        table(image_size=11)
