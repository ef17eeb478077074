"""Networks and training states on disk, as safetensors: numbers and text, nothing that could run.

What is read is not trusted: size, names, shapes and types are checked before a value is used.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from lenet_mnist.config import Activation
from lenet_mnist.data.sets import Normalization
from lenet_mnist.errors import DataError
from lenet_mnist.metrics import Tally
from lenet_mnist.model.lenet import LeNet
from lenet_mnist.storage import write_bytes
from lenet_mnist.training.early_stopping import EarlyStopping
from lenet_mnist.training.schedule import Plateau
from lenet_mnist.training.state import TrainState

_MAX_BYTES = 64 * 1024 * 1024  # 60 times a training state of the largest kind
_HEADER_KEY = "lenet_mnist"


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """Weights, and all that is needed to use them on a picture: the pixels' scale and the names of the classes."""

    network: LeNet
    normalization: Normalization
    class_names: tuple[str, ...]


class _NetworkHeader(BaseModel):
    """The text beside the weights."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    schema_version: Literal[1]
    activation: Activation
    image_size: int = Field(ge=12, le=256)
    class_names: tuple[str, ...] = Field(min_length=2, max_length=10_000)
    mean: float
    std: float = Field(gt=0)


def write_network(path: Path, trained: TrainedNetwork) -> None:
    """Write a network to `path`, whole or not at all. Raises: StorageError."""
    header = _NetworkHeader(
        schema_version=1,
        activation=trained.network.activation,
        image_size=trained.network.image_size,
        class_names=trained.class_names,
        mean=trained.normalization.mean,
        std=trained.normalization.std,
    )
    tensors = {name: value.cpu().contiguous() for name, value in trained.network.state_dict().items()}
    write_bytes(path, save(tensors, metadata={_HEADER_KEY: header.model_dump_json()}))


def read_network(path: Path) -> TrainedNetwork:
    """Return the network in `path`, on the CPU.

    Raises: DataError if the file is missing, damaged, or does not hold a LeNet of the shape that it announces.
    """
    tensors, text = _read(path)
    try:
        header = _NetworkHeader.model_validate_json(text)
    except ValidationError as error:
        raise DataError(f"{path}: not a network of lenet: {error.errors()[0]['msg']}") from None
    network = LeNet(header.activation, len(header.class_names), header.image_size)
    _require_alike(tensors, network.state_dict(), path)
    network.load_state_dict(tensors)
    return TrainedNetwork(network, Normalization(header.mean, header.std), header.class_names)


class _StateHeader(BaseModel):
    """The scalars of a TrainState, as `TrainState.scalars` gives them."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    schema_version: Literal[1]
    optimizer: str
    epoch: int = Field(ge=1)
    batches_done: int = Field(ge=0)
    step: int = Field(ge=0)
    lr: float = Field(ge=0, allow_inf_nan=False)
    tally: Tally
    stopping: EarlyStopping
    plateau: Plateau


def write_state(path: Path, state: TrainState) -> None:
    """Write a training state to `path`, whole or not at all. Raises: StorageError."""
    header = json.dumps({"schema_version": 1, **state.scalars()})
    write_bytes(path, save(state.tensors(), metadata={_HEADER_KEY: header}))


def read_state(path: Path, state: TrainState) -> None:
    """Make `state`, fresh from its start with the same configuration, the one in `path`.

    Raises: DataError if the file is missing, damaged, or the state of another network or optimizer; `state` is then as
    it was.
    """
    tensors, text = _read(path)
    try:
        header = _StateHeader.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(f"{path}: not a training state: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    if header.optimizer != state.optimizer.name:
        raise DataError(f"{path}: the state of {header.optimizer}, but this training uses {state.optimizer.name}")
    _require_alike(tensors, state.expected_tensors(has_best=header.stopping.best_epoch > 0), path)
    state.restore(tensors, dict(header))


def weights_digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of the names, shapes, types and values, whatever order or file they come in."""
    hasher = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        hasher.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        hasher.update(value.numpy().tobytes())
    return hasher.hexdigest()


def _read(path: Path) -> tuple[dict[str, Tensor], str]:
    """Return the tensors in a safetensors file and the text that lenet put beside them."""
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise DataError(f"{path}: not a regular file")
        if size > _MAX_BYTES:
            raise DataError(f"{path}: {size:,} bytes, more than any file of weights that lenet writes")
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_HEADER_KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
    except FileNotFoundError:
        raise DataError(f"{path}: no such file: this run has no saved weights (yet)") from None
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path}: damaged, or not a safetensors file: {error}") from None
    if text is None:
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
