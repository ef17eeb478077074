"""What a training recorded, as a TensorBoard event file: the values of its CSV files, under their names.

- scalars: history/<column> against epochs, steps/<column> against updates, probe_<column>/<layer> against epochs
- custom scalars: training and validation in one chart, the five layers in one chart
- of more than 20,000 recorded updates, or 5,000 epochs, every second or third, and so on
- hyperparameters: the configuration; images: what `lenet evaluate` drew of the network

Each event also bears a time. Runs record how many seconds each epoch took, so that it is the beginning of the run plus
the seconds of training until then: breaks are left out, the updates of an epoch lie at equal distances, and what came
after the last whole epoch, of which no time is known, bears that epoch's.

Source: github.com/tensorflow/tensorflow, tensorflow/core/util/event.proto and tensorflow/core/framework/summary.proto.
"""

import io
import struct
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from tensorboard.compat.proto.event_pb2 import Event, SourceMetadata
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import metadata as custom_scalars
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams import metadata as hparams
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util.tensor_util import make_tensor_proto

from lenet_mnist.config import Config, Split
from lenet_mnist.errors import ConfigError, DataError
from lenet_mnist.files.storage import read_bounded
from lenet_mnist.runs.directory import RunDirectory
from lenet_mnist.runs.evaluations import read_evaluation
from lenet_mnist.runs.manifest import Manifest, Status
from lenet_mnist.training.loop import EpochRow
from lenet_mnist.training.probe import Layer, ProbeRow

_AXES = {"epoch", "step", "layer"}  # columns that say where a value belongs
_PROBE_COLUMNS = [field.name for field in fields(ProbeRow) if field.name not in _AXES]
_ENDINGS: dict[Status, int] = {
    "finished": api_pb2.STATUS_SUCCESS,
    "diverged": api_pb2.STATUS_FAILURE,
    "failed": api_pb2.STATUS_FAILURE,
}
_MOST_STEPS, _MOST_EPOCHS = 20_000, 5_000  # rows of longer trainings are left out evenly
_Row = TypeVar("_Row")
_PICTURES = ("confusion_matrix", "misclassified", "calibration")
_MAX_PICTURE_BYTES = 16 * 1024 * 1024
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class _Clock:
    """When an update was made, in seconds since 1970: known at the ends of epochs, and between them in proportion."""

    beginning: float
    steps: npt.NDArray[np.int64]
    seconds: npt.NDArray[np.float64]

    @classmethod
    def of(cls, manifest: Manifest, history: list[EpochRow]) -> "_Clock":
        beginning = datetime.fromisoformat(manifest.created).timestamp()
        seconds = np.cumsum([0.0, *(row.seconds for row in history)])
        return cls(beginning, np.array([0, *(row.step for row in history)]), seconds)

    def at(self, step: int) -> float:
        return self.beginning + float(np.interp(step, self.steps, self.seconds))

    @property
    def end(self) -> float:
        return self.beginning + float(self.seconds[-1])


def event_file(run: RunDirectory) -> tuple[str, bytes]:
    """Return the name and the content of the event file of a training, finished or not: the same for the same run.

    Raises: ConfigError if `run` is no training; DataError if a file of it is damaged.
    """
    manifest = run.read_manifest()
    if manifest.kind != "train":
        raise ConfigError(f"{run.path}: is a {manifest.kind}, not a training: it has no histories")
    try:
        clock = _Clock.of(manifest, run.read_history())
        content = io.BytesIO()
        writer = RecordWriter(content)
        for event in _events(run, manifest, clock):
            writer.write(event.SerializeToString(deterministic=True))
    except (ValueError, OverflowError) as error:  # dates and steps beyond what there is
        raise DataError(f"{run.path}: damaged: {error}") from None
    return f"events.out.tfevents.{int(clock.beginning)}.lenet", content.getvalue()


