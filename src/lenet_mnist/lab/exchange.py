"""What Python and the page of the lab tell each other: the settings of a training, and where its images come from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field

from lenet_mnist import provenance
from lenet_mnist.config import Config, DataConfig, Optimizer
from lenet_mnist.data.sets import TrainVal
from lenet_mnist.errors import ConfigError
from lenet_mnist.sections import flat_values
from lenet_mnist.training.early_stopping import guessing_loss

MOST_CLASSES = 100  # MOST_CLASSES in lab.c
_KEYS = {  # by the names of page/training.js
    "activation": "model.activation",
    "seed": "seed",
    "optimizer": "training.optimizer",
    "rate": "training.learning_rate",
    "momentum": "training.momentum",
    "nesterov": "training.nesterov",
    "weightDecay": "training.weight_decay",
    "batchSize": "training.batch_size",
    "epochs": "training.max_epochs",
    "schedule": "training.schedule",
    "warmup": "training.warmup",
    "labelSmoothing": "training.label_smoothing",
}
_OF_A_PART = {"trainImages", "fold"}  # of missions with few images, or one fold of them; null for all


def settings_of(config: Config) -> dict[str, Any]:
    """Return the settings of a training as the page has them."""
    values = flat_values(config)
    return {name: values[key] for name, key in _KEYS.items()}


def config_of(settings: Mapping[str, Any], data: DataConfig) -> Config:
    """Return the configuration of a training of the page, on its images.

    The page trains all epochs, and has no use for a momentum that is not there. Raises: ConfigError.
    """
    if any(settings.get(name) is not None for name in _OF_A_PART):
        raise ConfigError("a part of the page's training images trained it, which is no split of lenet's data")
    if settings.keys() - _OF_A_PART != _KEYS.keys():
        raise ConfigError(f"expected these settings and no others: {', '.join(_KEYS)}")
    values = {key: settings[name] for name, key in _KEYS.items()}
    if values["training.optimizer"] != Optimizer.SGD or values["training.momentum"] == 0:
        values["training.nesterov"] = False
    config = Config.of({**values, "training.patience": None, "data": data})
    return config.replace({"name": f"lab-{config.model.activation}"})


class Origin(BaseModel):
    """Exactly which images a page carries. The page hands it back unread, with what it has trained on them."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    data: DataConfig
    data_source: str
    data_files: dict[str, str]
    split_sha256: str
    data_notes: tuple[str, ...]
    num_train: int
    num_val: int
    guessing_loss: float
    class_names: tuple[str, ...] = Field(min_length=2, max_length=MOST_CLASSES)
    mean: float
    std: float = Field(gt=0)
    versions: dict[str, str]

    @classmethod
    def of(cls, config: DataConfig, data: TrainVal) -> Self:
        """Describe the images of `data`. Of an absolute path only the last part is kept, so that no home shows."""
        path = Path(config.source)
        return cls(
            data=config.model_copy(update={"source": path.name}) if path.is_absolute() else config,
            data_source=data.fingerprint.source,
            data_files=data.fingerprint.files,
            split_sha256=data.fingerprint.split,
            data_notes=data.notes,
            num_train=len(data.train),
            num_val=len(data.val),
            guessing_loss=guessing_loss(data),
            class_names=data.class_names,
            mean=data.normalization.mean,
            std=data.normalization.std,
            versions=provenance.versions(),
        )
