"""One evaluation on disk: from a run directory to figures and tables in it. Only this module loads the test images.

runs/<id> -> load_test -> evaluate -> numbers and tables in runs/<id>/evaluation/<split>
"""

import hashlib
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

import torch

from lenet_mnist.analysis.metrics import Evaluation, evaluate
from lenet_mnist.config import Config, Device, Engine, Split
from lenet_mnist.data.batches import EVALUATION_CHUNK
from lenet_mnist.data.load import is_verified, load_test, load_train_val
from lenet_mnist.data.mnist import DataAccess
from lenet_mnist.data.sets import ImageSet
from lenet_mnist.devices import choose_device, set_threads
from lenet_mnist.errors import CheckFailedError, ConfigError, DataError
from lenet_mnist.experiments.diagnosis import read_record
from lenet_mnist.experiments.evaluation_tables import write_tables
from lenet_mnist.experiments.resuming import differences_of_files
from lenet_mnist.files.storage import make_directory, prepare_to_write
from lenet_mnist.model.engines import resolve_engine
from lenet_mnist.ranks import ALONE, Ranks
from lenet_mnist.runs.directory import RunDirectory
from lenet_mnist.runs.evaluations import write_examples
from lenet_mnist.runs.manifest import Manifest
from lenet_mnist.training.checkpoint import (
    TrainedNetwork,
    network_bytes,
    parse_network,
    read_network,
    weights_digest,
)

_Choice = TypeVar("_Choice", bound=StrEnum)
_PARTS = {Split.VAL: "validation part", Split.TEST: "test part"}


@dataclass(frozen=True)
class Answers:
    """What the kept weights of a run answer to every image of a split.

    `num_test_looks` is how often the test set has been looked at through this run by now, None for other splits.
    """

    trained: TrainedNetwork
    images: ImageSet
    evaluation: Evaluation
    num_test_looks: int | None


@dataclass(frozen=True)
class EvaluatedRun:
    """What one look at one split gave. `metrics` is what metrics.json holds."""

    run: RunDirectory
    config: Config
    split: Split
    images: ImageSet
    evaluation: Evaluation
    metrics: dict[str, Any]

    @property
    def members(self) -> tuple["EvaluatedRun"]:
        """This run alone; an ensemble has several."""
        return (self,)

    @property
    def directory(self) -> Path:
        """Where the files of this look are."""
        return self.run.evaluation_path(self.split.value)


def evaluate_run(
    run: RunDirectory,
    split_name: str,
    access: DataAccess,
    device_name: str | None,
    batch_size: int | None,
    ranks: Ranks = ALONE,
) -> EvaluatedRun:
    """Look at one split through the kept weights of `run`; see `evaluate_runs`."""
    (seen,) = evaluate_runs([run], split_name, access, device_name, batch_size, ranks)
    return seen


def evaluate_runs(
    runs: Sequence[RunDirectory],
    split_name: str,
    access: DataAccess,
    device_name: str | None,
    batch_size: int | None,
    ranks: Ranks = ALONE,
) -> tuple[EvaluatedRun, ...]:
    """Look at one split through the kept weights of each run, and write what is seen into the runs.

    The device is that of a run's configuration unless `device_name` says otherwise.

    Raises: ConfigError for a split or device that does not exist, or runs that do not answer for the same images;
    DataError if weights or data are missing or damaged, or the split is not the one of the training: all of that
    before the first look. StorageError if a file cannot be written.
    """
    split = member_of(Split, split_name, "--split")
    read = []
    for run in runs:
        prepare_to_write(run.path)
        manifest = run.read_manifest()
        if manifest.kind != "train":
            raise ConfigError(f"{run.path}: is a {manifest.kind}, not a training: it has no network to evaluate")
        read.append((run, read_record(run).config))
    all_answers = answers_of(runs, split, access, device_name, batch_size or EVALUATION_CHUNK, ranks)
    seen = []
    for (run, config), answers in zip(read, all_answers, strict=True):
        metrics = {
            "run": run.id,
            "split": split.value,
            "num_test_looks": answers.num_test_looks,
            "best_epoch": answers.trained.epoch,
            "weights_sha256": weights_digest(answers.trained.network.state_dict()),
            **answers.evaluation.metrics(),
        }
        seen.append(EvaluatedRun(run, config, split, answers.images, answers.evaluation, metrics))
        directory = seen[-1].directory
        make_directory(directory)
        write_tables(directory, answers.evaluation, metrics, answers.images.names)
        write_examples(directory, answers.evaluation, answers.images.images, metrics["weights_sha256"])
    return tuple(seen)


def answers_of(
    runs: Sequence[RunDirectory],
    split: Split,
    access: DataAccess,
    device_name: str | None = None,
    batch_size: int = EVALUATION_CHUNK,
    ranks: Ranks = ALONE,
) -> list[Answers]:
    """Let the kept weights of each run answer for a split. Of the test set a look is noted in each run, and no more.

    Several ranks divide the images.

    Raises: as `evaluate_runs`, before the first look is noted.
    """
    images_by_data: dict[Hashable, ImageSet] = {}
    ready = []
    for run in runs:
        config, manifest = run.read_config(), run.read_manifest()
        device = _device_of_evaluation(run, config, device_name, ranks)
        trained = _trained_network(run, manifest, config, device)
        data = (config.data, manifest.split_sha256)
        if data not in images_by_data:
            images_by_data[data] = _images_of_split(run, manifest, config, split, access)
        if split is Split.TEST:
            prepare_to_write(run.path)
            run.num_test_looks()  # whether another one can be noted
        ready.append((run, config, trained, images_by_data[data], device))
    for run, _, trained, images, _ in ready[1:]:
        first, _, other, others, _ = ready[0]
        if trained.class_names != other.class_names or not images.is_same_as(others):
            raise ConfigError(f"{run.path}: does not answer for the same classes and images as {first.path}")
    answers = []
    for run, config, trained, images, device in ready:
        threads = set_threads(config.training.threads, ranks)
        num_looks = run.add_test_look(datetime.now(UTC)) if split is Split.TEST else None
        ranks.say(EvaluationTogether(network_bytes(trained), config, split, Device(device.type), batch_size, threads))
        ranks.require_same(_digest_of(images) if not ranks.is_alone else {})
        answers.append(Answers(trained, images, evaluate(trained, images, device, batch_size, ranks), num_looks))
    return answers


