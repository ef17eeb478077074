"""What a training writes while it runs: histories, checkpoints, the kept weights, the manifest.

The training states of a run are checkpoints/step-<step>-<SHA-256>.safetensors. The digest of a file is in its name, so
that one renaming makes a checkpoint appear, complete and listed, and nothing of a file is parsed before its digest has
been checked. The newest intact one counts, by its step.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lenet_mnist import provenance
from lenet_mnist.config import Config
from lenet_mnist.config_file import to_yaml
from lenet_mnist.data.sets import TrainVal
from lenet_mnist.errors import DataError
from lenet_mnist.files.storage import read_bounded, storage_errors, write_bytes, write_text
from lenet_mnist.runs.manifest import Resume, machine_of
from lenet_mnist.runs.run import Run, sha256_of
from lenet_mnist.training.checkpoint import TrainedNetwork, parse_state, state_bytes, weights_digest, write_network
from lenet_mnist.training.loop import StopReason, TrainResult
from lenet_mnist.training.rows import EpochRow
from lenet_mnist.training.state import TrainState

NUM_KEPT = 2
_MAX_BYTES = 128 * 1024 * 1024  # a state of the largest kind, and the rows of 14 million updates
_NAME = re.compile(r"step-(\d{8,12})-([0-9a-f]{64})\.safetensors")


@dataclass(frozen=True, order=True)
class Checkpoint:
    """A training state on disk."""

    step: int
    sha256: str
    path: Path

    def read(self) -> bytes:
        content = read_bounded(self.path, max_bytes=_MAX_BYTES, error=DataError)
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise DataError(f"{self.path}: damaged: its SHA-256 is not the one in its name")
        return content

    @property
    def is_intact(self) -> bool:
        """Whether it holds what its name says."""
        try:
            self.read()
        except DataError:
            return False
        return True


def list_checkpoints(directory: Path) -> list[Checkpoint]:
    """Return the checkpoints in `directory`, the newest first. Raises: StorageError if it cannot be listed."""
    with storage_errors(directory, "list"):
        named = [(_NAME.fullmatch(path.name), path) for path in directory.iterdir()]
    return sorted((Checkpoint(int(match[1]), match[2], path) for match, path in named if match), reverse=True)


def save_checkpoint(directory: Path, state: TrainState) -> None:
    """Write `state`, then remove what is older than the newest two that are intact. What is damaged stays.

    Raises: StorageError; the older checkpoints are then still there.
    """
    content = state_bytes(state)
    write_bytes(directory / f"step-{state.step:08d}-{hashlib.sha256(content).hexdigest()}.safetensors", content)
    until_now = [checkpoint for checkpoint in list_checkpoints(directory) if checkpoint.step <= state.step]
    intact = [checkpoint for checkpoint in until_now if checkpoint.is_intact]
    for checkpoint in intact[NUM_KEPT:]:
        with storage_errors(checkpoint.path, "remove"):
            checkpoint.path.unlink()


def restore_newest(directory: Path, state: TrainState) -> list[str]:
    """Make `state` the newest one that is intact, with its rows; without one it is as it was.

    Return what was skipped on the way, one line each.

    Raises: DataError if an intact checkpoint belongs to another network or optimizer than `state`.
    """
    passed_over: list[str] = []
    for checkpoint in list_checkpoints(directory):
        try:
            content = checkpoint.read()
        except DataError as error:
            passed_over.append(str(error))
            continue
        saved = parse_state(content, checkpoint.path, state)
        state.restore(saved.tensors, saved.scalars, saved.histories)
        break
    return passed_over


@dataclass(eq=False)
class Recorder:
    """Writes a run. Whoever has it holds the run's lock.

    What is on the disk at any moment is enough to resume from: the state holds all rows, too. First the files that show
    them are written, then the state, then the kept weights, which name their own digest; last the manifest, which says
    what there is.

    Raises: StorageError if something cannot be written, or the lock was lost.
    """

    run: Run
    state: TrainState
    data: TrainVal
    num_written: dict[str, int] = field(default_factory=dict)

    def save(self) -> None:
        self._write_histories()
        save_checkpoint(self.run.checkpoints_path, self.state)

    def add_epoch(self, row: EpochRow) -> None:
        """Keep one epoch: rows, state, and the weights if they are the ones to keep."""
        self.save()
        changes: dict[str, Any] = {"epochs": row.epoch, "seconds": self.run.manifest.seconds + row.seconds}
        if self.state.stopping.kept_epoch == row.epoch:
            changes |= {"best_val_loss": row.val_loss, "best_val_accuracy": row.val_accuracy, **self._write_kept()}
        self.run.note(**changes)

    def resume(self, config: Config, differences: tuple[str, ...], environment: Mapping[str, Any]) -> None:
        """Note that the run is resumed with `config` in a new `environment`; let the manifest agree with the state."""
        self._write_histories()
        history, text = self.state.histories.history, to_yaml(config)
        kept = next((row for row in history if row.epoch == self.state.stopping.kept_epoch), None)
        is_changed = config != self.run.config
        resume = Resume(
            time=datetime.now(UTC).isoformat(timespec="seconds"),
            step=self.state.step,
            config_sha256=hashlib.sha256(text.encode()).hexdigest() if is_changed else sha256_of(self.run.config_path),
            differences=differences,
            versions=provenance.versions(),
            machine=machine_of(self.state.device),
        )
        self.run.note(
            **environment,
            status="running",
            stop_reason=None,
            message=None,
            epochs=len(history),
            seconds=sum(row.seconds for row in history),
            best_val_loss=kept.val_loss if kept else None,
            best_val_accuracy=kept.val_accuracy if kept else None,
            resumes=(*self.run.manifest.resumes, resume),
            **(self._write_kept() if kept else {"best_epoch": None, "weights_sha256": None}),
        )
        if is_changed:
            write_text(self.run.config_path, text)  # the manifest knows both by now

    def finish(self, result: TrainResult) -> None:
        """Note how training ended. A diverged state is not saved over the last good one."""
        reason = result.stop_reason
        if reason is StopReason.INTERRUPTED:
            self.save()
        else:
            self._write_histories()
        self.run.note(
            status=reason.value if reason in (StopReason.DIVERGED, StopReason.INTERRUPTED) else "finished",
            stop_reason=reason.value,
            message=str(result.divergence) if result.divergence else None,
        )

    def _write_histories(self) -> None:
        self.run.require_lock()
        for name, rows in self.state.histories.by_name().items():
            if self.num_written.get(name) != len(rows.lines):
                write_bytes(self.run.path / f"{name}.csv", rows.header + rows.lines)
                self.num_written[name] = len(rows.lines)

    def _write_kept(self) -> dict[str, Any]:
        """Write the weights to be kept so far, and return what the manifest says of them."""
        network, epoch = self.state.kept_network(), self.state.stopping.kept_epoch
        assert network is not None  # an epoch has ended
        trained = TrainedNetwork(network, self.data.normalization, self.data.class_names, epoch)
        write_network(self.run.model_path, trained)
        return {"best_epoch": epoch, "weights_sha256": weights_digest(network.state_dict())}
