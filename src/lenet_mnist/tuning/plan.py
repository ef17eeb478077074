"""What a sweep will train, decided before it starts: from what was asked for, and from how fast this machine is."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lenet_mnist.config import Activation
from lenet_mnist.config_file import parse_seeds
from lenet_mnist.errors import ConfigError

DEFAULT_NUM_RATES = 8
_FEWER_RATES = (6, 4)  # where the budget is small
DEFAULT_SEEDS = (0, 1)
DEFAULT_EPOCHS = 0.5
MIN_UPDATES = 75  # a schedule shorter than this says little
_PARTS = (0.125, 0.25, 0.5)  # of an epoch; above, whole epochs
_SLOW_STARTER = 4  # times as many epochs for a network that a range test did not see learn
_EVALUATION_COST = 0.3  # of training on as many images: forward only
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_MAX_RATES = 1000
_MAX_RATE = 1e6
_MAX_EPOCHS = 100_000
_CLOSEST = 1.01  # times as high: closer rates count as one


@dataclass(frozen=True)
class SweepRequest:
    """What was asked for; None is to be decided cost. `lrs` are rates to compare instead of a bracketed region."""

    activations: tuple[Activation, ...] | None = None
    lrs: tuple[float, ...] | None = None
    min_lr: float | None = None
    max_lr: float | None = None
    num_rates: int | None = None
    seeds: tuple[int, ...] | None = None
    epochs: float | None = None
    budget_seconds: float | None = None


@dataclass(frozen=True)
class Task:
    """An activation, the region of its useful rates, and whether a range test saw no rate learn tcost."""

    activation: Activation
    low: float
    high: float
    is_slow_starter: bool


@dataclass(frozen=True)
class Plan:
    """Rates and epochs of the trainings by activation, the seeds of each rate, and about how long all take together."""

    lrs: dict[Activation, tuple[float, ...]]
    epochs: dict[Activation, float]
    seeds: tuple[int, ...]
    seconds: float

    @property
    def num_trials(self) -> int:
        return sum(map(len, self.lrs.values())) * len(self.seeds)

    @property
    def num_epochs(self) -> float:
        return sum(len(self.lrs[each]) * len(self.seeds) * self.epochs[each] for each in self.lrs)


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
    start_seconds: float

    def seconds_of(self, epochs: float) -> float:
        """Return the seconds of one training, its evaluations included."""
        evaluated = _EVALUATION_COST * self.num_val * max(1.0, epochs)
        return (epochs * self.num_train + evaluated) * self.seconds_per_image


def make_plan(request: SweepRequest, tasks: Sequence[Task], cost: CostModel, seconds_left: float | None) -> Plan:
    """Decide rates, seeds and epochs. `seconds_left` is what remains of the budget, if there is one.

    A budget buys the longest schedules for all seeds and rates that fit; else for one seed, and then for fewer rates.
    Raises: ConfigError if it is too small even for that, saying what would do.
    """

    def planned(num_rates: int, seeds: tuple[int, ...], epochs: float) -> Plan:
        lrs = {task.activation: request.lrs or log_spaced(task.low, task.high, num_rates) for task in tasks}
        slow = 1 if request.epochs is not None else _SLOW_STARTER
        longest = max(float(cost.max_epochs), epochs)
        of_task = {t.activation: min(epochs * (slow if t.is_slow_starter else 1), longest) for t in tasks}
        seconds = sum(len(lrs[each]) * len(seeds) * cost.seconds_of(of_task[each]) for each in lrs)
        return Plan(lrs, of_task, seeds, cost.start_seconds + seconds)

    shortest = float(min(_rounded_up(MIN_UPDATES * cost.batch_size / cost.num_train), cost.max_epochs))
    if request.epochs is not None:
        horizons = [request.epochs]
    elif seconds_left is None:
        horizons = [min(max(DEFAULT_EPOCHS, shortest), float(cost.max_epochs))]
    else:
        horizons = [each for each in (*_PARTS, *map(float, range(1, cost.max_epochs + 1))) if each >= shortest][::-1]
    all_seeds, fewest_seeds = request.seeds or DEFAULT_SEEDS, request.seeds or DEFAULT_SEEDS[:1]
    numbers = (request.num_rates,) if request.num_rates else (DEFAULT_NUM_RATES, *_FEWER_RATES)
    grids = [(numbers[0], all_seeds), *((number, fewest_seeds) for number in numbers)]
    for number, seeds in grids:
        for epochs in horizons:
            plan = planned(number, seeds, epochs)
            if seconds_left is None or plan.seconds <= seconds_left:
                return plan
    least = planned(*grids[-1], horizons[-1])
    assert seconds_left is not None
    budget = math.ceil((request.budget_seconds or 0) + least.seconds - seconds_left + 1)
    raise ConfigError(
        f"--budget: {least.num_trials} trainings of {horizons[-1]:g} epochs take about {least.seconds:.0f} s, but "
        f"{max(seconds_left, 0):.0f} s of it are left: --budget {budget}s would do, or fewer images with --limit-train"
    )


def log_spaced(low: float, high: float, num: int) -> tuple[float, ...]:
    """Return `num` rates from `low` to `high`, to six digits, each the same factor above the one before."""
    return tuple(float(f"{lr:.6g}") for lr in np.geomspace(low, high, num))


def _rounded_up(epochs: float) -> float:
    """Return the next horizon that is not shorter: an eighth, a quarter, a half, or whole epochs."""
    return next((part for part in _PARTS if part >= epochs), float(math.ceil(epochs)))


def sweep_request(
    activations: str | None,
    budget: str | None,
    lrs: str | None,
    min_lr: float | None,
    max_lr: float | None,
    num: int | None,
    seeds: str | None,
    epochs: float | None,
) -> SweepRequest:
    """Return what the options of `lenet lr-sweep` ask for. Raises: ConfigError naming the option at fault."""
    if lrs is not None and (min_lr, max_lr, num) != (None, None, None):
        raise ConfigError("--lrs names the rates: it goes with none of --min-lr, --max-lr and --num")
    for option, lr in (("--min-lr", min_lr), ("--max-lr", max_lr)):
        if lr is not None:
            _require_rate(option, lr)
    if min_lr is not None and max_lr is not None and min_lr * _CLOSEST > max_lr:
        raise ConfigError(f"--min-lr {min_lr:g} must be below --max-lr {max_lr:g}, by a hundredth at least")
    if num is not None and not 2 <= num <= _MAX_RATES:
        raise ConfigError(f"--num {num}: from 2 to {_MAX_RATES} rates can be compared; `lenet train --lr` takes one")
    if epochs is not None and not (0 < epochs < 1 or (1 <= epochs <= _MAX_EPOCHS and epochs.is_integer())):
        raise ConfigError(f"--epochs {epochs:g}: expected a part of an epoch, as 0.25, or whole epochs, as 2")
    return SweepRequest(
        activations=None if activations is None else _parse_activations(activations),
        lrs=None if lrs is None else _parse_rates(lrs),
        min_lr=min_lr,
        max_lr=max_lr,
        num_rates=num,
        seeds=None if seeds is None else tuple(parse_seeds(seeds)),
        epochs=epochs,
        budget_seconds=None if budget is None else _parse_budget(budget),
    )


def _parse_rates(text: str) -> tuple[float, ...]:
    """Return the rates in "0.01,0.1", in rising order."""
    try:
        lrs = sorted({float(part) for part in text.split(",")})
    except ValueError:
        raise ConfigError(f"--lrs {text}: expected numbers with commas between them, as in 0.01,0.1") from None
    for lr in lrs:
        _require_rate("--lrs", lr)
    if len(lrs) < 2:
        raise ConfigError(f"--lrs {text}: two different rates at least can be compared; `lenet train --lr` takes one")
    return tuple(lrs)


def _require_rate(option: str, lr: float) -> None:
    if not (math.isfinite(lr) and 0 < lr <= _MAX_RATE):
        raise ConfigError(f"{option} {lr:g}: a learning rate is a number above 0 and at most {_MAX_RATE:,.0f}")


def _parse_budget(text: str) -> float:
    match = re.fullmatch(r"\s*(\d{1,9}(?:\.\d{1,9})?)\s*(s|m|min|h|)\s*", text)
    if match is None or float(match[1]) == 0:
        raise ConfigError(f"--budget {text}: expected a time above 0, as in 60s or 2m")
    return float(match[1]) * _UNITS[match[2]]


def _parse_activations(text: str) -> tuple[Activation, ...]:
    try:
        return tuple(dict.fromkeys(Activation(part.strip()) for part in text.split(",")))
    except ValueError:
        known = ", ".join(Activation)
        raise ConfigError(f"--activation {text}: expected one of {known}, or several, as in sigmoid,relu") from None


def plan_text(plan: Plan) -> str:
    """Say what will be trained, and about how long that takes."""
    seeds = f"{len(plan.seeds)} seed{'s' if len(plan.seeds) > 1 else ''}"
    each = [f"{a}: {len(lrs)} rates x {seeds}, {epochs_text(plan.epochs[a])} each" for a, lrs in plan.lrs.items()]
    return f"plan: {'; '.join(each)}; about {plan.seconds:.0f} s"


def epochs_text(epochs: float) -> str:
    """Write a number of epochs."""
    return "1 epoch" if epochs == 1 else f"{epochs:g} epochs"
