"""Several processes train one network: real ones, started by torchrun."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from lenet_mnist.config import Device
from lenet_mnist.data.sets import TrainVal
from lenet_mnist.devices import choose_device
from lenet_mnist.distributed import SINGLE, Ranks, joined_ranks
from lenet_mnist.errors import ConfigError, InstallationError, ProcessLostError
from lenet_mnist.runs.listing import list_runs
from lenet_mnist.runs.run import Run
from lenet_mnist.training.context import Context
from lenet_mnist.training.workers import PoolSize

CHILD = Path(__file__).with_name("ranks_child.py")
SMALL = ["--limit-train", "1500", "--epochs", "2", "--engine", "torch"]


@dataclass(frozen=True)
class Torchrun:
    """Several processes under way, and what they have been told."""

    process: subprocess.Popen[str]

    @property
    def ranks(self) -> dict[int, int]:
        """The process ids by rank, of those alive."""
        found = {}
        for path in Path("/proc").glob("[0-9]*"):
            try:
                status, environ = (path / "stat").read_text(), (path / "environ").read_bytes()
            except OSError:
                continue
            parent = int(status.rpartition(")")[2].split()[1])
            named = dict(entry.split(b"=", 1) for entry in environ.split(b"\0") if b"=" in entry)
            if parent == self.process.pid and b"RANK" in named:
                found[int(named[b"RANK"])] = int(path.name)
        return found

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=300)
        return self.process.returncode, out, err


@pytest.fixture
def torchrun(mnist_dir: Path, tmp_path: Path) -> Callable[..., Torchrun]:
    """Start processes in an empty directory: torchrun(2, "-m", "lenet_mnist", "train")."""

    def start(num_ranks: int, *arguments: object, restarts: int = 0) -> Torchrun:
        command = [sys.executable, "-W", "error::UserWarning", "-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc-per-node", str(num_ranks), "--max-restarts", str(restarts), *map(str, arguments)]
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("LENET_", "PYTEST_"))}
        environment = kept | {"LENET_DATA_DIR": str(mnist_dir), "OMP_NUM_THREADS": "1"}
        pipe = subprocess.PIPE
        return Torchrun(subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=tmp_path, env=environment))

    return start


def lenet_in(torchrun: Callable[..., Torchrun], num_ranks: int, *arguments: object, restarts: int = 0) -> Torchrun:
    return torchrun(num_ranks, "-m", "lenet_mnist", *arguments, restarts=restarts)


# One function, whatever the number of ranks


@pytest.fixture(scope="module")
def child(mnist_dir: Path) -> Callable[[int], dict[str, Any]]:
    """What the ranks of ranks_child.py found, each number of them started once."""

    @cache
    def found(num_ranks: int) -> dict[str, Any]:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(num_ranks)]
        done = subprocess.run(
            [*command, str(CHILD), str(mnist_dir)], capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        assert answer["num_ranks"] == num_ranks
        return answer

    return found


@pytest.mark.parametrize("num_ranks", [2, 3])
def test_several_ranks_do_what_one_process_does(child: Callable[[int], dict[str, Any]], num_ranks: int) -> None:
    found = child(num_ranks)
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


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def num_saved(runs_dir: Path, step: int) -> int:
    """Return how many runs have come to that step."""
    saved = runs_dir.glob("*/checkpoints/step-*.safetensors")
    return len({path.parent for path in saved if int(path.name[5:13]) >= step})


@pytest.mark.skipif(sys.platform != "linux", reason="looks for the processes in /proc")
def test_a_rank_that_dies_ends_the_run_and_a_restart_comes_to_the_same_weights(
    torchrun: Callable[..., Torchrun], tmp_path: Path
) -> None:
    whole = ["train", *SMALL, "--seeds", "3-4", "--set", "training.checkpoint_every_steps=10"]
    code, out, err = lenet_in(torchrun, 2, *whole, "--runs-dir", "whole").end()
    assert code == 0, err
    assert out.count("validation accuracy: mean") == 1  # rank 0 alone speaks

    for killed in (0, 1):
        runs_dir = tmp_path / f"killed-{killed}"
        started = lenet_in(torchrun, 2, *whole, "--runs-dir", runs_dir, restarts=1)
        wait_for(lambda runs_dir=runs_dir: num_saved(runs_dir, 20) == 2)
        os.kill(started.ranks[killed], signal.SIGKILL)
        code, out, err = started.end()
        assert code == 0, err
        assert "Traceback" not in err
        assert "resuming" in err
        for one, other in zip(list_runs(tmp_path / "whole"), list_runs(runs_dir), strict=True):
            expected, found = one.manifest, other.manifest
            assert found.status == "finished"
            assert found.num_ranks == 2
            assert found.weights_sha256 == expected.weights_sha256
            assert without_seconds(other) == without_seconds(one)
            assert other.steps_path.read_bytes() == one.steps_path.read_bytes()


def test_a_termination_is_heard_by_all_and_the_run_goes_on_with_as_many(
    torchrun: Callable[..., Torchrun], tmp_path: Path, lenet: Callable[..., Any]
) -> None:
    command = ["train", *SMALL, "--set", "training.checkpoint_every_steps=10", "--runs-dir", "runs"]
    started = lenet_in(torchrun, 2, *command)
    wait_for(lambda: num_saved(tmp_path / "runs", 20) == 1)
    started.process.send_signal(signal.SIGTERM)
    started.end()
    run = one_run(tmp_path / "runs")
    assert run.manifest.status == "interrupted"

    alone = lenet("train", "--resume", run.path)
    assert alone.code == 2
    assert "2 processes trained it, and now 1" in alone.err
    code, _, err = lenet_in(torchrun, 2, "train", "--resume", run.path).end()
    assert code == 0, err
    assert one_run(tmp_path / "runs").manifest.status == "finished"
    assert lenet("verify", run.path).code == 0
    retrained = lenet("verify", run.path, "--retrain")
    assert (retrained.code, retrained.err.count("\n")) == (2, 1)
    assert "2 processes trained it" in retrained.err


def test_a_sweep_and_a_cross_validation_say_what_one_process_says(
    torchrun: Callable[..., Torchrun], tmp_path: Path, lenet: Callable[..., Any]
) -> None:
    small = ["--limit-train", "300", "--batch-size", "10", "--epochs", "1", "--threads", "1", "--json"]
    sweep = ["lr-sweep", "--lrs", "0.01,0.03", *small]
    folds = ["cross-validate", "--folds", "3", *small]  # in two rounds: of the second, one rank has none
    for command, table in ((sweep, "sweep.csv"), (folds, "predictions.csv")):
        code, out, err = lenet_in(torchrun, 2, *command, "--runs-dir", f"several-{table}").end()
        assert code == 0, err
        json.loads(out)
        assert lenet(*command, "--runs-dir", f"one-{table}").code == 0
        several, one = ((one_run(tmp_path / f"{name}-{table}").path / table).read_text() for name in ("several", "one"))
        assert several == one


def test_ranks_of_different_configurations_train_nothing(torchrun: Callable[..., Torchrun], tmp_path: Path) -> None:
    script = tmp_path / "lenet.sh"
    script.write_text(f'exec "{sys.executable}" -m lenet_mnist train --epochs $((RANK + 1)) --runs-dir runs\n')
    code, out, err = torchrun(2, "--no-python", "bash", script).end()
    assert (code, out) == (1, "")
    assert "error: the processes disagree: training.max_epochs is 1 on rank 0, and 2 on rank 1" in err
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
