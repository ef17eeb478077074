"""When to stop, and which epoch's weights to keep: by the validation loss and nothing else (lecture point 9)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lenet_mnist.config import Keep
from lenet_mnist.data.sets import TrainVal

# A mean loss this close to the labels' entropy, as a fraction of it, is that of a network that has learned nothing yet.
_GUESSING_TOLERANCE = 0.02
GUESSING = 0.9  # of the loss at chance level: a network that ends above that has learned nothing


def guessing_loss(data: TrainVal) -> float:
    """Return the validation loss at chance level, in nats: that of always predicting the class frequencies.

    Of a validation part with one class alone that would be 0, which nothing comes near: then it is that of the
    training part.
    """
    of_val, of_train = (
        label_entropy(part.labels.bincount(minlength=data.num_classes).tolist()) for part in (data.val, data.train)
    )
    return of_val or of_train


def label_entropy(class_counts: Sequence[int]) -> float:
    """Return the entropy of the labels in nats: the lowest loss at chance level. ln 10 for ten equal classes."""
    total = sum(class_counts)
    return -sum(n / total * math.log(n / total) for n in class_counts if n > 0)


@dataclass(frozen=True)
class EarlyStopping:
    """What is known of the validation losses so far. A value: `after` returns the next one.

    - The best epoch is that of the strictly smallest loss, the first one among equals.
    - Kept is that one, or the last whose loss is a number.
    - `min_delta` counts for patience only: an epoch improves if it is lower than the last improvement by more than it.
    - A network may stay at chance level before it learns (a sigmoid network does, lecture point 5): epochs at the
      entropy of the labels do not use up patience, until the loss has once been below it.

    Units: losses in nats.
    """

    patience: int | None
    min_delta: float
    guessing_loss: float
    keep: Keep = Keep.BEST
    best_epoch: int = 0
    best_loss: float = math.inf
    last_improvement: float = math.inf
    num_waiting: int = 0
    has_left_guessing: bool = False
    last_epoch: int = 0

    def after(self, epoch: int, val_loss: float) -> "EarlyStopping":
        """Return what is known after `epoch`, counted from 1. A loss that is not a number never becomes the best."""
        is_guessing = abs(val_loss - self.guessing_loss) <= _GUESSING_TOLERANCE * self.guessing_loss
        left_guessing = self.has_left_guessing or val_loss < self.guessing_loss * (1 - _GUESSING_TOLERANCE)
        last_epoch = epoch if math.isfinite(val_loss) else self.last_epoch
        known = replace(self, has_left_guessing=left_guessing, last_epoch=last_epoch)
        if val_loss < known.best_loss:
            known = replace(known, best_epoch=epoch, best_loss=val_loss)
        if val_loss < known.last_improvement - known.min_delta:
            return replace(known, last_improvement=val_loss, num_waiting=0)
        if is_guessing and not left_guessing:
            return known
        return replace(known, num_waiting=known.num_waiting + 1)

    @property
    def kept_epoch(self) -> int:
        """The epoch whose weights are kept, 0 before the first one."""
        return self.last_epoch if self.keep is Keep.LAST else self.best_epoch

    @property
    def should_stop(self) -> bool:
        return self.patience is not None and self.num_waiting >= self.patience
