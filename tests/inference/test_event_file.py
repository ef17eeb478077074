"""`lenet export --format tensorboard`, read back by TensorBoard's own reader."""

import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams import metadata as hparams

from lenet_mnist.runs.directory import RunDirectory

Lenet = Callable[..., Any]
ALL = {"scalars": 0, "images": 0, "tensors": 0}


def exported(lenet: Lenet, run: RunDirectory, *options: object) -> EventAccumulator:
    """Export, and read everything back."""
    said = lenet("export", run.path, "--format", "tensorboard", *options)
    assert said.code == 0, said.err
    path = Path(said.out.splitlines()[0])
    assert said.out.splitlines()[1] == f"next  tensorboard --logdir {path}"
    reader = EventAccumulator(str(path), size_guidance=ALL)
    reader.Reload()
    return reader


def scalars(reader: EventAccumulator, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in reader.Scalars(tag)]


def rows_of(run: RunDirectory, name: str) -> list[Any]:
    return {"history": run.read_history, "steps": run.read_steps, "probe": run.read_probe}[name]()


def expected_scalars(run: RunDirectory) -> dict[str, list[tuple[int, float]]]:
    """Every number of the CSV files, by the tag it should have, as float32 holds it."""
    found: dict[str, list[tuple[int, float]]] = {}
    for name, axis in (("history", "epoch"), ("steps", "step"), ("probe", "epoch")):
        for row in rows_of(run, name):
            cells = asdict(row)
            layer = cells.pop("layer", None)
            position = cells[axis]
            for column, value in cells.items():
                if column not in ("epoch", "step"):
                    tag = f"probe_{column}/{layer}" if layer else f"{name}/{column}"
                    found.setdefault(tag, []).append((position, float(np.float32(value))))
    return found


def test_every_value_of_the_csv_files_is_there(lenet: Lenet, run: RunDirectory) -> None:
    reader = exported(lenet, run)
    expected = expected_scalars(run)
    assert {"history/val_loss", "steps/gradient_norm", "probe_dead/F6"} <= set(expected)
    assert set(reader.Tags()["scalars"]) == set(expected)
    for tag, values in expected.items():
        assert scalars(reader, tag) == values, tag
    assert [step for step, _ in scalars(reader, "history/val_loss")] == [1, 2]
    assert [step for step, _ in scalars(reader, "probe_dead/C1")] == [0, 1, 2]
    assert len(scalars(reader, "steps/train_loss")) == 64


def test_times_are_those_of_the_training(lenet: Lenet, run: RunDirectory) -> None:
    reader = exported(lenet, run)
    history = run.read_history()
    beginning = datetime.fromisoformat(run.read_manifest().created).timestamp()
    ends = [beginning + history[0].seconds, beginning + history[0].seconds + history[1].seconds]
    assert reader.FirstEventTimestamp() == beginning
    assert [event.wall_time for event in reader.Scalars("history/lr")] == pytest.approx(ends, abs=1e-5)
    assert [event.wall_time for event in reader.Scalars("probe_mean/C5")] == pytest.approx([beginning, *ends], abs=1e-5)
    times = [event.wall_time for event in reader.Scalars("steps/lr")]
    assert times[31] == pytest.approx(ends[0], abs=1e-5)
    assert times[-1] == pytest.approx(ends[1], abs=1e-5)
    assert times[0] == pytest.approx(beginning + history[0].seconds / 32, abs=1e-5)
    assert all(later > earlier for earlier, later in pairwise(times))


def test_a_training_that_still_goes_on(lenet: Lenet, run: RunDirectory) -> None:
    """One epoch is done, the next has begun, and a line is being written."""
    rows = run.history_path.read_text().splitlines(keepends=True)
    run.history_path.write_text("".join(rows[:2]) + rows[2][:20])
    run.write_manifest(run.read_manifest().model_copy(update={"status": "running", "epochs": 1}))
    reader = exported(lenet, run)
    assert len(reader.Scalars("history/val_loss")) == 1
    steps = reader.Scalars("steps/train_loss")
    assert len(steps) == 64
    end = reader.Scalars("history/val_loss")[0].wall_time
    assert [event.wall_time for event in steps[31:]] == [end] * 33  # no later time is known
    assert hparams.SESSION_END_INFO_TAG not in reader.Tags()["tensors"]


