"""The configurations that are shipped."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import Answer

from lenet_mnist.config import Config
from lenet_mnist.config_file import load_config

CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.yaml"))


def test_there_is_one_for_each_activation_and_one_for_ci() -> None:
    assert {"relu", "sigmoid", "tanh", "smoke"} <= {path.stem for path in CONFIGS}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_each_is_valid_and_opens_with_its_command(path: Path) -> None:
    assert load_config(path).config.label == path.stem
    comment = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert any(f"lenet train --config {path.stem}" in line for line in comment)


def test_the_defaults_are_those_of_relu() -> None:
    assert load_config(CONFIGS[0].parent / "relu.yaml").config == Config()


def test_a_recipe_is_meant_by_its_name_and_a_file_by_its_path(lenet: Callable[..., Answer]) -> None:
    assert "learning_rate: 0.2 " in lenet("config", "show", "sigmoid").out
    assert lenet("config", "check", *(path.stem for path in CONFIGS)).code == 0
    assert lenet("config", "show", "./sigmoid").code == lenet("config", "show", "sigmoid.yaml").code == 2
    Path("sigmoid").write_text("seed: 7\n")
    assert "seed: 7 " in lenet("config", "show", "sigmoid").out
    Path("tanh").mkdir()
    assert lenet("config", "show", "tanh").code == 0
    misspelled = lenet("train", "--config", "acurate")
    assert misspelled.code == 2
    assert "accurate?" in misspelled.err


def test_recipes_are_listed_with_what_they_claim_and_copied_but_never_over_a_file(
    lenet: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    listed = {each["name"]: each for each in json.loads(lenet("recipes", "--json").out)["recipes"]}
    assert set(listed) == {path.stem for path in CONFIGS}
    assert all("accuracy" in each["expected"] and each["about"].endswith(".") for each in listed.values())
    assert max(map(len, lenet("recipes").out.splitlines())) <= 80
    assert lenet("recipes", "--copy", "fast").code == 0
    assert load_config(Path("fast.yaml")).config == load_config("fast").config
    Path("fast.yaml").write_text("precious")
    assert lenet("recipes", "--copy", "fast").code == 6
    assert Path("fast.yaml").read_text() == "precious"
    assert lenet("recipes", "--copy", "../fast").code == lenet("recipes", "--copy", "").code == 2
