"""One evaluation on disk: from a run directory to figures and tables in it. Only this module loads the test images.

runs/<id> -> load_test -> evaluate -> numbers and tables in runs/<id>/evaluation/<split>
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from lenet_mnist.analysis.metrics import Evaluation, evaluate
from lenet_mnist.config import Config, Device, Engine, Split
from lenet_mnist.data.batches import EVALUATION_CHUNK
from lenet_mnist.data.load import is_verified, load_test, load_train_val
from lenet_mnist.data.mnist import DataAccess
from lenet_mnist.data.sets import ImageSet
from lenet_mnist.devices import choose_device, set_threads
from lenet_mnist.errors import CheckFailedError, ConfigError, DataError
from lenet_mnist.files.storage import make_directory, prepare_to_write
from lenet_mnist.model.engines import resolve_engine
from lenet_mnist.runs.results import write_examples, write_tables
from lenet_mnist.runs.run import Run
from lenet_mnist.study.resume import differences_of_files
from lenet_mnist.training.checkpoint import TrainedNetwork, read_network, weights_digest

_PARTS = {Split.VAL: "validation part", Split.TEST: "test part"}


@dataclass(frozen=True)
class Answers:
    """What the kept weights of a run answer to every image of a split.

    `num_test_looks` counts the test evaluations of the run, this one included; None for other splits.
    """

    trained: TrainedNetwork
    images: ImageSet
    evaluation: Evaluation
    num_test_looks: int | None


@dataclass(frozen=True)
class EvaluatedRun:
    """One evaluation of one split. `metrics` is what metrics.json holds."""

    run: Run
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
        return self.run.evaluation_path(self.split.value)


def evaluate_runs(
    runs: Sequence[Run],
    split: Split,
    access: DataAccess,
    device: Device | None = None,
    batch_size: int = EVALUATION_CHUNK,
) -> tuple[EvaluatedRun, ...]:
    """Evaluate the kept weights of each run on one split, and write the results into the runs.

    The device is that of a run's configuration unless `device` says otherwise.

    Raises: ConfigError for a device that does not exist, or runs that do not answer for the same images; DataError if
    weights or data are missing or damaged, or the split is not the one of the training: all of that before the first
    test evaluation is noted. StorageError if a file cannot be written.
    """
    read = []
    for run in runs:
        prepare_to_write(run.path)
        run.require("train", "it has no network to evaluate")
        read.append((run, run.record.config))
    all_answers = answers_of(runs, split, access, device, batch_size)
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
    runs: Sequence[Run],
    split: Split,
    access: DataAccess,
    device: Device | None = None,
    batch_size: int = EVALUATION_CHUNK,
) -> list[Answers]:
    """Let the kept weights of each run answer for a split. Nothing is written but the note of a test evaluation.

    Raises: as `evaluate_runs`, before the first test evaluation is noted.
    """
    images_by_data: dict[Hashable, ImageSet] = {}
    ready = []
    for run in runs:
        place = _device_of_evaluation(run, device)
        trained = _trained_network(run, place)
        data = (run.config.data, run.manifest.split_sha256)
        if data not in images_by_data:
            images_by_data[data] = _images_of_split(run, split, access)
        if split is Split.TEST:
            prepare_to_write(run.path)
            run.num_test_looks()  # whether another one can be noted
        ready.append((run, trained, images_by_data[data], place))
    for run, trained, images, _ in ready[1:]:
        first, other, others, _ = ready[0]
        if trained.class_names != other.class_names or not images.is_same_as(others):
            raise ConfigError(f"{run.path}: does not answer for the same classes and images as {first.path}")
    answers = []
    for run, trained, images, place in ready:
        set_threads(run.config.training.threads)
        num_looks = run.add_test_look(datetime.now(UTC)) if split is Split.TEST else None
        answers.append(Answers(trained, images, evaluate(trained, images, place, batch_size), num_looks))
    return answers


def count_again(run: Run, split: Split, access: DataAccess) -> dict[str, Any]:
    """Return the metrics of an evaluation that was made before, computed again; write nothing. Raises: DataError."""
    device = _device_of_evaluation(run, None)
    trained, images = _trained_network(run, device), _images_of_split(run, split, access)
    return evaluate(trained, images, device, EVALUATION_CHUNK).metrics()


def _trained_network(run: Run, device: torch.device) -> TrainedNetwork:
    """Return the kept weights of a run on `device`. Raises: DataError.

    Torch can evaluate what native trained: a run may have been moved to a machine without a compiler.
    """
    trained = read_kept_network(run)
    engine = Engine.TORCH if run.config.training.engine is Engine.TORCH else Engine.AUTO
    return trained.on(device, resolve_engine(engine, device, trained.network.image_size))


def read_kept_network(run: Run) -> TrainedNetwork:
    """Return the kept weights of a run, known to be those that its manifest records. Raises: DataError."""
    manifest, trained = run.manifest, read_network(run.model_path)
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


def _device_of_evaluation(run: Run, device: Device | None) -> torch.device:
    if device is not None:
        return choose_device(device)
    try:
        return choose_device(run.config.training.device)
    except ConfigError as error:
        raise ConfigError(f"{run.config_path}: training.device: {error}; --device cpu evaluates it here") from None


def _images_of_split(run: Run, split: Split, access: DataAccess) -> ImageSet:
    """Return the images of a split.

    A test part that is cut off depends on all of the data: if they have changed, images of the training may be in it.

    Raises: DataError if the data or the split are not those of the training; ConfigError if they have not been so all
    the time.
    """
    config, manifest = run.config, run.manifest
    if split is Split.TEST and is_verified(config.data):
        return load_test(config.data, access)
    if manifest.splits_before:
        raise ConfigError(
            f"{run.path}: was trained on other data, or another split of them, before it was resumed with these "
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
