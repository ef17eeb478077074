"""What Python and the page of the lab tell each other: settings, whose images they are, and a run that comes back.

The page saves a zip, which a browser may have unpacked:
    config.json             the settings, as in page/training.js
    history.csv  steps.csv  as a run has them; the second may be left out
    weights.bin             float32, least significant byte first, in the order of the state dict
    about.json              `_About`; its origin is that of the page's data, unread

Nothing of it is trusted: it is read up to a size, becomes the files of a run, and these are read as any other run's.
"""

import io
import re
import zipfile
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import torch
from pydantic import Field, ValidationError
from torch.nn.utils import vector_to_parameters

from lenet_mnist import provenance
from lenet_mnist.config import Activation, Config, DataConfig, Optimizer
from lenet_mnist.data.sets import IMAGE_SIZE, Normalization, TrainVal
from lenet_mnist.errors import ConfigError, DataError
from lenet_mnist.files.storage import make_directory, read_bounded, storage_errors, synced_entries, write_bytes
from lenet_mnist.files.tables import first_error, read_json, read_json_text
from lenet_mnist.model.lenet import LeNet
from lenet_mnist.runs.manifest import Manifest, environment
from lenet_mnist.runs.run import Run, create_run, sha256_of
from lenet_mnist.sections import Section, flat_values
from lenet_mnist.study.evaluation import read_kept_network
from lenet_mnist.training.checkpoint import TrainedNetwork, weights_digest, write_network
from lenet_mnist.training.context import Context
from lenet_mnist.training.loop import StopReason

MOST_CLASSES = 100  # MOST_CLASSES in lab.c
DRAWN = (Activation.SIGMOID, Activation.TANH, Activation.RELU)  # that the engine in WebAssembly computes


class Setting(NamedTuple):
    """A setting of a training in the page: one of `choices`, or a number; form, address and command follow from it.

    `flag` is that of `lenet train`; without one, the command says `--set key=value`.
    """

    key: str
    choices: tuple[str | bool, ...] = ()
    low: float | None = None
    high: float | None = None
    whole: bool = False
    flag: str | None = None
    optional: bool = False


_ACTIVATIONS = tuple(activation.value for activation in DRAWN)
SETTINGS = {
    "activation": Setting("model.activation", _ACTIVATIONS, flag="--activation"),
    "rate": Setting("training.learning_rate", low=1e-5, high=10, flag="--lr"),
    "epochs": Setting("training.max_epochs", low=1, high=500, whole=True, flag="--epochs"),
    "batchSize": Setting("training.batch_size", low=1, high=256, whole=True, flag="--batch-size"),
    "seed": Setting("seed", low=0, high=2**53 - 1, whole=True, flag="--seed"),
    "optimizer": Setting("training.optimizer", ("sgd", "adam", "adamw")),
    "momentum": Setting("training.momentum", low=0, high=0.999),
    "nesterov": Setting("training.nesterov", (False, True)),
    "schedule": Setting("training.schedule", ("constant", "linear", "cosine", "one-cycle", "plateau")),
    "warmup": Setting("training.warmup", low=0, high=0.99),
    "weightDecay": Setting("training.weight_decay", low=0, high=10),
    "labelSmoothing": Setting("training.label_smoothing", low=0, high=0.99),
}
ONLY_IN_PAGE = {  # a network trained with one of these cannot become a run
    "trainImages": Setting("data.limit_train", low=100, high=1e6, whole=True, flag="--limit-train", optional=True),
    "fold": Setting("", low=0, high=4, whole=True, optional=True),
}
_KEPT = "data_source", "data_files", "split_sha256", "data_notes", "num_train", "num_val", "guessing_loss", "versions"
_SAVED = {"config.json", "history.csv", "weights.bin", "about.json"}
_MOST_BYTES = 20_000_000  # history.csv of 100,000 epochs
_STOPS = {"all epochs done": StopReason.MAX_EPOCHS, "diverged": StopReason.DIVERGED, None: StopReason.INTERRUPTED}


def settings_of(config: Config) -> dict[str, Any]:
    """Return the settings of a training as the page has them."""
    values = flat_values(config)
    return {name: values[setting.key] for name, setting in SETTINGS.items()}


def config_of(settings: Mapping[str, Any], data: DataConfig) -> Config:
    """Return the configuration of a training of the page, which makes all its epochs. Raises: ConfigError."""
    if settings.keys() != SETTINGS.keys():
        raise ConfigError(f"expected these settings and no others: {', '.join(SETTINGS)}")
    values = {setting.key: settings[name] for name, setting in SETTINGS.items()}
    if values["training.optimizer"] != Optimizer.SGD or values["training.momentum"] == 0:
        values["training.nesterov"] = False  # there is nothing that it could change
    config = Config.of({**values, "training.patience": None, "data": data})
    return config.replace({"name": f"lab-{config.model.activation}"})


