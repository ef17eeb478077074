"""The way back: the zip that the page of the lab saves becomes a run.

At the top of the zip, and nothing else; a browser may have unpacked it into a directory:
    config.json    the settings, as in page/training.js: activation, seed, optimizer, rate, ...
    history.csv    epoch,step,lr,train_loss,train_accuracy,val_loss,val_accuracy,seconds
    steps.csv      step,epoch,lr,train_loss,gradient_norm,c1_gradient_norm: the first 200 updates, then every 20th; may
                   be left out, but then `lenet diagnose` says little
    weights.bin    float32, least significant byte first, in the order of the state dict: the weights of `epoch`
    about.json     engine: "browser"; agent: how the browser names itself; origin: that of the page's data, unread;
                   epoch: the one whose weights these are; ended: "all epochs done", "diverged", or null if neither;
                   testLooks: how often the test images were counted

Nothing of it is trusted. It is read into memory, up to a size, and what it holds becomes the files of a run like any
other: one that is not as a training leaves it is refused, and nothing is left behind.
"""

import io
import json
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lenet_mnist import provenance
from lenet_mnist.config import Config
from lenet_mnist.data.sets import IMAGE_SIZE, Normalization
from lenet_mnist.errors import ConfigError, DataError
from lenet_mnist.files.storage import make_directory, read_bounded, storage_errors, synced_entries, write_bytes
from lenet_mnist.files.tables import first_error
from lenet_mnist.lab.exchange import Origin, config_of
from lenet_mnist.model.lenet import LeNet
from lenet_mnist.runs.manifest import Manifest
from lenet_mnist.runs.run import Run, create_run, sha256_of
from lenet_mnist.study.evaluation import read_kept_network
from lenet_mnist.training.checkpoint import TrainedNetwork, weights_digest, write_network
from lenet_mnist.training.loop import StopReason

_LARGEST = {  # bytes: of 100,000 epochs, of the updates of a million, of 100 classes
    "config.json": 10_000,
    "history.csv": 20_000_000,
    "steps.csv": 20_000_000,
    "weights.bin": 300_000,
    "about.json": 1_000_000,
}
_MAY_LACK = {"steps.csv"}


