"""Trials side by side: the same in a worker as alone, and none is left behind."""

import multiprocessing
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lenet_mnist.config import Activation, Config
from lenet_mnist.data.mnist import DataAccess
from lenet_mnist.data.sets import TrainVal
from lenet_mnist.distributed import Ranks
from lenet_mnist.errors import InstallationError
from lenet_mnist.training.context import Context
from lenet_mnist.training.workers import PoolSize, TrialPool
from lenet_mnist.tuning.trial import Trial, TrialResult, train_trial

CONFIG = Config(data={"limit_train": 2000, "val_size": 500}, training={"threads": 1})  # the data of `small`
TWO = PoolSize(num_workers=2, threads=1)


def test_threads_are_shared_out(tiny: TrainVal) -> None:
    for threads, num_items, expected in (
        (2, 16, PoolSize(2, 1)),
        (2, 1, PoolSize(1, 2)),
        (8, 3, PoolSize(3, 2)),
        (1, 5, PoolSize(1, 1)),
        (3, 2, PoolSize(2, 1)),
    ):
        context = Context(tiny, threads=threads)
        assert PoolSize.of(context, num_items, 1e9) == expected
        assert PoolSize.of(context, num_items, 1000) == PoolSize(1, threads)
        for alone in ({"device": torch.device("cuda")}, {"ranks": Ranks(0, 2)}):
            assert PoolSize.of(replace(context, **alone), num_items, 1e9) == PoolSize(1, threads)


def without_times(result: TrialResult) -> TrialResult:
    return replace(result, seconds=0.0, history=tuple(replace(row, seconds=0.0) for row in result.history))


def kill_itself(_config: Config, _context: Context, _item: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def sleep(_config: Config, _context: Context, seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def test_workers_train_as_this_process_does_and_none_is_left(small: TrainVal, access: DataAccess) -> None:
    config = CONFIG.replace({"augmentation.rotation": 30.0, "augmentation.elastic": 1.0})
    trials = [Trial(Activation.RELU, lr, seed=0, epochs=0.25) for lr in (0.02, 0.05, 1e6)]
    others = set(multiprocessing.active_children())
    with TrialPool(config, Context(small), access.directory, TWO) as pool:
        there = {result.trial: without_times(result) for result in pool.run(train_trial, trials)}
        worker = next(pool.run(sleep, [0.0, 600.0, 600.0]))
        assert {child.pid for child in set(multiprocessing.active_children()) - others} >= {worker}
    assert not set(multiprocessing.active_children()) - others
    assert there == {trial: without_times(train_trial(config, Context(small), trial)) for trial in trials}
    plain = train_trial(CONFIG, Context(small), trials[0])
    assert plain.steps[0].gradient_norm != there[trials[0]].steps[0].gradient_norm


def test_a_worker_that_dies_or_cannot_be_started_is_an_error_of_one_line(
    small: TrainVal, access: DataAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        TrialPool(CONFIG, Context(small), access.directory, TWO) as pool,
        pytest.raises(InstallationError, match="--threads 1"),
    ):
        list(pool.run(kill_itself, [1, 2]))

    def refuse(*_: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("concurrent.futures.ProcessPoolExecutor.submit", refuse)
    with (
        TrialPool(CONFIG, Context(small), Path(), TWO) as pool,
        pytest.raises(InstallationError, match="--threads 1"),
    ):
        list(pool.run(len, ["work"]))
