"""The files of one evaluation, written and read back: figures, tables, a few pictures. What is read is not trusted.

The pictures are kept so that a report can show them without the data, and without another test evaluation.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors.torch import save
from torch import Tensor

from lenet_mnist.analysis.metrics import PER_CELL, CalibrationBin, Counts, Evaluation, Reals, Scored
from lenet_mnist.errors import DataError, one_line
from lenet_mnist.files.storage import read_bounded, write_bytes
from lenet_mnist.files.tables import first_error, read_json_text, read_records, write_csv, write_json
from lenet_mnist.runs.run import Run
from lenet_mnist.training.checkpoint import HEADER_KEY, parse_tensors

_EXAMPLES = "examples.safetensors"
# Twice what 12 images of each of 100 cells take. A report, which shows them all as text, stays below 3 MB.
_MAX_EXAMPLE_BYTES = 1_500_000
_BYTES_BESIDE_PIXELS = 4 * 8  # of each image: index, label, prediction, confidence
_HEADER_BYTES = 4096
_COUNTS = dict.fromkeys(("indices", "labels", "predictions"), torch.int64)
_BESIDE_IMAGES = {**_COUNTS, "confidences": torch.float64}
_MAX_COUNT = 10**9
_OF_THE_RUN = ("best_epoch", "weights_sha256", "num_test_looks")


class _ClassRow(BaseModel):
    """The name of a class; its counts follow from the confusion matrix."""

    name: str = Field(alias="class")


class _Metrics(BaseModel):
    """What is read of metrics.json. What can be counted again is counted from the confusion matrix."""

    model_config = ConfigDict(allow_inf_nan=False)

    num_test_looks: int | None
    best_epoch: int = Field(ge=1, le=_MAX_COUNT)
    weights_sha256: str
    num_images: int = Field(ge=1, le=_MAX_COUNT)
    num_correct: int = Field(ge=0, le=_MAX_COUNT)
    loss: float = Field(ge=0)
    expected_calibration_error: float = Field(ge=0, le=1)
    per_class: list[_ClassRow] = Field(min_length=2, max_length=10_000)
    calibration: tuple[CalibrationBin, ...] = Field(max_length=1000)


@dataclass(frozen=True, eq=False)
class SavedEvaluation(Scored):
    """One evaluation of one split, read from its files.

    Shapes: confusion_matrix K K; rows are true, columns predicted.
    """

    split: str
    class_names: tuple[str, ...]
    confusion_matrix: Counts
    mean_loss: float
    expected_calibration_error: float
    calibration: tuple[CalibrationBin, ...]
    best_epoch: int
    weights_sha256: str
    num_test_looks: int | None


@dataclass(frozen=True, eq=False)
class Examples:
    """Images that an evaluation has kept, and what the network made of each.

    Shapes: images N H W uint8; the others N. `indices` are places in the source, as in predictions.csv.
    """

    images: npt.NDArray[np.uint8]
    indices: Counts
    labels: Counts
    predictions: Counts
    confidences: Reals

    def __len__(self) -> int:
        return len(self.images)

    def of_cell(self, label: int, prediction: int) -> Counts:
        """Return the positions of the images of one cell of the confusion matrix, the surest first."""
        inside = np.flatnonzero((self.labels == label) & (self.predictions == prediction))
        return inside[np.argsort(-self.confidences[inside], kind="stable")]


def read_evaluation(run: Run, split: str) -> SavedEvaluation:
    """Return what is known of one split. Raises: DataError if a file is missing, damaged, or not of the others."""
    directory = run.evaluation_path(split)
    path = directory / "metrics.json"
    try:
        metrics = _Metrics.model_validate_json(read_json_text(path))
    except ValidationError as error:
        raise DataError(f"{path}: {first_error(error)}") from None
    matrix = _read_matrix(directory / "confusion_matrix.csv", len(metrics.per_class))
    if (int(matrix.sum()), int(np.trace(matrix))) != (metrics.num_images, metrics.num_correct):
        raise DataError(f"{directory}: metrics.json and confusion_matrix.csv are not of one evaluation: evaluate again")
    names = tuple(row.name for row in metrics.per_class)
    as_written = {name: getattr(metrics, name) for name in ("expected_calibration_error", "calibration", *_OF_THE_RUN)}
    return SavedEvaluation(split, names, matrix, metrics.loss, **as_written)


def write_figures(directory: Path, scored: Scored, metrics: dict[str, Any]) -> None:
    """Write metrics.json, per_class.csv and confusion_matrix.csv. Raises: StorageError."""
    write_json(directory / "metrics.json", metrics)
    per_class = metrics["per_class"]
    write_csv(directory / "per_class.csv", list(per_class[0]), [list(row.values()) for row in per_class])
    counts = zip(scored.class_names, scored.confusion_matrix.tolist(), strict=True)
    header = ["true \\ predicted", *scored.class_names]
    write_csv(directory / "confusion_matrix.csv", header, [[name, *row] for name, row in counts])


def write_tables(directory: Path, evaluation: Evaluation, metrics: dict[str, Any], image_names: Sequence[str]) -> None:
    """Write the same, and predictions.csv, with the images' files if known. Raises: StorageError."""
    names = evaluation.class_names
    write_figures(directory, evaluation, metrics)
    columns = {
        "index": evaluation.indices.tolist(),
        "label": [names[label] for label in evaluation.labels],
        "prediction": [names[label] for label in evaluation.predictions],
        "probability": evaluation.confidences.tolist(),
    }
    if image_names:
        columns["file"] = list(map(one_line, image_names))
    write_csv(directory / "predictions.csv", list(columns), list(zip(*columns.values(), strict=True)))


