"""The run directory: how one is made, and a run opened to be read. docs/architecture.md says what is in which file."""

import hashlib
import os
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lenet_mnist.analysis.findings import TrainingRecord
from lenet_mnist.config import Config
from lenet_mnist.config_file import load_config, to_yaml
from lenet_mnist.errors import ConfigError, DataError, DivergedError, InterruptedBySignal, LenetError
from lenet_mnist.files.locks import exclusive_lock, is_locked
from lenet_mnist.files.storage import (
    append_line,
    make_directory,
    open_in_place,
    read_bounded,
    storage_errors,
    synced_entries,
    write_bytes,
    write_text,
)
from lenet_mnist.files.tables import MAX_TEXT_BYTES, first_error, read_json_text, read_rows
from lenet_mnist.runs.manifest import COMMANDS, Kind, Manifest, environment
from lenet_mnist.training.context import Context
from lenet_mnist.training.rows import EpochRow, Histories, Layer, ProbeRow, StepRow

_MAX_EPOCHS = 100_000  # the largest training.max_epochs
_MAX_LOOK_BYTES = 1024 * 1024  # 40,000 looks
_LOOKS_HEADER = b"time\n"  # two evaluations at once may each write it, and each add their line
RUN_ID = re.compile(r"\d{8}-\d{6}-([A-Za-z0-9_-]{1,40})-[0-9a-f]{4}")


