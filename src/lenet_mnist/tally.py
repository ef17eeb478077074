"""Counts that add up: over batches, over processes, over folds. Means are taken once, at the end.

Used by training and analysis alike, so that an accuracy is the same number wherever it is shown.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from lenet_mnist.data.batches import Batch
from lenet_mnist.distributed import SINGLE, Ranks
from lenet_mnist.errors import DataError
from lenet_mnist.model.lenet import LeNet


@dataclass(frozen=True)
class Tally:
    """Sums over images. Units: `loss_sum` in nats, summed and not averaged."""

    num_images: int = 0
    num_correct: int = 0
    loss_sum: float = 0.0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            self.num_images + other.num_images,
            self.num_correct + other.num_correct,
            self.loss_sum + other.loss_sum,
        )

    @property
    def mean_loss(self) -> float:
        """Mean cross-entropy, in nats an image."""
        return self.loss_sum / self.num_images

    @property
    def accuracy(self) -> float:
        """Fraction of the images whose largest logit is that of their label."""
        return self.num_correct / self.num_images


@torch.inference_mode()
def count(network: LeNet, batches: Iterable[Batch], ranks: Ranks = SINGLE) -> Tally:
    """Count what `network` gets right on `batches`, those of all `ranks` together.

    Shapes: images N 1 H W float32, normalised; labels N int64.
    Units:  loss in nats, summed, not averaged.
    Raises: DataError if `batches` is empty.
    Source: lecture point 9; sums over sums, so that any batch size, rank or fold gives the same counts.
    """
    tally = Tally()
    for images, labels in batches:
        logits = network(images)
        losses = F.cross_entropy(logits, labels, reduction="none")
        correct = logits.argmax(dim=1) == labels
        tally += Tally(len(labels), int(correct.sum()), losses.cpu().double().sum().item())
    sums = torch.tensor([tally.num_images, tally.num_correct, tally.loss_sum], dtype=torch.float64)
    num_images, num_correct, loss_sum = ranks.all_reduce_sum(sums).tolist()
    tally = Tally(int(num_images), int(num_correct), loss_sum)
    if tally.num_images == 0:
        raise DataError("there are no images to evaluate on")
    return tally
