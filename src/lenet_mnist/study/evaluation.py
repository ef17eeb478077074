"""Evaluations on disk, of one run or of several together. Only this module lets networks see the test images.

runs/<id> -> load_test -> evaluate -> numbers and tables in runs/<id>/evaluation/<split>
several of them -> their mean prediction -> numbers and tables in a directory of the ensemble's own
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lenet_mnist.analysis.metrics import Evaluation, evaluate, evaluation_of, mean_prediction
from lenet_mnist.config import DataConfig, Device, Engine, Split
from lenet_mnist.data.batches import EVALUATION_CHUNK
from lenet_mnist.data.load import is_verified, load_test, load_train_val, source_of
from lenet_mnist.data.mnist import DataAccess
from lenet_mnist.data.sets import ImageSet
from lenet_mnist.devices import choose_device, set_threads
from lenet_mnist.errors import CheckFailedError, ConfigError, DataError
from lenet_mnist.files.storage import make_directory, prepare_to_write
from lenet_mnist.model.engines import resolve_engine
from lenet_mnist.runs.results import write_examples, write_tables
from lenet_mnist.runs.run import Run, create_beside_runs
from lenet_mnist.study.resume import differences_of_files
from lenet_mnist.training.checkpoint import TrainedNetwork, read_network, weights_digest

_NO_NETWORK = "it has no network to evaluate"


@dataclass(frozen=True)
class EvaluatedRun:
    """What the kept weights of a run answer to every image of a split.

    `num_test_looks` counts the test evaluations of the run, this one included; None for other splits.
    """

    run: Run
    split: Split
    trained: TrainedNetwork
    images: ImageSet
    evaluation: Evaluation
    num_test_looks: int | None

    @property
    def members(self) -> tuple["EvaluatedRun"]:
        """This run alone; an ensemble has several."""
        return (self,)

    @property
    def directory(self) -> Path:
        return self.run.evaluation_path(self.split.value)

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """What metrics.json holds."""
        return {
            "run": self.run.id,
            "split": self.split.value,
            "num_test_looks": self.num_test_looks,
            "best_epoch": self.trained.epoch,
            "weights_sha256": weights_digest(self.trained.network.state_dict()),
            **self.evaluation.metrics(),
        }


@dataclass(frozen=True)
class EvaluatedEnsemble:
    """What several runs answer, each and together. `note` says what the user should know of them, if anything."""

    directory: Path
    members: tuple[EvaluatedRun, ...]
    evaluation: Evaluation
    metrics: dict[str, Any]
    note: str | None

    @property
    def split(self) -> Split:
        return self.members[0].split


@dataclass(frozen=True)
class Evaluator:
    """Lets the kept weights of runs answer: to which data, on which device, how many images at a time.

    The device is that of a run's configuration unless `device` says otherwise.
    """

    access: DataAccess
    device: Device | None = None
    batch_size: int = EVALUATION_CHUNK

    def answers_of(self, runs: Sequence[Run], split: Split) -> tuple[EvaluatedRun, ...]:
        """Let each run answer for a split. Nothing is written but the note of a test evaluation.

        Raises: ConfigError for a device that does not exist, or runs that do not answer for the same images; DataError
        if weights or data are missing or damaged, or the split is not the one of the training; StorageError: all of
        that before the first test evaluation is noted.
        """
        known: dict[Hashable, ImageSet] = {}
        ready: list[tuple[Run, TrainedNetwork, torch.device, ImageSet]] = []
        for run in runs:
            network, data = self._network_of(run), (run.config.data, run.manifest.split_sha256)
            if data not in known:
                known[data] = _images_of_split(run, split, self.access)
            if split is Split.TEST:
                prepare_to_write(run.path)
                run.num_test_looks()  # whether another one can be noted
            ready.append((run, *network, known[data]))
        for run, trained, _, images in ready[1:]:
            first, other, _, others = ready[0]
            if trained.class_names != other.class_names or not images.is_same_as(others):
                raise ConfigError(f"{run.path}: does not answer for the same classes and images as {first.path}")
        seen = []
        for run, trained, place, images in ready:
            set_threads(run.config.training.threads, trained.network.engine)
            num_looks = run.add_test_look(datetime.now(UTC)) if split is Split.TEST else None
            answers = evaluate(trained, images, place, self.batch_size)
            seen.append(EvaluatedRun(run, split, trained, images, answers, num_looks))
        return tuple(seen)

    def count_again(self, run: Run, split: Split) -> dict[str, Any]:
        """Return the metrics of an evaluation that was made before, and write nothing. Raises: DataError."""
        trained, place = self._network_of(run)
        return evaluate(trained, _images_of_split(run, split, self.access), place, self.batch_size).metrics()

    def _network_of(self, run: Run) -> tuple[TrainedNetwork, torch.device]:
        """Return the kept weights of a run, and where they are. Raises: ConfigError, DataError.

        Torch can evaluate what native trained: a run may have been moved to a machine without a compiler.
        """
        training = run.config.training
        try:
            place = choose_device(self.device or training.device)
        except ConfigError as error:
            if self.device is not None:
                raise
            raise ConfigError(f"{run.config_path}: training.device: {error}; --device cpu evaluates it here") from None
        trained = read_kept_network(run)
        engine = Engine.TORCH if training.engine is Engine.TORCH else Engine.AUTO
        return trained.on(place, resolve_engine(engine, place, trained.network.image_size)), place


def evaluate_runs(runs: Sequence[Run], split: Split, evaluator: Evaluator) -> tuple[EvaluatedRun, ...]:
    """Evaluate the kept weights of each run on one split, and write the results into the runs.

    Raises: as `Evaluator.answers_of`; StorageError if a file cannot be written.
    """
    for run in runs:
        prepare_to_write(run.path)
        run.require("train", _NO_NETWORK)
        _ = run.record  # all that its report shows is read before a test evaluation is noted
    seen = evaluator.answers_of(runs, split)
    for each in seen:
        make_directory(each.directory)
        write_tables(each.directory, each.evaluation, each.metrics, each.images.names)
        write_examples(each.directory, each.evaluation, each.images.images, each.metrics["weights_sha256"])
    return seen


def evaluate_ensemble(runs: Sequence[Run], runs_dir: Path, split: Split, evaluator: Evaluator) -> EvaluatedEnsemble:
    """Evaluate each run, into its own directory, and their mean prediction, into a new one in `runs_dir`.

    On the test set this counts as a test evaluation of each run.

    Raises: ConfigError if a network is listed twice, the runs know other data, or for `val` were not validated on the
    same images; otherwise as `evaluate_runs`. All of that before the first test evaluation is noted.
    """
    note = _require_alike(runs, split)
    directory = create_beside_runs(runs_dir, "ensemble", datetime.now(UTC))
    try:
        members = evaluate_runs(runs, split, evaluator)
    except BaseException:
        directory.rmdir()
        raise
    evaluation = mean_prediction([member.evaluation for member in members])
    kept = ("run", "weights_sha256", "accuracy", "num_test_looks")
    metrics = {
        "runs": [{key: member.metrics[key] for key in kept} for member in members],
        "split": split.value,
        "note": note,
        **evaluation.metrics(),
    }
    write_tables(directory, evaluation, metrics, members[0].images.names)
    return EvaluatedEnsemble(directory, members, evaluation, metrics, note)


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


def evaluate_module(
    module: nn.Module, split: Split, config: DataConfig, access: DataAccess
) -> tuple[Evaluation, ImageSet]:
    """Let anybody's network answer for a split of `config`. Its modes are put back afterwards.

    Shapes: the module is given images N 1 H W float32, raw pixels 0..255, and returns logits N K.
    Raises: ConfigError if it returns something else; DataError.
    """
    class_names = source_of(config, access).class_names()
    images = load_test(config, access) if split is Split.TEST else load_train_val(config, access).val
    place = next(module.parameters(), torch.empty(0)).device
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            chunks = torch.split(images.images.unsqueeze(1), EVALUATION_CHUNK)
            logits = torch.cat([module(chunk.float().to(place)) for chunk in chunks])
    finally:
        for part, is_training in modes:
            part.training = is_training
    if (expected := (len(images), len(class_names))) != logits.shape:
        raise ConfigError(f"the module's logits have shape {tuple(logits.shape)}, expected {expected}: images, classes")
    return evaluation_of(logits, images, class_names), images


def require_accuracy(evaluation: Evaluation, min_accuracy: float | None) -> None:
    """Raise CheckFailedError if the accuracy is below `min_accuracy`, a fraction."""
    if min_accuracy is not None and evaluation.accuracy < min_accuracy:
        raise CheckFailedError(f"accuracy {evaluation.accuracy:.4f} is below the {min_accuracy:.4f} asked for")


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
            f"(--accept-differences): images of its {split} part may have trained it"
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


def _require_alike(runs: Sequence[Run], split: Split) -> str | None:
    """Raise ConfigError if the runs cannot answer together; return what is to be said if they can."""
    manifests = [run.manifest for run in runs]
    weights = [manifest.weights_sha256 for manifest in manifests]
    for run, manifest in zip(runs, manifests, strict=True):
        run.require("train", _NO_NETWORK)
        if manifest.weights_sha256 is not None and weights.count(manifest.weights_sha256) > 1:
            raise ConfigError(f"{run.path}: is named twice: an ensemble is of different networks")
        if manifest.data_files != manifests[0].data_files:
            raise ConfigError(f"{run.path}: was trained on other data than {runs[0].path}: they cannot answer together")
    if len({manifest.split_sha256 for manifest in manifests}) == 1 and not any(m.splits_before for m in manifests):
        return None
    if split is Split.VAL:
        raise ConfigError(
            "the runs were trained on different splits: what validates for one may have trained another. "
            "Together they can be evaluated on the test set only"
        )
    return "the runs were trained on different splits of the data; the test set is the same for all"
