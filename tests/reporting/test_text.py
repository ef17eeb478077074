"""Results as text and as JSON."""

import json

import pytest

from lenet_mnist.errors import per_cent
from lenet_mnist.reporting.analysis_results import runs_result
from lenet_mnist.reporting.text import aligned, plain_number, render, to_json
from lenet_mnist.runs.listing import row_of
from lenet_mnist.runs.run import Run


def test_a_table_is_aligned() -> None:
    table = aligned(("name", "n"), [("a", "1"), ("long name", "23")], right=(1,))
    assert table.splitlines() == ["name        n", "a           1", "long name  23"]


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
        rows = runs_result([row_of(Run(run.path), with_test=True)], run.path.parent)
        assert json.loads(render(rows, as_json=True)) == {"runs": [{"run": run.id, "status": "damaged"}]}
        assert "damaged" in render(rows, as_json=False)


def test_json_never_holds_what_is_not_a_number() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json({"loss": float("nan")})
