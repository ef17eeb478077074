"""Networks and training states as safetensors: numbers and text, nothing that could run.

(Which epoch's weights are kept is for early_stopping.py to say.)

What is read is not trusted: size, digest, names, shapes and types are checked before a value is used.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from lenet_mnist.config import Activation
from lenet_mnist.data.sets import LONGEST_CLASS_NAME, Normalization, is_class_name
from lenet_mnist.errors import DataError
from lenet_mnist.files.storage import read_bounded, write_bytes
from lenet_mnist.files.tables import first_error
from lenet_mnist.model.engines import ResolvedEngine
from lenet_mnist.model.lenet import NUM_LAYERS, LeNet
from lenet_mnist.tally import Tally
from lenet_mnist.training.early_stopping import EarlyStopping
from lenet_mnist.training.rows import Histories
from lenet_mnist.training.schedule import Plateau
from lenet_mnist.training.state import TrainState

MAX_BYTES = 64 * 1024 * 1024  # of a network's file
_MAX_HEADER_BYTES = 1024 * 1024
HEADER_KEY = "lenet_mnist"


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """Weights, and all that is needed to use them on a picture: the pixels' scale and the names of the classes.

    `epoch` is the one at whose end the weights were these.
    """

    network: LeNet
    normalization: Normalization
    class_names: tuple[str, ...]
    epoch: int

    def on(self, device: torch.device, engine: ResolvedEngine) -> "TrainedNetwork":
        """Return it, moved to `device` and computed by `engine`."""
        self.network.to(device).engine = engine
        return self


class _NetworkHeader(BaseModel):
    """The header of a network file. `sha256` covers the rest of it and the weights."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    schema_version: Literal[2]
    activation: Activation
    image_size: int = Field(ge=12, le=256)
    class_names: tuple[str, ...] = Field(min_length=2, max_length=10_000)
    mean: float
    std: float = Field(gt=0)
    epoch: int = Field(ge=1)
    sha256: str = ""

    @field_validator("class_names")
    @classmethod
    def _names_can_be_shown(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not all(is_class_name(name) for name in names):
            raise ValueError(f"the name of a class has 1 to {LONGEST_CLASS_NAME} printable characters")
        return names

    def digest(self, tensors: Mapping[str, Tensor]) -> str:
        text = self.model_dump_json(exclude={"sha256"})
        return hashlib.sha256(f"{text}\n{weights_digest(tensors)}".encode()).hexdigest()


def write_network(path: Path, trained: TrainedNetwork) -> None:
    """Write a network to `path`, whole or not at all. Raises: StorageError."""
    write_bytes(path, network_bytes(trained))


def network_bytes(trained: TrainedNetwork) -> bytes:
    """Return a network as the content of a file."""
    tensors = {name: value.cpu().contiguous() for name, value in trained.network.state_dict().items()}
    header = _NetworkHeader(
        schema_version=2,
        activation=trained.network.activation,
        image_size=trained.network.image_size,
        class_names=trained.class_names,
        mean=trained.normalization.mean,
        std=trained.normalization.std,
        epoch=trained.epoch,
    )
    header = header.model_copy(update={"sha256": header.digest(tensors)})
    return save(tensors, metadata={HEADER_KEY: header.model_dump_json()})


def read_network(path: Path) -> TrainedNetwork:
    """Return the network in `path`, on the CPU.

    Raises: DataError if the file is missing, damaged, or does not hold a LeNet of the shape that it announces.
    """
    return parse_network(read_bounded(path, max_bytes=MAX_BYTES, error=DataError), path)


def parse_network(content: bytes, path: Path) -> TrainedNetwork:
    """Return the network that `content`, that of `path`, holds. Raises: DataError, as `read_network`."""
    tensors, text = parse_tensors(content, path)
    try:
        header = _NetworkHeader.model_validate_json(text)
    except ValidationError as error:
        raise DataError(f"{path}: not a network of this version of lenet: {first_error(error)}") from None
    network = LeNet(header.activation, len(header.class_names), header.image_size)
    _require_alike(tensors, network.state_dict(), path)
    if header.digest(tensors) != header.sha256:
        raise DataError(f"{path}: damaged: the SHA-256 of its content is not the one that it names")
    network.load_state_dict(tensors)
    return TrainedNetwork(network, Normalization(header.mean, header.std), header.class_names, header.epoch)


class _StateHeader(BaseModel):
    """The scalars of a TrainState, as `TrainState.scalars` gives them."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    schema_version: Literal[4]
    optimizer: str
    epoch: int = Field(ge=1)
    batches_done: int = Field(ge=0)
    step: int = Field(ge=0)
    lr: float = Field(ge=0, allow_inf_nan=False)
    seconds: float = Field(ge=0, allow_inf_nan=False)
    update_ratios: tuple[float, ...] = Field(min_length=NUM_LAYERS, max_length=NUM_LAYERS)
    tally: Tally
    stopping: EarlyStopping
    plateau: Plateau


def state_bytes(state: TrainState) -> bytes:
    """Return a training state, its rows included, as the content of a file."""
    rows = {
        f"rows.{name}": torch.from_numpy(np.frombuffer(rows.lines, np.uint8))
        for name, rows in state.histories.by_name().items()
    }
    header = json.dumps({"schema_version": 4, **state.scalars()})
    return save(state.tensors() | rows, metadata={HEADER_KEY: header})


@dataclass(frozen=True, eq=False)
class SavedState:
    """The parts of a state, as `TrainState.restore` takes them."""

    tensors: Mapping[str, Tensor]
    scalars: Mapping[str, Any]
    histories: Histories


def parse_state(content: bytes, path: Path, state: TrainState) -> SavedState:
    """Return what `content`, that of `path`, holds: known to fit `state`, which is left as it is.

    Raises: DataError if it is damaged, or the state of another network or optimizer.
    """
    tensors, text = parse_tensors(content, path)
    try:
        header = _StateHeader.model_validate_json(text)
    except ValidationError as error:
        raise DataError(f"{path}: not a training state of this version of lenet: {first_error(error)}") from None
    if header.optimizer != state.optimizer.name:
        raise DataError(f"{path}: the state of {header.optimizer}, but this training uses {state.optimizer.name}")
    empty = Histories()
    lines = {name: tensors.pop(f"rows.{name}", torch.empty(0)) for name in empty.by_name()}
    if any(tensor.dtype != torch.uint8 for tensor in lines.values()):
        raise DataError(f"{path}: the rows of the histories are missing")
    histories = Histories(
        **{name: rows.parse(lines[name].numpy().tobytes(), path) for name, rows in empty.by_name().items()}
    )
    _require_alike(tensors, state.expected_tensors(has_kept=header.stopping.kept_epoch > 0), path)
    return SavedState(tensors, dict(header), histories)


def weights_digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of the names, shapes, types and values, whatever order or file they come in."""
    hasher = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        hasher.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        hasher.update(value.numpy().tobytes())
    return hasher.hexdigest()


def parse_tensors(content: bytes, path: Path) -> tuple[dict[str, Tensor], str]:
    """Return the tensors in a safetensors file and the text that lenet put in its header.

    Source: github.com/huggingface/safetensors, "Format": 8 bytes with the length of a JSON header, the header, numbers.
    """
    num_header_bytes = int.from_bytes(content[:8], "little")
    if num_header_bytes > min(_MAX_HEADER_BYTES, len(content)):
        raise DataError(f"{path}: damaged, or not a safetensors file")
    try:
        tensors = load(content)
        header = json.loads(content[8 : 8 + num_header_bytes])
    except (SafetensorError, ValueError, RecursionError, KeyError) as error:
        raise DataError(f"{path}: damaged, or not a safetensors file: {error}") from None
    text = header.get("__metadata__", {}).get(HEADER_KEY)
    if not isinstance(text, str):
        raise DataError(f"{path}: a safetensors file, but not one that lenet wrote")
    return tensors, text


def _require_alike(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path) -> None:
    """Raise DataError at the first tensor that is missing, too many, or of another shape or type."""
    for name in sorted(found.keys() | expected.keys()):
        if name not in found:
            raise DataError(f"{path}: the tensor {name} is missing")
        if name not in expected:
            raise DataError(f"{path}: holds the tensor {name!r}, which a LeNet does not have")
        if found[name].shape != expected[name].shape or found[name].dtype != expected[name].dtype:
            raise DataError(
                f"{path}: {name} is {found[name].dtype} {tuple(found[name].shape)}, "
                f"expected {expected[name].dtype} {tuple(expected[name].shape)}"
            )
        if not bool(torch.isfinite(found[name]).all()):
            raise DataError(f"{path}: {name} holds a value that is not finite")
