"""Several processes train one network: real ones, once started by torchrun."""

import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.run
from tests import ranks_child
from tests.processes import Answer, Started, start, start_ranks, wait_for
from tests.processes import lenet as lenet_command

from lenet_mnist.config import Device
from lenet_mnist.data.sets import TrainVal
from lenet_mnist.devices import choose_device
from lenet_mnist.distributed import SINGLE, Ranks, joined_ranks
from lenet_mnist.errors import ConfigError, InstallationError, ProcessLostError
from lenet_mnist.runs.listing import list_runs
from lenet_mnist.runs.run import Run
from lenet_mnist.training.context import Context
from lenet_mnist.training.workers import PoolSize

SMALL = ["--limit-train", "1500", "--epochs", "2", "--engine", "torch"]
EVERY_10 = ["--set", "training.checkpoint_every_steps=10"]


@pytest.fixture
def ranks_of(mnist_dir: Path, tmp_path: Path) -> Callable[..., list[Answer]]:
    """Run a command in two processes: ranks_of("train", ...) -> the answer of each rank."""

    def run(*words: object) -> list[Answer]:
        return [rank.end() for rank in start_lenet(mnist_dir, tmp_path, *words)]

    return run


def start_lenet(mnist_dir: Path, tmp_path: Path, *words: object) -> list[Started]:
    return start_ranks(2, lenet_command, *words, directory=tmp_path, LENET_DATA_DIR=str(mnist_dir))


# One function, whatever the number of ranks


@pytest.mark.parametrize("num_ranks", [2, 3])
def test_several_ranks_do_what_one_process_does(mnist_dir: Path, tmp_path: Path, num_ranks: int) -> None:
    first, *others = [rank.end() for rank in start_ranks(num_ranks, ranks_child.main, mnist_dir, directory=tmp_path)]
    assert [answer.code for answer in (first, *others)] == [0] * num_ranks, first.err
    found = json.loads(first.out)
    assert found["num_ranks"] == num_ranks
    # Twenty updates in float64, from 450 images in batches of 64: the last has 2, and of three ranks one has none.
    for activation in ("sigmoid", "tanh", "relu"):
        assert found[activation] < 1e-12
    # A whole training.
    assert (found["digests"], found["rows"]) == (1, True)
    assert 0 <= found["largest loss difference"] < 1e-4
    # Teachers: each rank asks about its share of the distorted images, and needs the answers to any of them.
    assert found["largest error of a lesson"] < 1e-4
    assert 0 <= found["largest taught difference"] < 1e-4
    assert found["counts"]
    # One wants to stop at step 10 of 32; they agree once a window, which ends with the epoch: 8 updates here.
    assert found["stopped"] == [[16, "interrupted"]] * num_ranks
    named = "the processes disagree: size is 0 on rank 0, and 1 on rank 2"
    assert found["disagreement"] == (named if num_ranks == 3 else "none")
    for num_items, shares in enumerate(zip(*found["shares"], strict=True)):
        assert sum(shares) == num_items
        assert max(shares) - min(shares) <= 1


# The command line


def one_run(runs_dir: Path) -> Run:
    (run,) = list_runs(runs_dir)
    return run


def without_seconds(run: Run) -> list[str]:
    return [line.rpartition(",")[0] for line in run.history_path.read_text().splitlines()]


def is_saved(runs_dir: Path, num_runs: int, step: int) -> Callable[[], bool]:
    """Return what tells whether so many runs have come to that step."""

    def asked() -> bool:
        saved = runs_dir.glob("*/checkpoints/step-*.safetensors")
        return len({path.parent for path in saved if int(path.name[5:13]) >= step}) == num_runs

    return asked


