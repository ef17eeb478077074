"""Runs that an earlier version wrote can still be read by every command, and the interrupted ones can be resumed.

tests/old_runs holds four, on scikit-learn's digits, as commit 3e2314f left them (without pictures and reports).
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import Answer
from tests.faults import Interrupter

from lenet_mnist.config_file import resolve
from lenet_mnist.data.mnist import DataAccess
from lenet_mnist.runs.run import Run
from lenet_mnist.study.train import resume_run
from lenet_mnist.training.context import Session

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
        "train --set data.source=digits --epochs 1 --teacher finished",
    ],
)
def test_a_run_of_an_earlier_version_is_read(
    lenet: Callable[..., Answer], old_runs: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LENET_RUNS_DIR", str(old_runs))
    answer = lenet(*command.split())
    assert answer.code == 0, answer.err


def test_an_interrupted_training_keeps_its_rows(access: DataAccess, old_runs: Path) -> None:
    """Some epochs of it are enough."""
    (path,) = old_runs.glob("*-interrupted-*")
    names = ("history.csv", "steps.csv", "probe.csv")
    before = [(path / name).read_text() for name in names]
    resumed = resume_run(Run(path), resolve([]), False, Session(access, Interrupter(at_step=100)))
    assert resumed.manifest.status == "interrupted"
    for name, text in zip(names, before, strict=True):
        after = (path / name).read_text()
        assert after.startswith(text)
        assert len(after) > len(text)


@pytest.mark.parametrize(
    ("name", "command", "kind"), [("sweep", "lr-sweep", "trial"), ("folds", "cross-validate", "fold")]
)
def test_what_was_finished_is_not_done_again(
    lenet: Callable[..., Answer], old_runs: Path, name: str, command: str, kind: str
) -> None:
    (run,) = old_runs.glob(f"*-{name}-*")
    before = (run / "journal.jsonl").read_text()
    if name == "sweep":  # of five trainings that are left, one is enough
        *_, last = before.splitlines()
        for lr, seed in (("0.3", 0), ("0.01", 1), ("0.03", 1), ("0.1", 1)):
            before += last.replace('"lr": 0.1, "seed": 0', f'"lr": {lr}, "seed": {seed}', 1) + "\n"
        (run / "journal.jsonl").write_text(before)
    answer = lenet(command, "--resume", run)
    assert answer.code == 0, answer.err
    after = (run / "journal.jsonl").read_text()
    assert after.startswith(before)
    entries = [json.loads(line) for line in after.splitlines()]
    done = [json.dumps(entry[kind][kind]) for entry in entries if kind in entry]
    num_before = sum(kind in json.loads(line) for line in before.splitlines())
    assert len(set(done)) == len(done) > num_before
