"""Finished runs that another training learns from: found, checked, and handed over as values."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lenet_mnist.config import Config
from lenet_mnist.data.sets import TrainVal
from lenet_mnist.errors import ConfigError, DataError
from lenet_mnist.runs.listing import comes_with_lenet, find_run
from lenet_mnist.runs.manifest import TeacherRecord
from lenet_mnist.runs.run import Run
from lenet_mnist.study.evaluation import read_kept_network
from lenet_mnist.training.checkpoint import TrainedNetwork
from lenet_mnist.training.context import Context
from lenet_mnist.training.distillation import Teachers

_KEY = "training.teachers"


@dataclass(frozen=True, eq=False)
class Teacher:
    """A network that a training learns from, the name by which it is found again, and what a manifest says of it."""

    network: TrainedNetwork
    name: str
    record: TeacherRecord


def find_teachers(config: Config, runs_dir: Path, data: TrainVal) -> tuple[Teacher, ...]:
    """Return the runs that `config` names, known to have been trained on this part of these data, and on nothing else.

    So no teacher has seen an image that validates here, let alone one that tests.

    Raises: ConfigError if one is missing, not finished, listed twice, or was trained on a different split or other
    classes; DataError if one is damaged.
    """
    teachers: dict[str, Teacher] = {}
    for run in [_find_trained(name, runs_dir) for name in config.training.teachers]:
        # A run in the same directory is found again by its id, so that both can be moved together, and so is one that
        # comes with lenet; others by their path.
        is_here = run.path.resolve().parent == runs_dir.resolve() or comes_with_lenet(run.id)
        network, record = _read_teacher(run, data)
        if record.weights_sha256 in teachers:
            raise ConfigError(f"{run.path}: is listed twice as a teacher", key=_KEY)
        teachers[record.weights_sha256] = Teacher(network, run.id if is_here else str(run.path.resolve()), record)
    return tuple(teachers.values())


def find_teachers_again(config: Config, run: Run, data: TrainVal) -> tuple[Teacher, ...]:
    """Return the teachers of a run that is resumed; they may have been moved since, together with it.

    Raises: ConfigError if one is not found, or is no longer what it was; DataError if one is damaged.
    """
    try:
        found = find_teachers(config, run.path.resolve().parent, data)
    except ConfigError as error:
        raise ConfigError(f"{run.path}: one of its teachers is not as it was: {error}") from None
    if [each.record.weights_sha256 for each in found] != [each.weights_sha256 for each in run.manifest.teachers]:
        raise ConfigError(f"{run.path}: its teachers are no longer the networks that manifest.json records", key=_KEY)
    return found


def teachers_of(networks: Sequence[TrainedNetwork], config: Config, context: Context) -> Teachers | None:
    """Return the networks ready to teach on the context's device and engine, or None if there are none."""
    if not networks:
        return None
    ready = [trained.on(context.device, context.engine).network for trained in networks]
    return Teachers(ready, config.training)


def _find_trained(name: str, runs_dir: Path) -> Run:
    try:
        return find_run(name, runs_dir)
    except ConfigError as error:
        raise ConfigError(f"a teacher must be trained first: {error}", key=_KEY) from None


def _read_teacher(run: Run, data: TrainVal) -> tuple[TrainedNetwork, TeacherRecord]:
    manifest, seen = run.manifest, data.fingerprint
    if (manifest.kind, manifest.status) != ("train", "finished"):
        what = f"is a {manifest.kind} run that is {manifest.status}"
        raise ConfigError(f"{run.path}: {what}: only finished trainings can teach", key=_KEY)
    if (manifest.data_files, manifest.split_sha256) != (seen.files, seen.split) or manifest.splits_before:
        raise ConfigError(
            f"{run.path}: was trained on other data, or another split of them, and may have seen images that validate "
            "here: teachers need the same data.train_size, data.val_size, data.split_seed and data.limit_train",
            key=_KEY,
        )
    trained = read_kept_network(run)
    if (trained.class_names, trained.network.image_size) != (data.class_names, data.train.image_size):
        raise ConfigError(f"{run.path}: knows other classes, or other sizes of images", key=_KEY)
    if trained.normalization != data.normalization:
        raise DataError(f"{run.path}: sees the pixels of the same images on another scale")
    assert manifest.weights_sha256 is not None  # it is finished
    return trained, TeacherRecord(run=run.id, weights_sha256=manifest.weights_sha256, seconds=manifest.seconds)
