"""The training states that a run keeps: checkpoints/step-<step>-<SHA-256>.safetensors.

The digest of a file is in its name, so that one renaming makes a checkpoint appear, complete and listed, and nothing
of a file is parsed before its digest has been checked. The newest intact one counts, by its step.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lenet_mnist.errors import DataError
from lenet_mnist.files.growing_file import FileMark, has_grown_from
from lenet_mnist.files.storage import read_bounded, remove, storage_errors, write_bytes
from lenet_mnist.training.checkpoint import MAX_BYTES, parse_state, state_bytes
from lenet_mnist.training.state import TrainState

NUM_KEPT = 2
_NAME = re.compile(r"step-(\d{8,12})-([0-9a-f]{64})\.safetensors")


@dataclass(frozen=True, order=True)
class Checkpoint:
    """A training state on disk."""

    step: int
    sha256: str
    path: Path

    def read(self) -> bytes:
        """Return its content. Raises: DataError if that is not what its name says."""
        content = read_bounded(self.path, max_bytes=MAX_BYTES, error=DataError)
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


def save_checkpoint(directory: Path, state: TrainState, marks: Mapping[str, FileMark]) -> None:
    """Write `state`, then remove what is older than the newest two that are intact. What is damaged stays.

    Raises: StorageError; the older checkpoints are then still there.
    """
    content = state_bytes(state, marks)
    write_bytes(directory / f"step-{state.step:08d}-{hashlib.sha256(content).hexdigest()}.safetensors", content)
    until_now = [checkpoint for checkpoint in list_checkpoints(directory) if checkpoint.step <= state.step]
    intact = [checkpoint for checkpoint in until_now if checkpoint.is_intact]
    for checkpoint in intact[NUM_KEPT:]:
        remove(checkpoint.path)


def lost_histories(histories: Iterable[Path], marks: Mapping[str, FileMark]) -> list[str]:
    """Return the names of those that do not hold what the marks of a checkpoint say."""
    return [path.name for path in histories if path.name not in marks or not has_grown_from(path, marks[path.name])]


def restore_newest(
    directory: Path, histories: Iterable[Path], state: TrainState
) -> tuple[Mapping[str, FileMark] | None, list[str]]:
    """Make `state` the newest one that is intact, and of which the histories still hold every row.

    Return the histories' marks there, and what was passed over on the way, a line each. Without any checkpoint that can
    be used the marks are None, and `state` is as it was.

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
        lost = lost_histories(histories, saved.marks)
        if not lost:
            state.restore(saved.tensors, saved.scalars)
            return saved.marks, passed_over
        passed_over.append(f"{checkpoint.path}: {' and '.join(lost)} no longer hold the rows that belong to it")
    return None, passed_over
