"""Learning from finished networks: what they say of the images that the network sees is a target beside the labels.

Source: Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network", 2015, section 2.
"""

from collections.abc import Iterable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lenet_mnist.config import TrainingConfig
from lenet_mnist.data.batches import Batch, Lesson, TrainBatch
from lenet_mnist.model.lenet import LeNet


class Teachers:
    """Networks whose mean logits are learnt from. They are on the device of the training, and do not change."""

    def __init__(self, networks: Sequence[LeNet], training: TrainingConfig) -> None:
        self._networks = networks
        self._temperature = training.distillation_temperature
        self._weight = training.distillation_weight
        self._remembered: Tensor | None = None

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """Return the mean of all networks' logits. Shapes: images N 1 H W; result N K."""
        total: Tensor = self._networks[0](images)
        for network in self._networks[1:]:
            total = total + network(images)
        return total / len(self._networks)

    def remember(self, batches: Iterable[Batch]) -> None:
        """Ask once about all training images, in their order, which stay as they are."""
        self._remembered = torch.cat([self.logits(batch.images) for batch in batches])

    def teach(self, batches: Iterable[TrainBatch]) -> Iterator[TrainBatch]:
        """Yield `batches`, each with what the networks say of its images."""
        for batch in batches:
            known = self._remembered
            logits = self.logits(batch.images) if known is None else known.index_select(0, batch.positions)
            yield batch._replace(lesson=Lesson(logits, self._temperature, self._weight))


def distilled_loss(labels_loss: Tensor, logits: Tensor, lesson: Lesson, num_images: int) -> Tensor:
    """Return the loss that labels and teachers make together, by the lesson's weight.

    The teachers' part is the Kullback-Leibler divergence of the softened probabilities, times the squared temperature,
    which keeps its gradient as large as that of the labels. Shapes: logits N K; `num_images` of all ranks.
    """
    log_probabilities, wanted = (F.log_softmax(each / lesson.temperature, dim=1) for each in (logits, lesson.logits))
    divergence = F.kl_div(log_probabilities, wanted, log_target=True, reduction="sum") / num_images
    return (1 - lesson.weight) * labels_loss + lesson.weight * lesson.temperature**2 * divergence
