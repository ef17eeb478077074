"""Several runs evaluated one by one, and together: from run directories to a directory of the ensemble's own."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lenet_mnist.analysis.metrics import Evaluation, mean_prediction
from lenet_mnist.config import Device, Split
from lenet_mnist.data.batches import EVALUATION_CHUNK
from lenet_mnist.data.mnist import DataAccess
from lenet_mnist.errors import ConfigError
from lenet_mnist.runs.results import write_tables
from lenet_mnist.runs.run import Run, create_beside_runs
from lenet_mnist.study.evaluation import EvaluatedRun, evaluate_runs


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


def evaluate_ensemble(
    runs: Sequence[Run],
    runs_dir: Path,
    split: Split,
    access: DataAccess,
    device: Device | None = None,
    batch_size: int = EVALUATION_CHUNK,
) -> EvaluatedEnsemble:
    """Evaluate each run, into its own directory, and their mean prediction, into a new one in `runs_dir`.

    On the test set this counts as a test evaluation of each run.

    Raises: ConfigError if a network is listed twice, the runs know other data, or for `val` were not validated on the
    same images; otherwise as `evaluate_runs`. All of that before the first test evaluation is noted.
    """
    note = _require_alike(runs, split)
    directory = create_beside_runs(runs_dir, "ensemble", datetime.now(UTC))
    try:
        members = evaluate_runs(runs, split, access, device, batch_size)
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


def _require_alike(runs: Sequence[Run], split: Split) -> str | None:
    """Raise ConfigError if the runs cannot answer together; return what is to be said if they can."""
    manifests = [run.manifest for run in runs]
    weights = [manifest.weights_sha256 for manifest in manifests]
    for run, manifest in zip(runs, manifests, strict=True):
        run.require("train", "it has no network to evaluate")
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
