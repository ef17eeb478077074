import math

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lenet_mnist.config import Activation
from lenet_mnist.model.lenet import LayerRow, LeNet, layer_table

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


def test_each_row_is_the_lectures() -> None:
    assert [(row.name, row.output_shape, row.num_parameters, row.num_multiply_adds) for row in table()] == LECTURE
    assert sum(row.num_parameters for row in table()) == 61_706
    assert sum(row.num_multiply_adds for row in table()) == 416_520


@pytest.mark.parametrize(("num_classes", "image_size"), SIZES)
def test_parameters_shapes_and_multiply_adds_are_those_of_the_real_network(num_classes: int, image_size: int) -> None:
    network, rows = zeroed(num_classes, image_size), table(num_classes, image_size)
    real = {name: sum(p.numel() for p in layer.parameters()) for name, layer in network.named_children()}
    assert {row.name.lower(): row.num_parameters for row in rows if row.num_parameters} == real
    seen = observed_shapes(network)
    shapes = {row.name: row.output_shape for row in rows}
    assert math.prod(shapes["S4"]) == seen.pop("flat")[0]
    assert {name: shapes[name] for name in seen} == seen
    assert (shapes["C1 relu"], shapes["C3 relu"]) == (shapes["C1"], shapes["C3"])
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 1, image_size, image_size))
    flops_of_one_multiply_add = 2
    assert sum(row.num_multiply_adds for row in rows) == counter.get_total_flops() / flops_of_one_multiply_add


def test_each_activation_is_named_has_no_cost_and_a_formula_of_its_own() -> None:
    for activation in Activation:
        rows = [row for row in layer_table(activation, 10, 28) if row.operation == "activation"]
        assert [row.name for row in rows] == [f"{layer} {activation.value}" for layer in ("C1", "C3", "C5", "F6")]
        assert all(row.num_parameters == row.num_multiply_adds == 0 for row in rows)
    assert len({layer_table(activation, 10, 28)[1].formula for activation in Activation}) == len(Activation)


def test_operations_are_written_with_their_sizes() -> None:
    operations = {row.name: row.operation for row in table()}
    sizes = {"C1": "5x5x1", "C3": "5x5x6", "S2": "2x2", "S4": "2x2", "C5": "400 -> 120", "output": "84 -> 10"}
    assert all(size in operations[name] for name, size in sizes.items())


def test_images_too_small_for_a_map_have_no_table() -> None:
    with pytest.raises(ValueError, match="image_size is 11"):
        table(image_size=11)
