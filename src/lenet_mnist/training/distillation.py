"""Learning from finished networks: their logits for a batch are the target, with the labels or alone.

Source: Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network", 2015, section 2.
"""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lenet_mnist.config import TrainingConfig
from lenet_mnist.data.augment import View
from lenet_mnist.data.batches import EVALUATION_CHUNK, SoftTargets, TrainBatch
from lenet_mnist.distributed import SINGLE, Ranks
from lenet_mnist.model.lenet import LeNet

_MAX_REMEMBERED_BYTES = 2**30


class Teachers:
    """Networks whose mean logits are learnt from, in one training: its seed and data decide what a view shows.

    They are on the device of the training, and do not change.
    """

    def __init__(self, networks: Sequence[LeNet], training: TrainingConfig) -> None:
        self._networks = networks
        self._temperature = training.distillation_temperature
        self._weight = training.distillation_weight
        self._answers: dict[int, Tensor] = {}

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """Return the mean of all networks' logits. Shapes: images N 1 H W; result N K."""
        total: Tensor = self._networks[0](images)
        for network in self._networks[1:]:
            total = total + network(images)
        return total / len(self._networks)

    def teach(self, batches: Iterator[TrainBatch], view: View, ranks: Ranks = SINGLE) -> Iterator[TrainBatch]:
        """Yield the `batches` that are taken from `view`, each with what the networks say of its images.

        They are asked about all images of a view at once: faster than batch by batch, and for the same answers to the
        last bit wherever in an epoch a resumed run begins. If the view will come again, the answers are remembered.
        """
        answers = self._answers.get(view.number)
        if answers is None:
            answers = self._ask(view, ranks)
            if view.comes_again and (len(self._answers) + 1) * answers.nbytes <= _MAX_REMEMBERED_BYTES:
                self._answers[view.number] = answers
        for batch in batches:
            logits = answers.index_select(0, batch.positions)
            yield batch._replace(soft_targets=SoftTargets(logits, self._temperature, self._weight))

    def _ask(self, view: View, ranks: Ranks) -> Tensor:
        """Return the answers to all images, of which each rank asks about its share. Shapes: result N K."""
        places = torch.arange(view.num_images, device=self._networks[0].output.weight.device)
        share = ranks.shard(view.num_images)
        chunks = torch.split(places[share], EVALUATION_CHUNK)
        mine = torch.cat([self.logits(view.images_of(chosen)) for chosen in chunks])
        answers = mine.new_zeros(view.num_images, mine.shape[1])
        answers[share] = mine
        return ranks.all_reduce_sum(answers)


def distilled_loss(labels_loss: Tensor, logits: Tensor, targets: SoftTargets, num_images: int) -> Tensor:
    """Return the loss that labels and teachers make together, by the weight of the targets.

    The teachers' part is the Kullback-Leibler divergence of the softened probabilities, times the squared temperature,
    which keeps its gradient as large as that of the labels. Shapes: logits N K; `num_images` of all ranks.
    """
    if targets.weight == 0:
        return labels_loss
    log_probabilities, wanted = (F.log_softmax(each / targets.temperature, dim=1) for each in (logits, targets.logits))
    divergence = F.kl_div(log_probabilities, wanted, log_target=True, reduction="sum") / num_images
    return (1 - targets.weight) * labels_loss + targets.weight * targets.temperature**2 * divergence
