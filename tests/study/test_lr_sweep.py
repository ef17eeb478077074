"""`lenet lr-sweep`, from the options to the files, interrupted and resumed."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.faults import Counter
from tests.tables import read_csv

from lenet_mnist.config import Activation, Config
from lenet_mnist.config_file import ResolvedConfig, load_config, resolve
from lenet_mnist.data.mnist import DataAccess
from lenet_mnist.errors import ConfigError, InterruptedBySignal, StorageError
from lenet_mnist.files.locks import exclusive_lock
from lenet_mnist.runs.run import Run
from lenet_mnist.study import lr_sweep
from lenet_mnist.study.lr_sweep import SWEEP, SweptRun, sweep
from lenet_mnist.study.study import StudyJournal
from lenet_mnist.training.context import Session
from lenet_mnist.tuning.plan import SweepRequest
from lenet_mnist.tuning.trial import Bracket

SMALL: dict[str, Any] = {
    "data": {"limit_train": 1000, "val_size": 500},
    "training": {"max_epochs": 2, "batch_size": 50, "threads": 1},
}
CONFIG = Config.model_validate(SMALL)
OF_CONFIG = ResolvedConfig(CONFIG, {})
REQUEST = SweepRequest(lrs=(0.01, 0.05, 1e6), seeds=(0, 1), epochs=1.0)
NOTHING = SweepRequest()
OPTIONS = (
    *("--limit-train", "1000", "--batch-size", "50", "--threads", "1"),
    *("--set", "data.val_size=500", "--set", "training.max_epochs=2"),
)


@pytest.fixture(scope="module")
def session(access: DataAccess) -> Session:
    return Session(access)


def only_run(runs_dir: Path) -> Run:
    (path,) = runs_dir.iterdir()
    return Run(path)


def rows_of(swept: SweptRun) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    return read_csv(swept.directory.path / "sweep.csv"), read_csv(swept.directory.path / "range_test.csv")


@pytest.fixture(scope="module", autouse=True)
def _one_range_test() -> Iterator[None]:
    """One range test instead of three, for the time that it takes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lr_sweep, "RANGE_SEEDS", (0,))
        yield


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory, session: Session) -> SweptRun:
    return sweep(tmp_path_factory.mktemp("runs"), OF_CONFIG, REQUEST, session)


def test_every_rate_seed_and_epoch_has_a_row_and_one_that_diverges_is_a_result(swept: SweptRun) -> None:
    rows, ranges = rows_of(swept)
    assert [(float(r["lr"]), int(r["seed"]), int(r["epoch"])) for r in rows] == [
        (lr, seed, 1) for lr in (0.01, 0.05, 1e6) for seed in (0, 1)
    ]
    assert [row["diverged"] for row in rows] == ["0", "0", "0", "0", "1", "1"]
    assert {row["seed"] for row in ranges} == {"0"}
    ranking = swept.answers[Activation.RELU].ranking
    assert ranking.best is not None
    assert (ranking.best.lr, ranking.rates[-1].num_diverged) == (0.05, 2)


def test_the_best_configuration_is_ready_to_train_with(swept: SweptRun) -> None:
    best = load_config(swept.directory.path / "best.yaml").config
    choice = swept.answers[Activation.RELU].choice
    assert choice is not None
    assert best.training.peak_learning_rate == pytest.approx(choice.lr, rel=0.01)
    assert (best.data, best.training.max_epochs) == (CONFIG.data, 2)
    manifest = swept.directory.manifest
    assert (manifest.kind, manifest.status, manifest.tuning is None) == ("sweep", "finished", False)
    assert "-lr-sweep-" in swept.directory.id


def interrupted(request: SweepRequest, access: DataAccess, runs_dir: Path, after: int) -> Run:
    with pytest.raises(InterruptedBySignal, match=rf"{after} trainings are kept.*lr-sweep --resume"):
        sweep(runs_dir, OF_CONFIG, request, Session(access, Counter(stop_after=after)))
    run = only_run(runs_dir)
    assert run.manifest.status == "interrupted"
    return run


def assert_same(one: SweptRun, other: SweptRun) -> None:
    assert rows_of(one) == rows_of(other)
    answers = [swept.answers[Activation.RELU] for swept in (one, other)]
    assert answers[0].ranking == answers[1].ranking
    assert answers[0].choice == answers[1].choice
    assert one.directory.manifest.status == "finished"


