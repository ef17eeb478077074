"""Does another runtime give the network's answers? Logit by logit, on real images.

Two computations of one float32 network differ by rounding, which grows with the logits: 1e-4 is many times that of a
usual network, and less than that of one whose logits are beyond 100. So the difference may be 1e-4, or 2e-6 of the
largest logit where that is more. An image whose two largest logits lie nearer to each other than rounding has no
answer that two computations must agree on: such ties are counted, and no failure.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from lenet_mnist.data.batches import EVALUATION_CHUNK
from lenet_mnist.errors import CheckFailedError, DataError
from lenet_mnist.training.checkpoint import TrainedNetwork

Pixels = npt.NDArray[np.uint8]
Reals = npt.NDArray[np.float32]

BATCH_SIZES = (1, 7, 1000)  # alone, with a rest, and many
TOLERANCE = 1e-4
_ROUNDING = 2e-6  # of the largest logit; scripts/measure_export.py rounding finds up to 1.1e-6


class Answer(NamedTuple):
    """What a runtime gives for some images. Shapes: N K."""

    logits: Reals
    probabilities: Reals


@dataclass(frozen=True)
class Agreement:
    """How near another runtime came to torch. An image counts as the same if its answer is, at every batch size."""

    num_images: int
    num_same: int
    num_ties: int
    largest_logit: float
    largest_logit_difference: float
    largest_probability_difference: float
    tolerance: float

    @property
    def holds(self) -> bool:
        """Whether the other runtime computes the same network."""
        differences = self.largest_logit_difference, self.largest_probability_difference
        return max(differences) <= self.tolerance and self.num_same + self.num_ties == self.num_images

    def __str__(self) -> str:
        ties = f", {self.num_ties} more as near to a tie as rounding" if self.num_ties else ""
        return (
            f"the same answer to {self.num_same:,} of {self.num_images:,} training images{ties}, "
            f"largest logit difference {self.largest_logit_difference:.1e} (at most {self.tolerance:.1e})"
        )


def compare(trained: TrainedNetwork, runtime: Callable[[Pixels], Answer], images: Pixels) -> Agreement:
    """Return how near the answers of `runtime` come to torch's, at each batch size. Shapes: images N H W.

    Raises: DataError if the images are not of the network's size, or torch's own answers are no numbers;
    CheckFailedError if those of `runtime` are none.
    """
    if images.shape[1] != trained.network.image_size:
        raise DataError(
            f"the images are {images.shape[1]} pixels wide, but the network was trained on {trained.network.image_size}"
        )
    expected = _answers_of_torch(trained, images)
    if not np.isfinite(expected.logits).all():
        raise DataError("the network's weights are so large that its answers are no numbers")
    top, answers = expected.logits.max(axis=1), expected.logits.argmax(axis=1)
    rounding = _ROUNDING * float(np.abs(expected.logits).max())
    is_same, is_tied = np.ones(len(images), dtype=bool), np.ones(len(images), dtype=bool)
    differences = []
    for size in BATCH_SIZES:
        parts = [runtime(images[start : start + size]) for start in range(0, len(images), size)]
        found = Answer(*(np.concatenate(values) for values in zip(*parts, strict=True)))
        if not all(np.isfinite(values).all() for values in found):
            raise CheckFailedError(f"in batches of {size} its answers are no numbers")
        others = found.logits.argmax(axis=1)
        is_same &= others == answers
        is_tied &= top - expected.logits[np.arange(len(images)), others] <= rounding
        differences.append([float(np.abs(one - other).max()) for one, other in zip(found, expected, strict=True)])
    logit_difference, probability_difference = np.max(differences, axis=0).tolist()
    return Agreement(
        num_images=len(images),
        num_same=int(is_same.sum()),
        num_ties=int((is_tied & ~is_same).sum()),
        largest_logit=float(np.abs(expected.logits).max()),
        largest_logit_difference=logit_difference,
        largest_probability_difference=probability_difference,
        tolerance=max(TOLERANCE, rounding),
    )


@torch.inference_mode()
def _answers_of_torch(trained: TrainedNetwork, images: Pixels) -> Answer:
    chunks = torch.split(torch.from_numpy(images), EVALUATION_CHUNK)
    logits = torch.cat([trained.network(trained.normalization.apply(chunk)) for chunk in chunks])
    return Answer(logits.numpy(), logits.softmax(dim=1).numpy())
