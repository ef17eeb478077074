"""The sweep: log-spaced rates, each really trained over several seeds, ranked by validation loss.

Which trials there are, and what their results say. Values only; `study/lr_sweep.py` puts them on disk.

Source: lecture points 9, 12 and 13.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import mean

from lenet_mnist.config import Activation
from lenet_mnist.training.early_stopping import GUESSING
from lenet_mnist.tuning.best_rate import Choice, Noise, log_of, noise_of
from lenet_mnist.tuning.plan import SweepRequest, log_spaced
from lenet_mnist.tuning.range_test import Bracket, RangeTest
from lenet_mnist.tuning.trial import Trial, TrialResult

_NEAR = 2.0  # times the best loss: the noise is estimated from rates at which a seed came so near and none died


def trials_of(activation: Activation, lrs: Iterable[float], seeds: Iterable[int], epochs: float) -> list[Trial]:
    """Return all trials, seed after seed: a sweep that is interrupted then has every rate for one seed."""
    lrs = tuple(lrs)
    return [Trial(activation, lr, seed, epochs) for seed in seeds for lr in lrs]


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


@dataclass(frozen=True)
class Answer:
    """What a sweep says of one activation. `choice` is the rate for the whole training, None if nothing has learned."""

    bracket: Bracket
    range_tests: list[RangeTest]
    results: list[TrialResult]
    ranking: Ranking
    choice: Choice | None


def rank(results: Sequence[TrialResult], guessing_loss: float) -> Ranking:
    """Rank the rates of one activation and horizon by mean validation loss over the seeds.

    Seeds share initial weights and batches across rates, so that rates are compared seed by seed: what a seed adds to
    all of them is taken out before the noise is estimated. Raises: ValueError without results.
    """
    (activation,) = {result.trial.activation for result in results}
    (epochs,) = {result.trial.epochs for result in results}
    rates = tuple(
        _summary(lr, [result for result in results if result.trial.lr == lr])
        for lr in sorted({result.trial.lr for result in results})
    )
    best = min((rate for rate in rates if rate.mean_loss is not None), key=_mean_loss, default=None)
    if best is None:
        return Ranking(activation, epochs, rates, None, (), 0.0, has_learned=False)
    near = [
        rate
        for rate in rates
        if rate.low is not None and rate.high is not None
        if rate.low <= _NEAR * _mean_loss(best) and rate.high < GUESSING * guessing_loss
    ]
    losses = {(r.trial.lr, r.trial.seed): r.val_loss for r in results if r.val_loss is not None}
    noise = noise_of(losses, [rate.lr for rate in near if rate.num_diverged == 0])
    return Ranking(
        activation=activation,
        epochs=epochs,
        rates=rates,
        best=best,
        equals=_equals(best, rates, noise),
        noise=noise.deviation,
        has_learned=_mean_loss(best) < GUESSING * guessing_loss,
    )


def _mean_loss(rate: RateSummary) -> float:
    return math.inf if rate.mean_loss is None else rate.mean_loss


def _summary(lr: float, results: Sequence[TrialResult]) -> RateSummary:
    losses = [result.val_loss for result in results if result.val_loss is not None]
    num_diverged = len(results) - len(losses)
    return RateSummary(
        lr=lr,
        num_trials=len(results),
        num_diverged=num_diverged,
        mean_loss=mean(losses) if num_diverged == 0 else None,
        low=min(losses, default=None),
        high=max(losses, default=None),
    )


def _equals(best: RateSummary, rates: Sequence[RateSummary], noise: Noise) -> tuple[float, ...]:
    """Return the rates whose mean is not surely above the best one's: t standard errors of a difference of means."""
    limit = log_of(_mean_loss(best)) + noise.t95 * noise.deviation * math.sqrt(2 / best.num_trials)
    return tuple(rate.lr for rate in rates if rate.mean_loss is not None and log_of(rate.mean_loss) <= limit)


@dataclass(frozen=True)
class Extension:
    """Trials that a sweep lacks, and why."""

    reason: str
    trials: tuple[Trial, ...]


def extension_of(ranking: Ranking, request: SweepRequest, seeds: Sequence[int]) -> Extension | None:
    """Return two more rates where the best one lies at an edge, as far as the request leaves that edge open."""
    lrs = [rate.lr for rate in ranking.rates]
    if not ranking.has_learned or len(lrs) < 2 or request.lrs is not None:
        return None
    factor = (lrs[-1] / lrs[0]) ** (1 / (len(lrs) - 1))
    if ranking.is_at_upper_edge and request.max_lr is None:
        more, edge = log_spaced(lrs[-1] * factor, lrs[-1] * factor**2, 2), lrs[-1]
    elif ranking.is_at_lower_edge and request.min_lr is None:
        more, edge = log_spaced(lrs[0] / factor**2, lrs[0] / factor, 2), lrs[0]
    else:
        return None
    reason = (
        f"{ranking.activation}: {edge:.2g}, at the edge, is the best so far: adding {more[0]:.2g} and {more[1]:.2g}"
    )
    return Extension(reason, tuple(trials_of(ranking.activation, more, seeds, ranking.epochs)))
