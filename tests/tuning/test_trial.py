"""Little trainings: complete, and comparable with each other."""

import math

import pytest

from lenet_mnist.config import Activation, Config, Schedule
from lenet_mnist.data.sets import TrainVal
from lenet_mnist.training.context import Context
from lenet_mnist.tuning.trial import Trial, config_of, first_images, train_trial, with_rate

CONFIG = Config()


def test_a_trial_anneals_to_zero_over_its_own_epochs(small: TrainVal) -> None:
    result = train_trial(CONFIG, Context(small), Trial(Activation.RELU, 0.05, seed=3, epochs=2))
    rates = [row.lr for row in result.steps]
    assert len(rates) == result.steps[-1].step == 2 * 32
    assert max(rates) == pytest.approx(0.05, rel=0.2)
    assert rates[-1] < 0.05 / 40
    assert result.val_loss == result.history[-1].val_loss
    assert result.val_loss < 1.5
    half = train_trial(CONFIG, Context(small), Trial(Activation.TANH, 0.05, seed=3, epochs=0.5))
    assert half.steps[-1].step == 16  # a whole schedule over half of the images
    assert half.steps[-1].lr < 0.05 / 10


def test_a_trial_that_diverges_is_a_result(tiny: TrainVal) -> None:
    result = train_trial(CONFIG, Context(tiny), Trial(Activation.RELU, 1e6, seed=0, epochs=1))
    assert (result.val_loss, result.val_accuracy) == (None, None)
    assert all(math.isfinite(row.train_loss) for row in result.steps)


def test_rates_are_compared_from_the_same_weights_on_the_same_batches(tiny: TrainVal) -> None:
    one, other, another_seed = (
        train_trial(CONFIG, Context(tiny), Trial(Activation.TANH, lr, seed, epochs=1)).steps
        for lr, seed in ((1e-9, 1), (2e-9, 1), (1e-9, 2))
    )
    assert [row.train_loss for row in one] == pytest.approx([row.train_loss for row in other], rel=1e-4)
    assert one[0].train_loss != another_seed[0].train_loss


def test_only_schedules_that_end_near_zero_are_kept() -> None:
    for schedule in Schedule:
        config = Config(training={"schedule": schedule, "patience": 2, "max_epochs": 30})
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
