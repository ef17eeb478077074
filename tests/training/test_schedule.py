import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lenet_mnist.config import Schedule, TrainingConfig
from lenet_mnist.training.schedule import Plateau, rate_factor

FALLING = [Schedule.LINEAR, Schedule.COSINE, Schedule.ONE_CYCLE]
LOSSES = st.lists(st.sampled_from([0.1, 0.2, 0.3, 1.0, 2.0, math.inf, math.nan]) | st.floats(0, 3), max_size=40)


def test_values_over_a_hundred_updates_with_ten_of_warm_up() -> None:
    lines = (
        *((s, 0, 1 / 11) for s in Schedule if s is not Schedule.ONE_CYCLE),
        *((s, 9, 10 / 11) for s in Schedule if s is not Schedule.ONE_CYCLE),
        *((s, 10, 1.0) for s in Schedule),
        (Schedule.CONSTANT, 99, 1.0),
        (Schedule.PLATEAU, 99, 1.0),
        (Schedule.LINEAR, 11, 89 / 90),
        (Schedule.LINEAR, 55, 0.5),
        (Schedule.LINEAR, 100, 0.0),
        (Schedule.COSINE, 40, 0.75),
        (Schedule.COSINE, 99, (1 - math.cos(math.pi / 90)) / 2),
        (Schedule.COSINE, 100, 0.0),
        (Schedule.ONE_CYCLE, 0, 1 / 25),
        (Schedule.ONE_CYCLE, 5, (1 + 1 / 25) / 2),
        (Schedule.ONE_CYCLE, 55, (1 + 1 / 250_000) / 2),
        (Schedule.ONE_CYCLE, 100, 1 / 250_000),
    )
    for schedule, step, factor in lines:
        assert rate_factor(schedule, 0.1, step, 100) == pytest.approx(factor, rel=1e-12, abs=1e-15), (schedule, step)
    for schedule in Schedule:  # without warm-up the first update is at the peak
        assert rate_factor(schedule, 0.0, 0, 50) == pytest.approx(1.0, rel=1e-12)


@given(schedule=st.sampled_from(Schedule), warmup=st.floats(0, 0.99), num_steps=st.integers(1, 120))
def test_the_rate_rises_during_the_warm_up_and_never_after(schedule: Schedule, warmup: float, num_steps: int) -> None:
    factors = [rate_factor(schedule, warmup, step, num_steps) for step in range(num_steps)]
    assert all(0 < factor <= 1 for factor in factors)
    rising = math.ceil(warmup * num_steps)
    assert factors[:rising] == sorted(factors[:rising])
    assert len(set(factors[:rising])) == rising
    assert factors[rising:] == sorted(factors[rising:], reverse=True)
    assert (len(set(factors[rising:])) == len(factors[rising:])) == (schedule in FALLING or num_steps - rising <= 1)


@pytest.mark.parametrize("schedule", FALLING)
def test_after_the_last_update_the_rate_neither_rises_nor_falls_below_zero(schedule: Schedule) -> None:
    end = rate_factor(schedule, 0.1, 100, 100)
    assert 0 <= end < 1e-5
    assert {rate_factor(schedule, 0.1, step, 100) for step in (101, 150, 1000)} == {end}


def test_one_cycle_is_torchs() -> None:
    """Torch's cycle ends at its last update and ours one after it, so that torch is told of one update more."""
    for num_steps, warmup in ((10, 0.1), (100, 0.25), (7, 0.5)):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=1.0)
        share = (warmup * num_steps + 1) / (num_steps + 1)
        oracle = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=1.0, total_steps=num_steps + 1, pct_start=share, cycle_momentum=False
        )
        for step in range(num_steps):
            factor = rate_factor(Schedule.ONE_CYCLE, warmup, step, num_steps)
            assert factor == pytest.approx(oracle.get_last_lr()[0], rel=1e-9)
            optimizer.step()
            oracle.step()


@given(losses=LOSSES, patience=st.integers(0, 4))
def test_plateau_is_torchs_without_a_threshold(losses: list[float], patience: int) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=1.0)
    oracle = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=patience, threshold=0, eps=0)
    plateau = Plateau(0.5, patience)
    for loss in losses:
        oracle.step(loss)
        plateau = plateau.after(loss)
        assert plateau.factor == optimizer.param_groups[0]["lr"]
        assert (plateau.best_loss, plateau.num_resting) == (oracle.best, oracle.num_bad_epochs)


def test_plateau_starts_as_configured() -> None:
    assert Plateau.of(TrainingConfig(plateau_factor=0.3, plateau_patience=4)) == Plateau(reduction=0.3, patience=4)
    assert Plateau.of(TrainingConfig()).factor == 1


def test_an_equal_loss_is_a_rest() -> None:
    assert Plateau(0.5, 0).after(1.0).after(1.0).factor == 0.5
