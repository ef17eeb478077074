"""Runs that an earlier version wrote can still be read by every command, and the interrupted ones can be resumed.

tests/old_runs holds four, on scikit-learn's digits, as commit 3e2314f left them (without pictures and reports).
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import Answer

OLD_RUNS = Path(__file__).parent / "old_runs"


@pytest.fixture
def old_runs(tmp_path: Path) -> Path:
    return Path(shutil.copytree(OLD_RUNS, tmp_path / "runs"))


@pytest.mark.parametrize(
    "command",
    [
        "evaluate finished",
        "evaluate finished interrupted",
        "verify finished",
        "diagnose finished",
        "diagnose sweep",
        "compare finished interrupted",
        "report finished",
        "export finished --format safetensors",
        "runs",
        "train --resume interrupted",
        "train --set data.source=digits --epochs 1 --teacher finished",
        "lr-sweep --resume sweep",
        "cross-validate --resume folds",
    ],
)
def test_a_run_of_an_earlier_version_is_read(
    lenet: Callable[..., Answer], old_runs: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LENET_RUNS_DIR", str(old_runs))
    answer = lenet(*command.split())
    assert answer.code == 0, answer.err


def test_an_interrupted_training_keeps_its_rows(lenet: Callable[..., Answer], old_runs: Path) -> None:
    (run,) = old_runs.glob("*-interrupted-*")
    before = {name: (run / name).read_text() for name in ("history.csv", "steps.csv", "probe.csv")}
    trained = json.loads(lenet("train", "--resume", run, "--json").out)
    assert trained["runs"][0]["status"] == "finished"
    for name, text in before.items():
        assert (run / name).read_text().startswith(text)


@pytest.mark.parametrize(
    ("name", "command", "kind"), [("sweep", "lr-sweep", "trial"), ("folds", "cross-validate", "fold")]
)
def test_what_was_finished_is_not_done_again(
    lenet: Callable[..., Answer], old_runs: Path, name: str, command: str, kind: str
) -> None:
    (run,) = old_runs.glob(f"*-{name}-*")
    before = (run / "journal.jsonl").read_text()
    answer = lenet(command, "--resume", run)
    assert answer.code == 0, answer.err
    after = (run / "journal.jsonl").read_text()
    assert after.startswith(before)
    entries = [json.loads(line) for line in after.splitlines()]
    done = [json.dumps(entry[kind][kind]) for entry in entries if kind in entry]
    num_before = sum(kind in json.loads(line) for line in before.splitlines())
    assert len(set(done)) == len(done) > num_before
