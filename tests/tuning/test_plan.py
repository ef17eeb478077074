"""Plans that fit a budget, and what is said of requests that cannot be."""

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from tests.tuning.results import LN10, results_of

from lenet_mnist.config import Activation
from lenet_mnist.errors import ConfigError
from lenet_mnist.tuning.best_rate import rank
from lenet_mnist.tuning.plan import (
    CostModel,
    Extension,
    Plan,
    SweepRequest,
    extension_of,
    log_spaced,
    make_plan,
    sweep_request,
    trials_of,
)
from lenet_mnist.tuning.trial import Bracket

RELU = Activation.RELU
HERE = CostModel(
    num_train=55_000, num_val=0, batch_size=64, max_epochs=8, seconds_per_image=1e-4, start_seconds=5.0
)  # 5.5 s an epoch
BRACKETS = {RELU: Bracket(0.001, 1.0, has_learned=True)}


def plan(request: SweepRequest, seconds_left: float = math.inf, **changes: Any) -> Plan:
    return make_plan(request, BRACKETS, replace(HERE, **changes), seconds_left)


def asked(**options: Any) -> SweepRequest:
    return sweep_request(options)


def test_without_a_budget_half_an_epoch_over_two_seeds() -> None:
    half = plan(asked())
    assert (len(half.trials), half.seeds, half.epochs) == (16, (0, 1), {RELU: 0.5})
    assert half.seconds == pytest.approx(5 + 8 * 5.5)
    assert half.lrs == {RELU: log_spaced(0.001, 1.0, 8)}


def test_what_was_asked_for_is_kept() -> None:
    assert plan(asked(lrs="0.1,0.2")).lrs == {RELU: (0.1, 0.2)}
    assert plan(asked(num=3)).lrs == {RELU: log_spaced(0.001, 1.0, 3)}
    kept = plan(asked(epochs=3.0, seeds="5-7"))
    assert (len(kept.trials), kept.seeds, kept.epochs) == (24, (5, 6, 7), {RELU: 3.0})


def test_a_network_that_starts_slowly_gets_longer_schedules() -> None:
    both = {**BRACKETS, Activation.SIGMOID: Bracket(0.01, 10.0, has_learned=False)}
    assert make_plan(asked(), both, HERE, math.inf).epochs == {RELU: 0.5, Activation.SIGMOID: 2.0}
    assert make_plan(asked(epochs=0.25), both, HERE, math.inf).epochs == {RELU: 0.25, Activation.SIGMOID: 0.25}
    assert make_plan(asked(), both, replace(HERE, max_epochs=1), math.inf).epochs[Activation.SIGMOID] == 1.0


def test_few_images_get_a_schedule_of_75_updates_at_least_but_none_longer_than_the_training() -> None:
    assert plan(asked(), num_train=5_000).epochs[RELU] == 1
    assert plan(asked(), num_train=5_000, batch_size=256).epochs[RELU] == 4
    assert plan(asked(), num_train=500).epochs[RELU] == 8


def test_validation_costs_too() -> None:
    assert plan(asked(), num_val=50_000).seconds > plan(asked(), num_val=5_000).seconds > plan(asked()).seconds


def test_a_budget_buys_the_longest_schedule_that_fits() -> None:
    assert plan(asked(budget="60s"), 60).epochs[RELU] == 0.5  # 49 s
    assert plan(asked(budget="2m"), 120).epochs[RELU] == 1  # 93 s
    assert plan(asked(budget="1h"), 3600).epochs[RELU] == 8
    for budget in (30, 49, 60, 100, 200, 1000):
        assert plan(asked(budget=f"{budget}s"), budget).seconds <= budget


def test_a_small_budget_does_with_one_seed_and_then_with_fewer_rates() -> None:
    small = plan(asked(budget="12s"), 12)
    assert (small.seeds, small.epochs[RELU], len(small.lrs[RELU])) == ((0,), 0.125, 8)
    assert len(plan(asked(budget="10s"), 10).lrs[RELU]) == 6
    assert len(plan(asked(budget="8s"), 8).lrs[RELU]) == 4
    with pytest.raises(ConfigError):
        plan(asked(budget="10s", num=8), 10)


