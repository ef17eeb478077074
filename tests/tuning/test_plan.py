"""Plans that fit a budget, and what is said of requests that cannot be."""

from dataclasses import replace
from typing import Any

import pytest

from lenet_mnist.config import Activation
from lenet_mnist.errors import ConfigError
from lenet_mnist.tuning.plan import CostModel, Plan, SweepRequest, Task, log_spaced, make_plan, sweep_request

RELU = Activation.RELU
HERE = CostModel(
    num_train=55_000, num_val=0, batch_size=64, max_epochs=8, seconds_per_image=1e-4, start_seconds=5.0
)  # 5.5 s an epoch
TASKS = [Task(RELU, 0.001, 1.0, is_slow_starter=False)]


def plan(request: SweepRequest, seconds_left: float | None = None, **changes: Any) -> Plan:
    return make_plan(request, TASKS, replace(HERE, **changes), seconds_left)


def asked(**options: Any) -> SweepRequest:
    names = ("activations", "budget", "lrs", "min_lr", "max_lr", "num", "seeds", "epochs")
    return sweep_request(**{**dict.fromkeys(names), **options})


def test_without_a_budget_half_an_epoch_over_two_seeds() -> None:
    half = plan(asked())
    assert (half.num_trials, half.seeds, half.epochs) == (16, (0, 1), {RELU: 0.5})
    assert half.seconds == pytest.approx(5 + 8 * 5.5)
    assert half.lrs == {RELU: log_spaced(0.001, 1.0, 8)}


def test_rates_that_were_asked_for_are_kept() -> None:
    assert plan(asked(lrs="0.1,0.2")).lrs == {RELU: (0.1, 0.2)}
    assert plan(asked(num=3)).lrs == {RELU: log_spaced(0.001, 1.0, 3)}


def test_a_network_that_starts_slowly_gets_longer_schedules() -> None:
    tasks = [*TASKS, Task(Activation.SIGMOID, 0.01, 10.0, is_slow_starter=True)]
    assert make_plan(asked(), tasks, HERE, None).epochs == {RELU: 0.5, Activation.SIGMOID: 2.0}
    assert make_plan(asked(epochs=0.25), tasks, HERE, None).epochs == {RELU: 0.25, Activation.SIGMOID: 0.25}
    assert make_plan(asked(), tasks, replace(HERE, max_epochs=1), None).epochs[Activation.SIGMOID] == 1.0


def test_few_images_get_a_schedule_of_75_updates_at_least() -> None:
    assert plan(asked(), num_train=5_000).epochs[RELU] == 1
    assert plan(asked(), num_train=5_000, batch_size=256).epochs[RELU] == 4


def test_no_schedule_is_longer_than_the_training() -> None:
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


def test_what_was_asked_for_is_kept() -> None:
    kept = plan(asked(epochs=3.0, seeds="5-7"))
    assert (kept.num_trials, kept.seeds, kept.epochs) == (24, (5, 6, 7), {RELU: 3.0})


def test_too_small_a_budget_says_what_would_do() -> None:
    with pytest.raises(
        ConfigError, match=r"--budget: 8 trainings of 1 epochs .* --budget 50s would do, or fewer images"
    ):
        plan(asked(budget="40s", epochs=1.0, seeds="0,1"), 40)
    with pytest.raises(ConfigError, match=r"--budget 9s would do"):
        plan(asked(budget="5s"), 5)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"min_lr": 0.1, "max_lr": 0.01}, "--min-lr 0.1 must be below --max-lr 0.01"),
        ({"min_lr": 0.1, "max_lr": 0.1}, "must be below"),
        ({"min_lr": 0.1, "max_lr": 0.10001}, "must be below"),
        ({"min_lr": 0.0}, "--min-lr 0"),
        ({"max_lr": float("nan")}, "--max-lr nan"),
        ({"max_lr": float("inf")}, "--max-lr inf"),
        ({"min_lr": -1.0}, "--min-lr -1"),
        ({"lrs": "0.1"}, "two different rates"),
        ({"lrs": "0.1,0.1"}, "two different rates"),
        ({"lrs": "0.1,0"}, "--lrs 0"),
        ({"lrs": "0.1,-2"}, "--lrs -2"),
        ({"lrs": "0.1,nan"}, "--lrs nan"),
        ({"lrs": "0.1,x"}, "commas"),
        ({"lrs": ""}, "commas"),
        ({"lrs": "0.1,0.2", "num": 3}, "goes with none of"),
        ({"num": 1}, "--num 1"),
        ({"epochs": 0.0}, "--epochs 0"),
        ({"epochs": 2.5}, "--epochs 2.5"),
        ({"epochs": float("nan")}, "--epochs nan"),
        ({"seeds": "x"}, "--seeds x"),
        ({"budget": "0s"}, "--budget 0s"),
        ({"budget": "soon"}, "60s or 2m"),
        ({"budget": "-5s"}, "60s or 2m"),
        ({"activations": "relu,swish"}, "--activation relu,swish"),
    ],
)
def test_what_cannot_be_is_refused_by_name(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        asked(**options)


def test_options_are_read() -> None:
    request = asked(activations="sigmoid, relu,sigmoid", budget="1.5m", lrs="0.1,1e-3", seeds="0-2")
    assert request.activations == (Activation.SIGMOID, RELU)
    assert request.budget_seconds == 90
    assert request.lrs == (0.001, 0.1)
    assert request.seeds == (0, 1, 2)
