"""The learning rate at each update, as a pure function; and the one schedule that listens to the validation loss.

| schedule  | after the warm-up                                                          |
|-----------|----------------------------------------------------------------------------|
| constant  | stays at its peak                                                          |
| linear    | falls in a straight line to zero                                           |
| cosine    | falls along half a cosine to zero                                          |
| one-cycle | falls along half a cosine to peak / 250,000, after rising along one        |
|           | from peak / 25                                                             |
| plateau   | is multiplied by `plateau_factor` each time the validation loss has rested |

Source: lecture points 12 and 13; Loshchilov and Hutter, "SGDR", ICLR 2017 (cosine); Smith and Topin,
"Super-convergence", 2017 (one-cycle, here without its second cycle in the momentum).
"""

import math
from dataclasses import dataclass, replace

from lenet_mnist.config import Schedule, TrainingConfig

_ONE_CYCLE_START = 1 / 25
_ONE_CYCLE_END = 1 / 250_000


def rate_factor(schedule: Schedule, warmup: float, step: int, num_steps: int) -> float:
    """Return what the peak learning rate is multiplied by at update `step`, counted from 0, of `num_steps`.

    The warm-up rises over the first `warmup` share of the updates, and reaches the peak right after it. Updates
    after `num_steps`, which there are if a resume has made the epochs shorter, get the last rate.
    """
    step, num_warmup = min(step, num_steps), warmup * num_steps
    if schedule is Schedule.ONE_CYCLE:
        if step < num_warmup:
            return _half_cosine(_ONE_CYCLE_START, 1.0, step / num_warmup)
        return _half_cosine(1.0, _ONE_CYCLE_END, (step - num_warmup) / max(num_steps - num_warmup, 1))
    if step < num_warmup:
        return (step + 1) / (num_warmup + 1)
    share_done = (step - num_warmup) / (num_steps - num_warmup)
    match schedule:
        case Schedule.LINEAR:
            return 1 - share_done
        case Schedule.COSINE:
            return _half_cosine(1.0, 0.0, share_done)
        case Schedule.CONSTANT | Schedule.PLATEAU:
            return 1.0


def _half_cosine(start: float, end: float, share: float) -> float:
    """Go from `start` to `end` along half a cosine while `share` goes from 0 to 1."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


@dataclass(frozen=True)
class Plateau:
    """Reduces the rate when the validation loss has rested for more than `patience` epochs. A value, not an actor."""

    reduction: float
    patience: int
    factor: float = 1.0
    best_loss: float = math.inf
    num_resting: int = 0

    @classmethod
    def of(cls, config: TrainingConfig) -> "Plateau":
        return cls(reduction=config.plateau_factor, patience=config.plateau_patience)

    def after(self, val_loss: float) -> "Plateau":
        """Return what holds after an epoch that ended at `val_loss`."""
        if val_loss < self.best_loss:
            return replace(self, best_loss=val_loss, num_resting=0)
        if self.num_resting < self.patience:
            return replace(self, num_resting=self.num_resting + 1)
        return replace(self, factor=self.factor * self.reduction, num_resting=0)