@dataclass(frozen=True)
class EvaluationTogether:
    """An evaluation whose images all ranks divide."""

    network: bytes
    config: Config
    split: Split
    device: Device
    batch_size: int
    threads: int


def follow_evaluation(asked: EvaluationTogether, ranks: Ranks, access: DataAccess) -> None:
    """Answer for this rank's share of the images."""
    set_threads(asked.threads)
    device = choose_device(asked.device, ranks)
    trained = parse_network(asked.network, Path("the network of rank 0"))
    _choose_engine(trained, asked.config, device)
    data = asked.config.data
    images = load_test(data, access) if asked.split is Split.TEST else load_train_val(data, access).val
    ranks.require_same(_digest_of(images))
    evaluate(trained, images, device, asked.batch_size, ranks)


def count_again(run: RunDirectory, split: Split, access: DataAccess) -> dict[str, Any]:
    """Return the metrics of an evaluation that was made before, computed again; write nothing. Raises: DataError."""
    config, manifest = run.read_config(), run.read_manifest()
    device = _device_of_evaluation(run, config, None)
    trained = _trained_network(run, manifest, config, device)
    return evaluate(trained, _images_of_split(run, manifest, config, split, access), device, EVALUATION_CHUNK).metrics()


def _trained_network(run: RunDirectory, manifest: Manifest, config: Config, device: torch.device) -> TrainedNetwork:
    """Return the kept weights of a run, with the engine to evaluate them on `device`. Raises: DataError."""
    trained = read_kept_network(run, manifest)
    _choose_engine(trained, config, device)
    return trained


def _choose_engine(trained: TrainedNetwork, config: Config, device: torch.device) -> None:
    """What native trained, torch can evaluate: a run can be moved to where there is no compiler."""
    engine = Engine.TORCH if config.training.engine is Engine.TORCH else Engine.AUTO
    trained.network.engine = resolve_engine(engine, device, trained.network.image_size).network


def read_kept_network(run: RunDirectory, manifest: Manifest) -> TrainedNetwork:
    """Return the kept weights of a run, known to be those that its manifest records. Raises: DataError."""
    trained = read_network(run.model_path)
    digest = weights_digest(trained.network.state_dict())
    if digest != manifest.weights_sha256 and manifest.status != "running":  # a training writes them before it says so
        raise DataError(
            f"{run.model_path}: these are not the weights that manifest.json records "
            f"(SHA-256 {digest[:12]}... instead of {(manifest.weights_sha256 or 'none')[:12]}...)"
        )
    return trained


def require_accuracy(evaluation: Evaluation, min_accuracy: float | None) -> None:
    """Raise CheckFailedError if the accuracy is below `min_accuracy`, a fraction."""
    if min_accuracy is not None and evaluation.accuracy < min_accuracy:
        raise CheckFailedError(f"accuracy {evaluation.accuracy:.4f} is below the {min_accuracy:.4f} asked for")


def _device_of_evaluation(
    run: RunDirectory, config: Config, device_name: str | None, ranks: Ranks = ALONE
) -> torch.device:
    """Return the device that was asked for, else the run's own."""
    if device_name is not None:
        return choose_device(member_of(Device, device_name, "--device"), ranks)
    try:
        return choose_device(config.training.device, ranks)
    except ConfigError as error:
        raise ConfigError(f"{run.config_path}: training.device: {error}; --device cpu evaluates it here") from None


def member_of(kind: type[_Choice], name: str, option: str) -> _Choice:
    """Return the member of an enumeration by its value, or raise ConfigError."""
    try:
        return kind(name)
    except ValueError:
        raise ConfigError(f"{option} {name}: expected one of {', '.join(kind)}") from None


def _images_of_split(
    run: RunDirectory, manifest: Manifest, config: Config, split: Split, access: DataAccess
) -> ImageSet:
    """Return the images of a split.

    A test part that is cut off depends on all of the data: if they have changed, images of the training may be in it.

    Raises: DataError if the data or the split are not those of the training; ConfigError if they have not been so all
    the time.
    """
    if split is Split.TEST and is_verified(config.data):
        return load_test(config.data, access)
    if manifest.splits_before:
        raise ConfigError(
            f"{run.path}: was trained on other data, or another split of them, before it went on with these "
            f"(--accept-differences): images of its {_PARTS[split]} may have trained it"
        )
    data = load_train_val(config.data, access)
    if others := differences_of_files(manifest, data.fingerprint):
        raise DataError(f"{run.path}: was trained on other data than {config.data.source} holds now: {others}")
    if data.fingerprint.split != manifest.split_sha256:
        raise DataError(
            f"{run.path}: config.yaml gives another split than the one that was trained on "
            f"(SHA-256 {data.fingerprint.split[:12]}... instead of {manifest.split_sha256[:12]}...)"
        )
    return data.val if split is Split.VAL else load_test(config.data, access)


def _digest_of(images: ImageSet) -> dict[str, str]:
    """Return what tells whether two ranks see the same images, by a name for messages."""
    content = images.images.numpy().tobytes() + images.labels.numpy().tobytes()
    return {"the SHA-256 of the images": hashlib.sha256(content).hexdigest()}
