"""What a sweep trains, from what was asked for, how fast this machine is, and what the first results lack.

Source: lecture points 9, 12 and 13.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter, ValidationError

from lenet_mnist.config import Activation
from lenet_mnist.config_file import parse_seeds
from lenet_mnist.errors import ConfigError
from lenet_mnist.tuning.best_rate import Ranking
from lenet_mnist.tuning.trial import Bracket, Trial

DEFAULT_NUM_RATES = 8
_FEWER_RATES = (6, 4)  # where the budget is small
DEFAULT_SEEDS = (0, 1)
DEFAULT_EPOCHS = 0.5
MIN_UPDATES = 75  # a schedule shorter than this says little
_PARTS = (0.125, 0.25, 0.5)  # of an epoch; above, whole epochs
_SLOW_STARTER = 4  # times as many epochs for a network that a range test did not see learn
_EVALUATION_COST = 0.3  # of training on as many images: forward only
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_CLOSEST = 1.01  # times as high: closer rates count as one
# The options of a sweep, and the fields of its request.
SWEEP_OPTIONS = {"activation": "activations", "lrs": "lrs", "min_lr": "min_lr", "max_lr": "max_lr", "num": "num_rates"}
SWEEP_OPTIONS |= {"seeds": "seeds", "epochs": "epochs", "budget": "budget_seconds"}


def _at_commas(value: Any) -> Any:
    return list(dict.fromkeys(map(str.strip, value.split(",")))) if isinstance(value, str) else value


def _rising(lrs: tuple[float, ...]) -> tuple[float, ...]:
    if len(set(lrs)) < 2:
        raise ValueError("at least two different rates can be compared; `lenet train --lr` takes one")
    return tuple(sorted(set(lrs)))


def _seeds(value: Any) -> Any:
    return parse_seeds(value) if isinstance(value, str) else value


def _part_or_whole(epochs: float) -> float:
    if epochs > 1 and not epochs.is_integer():
        raise ValueError("expected a part of an epoch, as 0.25, or whole epochs, as 2")
    return epochs


def _seconds(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*(\d{1,9}(?:\.\d{1,9})?)\s*(s|m|min|h|)\s*", value)
    if match is None:
        raise ValueError("expected a time, as in 60s or 2m")
    return float(match[1]) * _UNITS[match[2]]


_Rate = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]
_Epochs = Annotated[float, Field(gt=0, le=100_000, allow_inf_nan=False), AfterValidator(_part_or_whole)]


@dataclass(frozen=True)
class SweepRequest:
    """What was asked for; None is decided here. `lrs` are rates to compare instead of a bracketed region."""

    activations: Annotated[tuple[Activation, ...], BeforeValidator(_at_commas)] | None = None
    lrs: Annotated[tuple[_Rate, ...], BeforeValidator(_at_commas), AfterValidator(_rising)] | None = None
    min_lr: _Rate | None = None
    max_lr: _Rate | None = None
    num_rates: Annotated[int, Field(ge=2, le=1000)] | None = None
    seeds: Annotated[tuple[int, ...], BeforeValidator(_seeds)] | None = None
    epochs: _Epochs | None = None
    budget_seconds: Annotated[float, Field(gt=0), BeforeValidator(_seconds)] | None = None


def sweep_request(asked: Mapping[str, Any]) -> SweepRequest:
    """Return what the options of `lenet lr-sweep` ask for: `asked` has them as typed, by their names.

    Raises: ConfigError naming the option at fault.
    """
    try:
        values = {SWEEP_OPTIONS[name]: value for name, value in asked.items()}
        request: SweepRequest = TypeAdapter(SweepRequest).validate_python(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = next(name for name, field in SWEEP_OPTIONS.items() if field == first["loc"][0])
        said = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
        raise ConfigError(f"--{name.replace('_', '-')} {asked[name]}: {said}") from None
    if request.lrs is not None and (request.min_lr, request.max_lr, request.num_rates) != (None, None, None):
        raise ConfigError("--lrs names the rates: it goes with none of --min-lr, --max-lr and --num")
    low, high = request.min_lr, request.max_lr
    if low is not None and high is not None and low * _CLOSEST > high:
        raise ConfigError(f"--min-lr {low:g} must be below --max-lr {high:g}, by a hundredth at least")
    return request


def trials_of(activation: Activation, lrs: Iterable[float], seeds: Iterable[int], epochs: float) -> list[Trial]:
    """Return all trials, seed after seed: a sweep that is interrupted then has every rate for one seed."""
    lrs = tuple(lrs)
    return [Trial(activation, lr, seed, epochs) for seed in seeds for lr in lrs]


@dataclass(frozen=True)
class Plan:
    """Rates and epochs of the trainings by activation, the seeds of each rate, and about how long all take together."""

    lrs: dict[Activation, tuple[float, ...]]
    epochs: dict[Activation, float]
    seeds: tuple[int, ...]
    seconds: float

    @property
    def trials(self) -> list[Trial]:
        rates = self.lrs.items()
        return [trial for each, lrs in rates for trial in trials_of(each, lrs, self.seeds, self.epochs[each])]

    def __str__(self) -> str:
        seeds = f"{len(self.seeds)} seed{'s' if len(self.seeds) > 1 else ''}"
        each = [f"{a}: {len(lrs)} rates x {seeds}, {epochs_text(self.epochs[a])} each" for a, lrs in self.lrs.items()]
        return f"plan: {'; '.join(each)}; about {self.seconds:.0f} s"


@dataclass(frozen=True)
class CostModel:
    """What the plan depends on besides the request: sizes, and the seconds per image that the range tests measured.

    `start_seconds` pass before worker processes begin, 0 if there are none.
    """

    num_train: int
    num_val: int
    batch_size: int
    max_epochs: int
    seconds_per_image: float
    start_seconds: float = 0.0

    def seconds_of(self, epochs: float) -> float:
        """Return the seconds of one training, its evaluations included."""
        evaluated = _EVALUATION_COST * self.num_val * max(1.0, epochs)
        return (epochs * self.num_train + evaluated) * self.seconds_per_image


def make_plan(
    request: SweepRequest, brackets: Mapping[Activation, Bracket], cost: CostModel, seconds_left: float
) -> Plan:
    """Decide rates, seeds and epochs. `seconds_left` is what remains of the budget: infinite, if there is none.

    A budget buys the longest schedules for all seeds and rates that fit; else for one seed, and then for fewer rates.

    Raises: ConfigError if it is too small even for that, saying what would do; or if no rates are left to search.
    """
    for activation, found in brackets.items():
        if (request.min_lr or found.low) >= (request.max_lr or found.high):
            raise ConfigError(
                f"the range test of {activation} puts the useful rates between {found.low:.2g} and {found.high:.2g}: "
                "give both --min-lr and --max-lr to search elsewhere"
            )

    def planned(num_rates: int, seeds: tuple[int, ...], epochs: float) -> Plan:
        lrs, lengths = {}, {}
        for activation, found in brackets.items():
            low, high = request.min_lr or found.low, request.max_lr or found.high
            lrs[activation] = request.lrs or log_spaced(low, high, num_rates)
            is_slow = request.epochs is None and not found.has_learned
            lengths[activation] = min(epochs * _SLOW_STARTER, max(longest, epochs)) if is_slow else epochs
        seconds = sum(len(lrs[each]) * len(seeds) * cost.seconds_of(lengths[each]) for each in lrs)
        return Plan(lrs, lengths, seeds, cost.start_seconds + seconds)

    longest = float(cost.max_epochs)
    shortest = min(next_length(MIN_UPDATES * cost.batch_size / cost.num_train), longest)
    if request.epochs is not None:
        lengths = [request.epochs]
    elif request.budget_seconds is None:
        lengths = [min(max(DEFAULT_EPOCHS, shortest), longest)]
    else:
        lengths = [each for each in (*_PARTS, *map(float, range(1, cost.max_epochs + 1))) if each >= shortest][::-1]
    all_seeds, fewest_seeds = request.seeds or DEFAULT_SEEDS, request.seeds or DEFAULT_SEEDS[:1]
    numbers = (request.num_rates,) if request.num_rates else (DEFAULT_NUM_RATES, *_FEWER_RATES)
    for number, seeds in ((numbers[0], all_seeds), *((number, fewest_seeds) for number in numbers)):
        for epochs in lengths:
            plan = planned(number, seeds, epochs)
            if plan.seconds <= seconds_left:
                return plan
    budget = math.ceil((request.budget_seconds or 0) + plan.seconds - seconds_left + 1)
    raise ConfigError(
        f"--budget: {len(plan.trials)} trainings of {epochs:g} epochs take about {plan.seconds:.0f} s, but "
        f"{max(seconds_left, 0):.0f} s of it are left: --budget {budget}s would do, or fewer images with --limit-train"
    )


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


def log_spaced(low: float, high: float, num: int) -> tuple[float, ...]:
    """Return `num` rates from `low` to `high`, to six digits, each the same factor above the one before."""
    return tuple(float(f"{lr:.6g}") for lr in np.geomspace(low, high, num))


def next_length(epochs: float) -> float:
    """Return the next length of a schedule that is not shorter: an eighth, a quarter, a half, or whole epochs."""
    return next((part for part in _PARTS if part >= epochs), float(math.ceil(epochs)))


def epochs_text(epochs: float) -> str:
    """Write a number of epochs."""
    return "1 epoch" if epochs == 1 else f"{epochs:g} epochs"
