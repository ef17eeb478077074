"""The run directory: names, layout, what is written when, what is read back and believed.

runs/<YYYYMMDD-HHMMSS>-<name>-<4 hex>/      UTC; made exclusively, movable, no absolute path inside
    config.yaml                             complete: `lenet train --config` with it does the run again
    manifest.json                           what happened, with what, and how it ended
    history.csv  steps.csv                  one row an epoch; one row an update, later every 20th
    checkpoints/model.safetensors           the best weights
    checkpoints/state.safetensors           all that a resume needs
    plots/  evaluation/<split>/
"""

import csv
import dataclasses
import io
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from lenet_mnist.config import Config
from lenet_mnist.config_file import load_config, to_yaml
from lenet_mnist.errors import ConfigError, DataError, StorageError
from lenet_mnist.storage import make_directory, read_bounded, storage_errors, write_text
from lenet_mnist.training.loop import EpochRow, StepRow

LATEST = "latest"
_MAX_TEXT_BYTES = 64 * 1024 * 1024
_RUN_ID = re.compile(r"\d{8}-\d{6}-[A-Za-z0-9_-]{1,40}-[0-9a-f]{4}")
_ALL_STEPS_UP_TO = 200
_THEN_EVERY = 20

Status = Literal["running", "finished", "interrupted", "diverged", "failed"]


class Manifest(BaseModel):
    """What happened in a run. Fields that are not known yet are null."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    schema_version: Literal[1] = 1
    kind: Literal["train"] = "train"
    command: str
    created: str
    status: Status = "running"
    stop_reason: str | None = None
    message: str | None = None
    best_epoch: int | None = None
    best_val_loss: float | None = None
    best_val_accuracy: float | None = None
    epochs: int = 0
    seconds: float = 0.0
    weights_sha256: str | None = None
    data_source: str
    data_files: dict[str, str]
    split_sha256: str
    versions: dict[str, str]
    git: dict[str, str | bool] | None
    machine: str
    device: str
    threads: int
    engine: str
    engine_reason: str


@dataclass(frozen=True)
class RunDirectory:
    """A run on disk."""

    path: Path

    @property
    def id(self) -> str:
        """The directory's name."""
        return self.path.resolve().name

    @property
    def config_path(self) -> Path:
        """The complete configuration."""
        return self.path / "config.yaml"

    @property
    def manifest_path(self) -> Path:
        """What happened."""
        return self.path / "manifest.json"

    @property
    def history_path(self) -> Path:
        """One row an epoch."""
        return self.path / "history.csv"

    @property
    def steps_path(self) -> Path:
        """One row for some of the updates."""
        return self.path / "steps.csv"

    @property
    def model_path(self) -> Path:
        """The best weights."""
        return self.path / "checkpoints" / "model.safetensors"

    @property
    def state_path(self) -> Path:
        """The training state after the last update that was saved."""
        return self.path / "checkpoints" / "state.safetensors"

    @property
    def plots_path(self) -> Path:
        """Pictures of the training."""
        return self.path / "plots"

    def evaluation_path(self, split: str) -> Path:
        """Return the directory with what is known of one split."""
        return self.path / "evaluation" / split

    def read_config(self) -> Config:
        """Return the configuration. Raises: DataError."""
        try:
            return load_config(self.config_path).config
        except ConfigError as error:
            raise DataError(str(error)) from error

    def read_manifest(self) -> Manifest:
        """Return the manifest. Raises: DataError."""
        content = read_bounded(self.manifest_path, max_bytes=_MAX_TEXT_BYTES, error=DataError)
        try:
            return Manifest.model_validate_json(content)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise DataError(f"{self.manifest_path}: {where}: {first['msg']}") from None

    def read_history(self) -> list[EpochRow]:
        """Return the rows of history.csv. Raises: DataError."""
        rows = read_csv(self.history_path)
        fields = {field.name for field in dataclasses.fields(EpochRow)}
        try:
            if any(row.keys() != fields for row in rows):
                raise ValueError(f"its columns are not {', '.join(sorted(fields))}")
            return [
                EpochRow(
                    epoch=int(row.pop("epoch")),
                    step=int(row.pop("step")),
                    **{name: float(text) for name, text in row.items()},
                )
                for row in rows
            ]
        except (TypeError, ValueError) as error:
            raise DataError(f"{self.history_path}: not a history of epochs: {error}") from None

    def write_manifest(self, manifest: Manifest) -> None:
        """Replace the manifest. Raises: StorageError."""
        write_text(self.manifest_path, manifest.model_dump_json(indent=2) + "\n")

    def add_test_look(self, now: datetime) -> int:
        """Note in the run that the test set is being looked at; return how many looks that makes.

        Raises: StorageError.
        """
        looks = self.evaluation_path("test") / "looks.csv"
        make_directory(looks.parent)
        with storage_errors(looks, "append"):
            with suppress(FileExistsError), looks.open("xb") as file:
                file.write(b"time\n")
            with looks.open("ab") as file:  # two that look at once each add their line
                file.write(f"{now.isoformat(timespec='seconds')}\n".encode())
            return looks.read_bytes().count(b"\n") - 1