def write_examples(directory: Path, evaluation: Evaluation, images: Tensor, weights_sha256: str) -> None:
    """Keep a few images of each cell.

    Shapes: images N H W uint8, in the order of `evaluation`.
    Raises: StorageError.
    """
    room = _MAX_EXAMPLE_BYTES - _HEADER_BYTES
    limit = room // (images.shape[1] * images.shape[2] + _BYTES_BESIDE_PIXELS)
    chosen = example_positions(evaluation, limit)
    tensors = {name: torch.from_numpy(getattr(evaluation, name)[chosen]) for name in _BESIDE_IMAGES}
    tensors["images"] = images[torch.from_numpy(chosen)].contiguous()
    header = json.dumps({"weights_sha256": weights_sha256})
    write_bytes(directory / _EXAMPLES, save(tensors, metadata={HEADER_KEY: header}))


def example_positions(evaluation: Evaluation, limit: int) -> Counts:
    """Return the positions of at most `limit` images to keep for the report, up to 12 per cell of the matrix.

    Of mistakes the 12 most confident ones, of correct answers the 6 most and the 6 least confident ones.
    """
    labels, predictions = evaluation.labels, evaluation.predictions
    cells = labels * len(evaluation.class_names) + predictions
    order = np.lexsort((-evaluation.confidences, cells))  # by cell, the most confident first
    chosen = []
    for members in np.split(order, np.flatnonzero(np.diff(cells[order])) + 1):
        has_both_ends = labels[members[0]] == predictions[members[0]] and len(members) > PER_CELL
        ends = members[: PER_CELL // 2], members[-(PER_CELL // 2) :]
        chosen.append(np.concatenate(ends) if has_both_ends else members[:PER_CELL])
    return np.concatenate(chosen)[:limit]


def read_examples(run: Run, evaluation: SavedEvaluation) -> Examples:
    """Return the images that `evaluation` has kept. Raises: DataError if there are none, or not of this evaluation."""
    path = run.evaluation_path(evaluation.split) / _EXAMPLES
    tensors, text = parse_tensors(read_bounded(path, max_bytes=_MAX_EXAMPLE_BYTES, error=DataError), path)
    is_of_it = text == json.dumps({"weights_sha256": evaluation.weights_sha256})
    if not is_of_it or not _are_examples(tensors, len(evaluation.class_names)):
        raise DataError(f"{path}: damaged, or not of the evaluation in this directory: evaluate again")
    return Examples(**{field: tensors[field].numpy() for field in Examples.__dataclass_fields__})


def _are_examples(tensors: Mapping[str, Tensor], num_classes: int) -> bool:
    """Whether these are square grey pictures, with an index, two classes and a probability for each."""
    images = tensors.get("images")
    if images is None or images.dtype != torch.uint8 or images.dim() != 3 or images.shape[1] != images.shape[2]:
        return False
    for name, dtype in _BESIDE_IMAGES.items():
        if name not in tensors or tensors[name].dtype != dtype or tensors[name].shape != images.shape[:1]:
            return False
    classes, confidences = torch.stack([tensors["labels"], tensors["predictions"]]), tensors["confidences"]
    are_classes = (classes >= 0) & (classes < num_classes)
    return bool(are_classes.all()) and bool(((confidences >= 0) & (confidences <= 1)).all())


def _read_matrix(path: Path, num_classes: int) -> Counts:
    """Return the counts of confusion_matrix.csv. Raises: DataError if it is not K rows of K counts."""
    rows = islice(read_records(path), 1, num_classes + 2)  # one more than there should be
    try:
        matrix = np.array([np.array([int(cell) for cell in cells], dtype=np.int64) for _, *cells in rows])
    except (ValueError, OverflowError):
        matrix = np.empty(0)
    if matrix.shape != (num_classes, num_classes) or matrix.min() < 0 or matrix.max() > _MAX_COUNT:
        raise DataError(f"{path}: expected {num_classes} rows of {num_classes} counts, one for each class")
    return matrix
