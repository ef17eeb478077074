"""Where lines, ticks and dots of the report's charts lie."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lenet_mnist.reporting.charts import HEIGHT, WIDTH, Axis, Chart, Series, line_chart, plain_number, thinned

PLACE = re.compile(r"[ML](-?[\d.]+) (-?[\d.]+)")


def chart_of(points: list[tuple[float, float]], axis: Axis) -> Chart:
    return line_chart("Loss", "in words", [Series("training", 0, points)], "epoch", "nats", axis)


def test_larger_is_higher_and_later_is_further_right() -> None:
    chart = chart_of([(1, 2.0), (2, 1.0), (3, 0.5)], Axis.around([2.0, 1.0, 0.5], is_log=True))
    (line,) = chart.lines
    places = [(float(x), float(y)) for x, y in PLACE.findall(line.path)]
    assert [(dot.x, dot.y) for dot in line.dots] == places
    assert places == sorted(places)  # to the right, and down: y counts from the top
    assert places[1][1] - places[0][1] == pytest.approx(places[2][1] - places[1][1], abs=0.2)  # a half, a half
    assert line.dots[2].text == "training, epoch 3: 0.5"


def test_ticks_are_round_numbers_at_their_places() -> None:
    chart = chart_of([(0, 0.0), (10, 1.0)], Axis(0.0, 1.0, is_log=False, is_percent=True))
    assert [tick.text for tick in chart.y_ticks] == ["0%", "20%", "40%", "60%", "80%", "100%"]
    assert chart.y_ticks[0].at == chart.bottom
    assert chart.y_ticks[-1].at == chart.top
    assert [tick.text for tick in chart.x_ticks] == ["0", "2", "4", "6", "8", "10"]


def test_a_log_axis_of_a_narrow_range_has_round_numbers_too() -> None:
    chart = chart_of([(1, 2.31), (2, 2.29)], Axis.around([2.31, 2.29], is_log=True))
    assert len(chart.y_ticks) >= 3
    assert all(len(tick.text) <= 3 for tick in chart.y_ticks)


def test_epochs_have_whole_numbers() -> None:
    chart = chart_of([(1, 1.0), (2, 1.0)], Axis(0, 2, is_log=False))
    assert [tick.text for tick in chart.x_ticks] == ["1", "2"]


def test_a_log_axis_says_what_it_cannot_show() -> None:
    chart = chart_of(
        [(1, 1.0), (2, 0.0), (3, 0.01), (4, math.nan)], Axis.around([1.0, 0.0, 0.01, math.nan], is_log=True)
    )
    assert chart.note == "Zero somewhere, and not drawn there: training."
    assert [letter for letter in chart.lines[0].path if letter in "ML"] == ["M", "M"]  # the line has a gap
    assert len(chart.lines[0].dots) == 2


def test_very_many_points_are_thinned_and_the_ends_stay() -> None:
    assert thinned(range(7), 10) == range(7)
    few = thinned(range(100_000), 200)
    assert len(few) == 200
    assert (few[0], few[-1]) == (0, 99_999)
    chart = chart_of([(k, 1.0) for k in range(100_000)], Axis(0, 2, is_log=False))
    assert len(chart.lines[0].dots) == 200


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.04, "0.04"), (1e-5, "1e-5"), (1000.0, "1,000"), (12345.0, "12,345"), (2e6, "2e6"), (0.0, "0"), (-2.5, "-2.5")],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert plain_number(value) == text


anything = st.floats() | st.integers(-(10**400), 10**400)


@given(points=st.lists(st.tuples(anything, anything), max_size=30), is_log=st.booleans(), is_percent=st.booleans())
def test_whatever_a_damaged_file_holds_stays_in_the_box(
    points: list[tuple[float, float]], is_log: bool, is_percent: bool
) -> None:
    chart = chart_of(points, Axis.around([y for _, y in points], is_log, is_percent))
    places = [(float(x), float(y)) for line in chart.lines for x, y in PLACE.findall(line.path)]
    assert all(-2 <= x <= WIDTH + 2 and -2 <= y <= HEIGHT + 2 for x, y in places)
    assert all(-2 <= tick.at <= WIDTH + 2 for tick in (*chart.x_ticks, *chart.y_ticks))
    assert len(chart.x_ticks) + len(chart.y_ticks) < 40
    assert not any("nan" in line.path or "inf" in line.path for line in chart.lines)
