"""Little trainings: complete, comparable, and the same in a worker as alone."""

import math
import multiprocessing
import os
import signal
import time
from dataclasses import replace

import pytest
import torch

from lenet_mnist.config import Activation, Config, Schedule
from lenet_mnist.data.mnist import DataAccess
from lenet_mnist.data.sets import TrainVal
from lenet_mnist.distributed import Ranks
from lenet_mnist.errors import InstallationError
from lenet_mnist.training.context import Context
from lenet_mnist.training.workers import PoolSize, TrialPool
from lenet_mnist.tuning.trial import Trial, TrialResult, config_of, first_images, train_trial, with_rate

CPU = torch.device("cpu")
CONFIG = Config.model_validate({"data": {"limit_train": 2000, "val_size": 500}, "training": {"threads": 1}})


@pytest.fixture
def bench(small: TrainVal) -> tuple[Config, Context]:
    return (CONFIG, Context(small))


def without_times(result: TrialResult) -> TrialResult:
    return replace(result, seconds=0.0, history=tuple(replace(row, seconds=0.0) for row in result.history))


def test_a_trial_anneals_to_zero_over_its_own_epochs(bench: tuple[Config, Context]) -> None:
    result = train_trial(*bench, Trial(Activation.RELU, 0.05, seed=3, epochs=2))
    rates = [row.lr for row in result.steps]
    assert len(rates) == result.steps[-1].step == 2 * 32
    assert max(rates) == pytest.approx(0.05, rel=0.2)
    assert rates[-1] < 0.05 / 40
    assert result.val_loss == result.history[-1].val_loss
    assert result.val_loss < 1.5


def test_half_an_epoch_is_a_whole_schedule_over_half_of_the_images(bench: tuple[Config, Context]) -> None:
    result = train_trial(*bench, Trial(Activation.TANH, 0.05, seed=3, epochs=0.5))
    assert result.steps[-1].step == 16
    assert result.steps[-1].lr < 0.05 / 10


def test_a_trial_that_diverges_is_a_result(bench: tuple[Config, Context]) -> None:
    result = train_trial(*bench, Trial(Activation.RELU, 1e6, seed=0, epochs=1))
    assert (result.val_loss, result.val_accuracy) == (None, None)
    assert all(math.isfinite(row.train_loss) for row in result.steps)


def test_rates_are_compared_from_the_same_weights_on_the_same_batches(bench: tuple[Config, Context]) -> None:
    one, other = (train_trial(*bench, Trial(Activation.TANH, lr, seed=1, epochs=1)) for lr in (1e-9, 2e-9))
    assert [row.train_loss for row in one.steps] == pytest.approx([row.train_loss for row in other.steps], rel=1e-4)
    another_seed = train_trial(*bench, Trial(Activation.TANH, 1e-9, seed=2, epochs=1))
    assert one.steps[0].train_loss != another_seed.steps[0].train_loss


@pytest.mark.parametrize("schedule", Schedule)
def test_only_schedules_that_end_near_zero_are_kept(schedule: Schedule) -> None:
    config = Config.model_validate({"training": {"schedule": schedule, "patience": 2, "max_epochs": 30}})
    of_trial = config_of(config, Trial(Activation.SIGMOID, 0.5, 9, 0.25))
    best = with_rate(config, Activation.SIGMOID, 0.5)
    expected = Schedule.LINEAR if schedule in (Schedule.CONSTANT, Schedule.PLATEAU) else schedule
    assert of_trial.training.schedule == best.training.schedule == expected
    assert (of_trial.seed, of_trial.training.max_epochs, of_trial.training.patience) == (9, 1, None)
    assert (best.seed, best.training.max_epochs, best.training.patience) == (0, 30, 2)
    assert best.model.activation == of_trial.model.activation == Activation.SIGMOID


def test_a_smaller_part_lies_within_a_larger_one_of_the_same_seed(small: TrainVal) -> None:
    def indices(num_images: int, seed: int) -> set[int]:
        return set(first_images(small, num_images, seed).train.indices.tolist())

    assert len(indices(100, 0)) == 100
    assert indices(100, 0) < indices(500, 0) < indices(2000, 0) == set(small.train.indices.tolist())
    assert indices(100, 0) != indices(100, 1)


@pytest.mark.parametrize(
    ("threads", "num_items", "expected"),
    [
        (2, 16, PoolSize(2, 1)),
        (2, 1, PoolSize(1, 2)),
        (8, 3, PoolSize(3, 2)),
        (1, 5, PoolSize(1, 1)),
        (3, 2, PoolSize(2, 1)),
    ],
)
def test_threads_are_shared_out(small: TrainVal, threads: int, num_items: int, expected: PoolSize) -> None:
    context = Context(small, threads=threads)
    assert PoolSize.of(context, num_items, 1e9) == expected
    assert PoolSize.of(replace(context, device=torch.device("cuda")), num_items, 1e9) == PoolSize(1, threads)
    assert PoolSize.of(context, num_items, 1000) == PoolSize(1, threads)
    assert PoolSize.of(replace(context, ranks=Ranks(0, 2)), num_items, 1e9) == PoolSize(1, threads)


def test_trials_and_their_workers_distort_the_images_as_the_configuration_says(
    small: TrainVal, access: DataAccess
) -> None:
    config = Config.model_validate({**CONFIG.model_dump(), "augmentation": {"rotation": 30.0, "elastic": 1.0}})
    trial = Trial(Activation.RELU, 0.05, seed=0, epochs=0.5)
    bench = (config, Context(small))
    with TrialPool(*bench, access.directory, PoolSize(2, 1)) as pool:
        (there,) = pool.run(train_trial, [trial])
    here, plain = train_trial(*bench, trial), train_trial(CONFIG, Context(small), trial)
    assert without_times(there) == without_times(here)
    assert here.val_loss != plain.val_loss
    assert here.steps[0].gradient_norm != plain.steps[0].gradient_norm


def kill_itself(_config: Config, _context: Context, _item: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def sleep(_config: Config, _context: Context, seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def test_workers_train_as_this_process_does_and_none_is_left(bench: tuple[Config, Context], access: DataAccess) -> None:
    trials = [Trial(Activation.RELU, lr, seed=0, epochs=0.5) for lr in (0.02, 0.05, 1e6)]
    others = set(multiprocessing.active_children())
    with TrialPool(*bench, access.directory, PoolSize(2, 1)) as pool:
        there = {result.trial: result for result in pool.run(train_trial, trials)}
        worker = next(pool.run(sleep, [0.0, 600.0, 600.0]))
        assert {child.pid for child in set(multiprocessing.active_children()) - others} >= {worker}
    assert not set(multiprocessing.active_children()) - others
    here = {trial: train_trial(*bench, trial) for trial in trials}
    assert {t: without_times(r) for t, r in there.items()} == {t: without_times(r) for t, r in here.items()}


def test_a_worker_that_dies_is_said_and_not_waited_for(bench: tuple[Config, Context], access: DataAccess) -> None:
    with (
        TrialPool(*bench, access.directory, PoolSize(2, 1)) as pool,
        pytest.raises(InstallationError, match="a worker process died"),
    ):
        list(pool.run(kill_itself, [1, 2]))
