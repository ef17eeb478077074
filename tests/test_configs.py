"""The configurations that are shipped."""

from pathlib import Path

import pytest

from lenet_mnist.config import Config
from lenet_mnist.config_file import load_config

CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.yaml"))


def test_there_is_one_for_each_activation_and_one_for_ci() -> None:
    assert {"relu", "sigmoid", "tanh", "smoke"} <= {path.stem for path in CONFIGS}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_each_is_valid_and_opens_with_its_command(path: Path) -> None:
    assert load_config(path).config.label == path.stem
    comment = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert any(f"lenet train --config configs/{path.name}" in line for line in comment)


def test_the_defaults_are_those_of_relu() -> None:
    assert load_config(CONFIGS[0].parent / "relu.yaml").config == Config()
