"""How much of a difference between trials is luck."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

# What is known before a search: from seed to seed, the loss of one training scatters by about a tenth of itself. That
# counts for as much as an estimate with this many degrees of freedom.
_SCATTER = 0.1
_SCATTER_FREEDOM = 4


@dataclass(frozen=True)
class Noise:
    """The standard deviation of a trial's log loss at a given rate, and the degrees of freedom behind it."""

    deviation: float
    freedom: int

    @classmethod
    def of(cls, sum_of_squares: float, freedom: int) -> "Noise":
        """Return the estimate from what a model left unexplained, together with what is known beforehand."""
        together = freedom + _SCATTER_FREEDOM
        return cls(math.sqrt((sum_of_squares + _SCATTER_FREEDOM * _SCATTER**2) / together), together)

    @property
    def t95(self) -> float:
        """So many standard errors hold the truth 95 times in 100."""
        from scipy.stats import t  # half a second: only a search needs it

        return float(t.ppf(0.975, self.freedom))


def noise_of(losses: Mapping[tuple[float, int], float], lrs: Collection[float]) -> Noise:
    """Return the scatter of log losses that neither rate nor seed explains. `losses` are by (rate, seed).

    Only those of `lrs` are looked at at which every seed has a loss.
    """
    seeds = sorted({seed for _, seed in losses})
    table = [[losses.get((lr, seed)) for seed in seeds] for lr in sorted(lrs)]
    whole = [[log_of(loss) for loss in row if loss is not None] for row in table if None not in row]
    freedom = (len(whole) - 1) * (len(seeds) - 1)
    if freedom < 1:
        return Noise.of(0.0, 0)
    logs = np.array(whole)
    rest = logs - logs.mean(axis=1, keepdims=True) - logs.mean(axis=0, keepdims=True) + logs.mean()
    return Noise.of(float((rest**2).sum()), freedom)


def log_of(loss: float) -> float:
    """Return the logarithm of a loss, also of one that is too small for a float."""
    return math.log(max(loss, 1e-12))
