"""The run directory: names, layout, what is written when, what is read back and believed.

runs/<YYYYMMDD-HHMMSS>-<name>-<4 hex>/      UTC; made exclusively, movable, no absolute path inside
    config.yaml                             complete: `lenet train --config` with it does the run again
    manifest.json                           what happened, with what, and how it ended
    history.csv  steps.csv  probe.csv       one row an epoch; an update, later every 20th; an epoch and layer
    checkpoints/model.safetensors           the best weights
    checkpoints/step-<step>-<sha256>.safetensors    all that a resume needs; the newest two
    plots/  evaluation/<split>/  predictions/  export/
"""

import hashlib
import re
import secrets
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lenet_mnist import provenance
from lenet_mnist.config import Config
from lenet_mnist.config_file import load_config, to_yaml
from lenet_mnist.data.sets import TrainVal
from lenet_mnist.errors import ConfigError, DataError, StorageError
from lenet_mnist.files.storage import make_directory, read_bounded, storage_errors, write_bytes, write_text
from lenet_mnist.files.tables import MAX_TEXT_BYTES, header_line, read_rows
from lenet_mnist.model.engines import ResolvedEngine
from lenet_mnist.training.early_stopping import label_entropy
from lenet_mnist.training.loop import EpochRow, StepRow
from lenet_mnist.training.probe import ProbeRow

LATEST = "latest"
_RUN_ID = re.compile(r"\d{8}-\d{6}-[A-Za-z0-9_-]{1,40}-[0-9a-f]{4}")

Status = Literal["running", "finished", "interrupted", "diverged", "failed"]
Kind = Literal["train", "sweep"]
_COMMANDS: dict[Kind, str] = {"train": "train", "sweep": "lr-sweep"}


class Resume(BaseModel):
    """A run was gone on with, after `step` updates. `differences` are those that the user has accepted."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    time: str
    step: int
    config_sha256: str
    differences: tuple[str, ...]
    versions: dict[str, str]
    machine: str


class Manifest(BaseModel):
    """What happened in a run. Fields that are not known yet are null. `sha256` is that of all the rest."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    schema_version: Literal[1] = 1
    kind: Kind = "train"
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
    device: str = Field(pattern=r"^(cpu|cuda|mps)(:\d{1,3})?$")
    threads: int = Field(ge=1, le=1024)
    engine: Literal["torch", "native"]
    engine_reason: str
    guessing_loss: float
    """The validation loss of a network that does not look, in nats."""
    tuning: dict[str, Any] | None = None
    """What a sweep, or `learning_rate: auto`, has chosen."""
    config_sha256: str
    """Of config.yaml when the run began."""
    resumes: tuple[Resume, ...] = ()
    sha256: str = ""

    def digest(self) -> str:
        """Return what `sha256` has to be."""
        return hashlib.sha256(self.model_dump_json(exclude={"sha256"}).encode()).hexdigest()


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
    def probe_path(self) -> Path:
        """One row for each layer, before the first epoch and after each."""
        return self.path / "probe.csv"

    @property
    def history_headers(self) -> dict[Path, bytes]:
        """All histories, and what they hold before the first update."""
        headers = {
            self.history_path: header_line(EpochRow),
            self.steps_path: header_line(StepRow),
            self.probe_path: header_line(ProbeRow),
        }
        return {path: header.encode() for path, header in headers.items()}

    @property
    def model_path(self) -> Path:
        """The best weights."""
        return self.checkpoints_path / "model.safetensors"

    @property
    def checkpoints_path(self) -> Path:
        """The best weights, and the training states to go on from."""
        return self.path / "checkpoints"

    @property
    def journal_path(self) -> Path:
        """What a sweep has finished."""
        return self.path / "journal.jsonl"

    @property
    def plots_path(self) -> Path:
        """Pictures of the training."""
        return self.path / "plots"

    @property
    def predictions_path(self) -> Path:
        """Pictures of what was read in pictures of people's own."""
        return self.path / "predictions"

    @property
    def export_path(self) -> Path:
        """The network in other forms."""
        return self.path / "export"

    def evaluation_path(self, split: str) -> Path:
        """Return the directory with what is known of one split."""
        return self.path / "evaluation" / split

    def read_config(self) -> Config:
        """Return the configuration. Raises: DataError, also if it is not the one that the manifest knows."""
        manifest = self.read_manifest()
        known = {manifest.config_sha256, *(resume.config_sha256 for resume in manifest.resumes)}
        if sha256_of(self.config_path) not in known:
            raise DataError(f"{self.config_path}: is not the one of this run: damaged, or changed by hand")
        try:
            return load_config(self.config_path).config
        except ConfigError as error:
            raise DataError(str(error)) from error

    def read_manifest(self) -> Manifest:
        """Return the manifest. Raises: DataError."""
        content = read_bounded(self.manifest_path, max_bytes=MAX_TEXT_BYTES, error=DataError)
        try:
            manifest = Manifest.model_validate_json(content)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise DataError(f"{self.manifest_path}: {where}: {first['msg']}") from None
        if manifest.digest() != manifest.sha256:
            raise DataError(f"{self.manifest_path}: damaged, or changed by hand: its SHA-256 is not the one it names")
        return manifest

    def read_history(self) -> list[EpochRow]:
        """Return the rows of history.csv. Raises: DataError."""
        return read_rows(self.history_path, EpochRow)

    def read_steps(self) -> list[StepRow]:
        """Return the rows of steps.csv. Raises: DataError."""
        return read_rows(self.steps_path, StepRow)

    def read_probe(self) -> list[ProbeRow]:
        """Return the rows of probe.csv. Raises: DataError."""
        return read_rows(self.probe_path, ProbeRow)

    def write_manifest(self, manifest: Manifest) -> None:
        """Replace the manifest. Raises: StorageError."""
        signed = manifest.model_copy(update={"sha256": manifest.digest()})
        write_text(self.manifest_path, signed.model_dump_json(indent=2) + "\n")

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


