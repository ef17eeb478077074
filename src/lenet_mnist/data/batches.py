"""What the loops iterate over: whole tensors in memory, one index operation per batch."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from lenet_mnist.config import Config
from lenet_mnist.data.augment import Augmentation, Resampling, View
from lenet_mnist.data.sets import ImageSet, Normalization, TrainVal
from lenet_mnist.distributed import SINGLE, Ranks
from lenet_mnist.randomness import Purpose, random_order

# Evaluation in chunks of this many images: of 50 to 2,500 the fastest or within 5 % of it, with both engines and all
# activations (scripts/benchmark_choices.py at 2a5520b).
EVALUATION_CHUNK = 1000
CPU = torch.device("cpu")


class Batch(NamedTuple):
    """Images ready for the network. Shapes: images N 1 H W float32, normalised; labels N int64."""

    images: Tensor
    labels: Tensor


class SoftTargets(NamedTuple):
    """The teachers' logits for the images of a batch; see training/distillation.py. Shapes: logits N K."""

    logits: Tensor
    temperature: float
    weight: float


class TrainBatch(NamedTuple):
    """A rank's share of one batch. Shapes: images N 1 H W float32, normalised; labels, positions N int64.

    `num_images` counts those of all ranks; N of them are here. `positions` are their indices in the training part.
    `num_left`: batches of the epoch that come after this one.
    """

    images: Tensor
    labels: Tensor
    positions: Tensor
    num_images: int
    num_left: int
    label_smoothing: float = 0.0
    soft_targets: SoftTargets | None = None


class TrainBatches:
    """The training images in a new order every epoch, the last, smaller batch included.

    The order is a pure function of (seed, epoch), and the augmentation of an image (data/augment.py) one of (seed,
    view, image index), so that a resumed run continues inside an epoch with the batches that it would have had. The
    engine decides what computes the augmentation, not its result. Several ranks share each batch.

    `view` returns all images as an epoch sees them.
    """

    def __init__(
        self,
        data: TrainVal,
        config: Config,
        device: torch.device = CPU,
        native_resample: Resampling | None = None,
        ranks: Ranks = SINGLE,
    ) -> None:
        self.view: Callable[[int], View]
        if config.augmentation.is_on:
            self.view = Augmentation(data, config.augmentation, config.seed, device, native_resample).view
        else:
            images = data.normalization.apply(data.train.images).to(device)
            as_they_are = View(1, True, len(images), partial(images.index_select, 0))
            self.view = lambda _epoch: as_they_are
        self._labels = data.train.labels.to(device)
        self._batch_size = config.training.batch_size
        self._label_smoothing = config.training.label_smoothing
        self._seed = config.seed
        self._ranks = ranks

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return num_batches(len(self._labels), self._batch_size)

    def of_epoch(self, epoch: int, start: int = 0) -> Iterator[TrainBatch]:
        """Yield the batches of `epoch` (from 1), beginning with batch `start` (from 0)."""
        order = random_order(self._seed, Purpose.ORDER, len(self._labels), position=epoch)
        indices = torch.from_numpy(order).to(self._labels.device)
        images_of = self.view(epoch).images_of
        for number, batch in enumerate(torch.split(indices, self._batch_size)[start:], start=start + 1):
            mine = batch[self._ranks.shard(len(batch))]
            labels = self._labels.index_select(0, mine)
            yield TrainBatch(images_of(mine), labels, mine, len(batch), len(self) - number, self._label_smoothing)


def num_batches(num_images: int, batch_size: int) -> int:
    """Return the number of batches, the last, smaller one included."""
    return -(-num_images // batch_size)


def evaluation_batches(
    image_set: ImageSet,
    normalization: Normalization,
    device: torch.device,
    batch_size: int = EVALUATION_CHUNK,
) -> list[Batch]:
    """Return every image of `image_set` once, in order, normalised and on `device`."""
    images = normalization.apply(image_set.images).to(device)
    labels = image_set.labels.to(device)
    return [Batch(*pair) for pair in zip(torch.split(images, batch_size), torch.split(labels, batch_size), strict=True)]
