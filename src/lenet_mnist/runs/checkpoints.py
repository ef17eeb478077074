"""The training states that a run keeps: checkpoints/step-<step>-<SHA-256>.safetensors.

The digest of a file is in its name, so that one renaming makes a checkpoint appear, complete and listed, and nothing
of a file is parsed before its digest has been checked. The newest intact one counts, by its step.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from lenet_mnist.errors import DataError
from lenet_mnist.files.storage import read_bounded, remove, storage_errors, write_bytes
from lenet_mnist.training.checkpoint import parse_state, state_bytes
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
        """Return its content. Raises: DataError if that is not what its name says."""
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
        remove(checkpoint.path)


def restore_newest(directory: Path, state: TrainState) -> list[str]:
    """Make `state` the newest one that is intact, with its rows; without one it is as it was.

    Return what was passed over on the way, a line each.

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