def create_run(runs_dir: Path, config: Config, now: datetime, kind: Kind = "train") -> RunDirectory:
    """Make a new run directory with its configuration; two processes never get the same one.

    Raises: StorageError.
    """
    make_directory(runs_dir)
    label = config.label if kind == "train" else config.name or _COMMANDS[kind]
    while True:
        run = RunDirectory(runs_dir / f"{now:%Y%m%d-%H%M%S}-{label}-{secrets.token_hex(2)}")
        with storage_errors(run.path, "make this directory"):
            try:
                run.path.mkdir()
            except FileExistsError:
                continue
            break
    make_directory(run.checkpoints_path)
    write_text(run.config_path, to_yaml(config))
    if kind == "train":
        for path, header in run.history_headers.items():
            write_bytes(path, header)
    return run


def begin_run(
    runs_dir: Path,
    config: Config,
    data: TrainVal,
    device: torch.device,
    threads: int,
    engine: ResolvedEngine,
    kind: Kind = "train",
) -> tuple[RunDirectory, Manifest]:
    """Make a new run directory, with its configuration and the first form of its manifest. Raises: StorageError."""
    now = datetime.now(UTC)
    run = create_run(runs_dir, config, now, kind)
    manifest = Manifest(
        kind=kind,
        command=provenance.current_command(),
        created=now.isoformat(timespec="microseconds"),
        config_sha256=sha256_of(run.config_path),
        **circumstances(data, device, threads, engine),
    )
    run.write_manifest(manifest)
    return run, manifest


def circumstances(data: TrainVal, device: torch.device, threads: int, engine: ResolvedEngine) -> dict[str, Any]:
    """Return, by the manifest's names, what a result can depend on beside the configuration."""
    return {
        "data_source": data.fingerprint.source,
        "data_files": data.fingerprint.files,
        "split_sha256": data.fingerprint.split,
        "versions": provenance.versions(),
        "git": provenance.git_state(),
        "machine": provenance.machine(),
        "device": str(device),
        "threads": threads,
        "engine": engine.name.value,
        "engine_reason": engine.reason.replace(str(Path.home()), "~"),  # nothing of a run names a home
        "guessing_loss": label_entropy(torch.bincount(data.val.labels, minlength=data.num_classes).tolist()),
    }


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a small file. Raises: DataError."""
    return hashlib.sha256(read_bounded(path, max_bytes=MAX_TEXT_BYTES, error=DataError)).hexdigest()


def find_run(argument: str, runs_dir: Path, kind: Kind = "train") -> RunDirectory:
    """Return the run that a user means by a path, an id in `runs_dir`, or "latest", the newest of that kind.

    Raises: ConfigError if there is no such run.
    """
    if argument == LATEST:
        newest = next((run for run in list_runs(runs_dir) if _may_be(run, kind)), None)
        if newest is None:
            raise ConfigError(f"{runs_dir}: there are no such runs here yet. `lenet {_COMMANDS[kind]}` makes one")
        return newest
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


def _may_be(run: RunDirectory, kind: Kind) -> bool:
    """Whether a run is of that kind, or damaged, so that whoever opens it says so."""
    try:
        return run.read_manifest().kind == kind
    except DataError:
        return True


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