def test_an_interrupted_sweep_resumes_to_the_same_answer(swept: SweptRun, tmp_path: Path, access: DataAccess) -> None:
    for after in (1, 4):
        counter = Counter()
        run = interrupted(REQUEST, access, tmp_path / str(after), after)
        assert_same(sweep(run, resolve([]), NOTHING, Session(access, counter)), swept)
        assert counter.num_done == 6 - after
    assert_same(sweep(run, resolve([]), NOTHING, Session(access, counter)), swept)
    assert counter.num_done == 2  # what is finished is not trained again


@pytest.fixture
def _low_bracket(monkeypatch: pytest.MonkeyPatch) -> None:
    """The best rate lies beyond the edge, so that more are tried."""
    monkeypatch.setattr(Bracket, "of", lambda *_: Bracket(0.002, 0.01, has_learned=True))


@pytest.mark.usefixtures("_low_bracket")
def test_a_sweep_that_is_interrupted_while_it_looks_beyond_the_edge_comes_to_the_same_answer(
    tmp_path: Path, access: DataAccess
) -> None:
    request = SweepRequest(num_rates=2, seeds=(0,), epochs=1.0)
    whole = sweep(tmp_path / "whole", OF_CONFIG, request, Session(access))
    lrs = [result.trial.lr for result in whole.answers[Activation.RELU].results]
    assert lrs[:4] == pytest.approx([0.002, 0.01, 0.05, 0.25])
    for after in (1, 2, 3):
        run = interrupted(request, access, tmp_path / str(after), after)
        assert_same(sweep(run, resolve([]), NOTHING, Session(access)), whole)


@pytest.mark.usefixtures("_low_bracket")
def test_a_resumed_sweep_reckons_with_what_its_trainings_took(tmp_path: Path, access: DataAccess) -> None:
    """It would look beyond the edge, as above, but has no time for it: each training took eleven days."""
    request = SweepRequest(num_rates=2, seeds=(0,), epochs=1.0, budget_seconds=600)
    run, counter = interrupted(request, access, tmp_path, after=2), Counter()
    run.journal_path.write_text(re.sub(r'"seconds": [0-9.e-]+', '"seconds": 1e6', run.journal_path.read_text()))
    swept = sweep(run, resolve([]), NOTHING, Session(access, counter))
    assert (counter.num_done, swept.directory.manifest.status) == (0, "finished")


def test_what_is_no_sweep_like_that_is_not_resumed(swept: SweptRun, run: Run, session: Session) -> None:
    other = load_config(None, ["training.batch_size=64", "training.max_epochs=2"])
    for wanted, request, complaint in (
        (other, NOTHING, r"training\.batch_size is 50 there, 64 now$"),
        (resolve([]), SweepRequest(seeds=(5,)), "seeds is 0,1 there, 5 now"),
        (resolve([]), SweepRequest((Activation.TANH,)), "activations is relu there, tanh now"),
    ):
        with pytest.raises(ConfigError, match=complaint):
            sweep(swept.directory, wanted, request, session)
    with pytest.raises(ConfigError, match="is a train run"):
        sweep(run, resolve([]), NOTHING, session)
    with exclusive_lock(swept.directory.path, print), pytest.raises(StorageError, match=rf"process {os.getpid()} on"):
        sweep(swept.directory, resolve([]), NOTHING, session)


def test_the_command_writes_what_it_says(lenet: Callable[..., Any], tmp_path: Path) -> None:
    answer = lenet("lr-sweep", *OPTIONS, "--activation", "tanh,relu", "--lrs", "0.02,0.1", "--seeds", "0")
    assert answer.code == 0, answer.err
    run = only_run(tmp_path / "runs")
    for name in ("sweep.csv", "range_test.csv", "best-tanh.yaml", "best-relu.yaml", "plots/sweep.png"):
        assert (run.path / name).is_file(), name
    assert f"lenet train --config runs/{run.id}/best-tanh.yaml" in answer.out
    assert "plan: tanh: 2 rates x 1 seed" in answer.err
    trained = lenet("train", "--config", run.path / "best-relu.yaml", "--epochs", "1")
    assert trained.code == 0, trained.err
    listed = lenet("runs", "--json")
    assert {row["kind"] for row in json.loads(listed.out)["runs"]} == {"train", "sweep"}
    evaluated = lenet("evaluate", run.path)
    assert (evaluated.code, "is a sweep" in evaluated.err) == (2, True)
    resumed = lenet("lr-sweep", "--resume", run.path, "--json")
    document = json.loads(resumed.out)
    assert document["status"] == "finished"
    assert document["activations"]["relu"]["ranking"]["best"]["lr"] in (0.02, 0.1)
    assert (tmp_path / document["best"]["relu"]).name == "best-relu.yaml"


