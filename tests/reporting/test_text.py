"""Results as text and as JSON; what `lenet compare` says for the figures that call for it."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from lenet_mnist.analysis.intervals import Estimate, Interval, Method
from lenet_mnist.analysis.metrics import ClassScores, PairedAnswers
from lenet_mnist.errors import per_cent
from lenet_mnist.reporting import analysis_results
from lenet_mnist.reporting.text import Result, aligned, plain_number, render, to_json
from lenet_mnist.runs.listing import row_of
from lenet_mnist.runs.run import Run
from lenet_mnist.study.comparison import Contrast, Pair, SpeedRatio


def test_a_table_is_aligned() -> None:
    table = aligned(("name", "n"), [("a", "1"), ("long name", "23")], right=(1,))
    assert table.splitlines() == ["name        n", "a           1", "long name  23"]


def test_tables_and_sentences_fit_the_terminal_paths_and_commands_stay_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "24")
    rows = [("a-name-that-is-too-long-for-it", "1", "fine"), ("b", "23", "")]
    assert aligned(("run", "number", "state"), rows, right=(1,)).splitlines() == [
        "run        number  state",
        "a-name-that-is-too-long-for-it",
        "                1  fine",
        "b              23",
    ]
    whole = "  next: lenet train --config runs/1/config.yaml\nruns/a-path-of-many/letters.png"
    sentence = "  because the loss was 3.51 nats, far above chance"
    lines = render(Result({}, f"{whole}\n{sentence}"), as_json=False).splitlines()
    assert "\n".join(lines[:2]) == whole
    assert all(len(line) <= 24 for line in lines[2:])
    assert " ".join(line.strip() for line in lines[2:]) == sentence.strip()
    assert render(sentence, as_json=False) == sentence  # a text, such as YAML


def test_numbers_are_short() -> None:
    for value, text in (
        (0.04, "0.04"),
        (1e-5, "1e-5"),
        (1e3, "1,000"),
        (12345.0, "12,345"),
        (2e6, "2e6"),
        (-2.5, "-2.5"),
    ):
        assert plain_number(value) == text
    assert [per_cent(value) for value in (0.9999, 0.5, 0.0001)] == ["over 99.9%", "50.0%", "under 0.1%"]


def test_a_run_that_cannot_be_read_is_listed_as_damaged(run: Run) -> None:
    metrics = run.evaluation_path("test") / "metrics.json"
    metrics.parent.mkdir(parents=True)
    for damage in ("", "[]", "{}", '{"accuracy": "high"}'):
        metrics.write_text(damage)
        assert row_of(Run(run.path), with_test=True)["status"] == "damaged"
        assert row_of(run, with_test=False)["status"] == "finished"
    for damage in ("", "{}", '{"schema_version": 9}', "\x00"):
        run.manifest_path.write_text(damage)
        rows = analysis_results.runs_result([row_of(Run(run.path), with_test=True)], run.path.parent)
        assert json.loads(render(rows, as_json=True)) == {"runs": [{"run": run.id, "status": "damaged"}]}
        assert "damaged" in render(rows, as_json=False)


def test_json_never_holds_what_is_not_a_number() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json({"loss": float("nan")})


def test_a_difference_is_said_where_the_interval_says_so() -> None:
    for value, low, high, method, words in (
        (0.52, 0.31, 0.73, Method.PAIRED, "A is more accurate on the val images than B, by 0.52 points "),
        (-0.52, -0.73, -0.31, Method.WELCH, "A is less accurate on the val images than B, by 0.52 points "),
        (0.52, -0.1, 1.0, Method.WELCH, "A and B cannot be told apart by their val accuracy: +0.52 points "),
    ):
        difference = Estimate(value / 100, Interval(low / 100, high / 100), method)
        (said,) = analysis_results.accuracy_sentence(Contrast(("A", "B"), difference, ()), difference, "val", True)
        assert said.startswith(f"{words}(95 % interval {low:+.2f} to {high:+.2f} points; ")


def test_a_ratio_is_said_from_the_side_of_the_faster() -> None:
    for ratio, low, high, words in (
        (5.0, 4.0, 6.25, "A needs 5.00 times fewer steps than B (95 % interval 4.00 to 6.25; Student's t"),
        (0.2, 0.16, 0.25, "B needs 5.00 times fewer steps than A (95 % interval 4.00 to 6.25; Student's t"),
        (1.25, 0.8, 1.9, "A needs 1.25 times fewer steps than B, but the two cannot be told apart (95 % interval 0.80"),
        (0.8, 0.5, 1.25, "B needs 1.25 times fewer steps than A, but the two cannot be told apart (95 % interval 0.80"),
    ):
        found = SpeedRatio(0.1, ratio, Interval(low, high), Method.PAIRED)
        assert words in analysis_results.ratio_sentence(("A", "B"), found)


def test_two_networks_are_told_apart_by_the_p_value() -> None:
    for num_fixed, num_broken, words in (
        (31, 18, "A fixes 31, breaks 18 of B's answers: on these images the two cannot be told apart"),
        (31, 13, "on these images A is better (McNemar's exact p = 0.0096)"),
        (13, 31, "on these images B is better"),
    ):
        paired = PairedAnswers(np.arange(num_fixed), np.arange(num_broken), 100, 5)
        assert words in analysis_results.pair_sentence(Pair(("A", "B"), ("", ""), (None, None), paired))  # type: ignore[arg-type]


def test_seeds_in_a_row_are_a_range_and_steps_say_who_never_got_there() -> None:
    for seeds, text in (([0], "0"), ([2, 0, 1], "0-2"), ([0, 1, 7], "0-1, 7"), ([3, 9, 5], "3, 5, 9")):
        assert analysis_results.seeds_text(seeds) == text
    assert analysis_results.steps_text([None, None]) == "never"
    assert analysis_results.steps_text([1234.4]) == "1,234"
    assert analysis_results.steps_text([300.0, 100.0, None]) == "100 to 300; 1 never"


def test_the_hardest_class_is_one_that_has_images() -> None:
    scores = [ClassScores("rare", 0, 0, 0), ClassScores("hard", 10, 5, 5), ClassScores("easy", 10, 15, 10)]
    assert " hard: " in analysis_results.hardest_class(SimpleNamespace(per_class=scores))