def ranks_below(parent: int) -> dict[int, int]:
    """Return the process ids by rank, of those alive that torchrun has started."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            status, environ = (path / "stat").read_text(), (path / "environ").read_bytes()
        except OSError:
            continue
        named = dict(entry.split(b"=", 1) for entry in environ.split(b"\0") if b"=" in entry)
        if int(status.rpartition(")")[2].split()[1]) == parent and b"RANK" in named:
            found[int(named[b"RANK"])] = int(path.name)
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="looks for the processes in /proc")
def test_a_rank_that_dies_ends_the_run_and_a_restart_comes_to_the_same_weights(
    ranks_of: Callable[..., list[Answer]], mnist_dir: Path, tmp_path: Path
) -> None:
    """Under torchrun itself: one rank is killed, and after the restart the other."""
    whole = ["train", *SMALL, "--seeds", "3-4", *EVERY_10]
    first, other = ranks_of(*whole, "--runs-dir", "whole")
    assert (first.code, other.code) == (0, 0), first.err
    assert first.out.count("validation accuracy: mean") == 1  # rank 0 alone speaks
    assert other.out + other.err == ""

    options = ["--standalone", "--nproc-per-node", "2", "--max-restarts", "2", "-m", "lenet_mnist"]
    torchrun = start(
        torch.distributed.run.main,
        [*options, *whole, "--runs-dir", "killed"],
        directory=tmp_path,
        LENET_DATA_DIR=str(mnist_dir),
        PYTHONWARNINGS="error::UserWarning",
    )
    for killed, (num_runs, step) in enumerate(((1, 20), (2, 20))):
        wait_for(is_saved(tmp_path / "killed", num_runs, step))
        os.kill(ranks_below(torchrun.process.pid)[killed], signal.SIGKILL)
    code, _, err = torchrun.end()
    assert code == 0, err
    assert "Traceback" not in err
    assert err.count("resuming") >= 2
    for one, again in zip(list_runs(tmp_path / "whole"), list_runs(tmp_path / "killed"), strict=True):
        expected, found = one.manifest, again.manifest
        assert (found.status, found.num_ranks) == ("finished", 2)
        assert found.weights_sha256 == expected.weights_sha256
        assert without_seconds(again) == without_seconds(one)
        assert again.steps_path.read_bytes() == one.steps_path.read_bytes()


def test_a_termination_is_heard_by_all_and_the_run_goes_on_with_as_many(
    ranks_of: Callable[..., list[Answer]], mnist_dir: Path, tmp_path: Path, lenet: Callable[..., Answer]
) -> None:
    longer = ["--epochs", "12", "--runs-dir", "runs"]
    first, other = start_lenet(mnist_dir, tmp_path, "train", *SMALL, *EVERY_10, *longer)
    wait_for(is_saved(tmp_path / "runs", 1, 20))
    other.send(signal.SIGTERM)
    assert first.end().code == 143
    other.end()
    run = one_run(tmp_path / "runs")
    assert run.manifest.status == "interrupted"

    alone = lenet("train", "--resume", run.path)
    assert alone.code == 2
    assert "2 processes trained it, and now 1" in alone.err
    resumed, _ = ranks_of("train", "--resume", run.path)
    assert resumed.code == 0, resumed.err
    assert one_run(tmp_path / "runs").manifest.status == "finished"
    assert lenet("verify", run.path).code == 0
    retrained = lenet("verify", run.path, "--retrain")
    assert (retrained.code, retrained.err.count("\n")) == (2, 1)
    assert "2 processes trained it" in retrained.err


def test_a_sweep_and_a_cross_validation_say_what_one_process_says(
    ranks_of: Callable[..., list[Answer]], tmp_path: Path, lenet: Callable[..., Answer]
) -> None:
    small = ["--limit-train", "300", "--batch-size", "10", "--epochs", "1", "--threads", "1", "--json"]
    sweep = ["lr-sweep", "--lrs", "0.01,0.03", *small]
    folds = ["cross-validate", "--folds", "3", *small]  # in two rounds: of the second, one rank has none
    for command, table in ((sweep, "sweep.csv"), (folds, "predictions.csv")):
        first, _ = ranks_of(*command, "--runs-dir", f"several-{table}")
        assert first.code == 0, first.err
        json.loads(first.out)
        assert lenet(*command, "--runs-dir", f"one-{table}").code == 0
        several, one = ((one_run(tmp_path / f"{name}-{table}").path / table).read_text() for name in ("several", "one"))
        assert several == one


def train_epochs_by_rank() -> None:
    lenet_command("train", "--epochs", int(os.environ["RANK"]) + 1)


def test_ranks_of_different_configurations_train_nothing(mnist_dir: Path, tmp_path: Path) -> None:
    started = start_ranks(2, train_epochs_by_rank, directory=tmp_path, LENET_DATA_DIR=str(mnist_dir))
    first, other = (rank.end() for rank in started)
    assert (first.code, other.code, first.out + other.out) == (2, 2, "")
    assert "error: the processes disagree: training.max_epochs is 1 on rank 0, and 2 on rank 1" in first.err
    assert not (tmp_path / "runs").exists()


# In this process


@pytest.fixture
def as_rank(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def pretend(rank: int, num_ranks: int) -> None:
        names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": num_ranks, "LOCAL_WORLD_SIZE": num_ranks}
        for name, value in names.items():
            monkeypatch.setenv(name, str(value))
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")

    return pretend


def test_a_torch_without_gloo_says_so(as_rank: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    as_rank(0, 2)
    monkeypatch.setattr(torch.distributed, "is_gloo_available", lambda: False)
    with pytest.raises(InstallationError, match="built without gloo"), joined_ranks():
        pytest.fail("joined")


def test_a_process_that_is_lost_is_named_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(_: object) -> None:
        raise RuntimeError("[/gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:4711\nmore of it")

    monkeypatch.setattr(torch.distributed, "all_reduce", lose)
    with pytest.raises(ProcessLostError) as lost:
        Ranks(num_ranks=2).all_reduce_sum(torch.zeros(1))
    said = str(lost.value)
    assert "(Connection closed by peer [127.0.0.1]:4711)" in said
    assert "--resume" in said
    assert ".cc" not in said
    assert "\n" not in said


def test_one_process_under_torchrun_needs_no_other(as_rank: Callable[..., None]) -> None:
    as_rank(0, 1)
    with joined_ranks() as ranks:
        assert (ranks.is_single, ranks.is_first) == (True, True)
        assert ranks.job is not None


def test_without_torchrun_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "3")  # other programs use this word too
    monkeypatch.setenv("WORLD_SIZE", "5")
    with joined_ranks() as ranks:
        assert ranks is SINGLE


def test_a_command_for_one_process_refuses_several(as_rank: Callable[..., None], lenet: Callable[..., Any]) -> None:
    as_rank(0, 2)
    for command in ("describe", "evaluate"):
        answer = lenet(command, *(["latest"] if command == "evaluate" else []))
        assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
        assert "train, lr-sweep, cross-validate can" in answer.err


def test_each_rank_takes_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)  # put back afterwards
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    second = Ranks(rank=3, num_ranks=4, local_rank=1, num_local=2)
    assert choose_device(Device.CUDA, second) == torch.device("cuda", 1)
    assert choose_device(Device.CUDA) == torch.device("cuda")
    with pytest.raises(ConfigError, match="3 processes on this machine, but 2 GPUs"):
        choose_device(Device.CUDA, Ranks(rank=0, num_ranks=3, local_rank=0, num_local=3))


def test_ranks_make_no_workers_of_their_own(small: TrainVal) -> None:
    context = Context(small, threads=8)
    assert PoolSize.of(context, 8, 1e9).num_workers == 8
    assert PoolSize.of(replace(context, ranks=Ranks(num_ranks=2)), 8, 1e9) == PoolSize(1, 8)