class _Place:
    """The path of a file or directory inside a run."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, run: "Run", _kind: type["Run"]) -> Path:
        return run.path / self._name


@dataclass(frozen=True)
class Run:
    """A run on disk, opened once: each of its files is read when it is first asked for, and remembered.

    `interrupted_by` is the number of the signal that came while this process trained it, if one did. `require_lock`
    raises StorageError if this process had the run's lock and lost it: then nothing more is written.

    Raises: DataError, where a file is read that is missing, damaged, or not the one that the manifest names.
    """

    path: Path
    interrupted_by: int | None = field(default=None, compare=False)
    require_lock: Callable[[], None] = field(default=lambda: None, repr=False, compare=False)

    @property
    def id(self) -> str:
        return self.path.resolve().name

    @property
    def name(self) -> str:
        """The part of the id that is neither time nor chance; empty if the id has another form."""
        match = RUN_ID.fullmatch(self.id)
        return match[1] if match else ""

    config_path = _Place("config.yaml")
    manifest_path = _Place("manifest.json")
    history_path = _Place("history.csv")
    steps_path = _Place("steps.csv")
    probe_path = _Place("probe.csv")
    checkpoints_path = _Place("checkpoints")
    model_path = _Place("checkpoints/model.safetensors")
    journal_path = _Place("journal.jsonl")
    plots_path = _Place("plots")
    report_path = _Place("report.html")
    predictions_path = _Place("predictions")
    export_path = _Place("export")
    _looks_path = _Place("evaluation/test/looks.csv")

    def evaluation_path(self, split: str) -> Path:
        return self.path / "evaluation" / split

    @cached_property
    def manifest(self) -> Manifest:
        try:
            manifest = Manifest.model_validate_json(read_json_text(self.manifest_path))
        except ValidationError as error:
            raise DataError(f"{self.manifest_path}: {first_error(error)}") from None
        if manifest.digest() != manifest.sha256:
            raise DataError(f"{self.manifest_path}: damaged, or changed by hand: its SHA-256 is not the one it names")
        return manifest

    @property
    def status(self) -> str:
        """As its manifest says, but "killed" where that says "running" and nobody holds the lock."""
        status = self.manifest.status
        return "killed" if status == "running" and not is_locked(self.path) else status

    @cached_property
    def config(self) -> Config:
        known = {self.manifest.config_sha256, *(resume.config_sha256 for resume in self.manifest.resumes)}
        if sha256_of(self.config_path) not in known:
            raise DataError(f"{self.config_path}: not the one of this run: damaged, or changed by hand")
        try:
            return load_config(self.config_path).config
        except ConfigError as error:
            raise DataError(str(error)) from error

    @cached_property
    def history(self) -> list[EpochRow]:
        """One row per epoch; none is missing."""
        rows = read_rows(self.history_path, EpochRow, _MAX_EPOCHS)
        are_whole = all(row.epoch == place for place, row in enumerate(rows, start=1))
        _require(are_whole and _are_rising(rows), self.history_path, "an epoch")
        return rows

    @cached_property
    def steps(self) -> list[StepRow]:
        rows = read_rows(self.steps_path, StepRow)
        _require(_are_rising(rows), self.steps_path, "a step")
        return rows

    @cached_property
    def probe(self) -> list[ProbeRow]:
        """One row per epoch and layer; none is missing."""
        layers = tuple(Layer)
        rows = read_rows(self.probe_path, ProbeRow, len(layers) * (_MAX_EPOCHS + 1))
        looks = [rows[place : place + len(layers)] for place in range(0, len(rows), len(layers))]
        are_whole = all(
            tuple(row.layer for row in look) == layers and len({(row.epoch, row.step) for row in look}) == 1
            for look in looks
        )
        _require(are_whole, self.probe_path, "a layer")
        return rows

    @cached_property
    def record(self) -> TrainingRecord:
        config, manifest = self.config, self.manifest
        if not isinstance(config.training.learning_rate, float):
            raise DataError(f"{self.config_path}: training.learning_rate is not a number: not a run's configuration")
        told = manifest.num_train, manifest.num_val, manifest.guessing_loss, manifest.stop_reason
        return TrainingRecord(config, *told, self.history, self.steps, self.probe)

    def require(self, kind: Kind, purpose: str) -> None:
        """Raise ConfigError, which names the `purpose`, unless the run is of this kind."""
        if self.manifest.kind != kind:
            raise ConfigError(f"{self.path}: is a {self.manifest.kind} run: {purpose}")

    @contextmanager
    def locked(self, note: Callable[[str], None]) -> Iterator["Run"]:
        """Yield the run, read again: nobody else writes from here on. Raises: StorageError if another process does."""
        with exclusive_lock(self.path, note) as require_lock:
            yield Run(self.path, require_lock=require_lock)

    def write_manifest(self, manifest: Manifest) -> None:
        """Replace the manifest. Raises: StorageError."""
        self.require_lock()
        signed = manifest.model_copy(update={"sha256": manifest.digest()})
        write_text(self.manifest_path, signed.model_dump_json(indent=2) + "\n")
        self.__dict__["manifest"] = signed

    def note(self, **changes: Any) -> None:
        """Change values of the manifest. Raises: StorageError."""
        self.write_manifest(self.manifest.model_copy(update=changes))

    def note_failure(self, error: BaseException) -> None:
        """Note, where the disk still allows it, that `error` ended the command: it is the one to report."""
        ends = {InterruptedBySignal: "interrupted", KeyboardInterrupt: "interrupted", DivergedError: "diverged"}
        message = str(error) or type(error).__name__
        with suppress(LenetError):
            self.note(status=ends.get(type(error), "failed"), message=message.replace(str(self.path), self.id))

    def num_test_looks(self) -> int:
        """Return the number of test evaluations of this run.

        Raises: StorageError if that cannot be noted in its file; DataError if the file is larger than looks make it.
        """
        if not os.path.lexists(self._looks_path):
            return 0
        with (
            storage_errors(self._looks_path, "read"),
            os.fdopen(open_in_place(self._looks_path, os.O_RDONLY), "rb") as file,
        ):
            content = file.read(_MAX_LOOK_BYTES + 1)
        if len(content) > _MAX_LOOK_BYTES:
            raise DataError(f"{self._looks_path}: larger than the {_MAX_LOOK_BYTES:,} bytes that looks can have made")
        return content.count(b"\n") - content.count(_LOOKS_HEADER)

    def add_test_look(self, now: datetime) -> int:
        """Note a test evaluation in the run; return how many there are now.

        Raises: as `num_test_looks`.
        """
        make_directory(self._looks_path.parent)
        header = b"" if os.path.lexists(self._looks_path) else _LOOKS_HEADER
        append_line(self._looks_path, header + f"{now.isoformat(timespec='seconds')}\n".encode())
        return self.num_test_looks()


def create_run(runs_dir: Path, config: Config, now: datetime, kind: Kind = "train") -> Run:
    """Make a new run directory with its configuration; two processes never get the same one.

    Raises: StorageError.
    """
    make_directory(runs_dir)
    label = config.label if kind == "train" else config.name or COMMANDS[kind]
    while True:
        run = Run(runs_dir / f"{now:%Y%m%d-%H%M%S}-{label}-{secrets.token_hex(2)}")
        with storage_errors(run.path, "make this directory"), synced_entries(runs_dir), suppress(FileExistsError):
            run.path.mkdir()
            break
    make_directory(run.checkpoints_path)
    write_text(run.config_path, to_yaml(config))
    if kind == "train":
        for name, rows in Histories().by_name().items():
            write_bytes(run.path / f"{name}.csv", rows.header)
    return run


def create_beside_runs(runs_dir: Path, word: str, now: datetime) -> Path:
    """Make a new directory for results of several runs; it is not a run itself. Raises: StorageError."""
    directory = runs_dir / f"{word}-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    make_directory(directory)
    return directory


def begin_run(runs_dir: Path, config: Config, context: Context, kind: Kind = "train") -> Run:
    """Make a new run directory, with its configuration and the first form of its manifest. Raises: StorageError."""
    now = datetime.now(UTC)
    run = create_run(runs_dir, config, now, kind)
    run.write_manifest(
        Manifest(
            kind=kind,
            command=context.caller.command(),
            created=now.isoformat(timespec="microseconds"),
            config_sha256=sha256_of(run.config_path),
            **environment(context),
        )
    )
    return run


def _are_rising(rows: Sequence[EpochRow] | Sequence[StepRow]) -> bool:
    return all(before < after for before, after in pairwise([0, *(row.step for row in rows)]))


def _require(is_so: bool, path: Path, what: str) -> None:
    """Raise DataError if a file of rows is not as a training leaves it."""
    if not is_so:
        raise DataError(f"{path}: damaged: {what} is missing, or out of order")


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a small file. Raises: DataError."""
    return hashlib.sha256(read_bounded(path, max_bytes=MAX_TEXT_BYTES, error=DataError)).hexdigest()
