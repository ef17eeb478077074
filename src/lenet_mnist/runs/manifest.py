"""A run's manifest: what happened, with what, and how it ended. It notices if it is changed."""

import hashlib
import math
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field

from lenet_mnist import provenance
from lenet_mnist.config import Device, Engine
from lenet_mnist.training.context import Context
from lenet_mnist.training.early_stopping import GUESSING

Status = Literal["running", "finished", "interrupted", "diverged", "failed"]
Kind = Literal["train", "sweep", "cross-validation"]
# No part of the digest while they say nothing: older runs keep theirs.
_ADDED_LATER = ("data_notes", "num_ranks", "job", "teachers", "splits_before", "engine_library", "browser")
# What makes runs of each kind.
COMMANDS: dict[Kind, str] = {"train": "train", "sweep": "lr-sweep", "cross-validation": "cross-validate"}


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Resume(_Frozen):
    """A resume after `step` updates. `differences` are those that the user accepted."""

    time: str
    step: int
    config_sha256: str
    differences: tuple[str, ...]
    versions: dict[str, str]
    machine: str


class TeacherRecord(_Frozen):
    """A run that this one has learned from; `seconds` is the time of its training."""

    run: str
    weights_sha256: str
    seconds: float


class Manifest(_Frozen):
    """What happened in a run. Fields that are not known yet are null. `sha256` is that of all the rest."""

    schema_version: Literal[1] = 1
    kind: Kind = "train"
    command: str
    created: str
    status: Status = "running"
    stop_reason: str | None = None
    message: str | None = None
    best_epoch: int | None = None
    """The epoch whose weights are kept (`training.keep`); its figures are the next two."""
    best_val_loss: float | None = None
    best_val_accuracy: float | None = None
    epochs: int = 0
    seconds: float = 0.0
    weights_sha256: str | None = None
    data_source: str
    data_files: dict[str, str]
    split_sha256: str
    splits_before: tuple[str, ...] = ()
    """Earlier splits, if it was resumed with a different one, or with other data, as the user accepted."""
    data_notes: tuple[str, ...] = ()
    """What is odd about the data, a sentence each."""
    num_train: int = Field(ge=1)
    num_val: int = Field(ge=1)
    versions: dict[str, str]
    git: dict[str, str | bool] | None
    machine: str
    device: str = Field(pattern=r"^(cpu|cuda|mps)(:\d{1,3})?$")
    threads: int = Field(ge=1, le=1024)
    num_ranks: int = Field(default=1, ge=1)
    """Processes that trained together, under torchrun."""
    job: str | None = None
    """torchrun's name for the job, by which the run is found again after a restart."""
    engine: Literal["torch", "native"]
    engine_reason: str
    engine_library: str | None = None
    """The beginning of the SHA-256 of the native engine's library."""
    browser: str | None = None
    """How the browser names itself in whose page it was trained (`lenet lab`), where there was one."""
    guessing_loss: float
    """The validation loss at chance level, in nats."""
    teachers: tuple[TeacherRecord, ...] = ()
    tuning: dict[str, Any] | None = None
    """What a sweep, or `learning_rate: auto`, has chosen."""
    config_sha256: str
    """Of config.yaml when the run began."""
    resumes: tuple[Resume, ...] = ()
    sha256: str = ""

    @property
    def decided(self) -> dict[str, Any]:
        """What the configuration may leave open, by its keys, as it was decided for this run."""
        return {
            "training.threads": self.threads,
            "training.device": Device(self.device.partition(":")[0]),
            "training.engine": Engine(self.engine),
        }

    @property
    def accepted_differences(self) -> tuple[str, ...]:
        """What differed on resume, one line each: the run is not the result of its configuration alone."""
        return tuple(line for resume in self.resumes for line in resume.differences)

    @property
    def only_guesses(self) -> bool:
        """Whether the kept network is at chance level, by its loss and its accuracy: a few sure mistakes spoil a loss.

        exp of the loss at chance level is the number of classes, if all are equally frequent.
        """
        if self.best_val_loss is None or self.best_val_accuracy is None:
            return False
        is_near_chance = self.best_val_accuracy < 1.5 * math.exp(-self.guessing_loss)
        return self.best_val_loss > GUESSING * self.guessing_loss and is_near_chance

    def digest(self) -> str:
        fields = type(self).model_fields
        as_before = {name for name in _ADDED_LATER if getattr(self, name) == fields[name].default}
        return hashlib.sha256(self.model_dump_json(exclude={"sha256", *as_before}).encode()).hexdigest()


def environment(context: Context) -> dict[str, Any]:
    """Return, by the manifest's names, what a result can depend on besides the configuration."""
    data = context.data
    return {
        "data_source": data.fingerprint.source,
        "data_files": data.fingerprint.files,
        "split_sha256": data.fingerprint.split,
        "data_notes": data.notes,
        "num_train": len(data.train),
        "num_val": len(data.val),
        "versions": provenance.versions(),
        "git": provenance.git_state(),
        "machine": machine_of(context.device),
        "device": str(context.device),
        "threads": context.threads,
        "num_ranks": context.ranks.num_ranks,
        "job": context.ranks.job,
        "engine": context.engine.name.value,
        "engine_reason": provenance.without_home(context.engine.reason),  # nothing of a run names a home
        "engine_library": context.engine.library,
        "guessing_loss": context.guessing_loss,
    }


def machine_of(device: torch.device) -> str:
    """Return the machine in words, and its GPU if that is where the arithmetic happens."""
    gpu = f", {torch.cuda.get_device_name(device)}" if device.type == "cuda" else ""
    return provenance.machine() + gpu