class _About(BaseModel):
    """What about.json says."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    engine: Literal["browser"]
    agent: str = Field(min_length=1, max_length=1000)
    origin: Origin
    epoch: int = Field(ge=1)
    ended: Literal["all epochs done", "diverged"] | None
    testLooks: int = Field(ge=0, le=1000)  # noqa: N815  (the page's name)

    @property
    def stop_reason(self) -> StopReason:
        if self.ended is None:
            return StopReason.INTERRUPTED
        return StopReason.DIVERGED if self.ended == "diverged" else StopReason.MAX_EPOCHS


@dataclass(frozen=True)
class Imported:
    """What became of the zip. The fields are the keys of `--json`."""

    run: Path
    best_epoch: int
    val_accuracy: float

    def __str__(self) -> str:
        kept = f"epoch {self.best_epoch}, validation accuracy {self.val_accuracy:.2%}"
        return f"run   {self.run}\nkept  {kept}\nnext  lenet evaluate {provenance.typed(self.run)} --split val"


def import_run(path: Path, runs_dir: Path) -> Imported:
    """Make a run of what the page of the lab saved, marked as made by a browser: there whole, or not at all.

    Raises: DataError if it is damaged, or something else; StorageError.
    """
    contents = _read(path)
    try:
        about = _About.model_validate_json(contents["about.json"])
    except ValidationError as error:
        raise DataError(f"{path}: about.json: {first_error(error).removeprefix(': ')}") from None
    try:
        config = config_of(dict(json.loads(contents["config.json"])), about.origin.data)
    except (ConfigError, ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{path}: config.json: {error}") from None
    network = TrainedNetwork(
        _network(contents["weights.bin"], config, len(about.origin.class_names), path),
        Normalization(about.origin.mean, about.origin.std),
        about.origin.class_names,
        about.epoch,
    )
    make_directory(runs_dir)
    with storage_errors(runs_dir, "import a run"), tempfile.TemporaryDirectory(prefix=".", dir=runs_dir) as place:
        run = create_run(Path(place), config, datetime.now(UTC))
        try:
            _write(run, contents, about, network)
            _ = run.record, run.manifest, read_kept_network(Run(run.path))
        except (DataError, ValidationError) as error:
            said = first_error(error) if isinstance(error, ValidationError) else str(error)
            raise DataError(f"{path}: {said.replace(f'{run.path}/', '')}") from None
        target = runs_dir / run.id
        with synced_entries(runs_dir):
            run.path.rename(target)
    manifest = run.manifest
    assert manifest.best_epoch is not None
    assert manifest.best_val_accuracy is not None
    return Imported(target, manifest.best_epoch, manifest.best_val_accuracy)


def _write(run: Run, contents: Mapping[str, bytes], about: _About, trained: TrainedNetwork) -> None:
    """Fill a new run directory. Raises: DataError if the rows are not as a training leaves them."""
    for name in sorted(contents.keys() & {"history.csv", "steps.csv"}):
        write_bytes(run.path / name, contents[name])
    if about.epoch > len(run.history):
        raise DataError(f"history.csv: has no epoch {about.epoch}, of which about.json says the weights are")
    kept, origin = run.history[about.epoch - 1], about.origin
    write_network(run.model_path, trained)
    run.write_manifest(
        Manifest(
            command=provenance.current_command(),
            created=datetime.now(UTC).isoformat(timespec="microseconds"),
            status="diverged" if about.ended == "diverged" else "finished",
            stop_reason=about.stop_reason.value,
            message="the loss or the gradient was not finite" if about.ended == "diverged" else None,
            best_epoch=about.epoch,
            best_val_loss=kept.val_loss,
            best_val_accuracy=kept.val_accuracy,
            epochs=len(run.history),
            seconds=sum(row.seconds for row in run.history),
            weights_sha256=weights_digest(trained.network.state_dict()),
            git=None,
            machine=about.agent,
            browser=about.agent,
            device="cpu",
            threads=1,
            engine="native",
            engine_reason="compiled to WebAssembly, in a page of the lab",
            config_sha256=sha256_of(run.config_path),
            **origin.model_dump(exclude={"data", "class_names", "mean", "std"}),
        )
    )
    for _ in range(about.testLooks):
        run.add_test_look(datetime.now(UTC))


def _network(content: bytes, config: Config, num_classes: int, path: Path) -> LeNet:
    """Return the network with these weights. Raises: DataError."""
    network = LeNet(config.model.activation, num_classes, IMAGE_SIZE)
    sizes = [parameter.numel() for parameter in network.parameters_in_order]
    if len(content) != 4 * sum(sizes):
        raise DataError(f"{path}: weights.bin: {len(content):,} bytes, expected {4 * sum(sizes):,}")
    values = torch.from_numpy(np.frombuffer(content, "<f4").astype(np.float32))
    if not bool(values.isfinite().all()):
        raise DataError(f"{path}: weights.bin: holds a value that is not finite")
    with torch.no_grad():
        for parameter, part in zip(network.parameters_in_order, torch.split(values, sizes), strict=True):
            parameter.copy_(part.view_as(parameter))
    return network


def _read(path: Path) -> dict[str, bytes]:
    """Return the files in a zip, or in a directory, that the page saved. Raises: DataError."""
    if path.is_dir():
        names = [name for name in _LARGEST if name not in _MAY_LACK or (path / name).exists()]
        return {name: read_bounded(path / name, max_bytes=_LARGEST[name], error=DataError) for name in names}
    content = read_bounded(path, max_bytes=sum(_LARGEST.values()), error=DataError)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            names = [entry.filename for entry in entries]
            if len(names) != len(set(names)) or not _LARGEST.keys() - _MAY_LACK <= set(names) <= _LARGEST.keys():
                raise DataError(f"{path}: not what the page of the lab saves: expected {', '.join(_LARGEST)} in it")
            contents = {entry.filename: archive.open(entry).read(_LARGEST[entry.filename] + 1) for entry in entries}
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, OSError) as error:
        raise DataError(f"{path}: damaged, or not a zip file: {error}") from None
    for name, inside in contents.items():
        if len(inside) > _LARGEST[name]:
            raise DataError(f"{path}: {name}: larger than the {_LARGEST[name]:,} bytes that it can have")
    return contents