def test_what_longer_schedules_want_is_said_as_it_is_reckoned(lenet: Callable[..., Any]) -> None:
    for decay, optimizer, direction in ((0.001, "sgd", "higher"), (0.0, "adam", "lower")):
        options = ("--lrs", "0.005,0.01", "--seeds", "0", "--epochs", "1", "--set", f"training.weight_decay={decay}")
        answer = lenet("lr-sweep", *OPTIONS, *options, "--set", "training.max_epochs=8", "--optimizer", optimizer)
        assert f" {direction} rates here" in answer.out


def test_where_no_rate_is_an_answer_the_exit_code_says_so(lenet: Callable[..., Any], tmp_path: Path) -> None:
    for rates, code, complaint in (("1e5,1e6", 4, "diverged at every rate"), ("1e-7,1e-6", 2, "no rate learned")):
        answer = lenet("lr-sweep", *OPTIONS, "--lrs", rates, "--seeds", "0", "--runs-dir", rates)
        assert (answer.code, complaint in answer.err) == (code, True), answer.err
        assert not (only_run(tmp_path / rates).path / "best.yaml").exists()


def test_a_schedule_that_does_not_fall_is_said_to_be_compared_as_another(lenet: Callable[..., Any]) -> None:
    options = (*OPTIONS, "--lrs", "0.02,0.1", "--seeds", "0")
    constant = lenet("lr-sweep", *options, "--set", "training.schedule=constant")
    assert "compared with schedule linear, in best.yaml too: constant" in constant.err
    assert "compared with" not in lenet("lr-sweep", *options, "--set", "training.schedule=cosine").err


def test_what_cannot_be_is_refused_in_one_line(lenet: Callable[..., Any]) -> None:
    for options, complaint in (
        (("--min-lr", "1", "--max-lr", "0.1"), "must be below"),
        (("--resume", "nowhere"), "no such run"),
        (("--resume", "latest"), "lenet lr-sweep"),
        (("--optimizer", "sdg"), "--optimizer"),
        ((*OPTIONS, "--budget", "0.001s"), "would do"),
    ):
        answer = lenet("lr-sweep", *options)
        assert (answer.code, complaint in answer.err, answer.out) == (2, True, "")


def test_ctrl_c_keeps_what_is_finished(mnist_dir: Path, tmp_path: Path) -> None:
    """Real processes, interrupted as a terminal does it: the signal goes to all of them."""
    options = (
        *("--limit-train", "1000", "--set", "data.val_size=500", "--threads", "2", "--engine", "torch"),
        *("--epochs", "4", "--lrs", "0.01,0.02,0.04", "--seeds", "0-9"),
    )
    program = (
        "from lenet_mnist.cli.main import main; from lenet_mnist.study import lr_sweep; "
        "from lenet_mnist.training import workers; "
        "lr_sweep.RANGE_SEEDS = (0,); workers._WORTH_WORKERS = 0; main()"
    )
    command = [sys.executable, "-c", program, "lr-sweep", *options, "--runs-dir", str(tmp_path)]
    environment = os.environ | {"LENET_DATA_DIR": str(mnist_dir)}
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "val loss" in line:
                break
        os.killpg(process.pid, signal.SIGINT)
        interrupted = time.monotonic()
        rest = process.stderr.read()
    assert process.returncode == 130, rest
    assert time.monotonic() - interrupted < 20
    assert "trainings are kept. To resume: lenet lr-sweep --resume" in rest
    assert "Traceback" not in rest
    run = only_run(tmp_path)
    assert run.manifest.status == "interrupted"
    assert 1 <= len(StudyJournal(SWEEP, run).results) < 30
