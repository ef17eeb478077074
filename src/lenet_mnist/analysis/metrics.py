"""Everything that is counted from a network's answers to the images of one split.

Source: lecture points 8 (softmax) and 9 (validation and test).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from lenet_mnist.analysis.intervals import Interval, mcnemar_p_value, wilson_interval
from lenet_mnist.data.batches import EVALUATION_CHUNK, evaluation_batches
from lenet_mnist.data.sets import ImageSet
from lenet_mnist.errors import DataError
from lenet_mnist.training.checkpoint import TrainedNetwork

PER_CELL = 12  # images of each cell of the confusion matrix that are kept for the report
FEW_IMAGES = 10  # in a calibration bin: the accuracy of fewer says next to nothing
_CALIBRATION_BINS = 15

Counts = npt.NDArray[np.int64]
Reals = npt.NDArray[np.float64]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


@dataclass(frozen=True)
class ClassScores:
    """How well one class is found. Fractions are 0 where there is nothing to divide by."""

    name: str
    num_images: int
    num_predicted: int
    num_correct: int

    @property
    def precision(self) -> float:
        """Of the images that were predicted as this class, the fraction that belong to it."""
        return self.num_correct / (self.num_predicted or 1)

    @property
    def recall(self) -> float:
        """Of the images of this class, the fraction that were predicted as it."""
        return self.num_correct / (self.num_images or 1)

    @property
    def f1(self) -> float:
        return 2 * self.num_correct / (self.num_images + self.num_predicted or 1)

    def as_dict(self) -> dict[str, Any]:
        """Return the row as plain values for JSON."""
        counts = {name: value for name, value in vars(self).items() if name != "name"}
        return {"class": self.name, **counts, "precision": self.precision, "recall": self.recall, "f1": self.f1}


@dataclass(frozen=True)
class CalibrationBin:
    """The images whose largest probability is in (low, high]."""

    low: Fraction
    high: Fraction
    num_images: Annotated[int, Field(ge=1, le=10**9)]
    mean_confidence: Fraction
    accuracy: Fraction


class Scored:
    """The figures that follow from a confusion matrix K K, whose rows are true and columns predicted classes."""

    class_names: tuple[str, ...]
    confusion_matrix: Any

    @property
    def num_images(self) -> int:
        return int(self.confusion_matrix.sum())

    @property
    def num_correct(self) -> int:
        """Images whose prediction is their label."""
        return int(np.trace(self.confusion_matrix))

    @property
    def accuracy(self) -> float:
        return self.num_correct / self.num_images

    @property
    def accuracy_interval(self) -> Interval:
        """95 % interval of the accuracy over draws of as many images. It says nothing about other seeds."""
        return wilson_interval(self.num_correct, self.num_images)

    @property
    def per_class(self) -> list[ClassScores]:
        matrix = self.confusion_matrix
        counts = matrix.sum(axis=1).tolist(), matrix.sum(axis=0).tolist(), matrix.diagonal().tolist()
        return [ClassScores(*row) for row in zip(self.class_names, *counts, strict=True)]


@dataclass(frozen=True, eq=False)
class Evaluation(Scored):
    """The network's answer to every image of a split, and what is counted from the answers.

    Shapes: indices, labels, predictions N; probabilities N K, each row the softmax of the logits.
    Units: `loss_sum` in nats, summed over the images.
    """

    class_names: tuple[str, ...]
    indices: Counts
    labels: Counts
    predictions: Counts
    probabilities: Reals
    loss_sum: float

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def mean_loss(self) -> float:
        """Mean cross-entropy, in nats per image."""
        return self.loss_sum / len(self)

    @property
    def confidences(self) -> Reals:
        """Probability of each prediction. Shape: N."""
        return self.probabilities[np.arange(len(self)), self.predictions]

    @cached_property
    def confusion_matrix(self) -> Counts:
        size = len(self.class_names)
        return np.bincount(self.labels * size + self.predictions, minlength=size**2).reshape(size, size)

    @property
    def top2_accuracy(self) -> float:
        """Fraction of the images whose label has one of the two largest probabilities."""
        of_label = np.take_along_axis(self.probabilities, self.labels[:, None], axis=1)
        return float(((self.probabilities > of_label).sum(axis=1) < 2).mean())

    @cached_property
    def calibration(self) -> list[CalibrationBin]:
        """Confidence against accuracy, in 15 bins of equal width. Empty bins are left out.

        Source: Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks", ICML 2017, equation 2.
        """
        confidences, is_correct = self.confidences, self.predictions == self.labels
        edges = np.linspace(0, 1, _CALIBRATION_BINS + 1)
        bin_of = np.clip(np.digitize(confidences, edges, right=True) - 1, 0, _CALIBRATION_BINS - 1)
        bins = []
        for k in np.unique(bin_of):
            inside = bin_of == k
            confidence, accuracy = float(confidences[inside].mean()), float(is_correct[inside].mean())
            bins.append(CalibrationBin(float(edges[k]), float(edges[k + 1]), int(inside.sum()), confidence, accuracy))
        return bins

    @property
    def expected_calibration_error(self) -> float:
        """Mean distance between confidence and accuracy over the bins, weighted by their images."""
        gaps = (row.num_images * abs(row.mean_confidence - row.accuracy) for row in self.calibration)
        return sum(gaps) / len(self)

    @property
    def mistakes(self) -> Counts:
        """Positions of the wrong predictions, the most confident first."""
        return self.most_confident(self.predictions != self.labels)

    def most_confident(self, chosen: npt.NDArray[np.bool_]) -> Counts:
        """Return the positions of the chosen images, the most confident first. Shape: chosen N."""
        positions = np.flatnonzero(chosen)
        return positions[np.argsort(-self.confidences[positions], kind="stable")]

    def metrics(self) -> dict[str, Any]:
        """Return every figure, and the tables behind the figures, as plain values for JSON."""
        per_class = self.per_class
        return {
            "num_images": len(self),
            "num_correct": self.num_correct,
            "accuracy": self.accuracy,
            "accuracy_interval_95": {"method": "wilson", **self.accuracy_interval._asdict()},
            "loss": self.mean_loss,
            "top2_accuracy": self.top2_accuracy,
            "expected_calibration_error": self.expected_calibration_error,
            "macro": {
                name: sum(getattr(row, name) for row in per_class) / len(per_class)
                for name in ("precision", "recall", "f1")
            },
            "per_class": [row.as_dict() for row in per_class],
            "calibration": [vars(row) for row in self.calibration],
        }


@torch.inference_mode()
def evaluate(
    trained: TrainedNetwork,
    image_set: ImageSet,
    device: torch.device,
    batch_size: int = EVALUATION_CHUNK,
) -> Evaluation:
    """Return the network's answer to every image of `image_set`, whatever `batch_size` is.

    Raises: DataError if there is no image, the images are not of the network's size, or a label names no class.
    """
    if len(image_set) == 0:
        raise DataError("there are no images to evaluate on")
    size, trained_size = image_set.image_size, trained.network.image_size
    if size != trained_size:
        raise DataError(f"the images are {size} pixels wide, but the network was trained on {trained_size}")
    image_set.require_labels_below(len(trained.class_names))
    network = trained.network.to(device)
    batches = evaluation_batches(image_set, trained.normalization, device, batch_size)
    return evaluation_of(torch.cat([network(batch.images) for batch in batches]), image_set, trained.class_names)


def evaluation_of(logits: Tensor, image_set: ImageSet, class_names: tuple[str, ...]) -> Evaluation:
    """Return what is counted from the logits of all images, in their order. Shapes: logits N K.

    Raises: DataError if a logit is not finite.
    """
    logits = logits.detach().cpu().double()
    if not bool(logits.isfinite().all()):
        raise DataError("the logits are not finite: the weights have overflowed")
    return Evaluation(
        class_names=class_names,
        indices=image_set.indices.numpy(),
        labels=image_set.labels.numpy(),
        predictions=logits.argmax(dim=1).numpy(),
        probabilities=logits.softmax(dim=1).numpy(),
        loss_sum=F.cross_entropy(logits, image_set.labels, reduction="sum").item(),
    )


def mean_prediction(evaluations: Sequence[Evaluation]) -> Evaluation:
    """Return the answers of an ensemble: the mean of its members' probabilities.

    Raises: DataError if the members have not answered for the same images and classes.
    Source: Hansen and Salamon, "Neural network ensembles", IEEE Transactions on Pattern Analysis and Machine
    Intelligence 12, 1990.
    """
    first = evaluations[0]
    for other in evaluations[1:]:
        _require_same_images(first, other)
    probabilities = np.mean([each.probabilities for each in evaluations], axis=0)
    of_label = probabilities[np.arange(len(first)), first.labels]
    loss_sum = float(-np.log(np.maximum(of_label, np.finfo(np.float64).tiny)).sum())
    return replace(first, predictions=probabilities.argmax(axis=1), probabilities=probabilities, loss_sum=loss_sum)


@dataclass(frozen=True, eq=False)
class PairedAnswers:
    """Two networks' answers to the same images.

    Shapes: fixed, broken: positions of the images that only the first or only the second has right, by confidence.
    """

    fixed: Counts
    broken: Counts
    num_both_right: int
    num_both_wrong: int

    def plain(self) -> dict[str, Any]:
        """Return the counts, and how often two equally good networks would differ by as much, as plain values."""
        counts = {"num_fixed": len(self.fixed), "num_broken": len(self.broken)}
        both = {"num_both_right": self.num_both_right, "num_both_wrong": self.num_both_wrong}
        return {**counts, **both, "mcnemar_p_value": mcnemar_p_value(*counts.values())}


def pair_answers(first: Evaluation, second: Evaluation) -> PairedAnswers:
    """Return which images one has right and the other wrong. Raises: DataError if they are not the same images."""
    _require_same_images(first, second)
    a, b = first.predictions == first.labels, second.predictions == second.labels
    fixed, broken = second.most_confident(a & ~b), first.most_confident(b & ~a)
    return PairedAnswers(fixed, broken, int((a & b).sum()), int((~a & ~b).sum()))


def _require_same_images(first: Evaluation, other: Evaluation) -> None:
    is_same = np.array_equal(first.indices, other.indices) and np.array_equal(first.labels, other.labels)
    if not is_same or first.class_names != other.class_names:
        raise DataError("the networks have answered for different images or classes")