class Origin(Section):
    """Exactly which images a page carries, and how it normalises them; `manifest` is what a manifest says of them."""

    data: DataConfig
    class_names: tuple[str, ...] = Field(min_length=2, max_length=MOST_CLASSES)
    mean: float
    std: float = Field(gt=0)
    manifest: dict[str, Any]

    @classmethod
    def of_data(cls, config: DataConfig, data: TrainVal) -> Self:
        """Describe `data`. Of the path of a directory only the last part is kept, so that no home shows."""
        path, all_values = Path(config.source), environment(Context(data))
        if path.is_absolute():
            config = config.model_copy(update={"source": path.name})
        scale, manifest = data.normalization, {name: all_values[name] for name in _KEPT}
        return cls(data=config, class_names=data.class_names, mean=scale.mean, std=scale.std, manifest=manifest)


class _About(Section):
    """`agent` is how the browser names itself, `epoch` the one whose weights these are."""

    engine: Literal["browser"]
    agent: str = Field(min_length=1, max_length=1000)
    origin: Origin
    epoch: int = Field(ge=1)
    ended: Literal["all epochs done", "diverged"] | None
    testLooks: int = Field(ge=0, le=1000)  # noqa: N815  (the page's name)


def import_run(path: Path, runs_dir: Path) -> Run:
    """Make a run of what the page saved, marked as made by a browser: it is there whole, or not at all.

    Raises: DataError if it is damaged, or something else; StorageError.
    """
    make_directory(runs_dir)
    with storage_errors(runs_dir, "import a run"), TemporaryDirectory(prefix=".", dir=runs_dir) as place:
        try:
            run = _run_of(path if path.is_dir() else _unpacked(path, Path(place, "saved")), Path(place))
            _ = run.record, read_kept_network(run)
        except (DataError, ConfigError, ValueError, TypeError) as error:
            said = first_error(error).removeprefix(": ") if isinstance(error, ValidationError) else str(error)
            said = re.sub(rf"{re.escape(place)}[\\/][^\\/]+[\\/]", "", said).removeprefix(f"{path}: ")
            raise DataError(f"{path}: cannot be imported: {said}") from None
        with synced_entries(runs_dir):
            run.path.rename(runs_dir / run.id)
    return Run(runs_dir / run.id)


def _run_of(saved: Path, place: Path) -> Run:
    """Make a run in `place`, which is then to be read. Raises: DataError, ConfigError, ValueError, TypeError."""
    about = _About.model_validate_json(read_json_text(saved / "about.json"))
    origin, now = about.origin, datetime.now(UTC)
    config = config_of(dict(read_json(saved / "config.json")), origin.data)
    network = LeNet(config.model.activation, len(origin.class_names), IMAGE_SIZE)
    values = np.frombuffer(read_bounded(saved / "weights.bin", max_bytes=_MOST_BYTES, error=DataError), "<f4")
    if len(values) != (expected := sum(each.numel() for each in network.parameters_in_order)):
        raise DataError(f"weights.bin: holds {len(values):,} weights, expected {expected:,}")
    vector_to_parameters(torch.from_numpy(values.astype(np.float32)), network.parameters_in_order)
    run = create_run(place, config, now)
    for name in ("history.csv", "steps.csv"):
        if (saved / name).exists():
            write_bytes(run.path / name, read_bounded(saved / name, max_bytes=_MOST_BYTES, error=DataError))
    if about.epoch > len(run.history):
        raise DataError(f"history.csv: has no epoch {about.epoch}, of which about.json says the weights are")
    kept = run.history[about.epoch - 1]
    scale = Normalization(origin.mean, origin.std)
    write_network(run.model_path, TrainedNetwork(network, scale, origin.class_names, about.epoch))
    values_of_run = {
        "command": provenance.current_command(),
        "created": now.isoformat(timespec="microseconds"),
        "status": "diverged" if about.ended == "diverged" else "finished",
        "stop_reason": _STOPS[about.ended].value,
        "best_epoch": about.epoch,
        "best_val_loss": kept.val_loss,
        "best_val_accuracy": kept.val_accuracy,
        "epochs": len(run.history),
        "seconds": sum(row.seconds for row in run.history),
        "weights_sha256": weights_digest(network.state_dict()),
        "config_sha256": sha256_of(run.config_path),
        "engine_reason": "compiled to WebAssembly, in a page of the lab",
    }
    here: dict[str, Any] = {"git": None, "machine": about.agent, "browser": about.agent}
    here |= {"device": "cpu", "threads": 1, "engine": "native"}
    of_data = {name: origin.manifest.get(name) for name in _KEPT}
    run.write_manifest(Manifest.model_validate({**of_data, **values_of_run, **here}))
    for _ in range(about.testLooks):
        run.add_test_look(now)
    return run


def _unpacked(path: Path, place: Path) -> Path:
    """Unpack the zip that the page saved: no other names than its own, none twice, nothing too large."""
    place.mkdir()
    content = read_bounded(path, max_bytes=4 * _MOST_BYTES, error=DataError)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
            if len(names) != len(set(names)) or not _SAVED <= set(names) <= _SAVED | {"steps.csv"}:
                raise DataError(f"not what the page of the lab saves: expected {', '.join(sorted(_SAVED))} in it")
            for name in names:
                write_bytes(place / name, archive.open(name).read(_MOST_BYTES + 1))
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError) as error:
        raise DataError(f"damaged, or not a zip file: {error}") from None
    return place