def test_too_small_a_budget_says_what_would_do() -> None:
    with pytest.raises(ConfigError, match="--budget 50s"):
        plan(asked(budget="40s", epochs=1.0, seeds="0,1"), 40)
    with pytest.raises(ConfigError, match="--budget 9s"):
        plan(asked(budget="5s"), 5)


def test_what_cannot_be_is_refused_by_name() -> None:
    nan, inf = float("nan"), float("inf")
    refused: list[tuple[str, dict[str, Any]]] = [
        *(("--min-lr", {"min_lr": 0.1, "max_lr": max_lr}) for max_lr in (0.01, 0.1, 0.10001)),
        *(("--min-lr", {"min_lr": lr}) for lr in (0.0, -1.0)),
        *(("--max-lr", {"max_lr": lr}) for lr in (nan, inf)),
        *(("--lrs", {"lrs": lrs}) for lrs in ("0.1", "0.1,0.1", "0.1,0", "0.1,-2", "0.1,nan", "0.1,x", "")),
        ("--lrs", {"lrs": "0.1,0.2", "num": 3}),
        ("--num", {"num": 1}),
        *(("--epochs", {"epochs": epochs}) for epochs in (0.0, 2.5, nan)),
        ("--seeds", {"seeds": "x"}),
        *(("--budget", {"budget": budget}) for budget in ("0s", "soon", "-5s")),
        ("--activation", {"activation": "relu,swish"}),
    ]
    for option, options in refused:
        with pytest.raises(ConfigError, match=option):
            asked(**options)


def test_options_are_read() -> None:
    request = asked(activation="sigmoid, relu,sigmoid", budget="1.5m", lrs="0.1,1e-3", seeds="0-2")
    assert request.activations == (Activation.SIGMOID, RELU)
    assert (request.budget_seconds, request.lrs, request.seeds) == (90, (0.001, 0.1), (0, 1, 2))


ONLY_RELU = SweepRequest((RELU,))


def extended(losses: dict[float, list[float | None]], request: SweepRequest = ONLY_RELU) -> Extension | None:
    return extension_of(rank(results_of(losses), LN10), request, (0, 1))


def test_a_best_rate_at_the_edge_asks_for_two_more_at_the_same_distance() -> None:
    above = extended({0.01: [0.3, 0.3], 0.02: [0.2, 0.2], 0.04: [0.1, 0.1]})
    assert above.trials == tuple(trials_of(RELU, (0.08, 0.16), (0, 1), 0.5))
    below = extended({0.01: [0.1, 0.1], 0.02: [0.2, 0.2], 0.04: [0.3, 0.3]})
    assert {trial.lr for trial in below.trials} == {0.0025, 0.005}
    rising, falling = {0.01: [0.1, 0.1], 0.02: [0.2, 0.2]}, {0.01: [0.2, 0.2], 0.02: [0.1, 0.1]}
    for losses, request in (  # not where the edge was asked for, is not the best, or nothing was learned
        (rising, SweepRequest((RELU,), min_lr=0.01)),
        (falling, SweepRequest((RELU,), max_lr=0.02)),
        (falling, SweepRequest((RELU,), lrs=(0.01, 0.02))),
        ({0.01: [0.2, 0.2], 0.02: [0.1, 0.1], 0.04: [0.2, 0.2]}, ONLY_RELU),
        ({0.01: [2.3, 2.3], 0.02: [2.2, 2.2]}, ONLY_RELU),
    ):
        assert extended(losses, request) is None


def test_trials_come_seed_after_seed_at_rates_the_same_factor_apart() -> None:
    trials = trials_of(RELU, (0.1, 0.2), (7, 8), 1)
    assert [(t.seed, t.lr) for t in trials] == [(7, 0.1), (7, 0.2), (8, 0.1), (8, 0.2)]
    rates = log_spaced(0.001, 1, 7)
    assert (rates[0], rates[-1]) == (0.001, 1)
    assert [b / a for a, b in pairwise(rates)] == pytest.approx([10**0.5] * 6, rel=1e-3)
