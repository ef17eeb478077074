"""What `lenet compare` says: each sentence for the figures that call for it."""

import numpy as np
import pytest

from lenet_mnist.analysis.intervals import Estimate, Interval, Method
from lenet_mnist.analysis.metrics import PairedAnswers
from lenet_mnist.reporting import analysis_results as result
from lenet_mnist.study.comparison import Contrast, Pair, SpeedRatio


def test_a_difference_is_said_where_the_interval_says_so() -> None:
    for value, low, high, method, words in (
        (0.52, 0.31, 0.73, Method.PAIRED, "A is more accurate on the val images than B, by 0.52 points "),
        (-0.52, -0.73, -0.31, Method.WELCH, "A is less accurate on the val images than B, by 0.52 points "),
        (0.52, -0.1, 1.0, Method.WELCH, "A and B cannot be told apart by their val accuracy: +0.52 points "),
    ):
        difference = Estimate(value / 100, Interval(low / 100, high / 100), method)
        (said,) = result.accuracy_sentence(Contrast(("A", "B"), difference, ()), difference, "val", True)
        assert said.startswith(f"{words}(95 % interval {low:+.2f} to {high:+.2f} points; ")


@pytest.mark.parametrize(
    ("ratio", "low", "high", "words"),
    [
        (
            5.0,
            4.0,
            6.25,
            "A needs 5.00 times fewer steps than B (95 % interval 4.00 to 6.25; Student's t, seed by seed).",
        ),
        (0.2, 0.16, 0.25, "B needs 5.00 times fewer steps than A (95 % interval 4.00 to 6.25; Student's t, seed by s"),
        (1.25, 0.8, 1.9, "A needs 1.25 times fewer steps than B, but the two cannot be told apart (95 % interval 0.80"),
        (0.8, 0.5, 1.25, "B needs 1.25 times fewer steps than A, but the two cannot be told apart (95 % interval 0.80"),
    ],
)
def test_a_ratio_is_said_from_the_side_of_the_faster(ratio: float, low: float, high: float, words: str) -> None:
    found = SpeedRatio(0.1, ratio, Interval(low, high), Method.PAIRED)
    assert words in result.ratio_sentence(("A", "B"), found)


def test_two_networks_are_told_apart_by_the_p_value() -> None:
    for num_fixed, num_broken, words in (
        (31, 18, "A fixes 31, breaks 18 of B's answers: on these images the two cannot be told apart"),
        (31, 13, "on these images A is better (McNemar's exact p = 0.0096)"),
        (13, 31, "on these images B is better"),
    ):
        paired = PairedAnswers(np.arange(num_fixed), np.arange(num_broken), 100, 5)
        assert words in result.pair_sentence(Pair(("A", "B"), ("", ""), (None, None), paired))  # type: ignore[arg-type]


def test_seeds_in_a_row_are_a_range_and_steps_say_who_never_got_there() -> None:
    for seeds, text in (([0], "0"), ([2, 0, 1], "0-2"), ([0, 1, 7], "0-1, 7"), ([3, 9, 5], "3, 5, 9")):
        assert result.seeds_text(seeds) == text
    assert result.steps_text([None, None]) == "never"
    assert result.steps_text([1234.4]) == "1,234"
    assert result.steps_text([300.0, 100.0, None]) == "100 to 300; 1 never"
