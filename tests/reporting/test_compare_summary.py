"""What `lenet compare` says: each sentence for the figures that call for it."""

import numpy as np
import pytest

from lenet_mnist.analysis.compare import Difference, Estimate, Method, PairedAnswers
from lenet_mnist.analysis.intervals import Interval
from lenet_mnist.analysis.speed import Ratio
from lenet_mnist.experiments.comparison import Contrast, Group, Pair
from lenet_mnist.reporting import compare_summary as summary

A, B = (Group(letter, "", (), Estimate(0.9, None, Method.NONE), None) for letter in "AB")


def contrast(difference: Difference | None) -> str:
    return " ".join(summary._accuracy_sentence(Contrast(A, B, difference, {}), "val"))


def test_a_difference_is_said_where_the_interval_says_so() -> None:
    sure = Difference(0.0052, Interval(0.0031, 0.0073), Method.PAIRED)
    assert contrast(sure) == (
        "A is more accurate on the val images than B, by 0.52 points "
        "(95 % interval +0.31 to +0.73 points; Student's t, seed by seed)."
    )
    less = Difference(-0.0052, Interval(-0.0073, -0.0031), Method.WELCH)
    assert contrast(less).startswith("A is less accurate on the val images than B, by 0.52 points")
    unsure = Difference(0.0052, Interval(-0.001, 0.01), Method.WELCH)
    assert contrast(unsure).startswith("A and B cannot be told apart by their val accuracy: +0.52 points")


def ratio(value: float, low: float, high: float) -> str:
    found = Ratio(value, Interval(low, high), Method.PAIRED)
    return summary._ratio_sentence(Contrast(A, B, None, {}), 0.1, found)


def test_a_ratio_is_said_from_the_side_of_the_faster() -> None:
    assert ratio(5.0, 4.0, 6.25) == (
        "To a training loss of 0.1, A needs 5.00 times fewer steps than B "
        "(95 % interval 4.00 to 6.25; Student's t, seed by seed)."
    )
    assert ratio(0.2, 0.16, 0.25) == (
        "To a training loss of 0.1, B needs 5.00 times fewer steps than A "
        "(95 % interval 4.00 to 6.25; Student's t, seed by seed)."
    )
    assert "1.25 times fewer steps than B, but the two cannot be told apart" in ratio(1.25, 0.8, 1.9)


def pair(num_fixed: int, num_broken: int) -> str:
    paired = PairedAnswers(np.arange(num_fixed), np.arange(num_broken), 100, 5)
    return summary._pair_sentence(Pair(("A", "B"), ("", ""), (None, None), paired))  # type: ignore[arg-type]


def test_two_networks_are_told_apart_by_the_p_value() -> None:
    assert pair(31, 18) == (
        "A fixes 31, breaks 18 of B's answers: on these images the two cannot be told apart "
        "(McNemar's exact p = 0.085)."
    )
    assert "on these images A is better (McNemar's exact p = 0.0096)" in pair(31, 13)
    assert "on these images B is better" in pair(13, 31)


@pytest.mark.parametrize(
    ("seeds", "text"), [([0], "0"), ([2, 0, 1], "0-2"), ([0, 1, 7], "0-1, 7"), ([3, 9, 5], "3, 5, 9")]
)
def test_seeds_in_a_row_are_a_range(seeds: list[int], text: str) -> None:
    assert summary._seeds(seeds) == text


def test_steps_say_who_never_came_there() -> None:
    assert summary._steps([None, None]) == "never"
    assert summary._steps([1234.4]) == "1,234"
    assert summary._steps([300.0, 100.0, None]) == "100 to 300; 1 never"


def test_an_accuracy_ends_at_100_per_cent_whatever_students_t_says() -> None:
    assert summary._span(Estimate(0.99, Interval(0.97, 1.01), Method.STUDENT)) == "97.00% to 100.00%"
