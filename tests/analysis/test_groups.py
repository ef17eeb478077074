"""Which trainings are a group, what it is called, and how many updates it needs to reach a loss."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lenet_mnist.analysis.groups import groups_of, letter_of, names_of, smoothed_loss, speed_ratio, steps_to_level
from lenet_mnist.analysis.intervals import Method
from lenet_mnist.training.rows import StepRow

RELU = {
    "model.activation": "relu",
    "data.limit_train": None,
    "training.learning_rate": 0.04,
    "training.max_epochs": 8,
    "training.batch_size": 64,
}
SIGMOID = {**RELU, "model.activation": "sigmoid", "training.learning_rate": 0.2}
SMALL = {**RELU, "data.limit_train": 11_000, "training.max_epochs": 1, "training.batch_size": 1024}


def test_equal_settings_are_one_group_in_the_order_of_their_first() -> None:
    assert groups_of([SIGMOID, RELU, dict(SIGMOID), dict(RELU)]) == [[0, 2], [1, 3]]
    assert [letter_of(number) for number in (0, 25, 26)] == ["A", "Z", "A2"]


def test_names_say_what_differs_and_nothing_else() -> None:
    assert names_of([RELU, SIGMOID]) == ["relu, lr 0.04", "sigmoid, lr 0.2"]
    assert names_of([RELU]) == ["relu, lr 0.04"]
    small = "limit_train 11,000, 1 epoch, batch_size 1,024"
    assert names_of([RELU, SMALL]) == ["limit_train all, 8 epochs, batch_size 64", small]
    near = [{**RELU, "training.learning_rate": lr} for lr in (0.04, 0.040001, 1e-6)]
    assert names_of(near) == ["lr 0.04", "lr 0.040001", "lr 1e-06"]


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


@given(st.lists(st.floats(0, 10), min_size=1, max_size=300))
@example([step % 7 / (1 + step / 50) for step in range(700)])  # beyond step 200, where a row stands for 20 updates
def test_smoothing_is_the_mean_within_a_quarter_weighted_by_updates(losses: list[float]) -> None:
    steps = rows(losses)
    at, smooth = smoothed_loss(steps)
    assert list(zip(at, smooth, strict=True)) == [pytest.approx(point, rel=1e-9, abs=1e-9) for point in naive(steps)]


@pytest.mark.parametrize("power", [0.5, 1.0, 1.5])
def test_a_smooth_fall_is_crossed_where_it_crosses(power: float) -> None:
    steps = rows(2.3 * (1 + np.arange(20_000) / 20) ** -power)
    for level in (1.0, 0.1, 0.03):
        true = 1 + 20 * ((2.3 / level) ** (1 / power) - 1)
        assert steps_to_level(steps, level) == (pytest.approx(true, rel=0.02) if true <= 20_000 else None)


def test_noise_and_bursts_move_a_crossing_little() -> None:
    generator = np.random.default_rng(0)
    fall = 2.3 * (1 + np.arange(5000) / 50) ** -1.0
    noisy = fall * generator.gamma(4, 1 / 4, 5000)  # batches scatter by half
    assert (noisy[:200] < 0.2).any()
    true = 1 + 50 * (2.3 / 0.2 - 1)
    assert steps_to_level(rows(noisy), 0.2) == pytest.approx(true, rel=0.2)
    assert steps_to_level(rows(noisy, recorded_only=False), 0.2) == pytest.approx(true, rel=0.1)
    at, smooth = smoothed_loss(rows([1e30] * 30 + [0.5] * 400))
    assert smooth[at > 60] == pytest.approx(0.5)


def test_a_million_rows_take_no_time() -> None:
    at, smooth = smoothed_loss(rows(np.full(1_000_000, 0.5), recorded_only=False))
    assert len(at) == 1_000_000
    assert smooth == pytest.approx(0.5)


def test_never_at_once_and_in_between() -> None:
    assert steps_to_level(rows([2.3] * 300), 2.0) is None
    assert steps_to_level([], 1.0) is None
    assert steps_to_level(rows([0.5] * 10), 1.0) == 1.0
    two = [StepRow(100, 1, 0.1, 1.0, 1, 1), StepRow(10_000, 1, 0.1, 0.0, 1, 1)]
    assert steps_to_level(two, 0.5) == pytest.approx(1000)  # in the logarithm of the step


def test_a_ratio_is_that_of_geometric_means() -> None:
    ratio = speed_ratio({0: 100.0, 1: 200.0}, {3: 800.0, 4: 400.0})
    assert ratio is not None
    assert ratio.interval_95 is not None
    assert (ratio.value, ratio.method, ratio.excludes(1)) == (pytest.approx(4), Method.WELCH, False)
    assert ratio.interval_95.low * ratio.interval_95.high == pytest.approx(16)  # symmetric in the logarithm
    single = speed_ratio({0: 100.0}, {0: 600.0})
    assert single is not None
    assert (single.value, single.interval_95, single.method) == (pytest.approx(6), None, Method.NONE)


def test_equal_seeds_are_paired_and_turned_around_is_the_inverse() -> None:
    fast, slow = {0: 100.0, 1: 300.0, 2: 50.0}, {2: 260.0, 1: 1480.0, 0: 510.0}
    ratio, inverse = speed_ratio(fast, slow), speed_ratio(slow, fast)
    assert ratio is not None
    assert inverse is not None
    assert (ratio.method, ratio.excludes(1)) == (Method.PAIRED, True)
    assert ratio.value == pytest.approx((2.6 * 14.8 * 51 / 10 * 2 / 3) ** (1 / 3), rel=1e-6)
    assert inverse.interval_95 == pytest.approx([1 / end for end in (ratio.interval_95 or ())[::-1]])


@pytest.mark.parametrize("side", [{0: None}, {0: 10.0, 1: None}, {}])
def test_who_never_got_there_has_no_ratio(side: dict[int, float | None]) -> None:
    assert speed_ratio(side, {0: 10.0}) is None
    assert speed_ratio({0: 10.0}, side) is None