def create_run(runs_dir: Path, config: Config, now: datetime) -> RunDirectory:
    """Make a new run directory with its configuration; two processes never get the same one.

    Raises: StorageError.
    """
    make_directory(runs_dir)
    while True:
        run = RunDirectory(runs_dir / f"{now:%Y%m%d-%H%M%S}-{config.label}-{secrets.token_hex(2)}")
        with storage_errors(run.path, "make this directory"):
            try:
                run.path.mkdir()
            except FileExistsError:
                continue
            break
    make_directory(run.model_path.parent)
    write_text(run.config_path, to_yaml(config))
    return run


def find_run(argument: str, runs_dir: Path) -> RunDirectory:
    """Return the run that a user means by a path, an id in `runs_dir`, or "latest".

    Raises: ConfigError if there is no such run.
    """
    if argument == LATEST:
        runs = list_runs(runs_dir)
        if not runs:
            raise ConfigError(f"{runs_dir}: there are no runs here yet. `lenet train` makes one")
        return runs[0]
    if ".." in Path(argument).parts:
        raise ConfigError(f"{argument}: '..' is not allowed in a run: give its id or its path without '..'")
    for path in (Path(argument), runs_dir / argument):
        try:
            if path.is_file():
                raise ConfigError(f"{argument}: is a file; a run is a directory: try {path.parent}")
            if path.is_dir():
                if not (path / "manifest.json").is_file():
                    raise ConfigError(f"{argument}: is a directory, but no run: it has no manifest.json")
                return RunDirectory(path)
        except PermissionError as error:
            raise StorageError(f"{path}: cannot be looked at: {error.strerror}") from error
        except (OSError, ValueError):  # a name too long for the file system, or with a null character
            raise ConfigError(f"{argument[:80]!r}: cannot be the name of a run") from None
    raise ConfigError(f"{argument}: no such run. `lenet runs` lists those in {runs_dir}")


def list_runs(runs_dir: Path) -> list[RunDirectory]:
    """Return the runs in `runs_dir`, newest first. Whatever else lies there is passed over."""
    if not runs_dir.is_dir():
        return []
    with storage_errors(runs_dir, "list"):
        names = [path for path in runs_dir.iterdir() if _RUN_ID.fullmatch(path.name)]
    found = [RunDirectory(path) for path in names if _has_manifest(path)]
    return sorted(found, key=_time_of_creation, reverse=True)


def _has_manifest(path: Path) -> bool:
    """Whether a directory is a run; one that may not be entered counts as one, so that it is listed."""
    try:
        return (path / "manifest.json").is_file()
    except OSError:
        return True


def _time_of_creation(run: RunDirectory) -> tuple[str, str]:
    """Return the second in the run's name, and within it the finer time in its manifest, where that can be read."""
    try:
        return run.id[:15], run.read_manifest().created
    except DataError:
        return run.id[:15], ""


class HistoryWriter:
    """Appends rows to history.csv and steps.csv of a new run while training goes on. Raises: StorageError."""

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        header = ",".join(field.name for field in dataclasses.fields(EpochRow))
        with storage_errors(run.history_path, "write"):
            self._history = run.history_path.open("x", encoding="utf-8", newline="")
            self._history.write(f"{header}\n")
            self._history.flush()
        with storage_errors(run.steps_path, "write"):
            self._steps = run.steps_path.open("x", encoding="utf-8", newline="")
            self._steps.write("step,lr,train_loss\n")

    def add_step(self, row: StepRow) -> None:
        """Write the first 200 updates, then every 20th."""
        if row.step <= _ALL_STEPS_UP_TO or row.step % _THEN_EVERY == 0:
            with storage_errors(self._run.steps_path, "append"):
                self._steps.write(f"{row.step},{row.lr!r},{row.train_loss!r}\n")

    def add_epoch(self, row: EpochRow) -> None:
        """Write one row, and hand both files to the operating system."""
        with storage_errors(self._run.history_path, "append"):
            self._history.write(",".join(map(repr, dataclasses.astuple(row))) + "\n")
            self._history.flush()
        with storage_errors(self._run.steps_path, "append"):
            self._steps.flush()

    def close(self) -> None:
        """Hand over what is left, and close both files."""
        with storage_errors(self._run.path, "finish the histories"), ExitStack() as both:
            both.callback(self._history.close)
            both.callback(self._steps.close)


def read_csv(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file with a header. Raises: DataError."""
    content = read_bounded(path, max_bytes=_MAX_TEXT_BYTES, error=DataError)
    try:
        return list(csv.DictReader(io.StringIO(content.decode("utf-8"))))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV file: {error}") from None


def read_json(path: Path) -> Any:
    """Return the value in a JSON file. Raises: DataError."""
    content = read_bounded(path, max_bytes=_MAX_TEXT_BYTES, error=DataError)
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON: {error}") from None


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write a CSV file, whole or not at all. Raises: StorageError."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_text(path, text.getvalue())


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file, whole or not at all; a number that is not finite is refused. Raises: StorageError."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")
