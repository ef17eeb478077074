"""`lenet train --log tensorboard`, read back by TensorBoard's own reader."""

import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2

from lenet_mnist.runs.run import Run

Lenet = Callable[..., Any]
QUICK = ("--limit-train", 300, "--batch-size", 50, "--threads", 1, "--set", "data.val_size=100", "--log", "tensorboard")


def read(run: Run) -> EventAccumulator:
    reader = EventAccumulator(str(run.path / "tensorboard"), size_guidance={"scalars": 0, "tensors": 0})
    reader.Reload()
    return reader


def only_run() -> Run:
    (path,) = Path("runs").iterdir()
    return Run(path)


def expected_scalars(run: Run) -> dict[str, list[tuple[int, float]]]:
    """Every number of the CSV files, by the tag it should have, as float32 holds it."""
    found: dict[str, list[tuple[int, float]]] = {}
    for name, rows in (("history", run.history), ("steps", run.steps), ("probe", run.probe)):
        for row in rows:
            cells = asdict(row)
            layer, step, _ = cells.pop("layer", None), cells.pop("step"), cells.pop("epoch")
            for column, value in cells.items():
                tag = f"probe_{column}/{layer}" if layer else f"{name}/{column}"
                found.setdefault(tag, []).append((step, float(np.float32(value))))
    return found


def require_all_values(run: Run) -> None:
    reader, expected = read(run), expected_scalars(run)
    assert set(reader.Tags()["scalars"]) == set(expected)
    for tag, values in expected.items():
        assert [(event.step, event.value) for event in reader.Scalars(tag)] == values, tag


def test_every_value_of_the_csv_files_is_logged_for_each_seed(lenet: Lenet) -> None:
    assert lenet("train", *QUICK, "--epochs", 2, "--seeds", "0-1").code == 0
    run, other = (Run(path) for path in Path("runs").iterdir())
    require_all_values(run)
    require_all_values(other)
    assert {"history/val_loss", "steps/gradient_norm", "probe_dead/F6"} <= set(expected_scalars(run))
    (event,) = read(run).Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])
    tags = {tag for category in layout.category for chart in category.chart for tag in chart.multiline.tag}
    assert tags <= set(expected_scalars(run))


def test_a_resumed_training_continues_its_log(lenet: Lenet) -> None:
    """What is trained a second time is hidden: here the second epoch, whose checkpoint is lost."""
    constant = ("--set", "training.schedule=constant", "--set", "training.warmup=0")
    assert lenet("train", *QUICK, "--epochs", 2, *constant).code == 0
    run = only_run()
    max(run.checkpoints_path.glob("step-*")).unlink()
    assert lenet("train", "--resume", run.path, "--epochs", 3, "--log", "tensorboard").code == 0
    assert len(list((run.path / "tensorboard").iterdir())) == 2
    assert [row.epoch for row in run.history] == [1, 2, 3]
    require_all_values(run)


def test_a_log_that_cannot_be_written_stops_no_training(lenet: Lenet, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.utils.tensorboard import SummaryWriter

    def refuse(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(SummaryWriter, "add_scalar", refuse)
    said = lenet("train", *QUICK, "--epochs", 1)
    assert said.code == 0
    assert said.err.count("warning: --log tensorboard: stopped: No space left on device") == 1
    assert only_run().manifest.status == "finished"


def test_without_tensorboard_the_command_that_helps_is_named(lenet: Lenet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)  # so Python says that there is none
    said = lenet("train", *QUICK)
    assert said.code == 6
    assert "pip install tensorboard" in said.err
    assert not Path("runs").exists()
    assert lenet("train", "--log", "nothing").code == 2
