import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lenet_mnist.analysis.compare import Method
from lenet_mnist.analysis.speed import smoothed_loss, speed_ratio, steps_to_level
from lenet_mnist.training.updates import StepRow


def rows(losses: list[float] | np.ndarray, recorded_only: bool = True) -> list[StepRow]:
    every = [StepRow(step, 1, 0.1, float(loss), 1.0, 1.0) for step, loss in enumerate(losses, start=1)]
    return [row for row in every if row.is_recorded or not recorded_only]


def naive(steps: list[StepRow]) -> list[tuple[float, float]]:
    """The definition, row by row."""
    weight = {row.step: row.step - before for row, before in zip(steps, [0, *(r.step for r in steps)], strict=False)}
    points = []
    for row in steps:
        near = [r for r in steps if row.step / 1.25 <= r.step <= row.step * 1.25]
        total = sum(weight[r.step] for r in near)
        at = sum(weight[r.step] * math.log(r.step) for r in near) / total
        points.append((math.exp(at), sum(weight[r.step] * r.train_loss for r in near) / total))
    return points


@given(st.lists(st.floats(0, 10), min_size=1, max_size=700))
@example([step % 7 / (1 + step / 50) for step in range(700)])  # beyond step 200, where a row stands for 20 updates
def test_it_is_the_mean_within_a_quarter_weighted_by_updates(losses: list[float]) -> None:
    steps = rows(losses)
    at, smooth = smoothed_loss(steps)
    assert list(zip(at, smooth, strict=True)) == [pytest.approx(point, rel=1e-9, abs=1e-9) for point in naive(steps)]


@pytest.mark.parametrize("power", [0.5, 1.0, 1.5])
@pytest.mark.parametrize("level", [1.0, 0.1, 0.03])
def test_a_smooth_fall_is_crossed_where_it_crosses(power: float, level: float) -> None:
    losses = 2.3 * (1 + np.arange(20_000) / 20) ** -power
    true = 1 + 20 * ((2.3 / level) ** (1 / power) - 1)
    found = steps_to_level(rows(losses), level)
    assert (found is None) == (true > 20_000)
    if found is not None:
        assert found == pytest.approx(true, rel=0.02)


def test_one_lucky_batch_is_no_crossing_and_noise_moves_it_little() -> None:
    generator = np.random.default_rng(0)
    fall = 2.3 * (1 + np.arange(5000) / 50) ** -1.0
    noisy = fall * generator.gamma(4, 1 / 4, 5000)  # batches scatter by half
    assert (noisy[:200] < 0.2).any()
    true = 1 + 50 * (2.3 / 0.2 - 1)
    assert steps_to_level(rows(noisy), 0.2) == pytest.approx(true, rel=0.2)
    assert steps_to_level(rows(noisy, recorded_only=False), 0.2) == pytest.approx(true, rel=0.1)


def test_a_burst_does_not_spoil_what_comes_after_it() -> None:
    quiet = rows([2.0] * 30 + [0.5] * 400)
    at, smooth = smoothed_loss(rows([1e30] * 30 + [0.5] * 400))
    assert smooth[at > 60] == pytest.approx(0.5)
    assert steps_to_level(quiet, 1.0) is not None


def test_a_million_rows_take_no_time() -> None:
    at, smooth = smoothed_loss(rows(np.full(1_000_000, 0.5), recorded_only=False))
    assert len(at) == 1_000_000
    assert smooth == pytest.approx(0.5)


def test_never_is_an_answer() -> None:
    assert steps_to_level(rows([2.3] * 300), 2.0) is None
    assert steps_to_level([], 1.0) is None


def test_a_training_that_begins_below_is_there_at_once() -> None:
    assert steps_to_level(rows([0.5] * 10), 1.0) == 1.0


def test_the_crossing_is_interpolated_in_the_logarithm_of_the_step() -> None:
    assert steps_to_level([StepRow(100, 1, 0.1, 1.0, 1, 1), StepRow(10_000, 1, 0.1, 0.0, 1, 1)], 0.5) == pytest.approx(
        1000
    )


def test_a_ratio_is_that_of_geometric_means() -> None:
    ratio = speed_ratio({0: 100.0, 1: 200.0}, {3: 800.0, 4: 400.0})
    assert ratio.value == pytest.approx(4)
    assert ratio.method is Method.WELCH
    assert ratio.interval is not None
    assert ratio.interval.low * ratio.interval.high == pytest.approx(16)  # symmetric in the logarithm
    assert not ratio.is_sure


def test_equal_seeds_are_paired_and_turned_around_is_the_inverse() -> None:
    fast, slow = {0: 100.0, 1: 300.0, 2: 50.0}, {2: 260.0, 1: 1480.0, 0: 510.0}
    ratio, inverse = speed_ratio(fast, slow), speed_ratio(slow, fast)
    assert ratio.method is Method.PAIRED
    assert ratio.is_sure
    assert ratio.value == pytest.approx((2.6 * 14.8 * 51 / 10 * 2 / 3) ** (1 / 3), rel=1e-6)
    assert ratio.interval is not None
    assert inverse.interval is not None
    assert inverse.interval == pytest.approx((1 / ratio.interval.high, 1 / ratio.interval.low))


def test_single_runs_have_a_ratio_without_an_interval() -> None:
    ratio = speed_ratio({0: 100.0}, {0: 600.0})
    assert (ratio.value, ratio.interval, ratio.method) == (pytest.approx(6), None, Method.NONE)
    assert not ratio.is_sure


@pytest.mark.parametrize("side", [{0: None}, {0: 10.0, 1: None}, {}])
def test_who_never_came_there_has_no_ratio(side: dict[int, float | None]) -> None:
    assert speed_ratio(side, {0: 10.0}).value is None
    assert speed_ratio({0: 10.0}, side).value is None
