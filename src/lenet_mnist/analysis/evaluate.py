"""One look at one split: what the network answers for each image, and everything that follows from it.

Source: lecture points 8 (softmax) and 9 (validation and test).
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from lenet_mnist.analysis.intervals import Interval, wilson_interval
from lenet_mnist.data.batches import EVALUATION_CHUNK, evaluation_batches
from lenet_mnist.data.sets import ImageSet
from lenet_mnist.errors import DataError
from lenet_mnist.ranks import ALONE, Ranks
from lenet_mnist.training.checkpoint import TrainedNetwork

_CALIBRATION_BINS = 15
FEW_IMAGES = 10  # in a bin: of fewer, the accuracy says next to nothing

Counts = npt.NDArray[np.int64]
Reals = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ClassScores:
    """How well one class is found. Fractions; 0 where nothing was predicted or nothing was there."""

    name: str
    num_images: int
    num_predicted: int
    num_correct: int

    @property
    def precision(self) -> float:
        """Of the images that were called by this class, the fraction that belong to it."""
        return self.num_correct / self.num_predicted if self.num_predicted else 0.0

    @property
    def recall(self) -> float:
        """Of the images of this class, the fraction that were called by it."""
        return self.num_correct / self.num_images if self.num_images else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        total = self.num_images + self.num_predicted
        return 2 * self.num_correct / total if total else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return the row as plain values for JSON."""
        return {
            "class": self.name,
            "num_images": self.num_images,
            "num_predicted": self.num_predicted,
            "num_correct": self.num_correct,
            "precision": self.precision,
            "recall": self.recall,
            "f1": self.f1,
        }


def scores_of(matrix: Counts, class_names: tuple[str, ...]) -> list[ClassScores]:
    """Return one row a class. Shapes: matrix K K, rows are true, columns predicted."""
    return [
        ClassScores(name, int(matrix[k].sum()), int(matrix[:, k].sum()), int(matrix[k, k]))
        for k, name in enumerate(class_names)
    ]


@dataclass(frozen=True)
class CalibrationBin:
    """The images whose largest probability lies in (low, high]."""

    low: float
    high: float
    num_images: int
    mean_confidence: float
    accuracy: float


@dataclass(frozen=True, eq=False)
class Evaluation:
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
    def num_correct(self) -> int:
        """Images whose prediction is their label."""
        return int((self.predictions == self.labels).sum())

    @property
    def accuracy(self) -> float:
        """Fraction of the images whose prediction is their label."""
        return self.num_correct / len(self)

    @property
    def accuracy_interval(self) -> Interval:
        """95 % interval of the accuracy, over draws of as many images; it says nothing of other seeds."""
        return wilson_interval(self.num_correct, len(self))

    @property
    def mean_loss(self) -> float:
        """Mean cross-entropy, in nats an image."""
        return self.loss_sum / len(self)

    @property
    def confidences(self) -> Reals:
        """Probability given to each prediction. Shape: N."""
        return self.probabilities[np.arange(len(self)), self.predictions]

    @cached_property
    def confusion_matrix(self) -> Counts:
        """Images of class `row` that were called `column`. Shape: K K; rows are true, columns predicted."""
        num_classes = len(self.class_names)
        flat = np.bincount(self.labels * num_classes + self.predictions, minlength=num_classes**2)
        return flat.reshape(num_classes, num_classes)

    @property
    def per_class(self) -> list[ClassScores]:
        """One row a class, from the confusion matrix."""
        return scores_of(self.confusion_matrix, self.class_names)

    @property
    def top2_accuracy(self) -> float:
        """Fraction of the images whose label has one of the two largest probabilities."""
        label_probability = self.probabilities[np.arange(len(self)), self.labels]
        num_larger = (self.probabilities > label_probability[:, None]).sum(axis=1)
        return float((num_larger < 2).mean())

    @cached_property
    def calibration(self) -> list[CalibrationBin]:
        """Confidence against accuracy, in 15 bins of equal width; empty bins are left out.

        Source: Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks", ICML 2017, equation 2.
        """
        confidences = self.confidences
        is_correct = self.predictions == self.labels
        edges = np.linspace(0, 1, _CALIBRATION_BINS + 1)
        bin_of = np.clip(np.digitize(confidences, edges, right=True) - 1, 0, _CALIBRATION_BINS - 1)
        return [
            CalibrationBin(
                low=float(edges[k]),
                high=float(edges[k + 1]),
                num_images=int(inside.sum()),
                mean_confidence=float(confidences[inside].mean()),
                accuracy=float(is_correct[inside].mean()),
            )
            for k in range(_CALIBRATION_BINS)
            if (inside := bin_of == k).any()
        ]

    @property
    def expected_calibration_error(self) -> float:
        """Mean distance of confidence and accuracy over the bins, weighted by their images."""
        gaps = (row.num_images * abs(row.mean_confidence - row.accuracy) for row in self.calibration)
        return sum(gaps) / len(self)

    @property
    def mistakes(self) -> Counts:
        """Positions of the wrong predictions, the most confident first."""
        wrong = np.flatnonzero(self.predictions != self.labels)
        return wrong[np.argsort(-self.confidences[wrong], kind="stable")]

    def metrics(self) -> dict[str, Any]:
        """Return everything that is one number, and the tables behind the numbers, as plain values for JSON."""
        low, high = self.accuracy_interval
        per_class = self.per_class
        return {
            "num_images": len(self),
            "num_correct": self.num_correct,
            "accuracy": self.accuracy,
            "accuracy_interval_95": {"method": "wilson", "low": low, "high": high},
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
    ranks: Ranks = ALONE,
) -> Evaluation:
    """Let the network answer for every image of `image_set`, none left out whatever `batch_size` is.

    Several ranks answer for a share each, and all get the whole.

    Raises: DataError if there is no image, the images are not of the network's size, or a label names no class.
    """
    if len(image_set) == 0:
        raise DataError("there are no images to evaluate on")
    if image_set.image_size != trained.network.image_size:
        raise DataError(
            f"the images are {image_set.image_size} pixels wide, but the network was trained on "
            f"{trained.network.image_size}"
        )
    image_set.require_labels_below(len(trained.class_names))
    network = trained.network.to(device)
    share = ranks.share_of(len(image_set))
    batches = evaluation_batches(image_set.part(share), trained.normalization, device, batch_size)
    logits = torch.zeros(len(image_set), len(trained.class_names), dtype=torch.float64)
    logits[share] = torch.cat([network(batch.images) for batch in batches]).cpu().double()
    ranks.add_up(logits)
    if not bool(logits.isfinite().all()):
        raise DataError("the network's weights are so large that its answers are no numbers")
    return Evaluation(
        class_names=trained.class_names,
        indices=image_set.indices.numpy(),
        labels=image_set.labels.numpy(),
        predictions=logits.argmax(dim=1).numpy(),
        probabilities=logits.softmax(dim=1).numpy(),
        loss_sum=F.cross_entropy(logits, image_set.labels, reduction="sum").item(),
    )