def _events(run: RunDirectory, manifest: Manifest, clock: _Clock) -> Iterator[Event]:
    yield Event(
        wall_time=clock.beginning, file_version="brain.Event:2", source_metadata=SourceMetadata(writer="lenet_mnist")
    )
    yield _event(clock.beginning, 0, _layout(), _session_start(run.read_config(), clock.beginning))
    for step_row in _every(run.read_steps(), _MOST_STEPS):
        yield _event(clock.at(step_row.step), step_row.step, *_scalars("steps/{}", step_row))
    history = run.read_history()
    epochs = {0, *(row.epoch for row in _every(history, _MOST_EPOCHS))}
    for row in (row for row in history if row.epoch in epochs):
        yield _event(clock.at(row.step), row.epoch, *_scalars("history/{}", row))
    for probe_row in (row for row in run.read_probe() if row.epoch in epochs):
        scalars = _scalars(f"probe_{{}}/{probe_row.layer}", probe_row)
        yield _event(clock.at(probe_row.step), probe_row.epoch, *scalars)
    for picture in _pictures(run, manifest):
        yield _event(clock.end, manifest.best_epoch or 0, picture)
    if manifest.status in _ENDINGS:
        yield _event(clock.end, 0, _session_end(manifest.status, clock.end))


def _every(rows: Sequence[_Row], most: int) -> Sequence[_Row]:
    """Return all rows, or so few that there are not more than `most`."""
    return rows[:: -(-len(rows) // most) or 1]


def _event(time: float, step: int, *values: Summary.Value) -> Event:
    return Event(wall_time=time, step=step, summary=Summary(value=values))


def _scalars(tag: str, row: Any) -> list[Summary.Value]:
    """Return the values of a row, each under the name of its column."""
    columns = [(name, value) for name, value in asdict(row).items() if name not in _AXES]
    return [Summary.Value(tag=tag.format(name), simple_value=value) for name, value in columns]


def _layout() -> Summary.Value:
    """Return which curves belong into one chart."""
    charts = {
        "training and validation": {
            name: [f"history/{part}_{name}" for part in ("train", "val")] for name in ("loss", "accuracy")
        },
        "layers": {name: [f"probe_{name}/{layer}" for layer in Layer] for name in _PROBE_COLUMNS},
    }
    layout = layout_pb2.Layout(
        category=[
            layout_pb2.Category(
                title=category,
                chart=[
                    layout_pb2.Chart(title=title, multiline=layout_pb2.MultilineChartContent(tag=tags))
                    for title, tags in lines.items()
                ],
            )
            for category, lines in charts.items()
        ]
    )
    return Summary.Value(
        tag=custom_scalars.CONFIG_SUMMARY_TAG,
        tensor=make_tensor_proto(layout.SerializeToString(deterministic=True)),
        metadata=custom_scalars.create_summary_metadata(),
    )


def _session_start(config: Config, beginning: float) -> Summary.Value:
    """Return the configuration as TensorBoard's hyperparameters; what is null or empty is left out."""
    info = SessionStartInfo(start_time_secs=beginning)
    for section, values in config.model_dump(mode="json").items():
        named = {f"{section}.{key}": value for key, value in values.items()} if isinstance(values, dict) else None
        for name, value in (named or {section: values}).items():
            match value:
                case bool():
                    info.hparams[name].bool_value = value
                case int() | float():
                    info.hparams[name].number_value = value
                case str():
                    info.hparams[name].string_value = value
                case [_, *_]:
                    info.hparams[name].string_value = ", ".join(map(str, value))
    return _hparams_value(hparams.SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=info))


def _session_end(status: Status, end: float) -> Summary.Value:
    info = SessionEndInfo(status=_ENDINGS[status], end_time_secs=end)
    return _hparams_value(hparams.SESSION_END_INFO_TAG, HParamsPluginData(session_end_info=info))


def _hparams_value(tag: str, data: HParamsPluginData) -> Summary.Value:
    return Summary.Value(tag=tag, metadata=hparams.create_summary_metadata(data), tensor=hparams.NULL_TENSOR)


def _pictures(run: RunDirectory, manifest: Manifest) -> Iterator[Summary.Value]:
    """Yield what was drawn of the evaluations of the weights that the run has now."""
    for split in Split:
        directory = run.evaluation_path(split)
        if not (directory / "metrics.json").exists():
            continue
        if read_evaluation(run, split).weights_sha256 != manifest.weights_sha256:
            continue
        for name in _PICTURES:
            path = directory / f"{name}.png"
            content = read_bounded(path, max_bytes=_MAX_PICTURE_BYTES, error=DataError)
            if not content.startswith(_PNG) or len(content) < 24:
                raise DataError(f"{path}: is no PNG picture: `lenet evaluate` draws it again")
            width, height = struct.unpack(">II", content[16:24])
            image = Summary.Image(width=width, height=height, colorspace=4, encoded_image_string=content)
            yield Summary.Value(tag=f"evaluation_{split}/{name}", image=image)