def test_of_a_very_long_training_every_second_row_is_there(lenet: Lenet, run: RunDirectory) -> None:
    header = run.steps_path.read_text().partition("\n")[0]
    rows = "".join(f"{step},1,0.1,2.0,1.0,1.0\n" for step in range(1, 20_002))
    run.steps_path.write_text(f"{header}\n{rows}")
    assert [step for step, _ in scalars(exported(lenet, run), "steps/train_loss")] == list(range(1, 20_002, 2))


def test_a_training_before_its_first_epoch(lenet: Lenet, run: RunDirectory) -> None:
    for path, header in run.history_headers.items():
        path.write_bytes(header)
    run.model_path.unlink()
    assert exported(lenet, run).Tags()["scalars"] == []


def test_the_configuration_is_the_hyperparameters(lenet: Lenet, run: RunDirectory) -> None:
    reader = exported(lenet, run)
    content = reader.SummaryMetadata(hparams.SESSION_START_INFO_TAG).plugin_data.content
    start = hparams.parse_session_start_info_plugin_data(content)
    values = {name: getattr(value, value.WhichOneof("kind")) for name, value in start.hparams.items()}
    config = run.read_config()
    expected = {
        f"{section}.{key}": value
        for section in ("model", "data", "augmentation", "training")
        for key, value in getattr(config, section).model_dump(mode="json").items()
        if value is not None and value != []
    }
    assert values == {"seed": 0, **expected}  # the name is null
    assert values["model.activation"] == "relu"
    assert values["training.nesterov"] is False
    content = reader.SummaryMetadata(hparams.SESSION_END_INFO_TAG).plugin_data.content
    end = hparams.parse_session_end_info_plugin_data(content)
    assert end.status == api_pb2.STATUS_SUCCESS
    seconds = sum(row.seconds for row in run.read_history())
    assert end.end_time_secs - start.start_time_secs == pytest.approx(seconds, abs=1e-5)


@pytest.mark.parametrize(("status", "expected"), [("diverged", api_pb2.STATUS_FAILURE), ("interrupted", None)])
def test_how_it_ended(lenet: Lenet, run: RunDirectory, status: str, expected: int | None) -> None:
    run.write_manifest(run.read_manifest().model_copy(update={"status": status}))
    reader = exported(lenet, run)
    if expected is None:
        assert hparams.SESSION_END_INFO_TAG not in reader.Tags()["tensors"]
    else:
        content = reader.SummaryMetadata(hparams.SESSION_END_INFO_TAG).plugin_data.content
        assert hparams.parse_session_end_info_plugin_data(content).status == expected


def test_charts_of_several_curves_name_curves_that_there_are(lenet: Lenet, run: RunDirectory) -> None:
    reader = exported(lenet, run)
    (event,) = reader.Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])
    charts = {chart.title: list(chart.multiline.tag) for category in layout.category for chart in category.chart}
    assert charts["loss"] == ["history/train_loss", "history/val_loss"]
    assert charts["gradient_norm"] == [f"probe_gradient_norm/{layer}" for layer in ("C1", "C3", "C5", "F6", "output")]
    assert {tag for tags in charts.values() for tag in tags} <= set(reader.Tags()["scalars"])


