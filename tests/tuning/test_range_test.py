"""Brackets: of made-up curves whose answer is known, and of real ones."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from lenet_mnist.config import Activation, Config
from lenet_mnist.data.sets import TrainVal
from lenet_mnist.model.engines import ResolvedEngine
from lenet_mnist.training.context import Context
from lenet_mnist.tuning.trial import NUM_STEPS, Bracket, RangePoint, RangeTest

LN10 = math.log(10)


def curve(loss: Callable[[float], float], seed: int = 0) -> RangeTest:
    points = []
    for lr in np.geomspace(1e-5, 10, NUM_STEPS):
        points.append(RangePoint(Activation.RELU, seed, float(lr), loss(float(lr))))
        if points[-1].train_loss > 3 * LN10:
            break
    return RangeTest(Activation.RELU, seed, 0.0, tuple(points))


def falls_and_breaks(lr: float) -> float:
    """Guessing up to 0.001, down to 0.3 at 0.1, above guessing from 1 on."""
    if lr < 0.1:
        return float(np.interp(math.log10(lr), [-5, -3, -1], [LN10, LN10, 0.3]))
    return float(np.interp(math.log10(lr), [-1, 0, 1], [0.3, LN10, 30.0]))


def test_the_bracket_begins_where_the_loss_falls_and_ends_where_it_rises() -> None:
    bracket = Bracket.of([curve(falls_and_breaks, seed) for seed in range(3)], LN10)
    assert bracket.has_learned
    assert 1e-3 < bracket.low < 3e-3
    assert 0.1 < bracket.high < 0.4


def test_a_curve_that_never_falls_or_only_down_to_chance_level_is_bracketed_from_above() -> None:
    """The second as of a sigmoid network, whose output bias forgets its random start and then rests."""
    for start in (1.0, 1.12):
        losses = curve(lambda lr, start=start: LN10 * max(start if lr < 1e-3 else 1.0, lr))
        bracket = Bracket.of([losses], LN10)
        assert not bracket.has_learned
        assert 1 < bracket.high < 2
        assert bracket.low < bracket.high / 100


def test_a_range_test_sees_distorted_images_where_a_training_would(tiny: TrainVal) -> None:
    def first_loss(**augmentation: float) -> float:
        config = Config(augmentation=augmentation)
        return RangeTest.run(config, Context(tiny), Activation.TANH, 0, num_steps=1).points[0].train_loss

    assert first_loss() == first_loss() != first_loss(rotation=45.0)


@pytest.mark.parametrize("activation", Activation)
def test_a_real_range_test_reaches_from_chance_level_to_breaking(
    small: TrainVal, engine: ResolvedEngine, activation: Activation
) -> None:
    for optimizer in ("sgd", "adam", "muon"):
        config = Config(training={"optimizer": optimizer, "batch_size": 32})
        test = RangeTest.run(config, Context(small, engine=engine), activation, 0)
        points = test.points
        assert 50 < len(points) <= NUM_STEPS
        assert points[0].train_loss < 2.7
        assert all(math.isfinite(point.train_loss) for point in points)
        assert [point.lr for point in points] == sorted(point.lr for point in points)
        bracket = Bracket.of([test], LN10)
        assert points[0].lr <= bracket.low < bracket.high <= points[-1].lr
        if activation is Activation.RELU or (activation, optimizer) == (Activation.SIGMOID, "sgd"):
            assert bracket.has_learned == (activation is Activation.RELU)
