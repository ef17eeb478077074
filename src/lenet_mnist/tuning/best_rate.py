"""From trials at several rates, and perhaps several lengths, to the best rate of them, and to one for a long training.

Near its minimum the logarithm of the loss is close to a parabola in the logarithm of the rate. A parabola through all
trials there depends far less on luck than the trial that happened to end lowest: single seeds scatter by a tenth.

The best rate of a short schedule is not that of a long one. It follows a power of the number of epochs:
best(long) = best(short) x (short / long)^exponent. A long training over-fits at high rates unless weight decay holds it
back, which makes the exponent positive. A short schedule warms up within fewer updates, so that the highest rates break
it, which makes it negative. With Adam, whose weight decay is divided away with the gradient, the first wins for ReLU
and sigmoid, and with Muon everywhere; with SGD and weight decay the second. The exponents lead from what the parabola
finds at a half, 1 and 2 epochs to the best rate of 8: docs/learning-rate.md. AdamW was not measured, and is treated as
Adam; for an activation that was not measured, the rate stays as it is.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

import numpy as np

from lenet_mnist.config import Activation, Config, Optimizer
from lenet_mnist.training.early_stopping import GUESSING
from lenet_mnist.tuning.trial import TrialResult

_WITH_ADAM = {Activation.RELU: 0.5, Activation.TANH: 0.0, Activation.SIGMOID: 0.4}
_WITH_SGD = {Activation.RELU: -0.3, Activation.TANH: -0.3, Activation.SIGMOID: 0.0}
_WITH_SGD_WITHOUT_DECAY = {Activation.RELU: 0.7, Activation.TANH: 0.1, Activation.SIGMOID: 0.0}
_WITH_MUON = dict.fromkeys(_WITH_ADAM, 0.8)
_EXPONENT_ERROR = 0.3  # the standard error: how far the measured cells are from these
# What is known before a search: from seed to seed, the loss of one training scatters by about a tenth of itself. That
# counts for as much as an estimate with this many degrees of freedom.
_SCATTER = 0.1
_SCATTER_FREEDOM = 4
_NEAR = 0.7  # of log loss above the lowest of the same length and seed: within a factor of 2
_BEYOND = 0.35  # of log rate beyond the outermost point, where a vertex is still believed: a factor of 1.4


def exponent_of(config: Config, activation: Activation) -> float:
    """Return the exponent for trainings like that of `config`, with `activation`."""
    training = config.training
    with_sgd = _WITH_SGD if training.weight_decay > 0 else _WITH_SGD_WITHOUT_DECAY
    measured = {Optimizer.SGD: with_sgd, Optimizer.MUON: _WITH_MUON}
    return measured.get(training.optimizer, _WITH_ADAM).get(activation, 0.0)


def rate_for(lr: float, epochs: float, longer: float, exponent: float) -> float:
    """Return the rate that is to a training of `longer` epochs what `lr` is to one of `epochs`."""
    return float(lr * (epochs / longer) ** exponent)


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


def noise_of(losses: Sequence[Sequence[float]]) -> Noise:
    """Return the scatter of log losses that neither rate nor seed explains: `losses` has a row for each rate."""
    freedom = (len(losses) - 1) * (len(losses[0]) - 1) if losses else 0
    if freedom < 1:
        return Noise.of(0.0, 0)
    logs = np.array([[_log_of(loss) for loss in row] for row in losses])
    rest = logs - logs.mean(axis=1, keepdims=True) - logs.mean(axis=0, keepdims=True) + logs.mean()
    return Noise.of(float((rest**2).sum()), freedom)


def _log_of(loss: float) -> float:
    """Return the logarithm of a loss, also of one that is too small for a float."""
    return math.log(max(loss, 1e-12))


@dataclass(frozen=True)
class RateSummary:
    """What the trials at one rate gave. `mean_loss` is over seeds, and None if one of them diverged.

    `low` and `high` are the extremes of the seeds that did not.
    """

    lr: float
    num_trials: int
    num_diverged: int
    mean_loss: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Ranking:
    """What a sweep says of one activation.

    `best` is the rate of the lowest mean validation loss, None if at every rate some seed diverged. `equals` are the
    rates that cannot be told from it, itself included. `noise` is the deviation of a trial's log loss that neither rate
    nor seed explains: a fraction of the loss.
    """

    activation: Activation
    epochs: float
    rates: tuple[RateSummary, ...]
    best: RateSummary | None
    equals: tuple[float, ...]
    noise: float
    has_learned: bool

    @property
    def is_at_lower_edge(self) -> bool:
        return self.best is not None and len(self.rates) > 1 and self.best.lr == self.rates[0].lr

    @property
    def is_at_upper_edge(self) -> bool:
        return self.best is not None and len(self.rates) > 1 and self.best.lr == self.rates[-1].lr


def rank(results: Sequence[TrialResult], guessing_loss: float) -> Ranking:
    """Rank the rates of one activation and length by mean validation loss over the seeds.

    Seeds share initial weights and batches across rates, so that rates are compared seed by seed: what a seed adds to
    all of them is taken out before the noise is estimated. Raises: ValueError without results.
    """
    (activation,) = {result.trial.activation for result in results}
    (epochs,) = {result.trial.epochs for result in results}
    by_rate: dict[float, list[float | None]] = {}
    for result in sorted(results, key=lambda result: (result.trial.lr, result.trial.seed)):
        by_rate.setdefault(result.trial.lr, []).append(result.val_loss)
    rates = tuple(_summary(lr, losses) for lr, losses in by_rate.items())
    known = {rate.lr: rate.mean_loss for rate in rates if rate.mean_loss is not None}
    if not known:
        return Ranking(activation, epochs, rates, None, (), 0.0, has_learned=False)
    lowest = min(known.values())
    best = next(rate for rate in rates if rate.mean_loss == lowest)
    # The noise is estimated from rates at which a seed came within twice the best loss, and all have learned.
    rows = [[loss for loss in by_rate[lr] if loss is not None] for lr in known]
    noise = noise_of([row for row in rows if min(row) <= 2 * lowest and max(row) < GUESSING * guessing_loss])
    # As good are rates whose mean is not surely above the best one's: t standard errors of a difference of means.
    limit = _log_of(lowest) + noise.t95 * noise.deviation * math.sqrt(2 / best.num_trials)
    equals = tuple(lr for lr, mean_loss in known.items() if _log_of(mean_loss) <= limit)
    return Ranking(activation, epochs, rates, best, equals, noise.deviation, lowest < GUESSING * guessing_loss)


def _summary(lr: float, losses: Sequence[float | None]) -> RateSummary:
    finite = [loss for loss in losses if loss is not None]
    mean_loss = mean(finite) if len(finite) == len(losses) else None
    low, high = min(finite, default=None), max(finite, default=None)
    return RateSummary(lr, len(losses), len(losses) - len(finite), mean_loss, low, high)


@dataclass(frozen=True)
class Choice:
    """The rate for the training that follows, between `low` and `high` with about 95 % confidence.

    `is_fitted` is False where there was no parabola to fit: the choice is then the rate of the lowest loss, and
    `low` and `high` are only the neighbouring rates.
    """

    lr: float
    low: float
    high: float
    is_fitted: bool


@dataclass(frozen=True)
class _Point:
    block: tuple[float, int]  # length and seed: what they add to the log loss is the same at every rate
    u: float  # log rate, moved to the training that follows
    y: float  # log loss


def choose(results: Sequence[TrialResult], epochs: float, exponent: float, guessing_loss: float) -> Choice | None:
    """Return the rate for a training of `epochs`, or None if no rate has learned anything.

    A rate at which one seed diverged, or learned nothing, is not a choice however well another seed did there.
    """
    lost = {
        (result.trial.epochs, result.trial.lr)
        for result in results
        if result.val_loss is None or result.val_loss >= GUESSING * guessing_loss
    }
    points = []
    for result in sorted(results, key=lambda result: (result.trial.epochs, result.trial.lr, result.trial.seed)):
        trial = result.trial
        if result.val_loss is not None and (trial.epochs, trial.lr) not in lost:
            u = math.log(rate_for(trial.lr, trial.epochs, epochs, exponent))
            points.append(_Point((trial.epochs, trial.seed), u, _log_of(result.val_loss)))
    if not points:
        return None
    lowest: dict[tuple[float, int], float] = {}
    for point in points:
        lowest[point.block] = min(point.y, lowest.get(point.block, point.y))
    near = [point for point in points if point.y - lowest[point.block] <= _NEAR]
    return _vertex(near, epochs) or _lowest(points)


def _vertex(points: Sequence[_Point], epochs: float) -> Choice | None:
    """Fit y = c(block) + b u + a u^2 to points near the lowest of each block; return the vertex, if not far out."""
    blocks = sorted({point.block for point in points})
    u, y = np.array([point.u for point in points]), np.array([point.y for point in points])
    freedom = len(points) - len(blocks) - 2
    if freedom < 0 or len(set(u.round(9))) < 3:
        return None
    middle = float(u.mean())
    is_of = np.array([[point.block == block for block in blocks] for point in points], dtype=float)
    design = np.column_stack([(u - middle) ** 2, u - middle, is_of])
    solution, _, matrix_rank, _ = np.linalg.lstsq(design, y, rcond=None)
    a, b = float(solution[0]), float(solution[1])
    if matrix_rank < design.shape[1] or a <= 0:
        return None
    vertex = middle - b / (2 * a)
    if not u.min() - _BEYOND <= vertex <= u.max() + _BEYOND:
        return None
    rest = y - design @ solution
    noise = Noise.of(float(rest @ rest), freedom)
    covariance = noise.deviation**2 * np.linalg.inv(design.T @ design)[:2, :2]
    slope = np.array([b / (2 * a**2), -1 / (2 * a)])  # of the vertex, along a and along b
    of_fit = noise.t95 * math.sqrt(float(slope @ covariance @ slope))
    of_length = 2 * float(np.mean([_EXPONENT_ERROR * abs(math.log(epochs / block[0])) for block in blocks]))
    error = min(math.hypot(of_fit, of_length), math.log(100))
    lr = math.exp(vertex)
    return Choice(lr, lr * math.exp(-error), lr * math.exp(error), is_fitted=True)


def _lowest(points: Sequence[_Point]) -> Choice:
    """Return the rate of the lowest mean log loss of the longest trials."""
    longest = max(point.block[0] for point in points)
    losses: dict[float, list[float]] = {}
    for point in points:
        if point.block[0] == longest:
            losses.setdefault(point.u, []).append(point.y)
    us = sorted(losses)
    best = min(range(len(us)), key=lambda k: sum(losses[us[k]]) / len(losses[us[k]]))
    low, high = us[max(best - 1, 0)], us[min(best + 1, len(us) - 1)]
    return Choice(math.exp(us[best]), math.exp(low), math.exp(high), is_fitted=False)
