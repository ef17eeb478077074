"""Line charts as values: where every line, dot and tick of an SVG lies. The template draws them.

The pictures in plots/ are made by matplotlib. A report wants charts in the page's own letters and colours, light and
dark, sharp in print and small, and `lenet evaluate` should not draw each figure twice.

Units: what is drawn lies in a box of WIDTH x HEIGHT, the origin at the upper left.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from markupsafe import Markup

from lenet_mnist.reporting.text import plain_number

WIDTH, HEIGHT = 440, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 12, 12, 40
_MOST_POINTS = 200  # of a line: more would be closer together than a pixel
_LARGEST, _SMALLEST = 1e30, 1e-30  # beyond, a number of a damaged file could not be placed
_DECADES_WITHOUT_HALVES = 2.5

Point = tuple[float, float]
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Series:
    """What one line shows, before it is placed. `look` chooses its colour and dashes."""

    name: str
    look: int
    points: Sequence[Point]


@dataclass(frozen=True)
class Tick:
    """A place on an axis, and the number there."""

    at: float
    text: str


@dataclass(frozen=True)
class Dot:
    """A value on a line, and what it says when it is pointed at."""

    x: float
    y: float
    text: str


@dataclass(frozen=True)
class Line:
    """A line, placed. `path` is the attribute d of an SVG path: numbers, M and L, and nothing to escape."""

    name: str
    look: int
    path: Markup
    dots: tuple[Dot, ...]


@dataclass(frozen=True)
class Chart:
    """A whole chart. `alt` says in words and numbers what is to be seen; `ring` marks one value."""

    title: str
    alt: str
    x_label: str
    y_label: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Line, ...]
    ring: Dot | None
    note: str
    width: int = WIDTH
    height: int = HEIGHT
    left: int = _LEFT
    right: int = WIDTH - _RIGHT
    top: int = _TOP
    bottom: int = HEIGHT - _BOTTOM


@dataclass(frozen=True)
class Axis:
    """How numbers become places: `place` gives one in 0..1, or None if the number cannot be drawn."""

    low: float
    high: float
    is_log: bool
    is_percent: bool = False

    @classmethod
    def around(cls, values: Sequence[float], is_log: bool = False, is_percent: bool = False) -> "Axis":
        """Return an axis on which all of `values` have their place, with a little room."""
        drawable = [
            value for value in values if abs(value) < _LARGEST and (value > _SMALLEST or not is_log)
        ]  # not nan either
        if not drawable:
            return cls(0.1, 1.0, is_log, is_percent) if is_log else cls(0.0, 1.0, is_log, is_percent)
        low, high = min(drawable), max(drawable)
        if is_log:
            low, high = (low / 1.15, high * 1.15) if high / low > 1.5 else (low / 1.5, high * 1.5)
            return cls(low, high, is_log, is_percent)
        room = 0.04 * (high - low) or 0.5 * abs(high) or 1.0
        return cls(low - room, high + room, is_log, is_percent)

    def place(self, value: float) -> float | None:
        """Return where a number lies between the ends, 0 to 1, or None if it has no place."""
        if not abs(value) < _LARGEST or (self.is_log and value < _SMALLEST):
            return None
        if self.is_log:
            part = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            part = (value - self.low) / (self.high - self.low)
        return part if -0.01 <= part <= 1.01 else None

    def ticks(self, most: int, only_whole: bool = False) -> list[float]:
        """Return round numbers between the ends."""
        if self.is_log and len(found := self._log_ticks(most)) > 1:
            return found
        step = 10.0 ** math.floor(math.log10((self.high - self.low) / most))
        step = next(step * factor for factor in (1, 2, 5, 10) if (self.high - self.low) / (step * factor) <= most)
        step = max(step, 1.0) if only_whole else step
        first = math.ceil(self.low / step - 1e-9)
        return [k * step for k in range(first, math.floor(self.high / step + 1e-9) + 1)]

    def text(self, value: float, is_tick: bool = False) -> str:
        """Write a number of the axis, a tick in as many digits as tell it from the next."""
        return f"{100 * value:.6g}%" if self.is_percent else plain_number(value, 6 if is_tick else 3)

    def _log_ticks(self, most: int) -> list[float]:
        low, high = math.log10(self.low), math.log10(self.high)
        if high - low < _DECADES_WITHOUT_HALVES:
            steps = [k * 10.0**e for e in range(math.floor(low), math.ceil(high) + 1) for k in (1, 2, 5)]
            return [value for value in steps if self.low <= value <= self.high]
        every = math.ceil((high - low) / most)
        return [10.0**e for e in range(math.ceil(low), math.floor(high) + 1) if e % every == 0]


def line_chart(
    title: str,
    alt: str,
    series: Sequence[Series],
    x_label: str,
    y_label: str,
    y_axis: Axis,
    ring: tuple[float, float, str] | None = None,
    x_axis: Axis | None = None,
) -> Chart:
    """Place `series`. What a logarithmic axis cannot show, zero above all, is left out, and a note says so."""
    x_axis = x_axis or Axis.around([x for each in series for x, _ in each.points])
    shown = [Series(each.name, each.look, thinned(each.points, _MOST_POINTS)) for each in series]
    lines = [_line(each, x_axis, y_axis, x_label) for each in shown]
    with_zero = [each.name for each in series if y_axis.is_log and any(y == 0 for _, y in each.points)]
    place_x, place_y = _placing(x_axis, y_axis)
    marked = None
    if ring is not None and (x := place_x(ring[0])) is not None and (y := place_y(ring[1])) is not None:
        marked = Dot(x, y, ring[2])
    return Chart(
        title=title,
        alt=alt,
        x_label=x_label,
        y_label=y_label,
        x_ticks=_ticks(x_axis.ticks(8, only_whole=x_label in ("epoch", "update")), x_axis, place_x),
        y_ticks=_ticks(y_axis.ticks(6), y_axis, place_y),
        lines=tuple(line for line in lines if line.dots),
        ring=marked,
        note=f"Zero somewhere, and not drawn there: {', '.join(with_zero)}." if with_zero else "",
    )


def thinned(values: Sequence[_Value], most: int) -> Sequence[_Value]:
    """Return at most `most` of the values, evenly spaced; the first and the last are among them."""
    if len(values) <= most:
        return values
    return [values[round(k * (len(values) - 1) / (most - 1))] for k in range(most)]


def _placing(x_axis: Axis, y_axis: Axis) -> tuple[Callable[[float], float | None], Callable[[float], float | None]]:
    """Return what places an x, and a y, in the box."""
    across, down = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM

    def place_x(value: float) -> float | None:
        part = x_axis.place(value)
        return None if part is None else round(_LEFT + part * across, 1)

    def place_y(value: float) -> float | None:
        part = y_axis.place(value)
        return None if part is None else round(_TOP + (1 - part) * down, 1)

    return place_x, place_y


def _line(series: Series, x_axis: Axis, y_axis: Axis, x_label: str) -> Line:
    """Place one line; it has a gap where a value cannot be drawn."""
    place_x, place_y = _placing(x_axis, y_axis)
    dots: list[Dot] = []
    path, is_pen_down = "", False
    for value_x, value_y in series.points:
        x, y = place_x(value_x), place_y(value_y)
        if x is None or y is None:
            is_pen_down = False
            continue
        path += f"{'L' if is_pen_down else 'M'}{x} {y}"
        is_pen_down = True
        dots.append(Dot(x, y, f"{series.name}, {x_label} {x_axis.text(value_x)}: {y_axis.text(value_y)}"))
    return Line(series.name, series.look, Markup(path), tuple(dots))


def _ticks(values: Sequence[float], axis: Axis, place: Callable[[float], float | None]) -> tuple[Tick, ...]:
    return tuple(Tick(at, axis.text(value, is_tick=True)) for value in values if (at := place(value)) is not None)
