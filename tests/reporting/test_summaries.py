import json

import pytest

from lenet_mnist.reporting import summaries
from lenet_mnist.reporting.text import aligned, to_json
from lenet_mnist.runs.directory import RunDirectory


def test_a_table_is_aligned() -> None:
    table = aligned(("name", "n"), [("a", "1"), ("long name", "23")], right=(1,))
    assert table.splitlines() == ["name        n", "a           1", "long name  23"]


@pytest.mark.parametrize("damage", ["", "{}", '{"schema_version": 9}', "\x00"])
def test_a_run_that_cannot_be_read_is_listed_as_damaged(run: RunDirectory, damage: str) -> None:
    run.manifest_path.write_text(damage)
    row = summaries.run_row(run, with_test=True)
    assert row == {"run": run.id, "status": "damaged"}
    assert "damaged" in summaries.runs_text([row], run.path.parent)


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"accuracy": "high"}'])
def test_a_run_with_a_damaged_evaluation_is_listed_as_damaged(run: RunDirectory, damage: str) -> None:
    metrics = run.evaluation_path("test") / "metrics.json"
    metrics.parent.mkdir(parents=True)
    metrics.write_text(damage)
    assert summaries.run_row(run, with_test=True)["status"] == "damaged"
    assert summaries.run_row(run, with_test=False)["status"] == "finished"


def test_json_never_holds_what_is_no_number() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json({"loss": float("nan")})
    assert json.loads(to_json({"loss": 0.1})) == {"loss": 0.1}
