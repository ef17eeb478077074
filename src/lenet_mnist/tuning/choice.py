"""From trials at several rates, and perhaps several horizons, to one rate for the training that follows.

Near its minimum the logarithm of the loss is close to a parabola in the logarithm of the rate. A parabola through all
trials there is far less a matter of luck than the trial that happened to end lowest: single seeds scatter by a tenth.
Trials of different horizons are first moved to where they would lie in the training that follows (tuning/horizon.py).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lenet_mnist.training.early_stopping import GUESSING
from lenet_mnist.tuning.horizon import log_error, rate_for
from lenet_mnist.tuning.noise import Noise, log_of
from lenet_mnist.tuning.trial import TrialResult

_NEAR = 0.7  # of log loss above the lowest of the same horizon and seed: within a factor of 2
_BEYOND = 0.35  # of log rate beyond the outermost point, where a vertex is still believed: a factor of 1.4


@dataclass(frozen=True)
class Choice:
    """The rate for the training that follows, between `low` and `high` with about 95 % confidence.

    `is_fitted` is False where there was no parabola to fit: the choice is then the rate of the lowest loss, and
    `low` and `high` are only the rates beside it.
    """

    lr: float
    low: float
    high: float
    is_fitted: bool


@dataclass(frozen=True)
class _Point:
    block: tuple[float, int]  # horizon and seed: what they add to the log loss is the same at every rate
    u: float  # log rate, moved to the training that follows
    y: float  # log loss


def choose(results: Sequence[TrialResult], epochs: float, exponent: float, guessing_loss: float) -> Choice | None:
    """Return the rate for a training of `epochs`, or None if no rate has learned anything.

    `exponent` is that of tuning/horizon.py.

    A rate at which one seed diverged, or learned nothing, is not a choice however well another seed did there.
    """
    lost = {
        (result.trial.epochs, result.trial.lr)
        for result in results
        if result.val_loss is None or result.val_loss >= GUESSING * guessing_loss
    }
    points = [
        _Point(
            block=(trial.epochs, trial.seed),
            u=math.log(rate_for(trial.lr, trial.epochs, epochs, exponent)),
            y=log_of(result.val_loss),
        )
        for result in sorted(results, key=lambda result: (result.trial.epochs, result.trial.lr, result.trial.seed))
        if result.val_loss is not None and ((trial := result.trial).epochs, trial.lr) not in lost
    ]
    if not points:
        return None
    return _vertex(_near(points), epochs) or _lowest(points)


def _near(points: Sequence[_Point]) -> list[_Point]:
    """Return the points that lie within a factor of 2 above the lowest loss of their block."""
    lowest: dict[tuple[float, int], float] = {}
    for point in points:
        lowest[point.block] = min(point.y, lowest.get(point.block, point.y))
    return [point for point in points if point.y - lowest[point.block] <= _NEAR]


def _vertex(points: Sequence[_Point], epochs: float) -> Choice | None:
    """Fit y = c(block) + b u + a u^2; return the vertex if it lies among the points, or not far beyond them."""
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
    of_horizon = 2 * float(np.mean([log_error(block[0], epochs) for block in blocks]))
    error = min(math.hypot(of_fit, of_horizon), math.log(100))
    lr = math.exp(vertex)
    return Choice(lr, lr * math.exp(-error), lr * math.exp(error), is_fitted=True)


def _lowest(points: Sequence[_Point]) -> Choice:
    """Return the rate of the lowest mean log loss at the longest horizon."""
    longest = max(point.block[0] for point in points)
    losses: dict[float, list[float]] = {}
    for point in points:
        if point.block[0] == longest:
            losses.setdefault(point.u, []).append(point.y)
    us = sorted(losses)
    best = min(range(len(us)), key=lambda k: sum(losses[us[k]]) / len(losses[us[k]]))
    low, high = us[max(best - 1, 0)], us[min(best + 1, len(us) - 1)]
    return Choice(math.exp(us[best]), math.exp(low), math.exp(high), is_fitted=False)
