"""`lenet bench` measures what trains, and counts operations as the issue of speed does."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lenet_mnist.benchmark import run as run_module
from lenet_mnist.benchmark import startup, steps
from lenet_mnist.benchmark.steps import present_engines, step_in_parts, training_operations
from lenet_mnist.config import Activation, Config, Engine
from lenet_mnist.data.batches import TrainBatches
from lenet_mnist.data.sets import TrainVal
from lenet_mnist.model.engines import ResolvedEngine, resolve_engine, torch_network
from lenet_mnist.training.checkpoint import weights_digest
from lenet_mnist.training.loop import start_training
from lenet_mnist.training.updates import train_step

CPU = torch.device("cpu")


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_step_in_parts_is_the_step_that_trains(small: TrainVal, optimizer: str) -> None:
    """What `lenet bench` takes apart must not drift away from the loop."""
    config = Config.model_validate({"training": {"optimizer": optimizer, "batch_size": 32}})
    whole, parts = start_training(config, small, CPU), start_training(config, small, CPU)
    batches = list(TrainBatches(small.train, small.normalization, 32, 0, CPU).of_epoch(1))[:5]
    untouched = weights_digest(whole.network.state_dict())
    iterator = iter(batches)
    for batch in batches:
        train_step(whole, batch, 0.01)
        seconds = step_in_parts(parts, iterator, 0.01, synchronize=lambda: None)
        assert list(seconds) == [
            "batch",
            "forward",
            "loss",
            "backward",
            "count",
            "gradient and norms",
            "optimizer",
            "read",
        ]
        assert min(seconds.values()) >= 0
    assert weights_digest(whole.network.state_dict()) == weights_digest(parts.network.state_dict()) != untouched


def test_an_image_costs_what_the_arithmetic_says() -> None:
    """Forward 416,520 multiply-adds; backward twice that without the gradient of the image (117,600 for C1)."""
    assert training_operations(10, 28, Config()) == 2 * (3 * 416_520 - 117_600) == 2_263_920


@pytest.mark.compiler
def test_the_torch_engine_is_always_compared() -> None:
    torch_only = ResolvedEngine(Engine.TORCH, "asked for", torch_network)
    assert list(present_engines(torch_only)) == ["torch"]
    native = resolve_engine(Engine.NATIVE, CPU, 28)
    assert list(present_engines(native)) == ["torch", "native"]


@pytest.mark.compiler
def test_the_peak_is_above_what_training_reaches() -> None:
    """Counted operations over seconds: below a hundred million or above ten million million is no processor."""
    peak = steps.measure_peak(resolve_engine(Engine.NATIVE, CPU, 28))
    assert peak is not None
    assert 1e8 < peak < 1e13


@pytest.mark.compiler
def test_the_command_measures_every_engine_and_batch_size(lenet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "_ROUNDS", 3)
    monkeypatch.setattr(steps, "_IMAGES_A_ROUND", 40)
    monkeypatch.setattr(steps, "_EVALUATED", 500)
    monkeypatch.setattr(steps, "_PEAK_ROUNDS", 1000)
    monkeypatch.setattr(startup, "_RUNS", 1)
    options = ("--batch-size", 8, "--batch-size", 20, "--threads", 1, "--activation", Activation.TANH.value)
    answer = lenet("bench", *options, "--json")
    assert answer.code == 0, answer.err
    measured = json.loads(answer.out)
    assert [(row["engine"], row["batch_size"]) for row in measured["steps"]] == [
        ("torch", 8),
        ("native", 8),
        ("torch", 20),
        ("native", 20),
    ]
    for row in measured["steps"]:
        assert row["step"]["low"] <= row["step"]["median"] <= row["step"]["high"]
        assert row["images_per_second"] == pytest.approx(row["batch_size"] / row["step"]["median"])
        expected = row["images_per_second"] * 2_263_920 / measured["peak"]
        assert row["peak_share"] == pytest.approx(expected)
    assert [row["engine"] for row in measured["evaluations"]] == ["torch", "native"]
    assert measured["startup_seconds"]["import torch"] > 0.1
    assert measured["threads"] == 1


def test_the_words_name_each_engine_without_a_peak_too(lenet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "_ROUNDS", 1)
    monkeypatch.setattr(steps, "_IMAGES_A_ROUND", 8)
    monkeypatch.setattr(run_module, "measure_startup", lambda _: {"import torch": 1.5})
    answer = lenet("bench", "--batch-size", 8, "--threads", 1, "--engine", "torch")
    assert answer.code == 0, answer.err
    assert "engine   torch: asked for" in answer.out
    assert "peak" not in answer.out.replace("of peak", "")
    assert "import torch             1.50" in answer.out


def test_importing_the_start_up_imports_no_torch(tmp_path: Path) -> None:
    """Else the time of `import torch` would be missing from what the fresh process measures."""
    import subprocess
    import sys

    program = "import sys, lenet_mnist.benchmark.startup; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=tmp_path).returncode == 0


def test_the_state_is_not_shared_between_arms(small: TrainVal) -> None:
    config = Config.model_validate({"training": {"batch_size": 32}})
    engine = ResolvedEngine(Engine.TORCH, "", torch_network)
    first, second = (steps._Arm(config, small, CPU, engine) for _ in range(2))
    before = copy.deepcopy(second._state.network.state_dict())
    first.seconds_a_step()
    assert weights_digest(before) == weights_digest(second._state.network.state_dict())


def test_batches_of_more_images_than_there_are_are_refused(lenet: Callable[..., Any]) -> None:
    """They would be waited for forever."""
    answer = lenet("bench", "--batch-size", 55_001)
    assert (answer.code, answer.err) == (2, "error: --batch-size 55001: there are 55,000 training images\n")