def test_pictures_of_an_evaluation_are_there_if_they_show_this_network(lenet: Lenet, run: RunDirectory) -> None:
    assert exported(lenet, run).Tags()["images"] == []
    lenet("evaluate", run.path, "--split", "val")
    reader = exported(lenet, run)
    names = ["confusion_matrix", "misclassified", "calibration"]
    assert reader.Tags()["images"] == [f"evaluation_val/{name}" for name in names]
    (image,) = reader.Images("evaluation_val/confusion_matrix")
    drawn = run.evaluation_path("val") / "confusion_matrix.png"
    assert image.encoded_image_string == drawn.read_bytes()
    with Image.open(drawn) as picture:
        assert (image.width, image.height, image.step) == (*picture.size, run.read_manifest().best_epoch)
    metrics = run.evaluation_path("val") / "metrics.json"
    values = json.loads(metrics.read_text())
    metrics.write_text(json.dumps({**values, "weights_sha256": "0" * 64}))
    assert exported(lenet, run).Tags()["images"] == []
    metrics.write_text(json.dumps(values))
    (run.evaluation_path("val") / "misclassified.png").write_text("<svg onload=alert(1)>")
    said = lenet("export", run.path, "--format", "tensorboard")
    assert said.code == 3
    assert "misclassified.png: is no PNG picture" in said.err


def test_another_export_replaces_its_own_file_alone(lenet: Lenet, run: RunDirectory) -> None:
    exported(lenet, run)
    directory = run.export_path / "tensorboard"
    (path,) = directory.iterdir()
    content = path.read_bytes()
    (directory / "notes.txt").write_text("mine")
    path.write_bytes(b"old")
    exported(lenet, run)
    assert path.read_bytes() == content
    assert (directory / "notes.txt").read_text() == "mine"
    assert len(list(directory.iterdir())) == 2


def test_event_files_of_something_else_are_not_mixed_with_it(lenet: Lenet, run: RunDirectory, tmp_path: Path) -> None:
    reader = exported(lenet, run, "--output", tmp_path / "logs" / "relu")
    assert reader.Tags()["scalars"]
    assert not run.export_path.exists()
    other = tmp_path / "logs" / "relu" / "events.out.tfevents.1.somebody"
    other.write_bytes(b"theirs")
    said = lenet("export", run.path, "--format", "tensorboard", "--output", "logs/relu")
    assert said.code == 2
    assert "logs/relu: holds event files of something else (events.out.tfevents.1.somebody)" in said.err
    assert other.read_bytes() == b"theirs"


def test_an_output_that_is_a_file_is_refused(lenet: Lenet, run: RunDirectory) -> None:
    Path("logs").write_text("mine")
    said = lenet("export", run.path, "--format", "tensorboard", "--output", "logs")
    assert said.code == 2
    assert "logs: is a file, a directory was expected" in said.err
    assert Path("logs").read_text() == "mine"


@pytest.mark.parametrize("step", ["9" * 30, "-" + "9" * 30])
def test_a_step_beyond_all_numbers_is_refused(lenet: Lenet, run: RunDirectory, step: str) -> None:
    rows = run.steps_path.read_text().splitlines(keepends=True)
    run.steps_path.write_text("".join([rows[0], step + rows[1][1:]]))
    said = lenet("export", run.path, "--format", "tensorboard")
    assert said.code == 3
    assert f"{run.id}: damaged: " in said.err


def test_a_date_that_is_none_is_refused(lenet: Lenet, run: RunDirectory) -> None:
    run.write_manifest(run.read_manifest().model_copy(update={"created": "yesterday"}))
    said = lenet("export", run.path, "--format", "tensorboard")
    assert said.code == 3
    assert "damaged: Invalid isoformat string" in said.err


def test_values_beyond_float32_and_none_at_all_are_kept_as_such(lenet: Lenet, run: RunDirectory) -> None:
    columns = run.steps_path.read_text().splitlines()[0].split(",")
    cells = {"step": "1", "epoch": "1", "lr": "1e300", "train_loss": "nan", "gradient_norm": "-inf"}
    lines = [",".join(columns), ",".join(cells.get(column, "0") for column in columns)]
    run.steps_path.write_text("\n".join(lines) + "\n")
    reader = exported(lenet, run)
    values = [scalars(reader, f"steps/{name}")[0][1] for name in ("lr", "train_loss", "gradient_norm")]
    assert np.array_equal(values, [np.inf, np.nan, -np.inf], equal_nan=True)
