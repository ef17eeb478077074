"""`lenet bench` measures what trains, and counts operations as the issue of speed does."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch

from lenet_mnist.bench import _Arm, run_benchmark, training_operations
from lenet_mnist.config import Config
from lenet_mnist.data.batches import TrainBatches
from lenet_mnist.data.mnist import DataAccess
from lenet_mnist.data.sets import TrainVal
from lenet_mnist.reporting.text import render
from lenet_mnist.training.checkpoint import weights_digest
from lenet_mnist.training.context import Context
from lenet_mnist.training.state import TrainState
from lenet_mnist.training.updates import train_step

PARTS = {
    "torch": ["batch", "forward", "loss", "backward", "count", "gradient and norms", "optimizer", "read"],
    "native": ["batch", "forward, loss and backward", "gradient and norms", "optimizer", "read"],
}


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_step_in_parts_is_the_step_that_trains(small: TrainVal, optimizer: str) -> None:
    """Each part is there, so that the functions that end one are still those that an update calls."""
    config = Config.model_validate({"training": {"optimizer": optimizer, "batch_size": 32}})
    arm, other = (_Arm(config, Context(small)) for _ in range(2))
    whole, untouched = TrainState.start(config, Context(small)), weights_digest(other.state.network.state_dict())
    before = torch.nn.functional.cross_entropy, torch.autograd.grad, torch.cat
    for batch in list(TrainBatches(small, config).of_epoch(1))[:5]:
        train_step(whole, batch, 0.01)
        seconds = arm._step_in_parts()
        assert list(seconds) == PARTS["torch"]
        assert min(seconds.values()) > 0
    assert weights_digest(whole.network.state_dict()) == weights_digest(arm.state.network.state_dict()) != untouched
    assert weights_digest(other.state.network.state_dict()) == untouched  # arms share nothing
    assert before == (torch.nn.functional.cross_entropy, torch.autograd.grad, torch.cat)


def test_an_image_costs_what_the_arithmetic_says(small: TrainVal) -> None:
    """Forward 416,520 multiply-adds; backward twice that without the gradient of the image (117,600 for C1)."""
    assert training_operations(Config(), small) == 2 * (3 * 416_520 - 117_600) == 2_263_920


@pytest.mark.compiler
def test_every_engine_and_batch_size_is_measured(access: DataAccess) -> None:
    config = Config.model_validate({"data": {"limit_train": 2000}, "training": {"threads": 1}})
    result = run_benchmark(config, (500, 1000), access, rounds=2)
    measured = json.loads(render(result, as_json=True))
    arms = [("torch", 500), ("native", 500), ("torch", 1000), ("native", 1000)]
    assert [(row["engine"], row["batch_size"]) for row in measured["steps"]] == arms
    for row in measured["steps"]:
        assert row["step"]["low"] <= row["step"]["median"] <= row["step"]["high"]
        assert row["images_per_second"] == pytest.approx(row["batch_size"] / row["step"]["median"])
        assert row["peak_share"] == pytest.approx(row["images_per_second"] * 2_263_920 / measured["peak"])
        assert list(row["parts"]) == PARTS[row["engine"]]
    assert 1e8 < measured["peak"] < 1e13  # less or more is no processor
    assert [row["engine"] for row in measured["evaluations"]] == ["torch", "native"]
    assert measured["startup_seconds"]["import torch"] > 0.1  # the process had not imported it
    assert measured["threads"] == 1
    assert all(
        name in str(result)
        for name in ("torch", "native", "GFLOP/s", "import torch", *PARTS["torch"], *PARTS["native"])
    )


def test_without_the_native_engine_there_is_no_peak(lenet: Callable[..., Any], access: DataAccess) -> None:
    config = Config.model_validate({"data": {"limit_train": 200}, "training": {"threads": 1, "engine": "torch"}})
    result = run_benchmark(config, (100,), access, rounds=1)
    (row,) = result.values["steps"]
    assert (result.values["peak"], row["peak_share"]) == (None, None)
    assert "GFLOP/s" not in str(result)
    answer = lenet("bench", "--batch-size", 55_001)  # its batches would be waited for for ever
    assert (answer.code, answer.out) == (2, "")
    assert "55,000 training images" in answer.err
