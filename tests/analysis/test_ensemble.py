"""The mean prediction of several networks, by hand."""

from dataclasses import replace

import numpy as np
import pytest

from lenet_mnist.analysis.metrics import Evaluation, mean_prediction
from lenet_mnist.errors import DataError


def evaluation_of(probabilities: list[list[float]], labels: list[int]) -> Evaluation:
    rows = np.array(probabilities)
    of_label = rows[np.arange(len(labels)), labels]
    return Evaluation(
        class_names=("a", "b"),
        indices=np.arange(len(labels)) + 7,
        labels=np.array(labels),
        predictions=rows.argmax(axis=1),
        probabilities=rows,
        loss_sum=float(-np.log(of_label).sum()),
    )


def test_the_mean_is_that_of_the_probabilities() -> None:
    one = evaluation_of([[0.9, 0.1], [0.4, 0.6], [0.55, 0.45]], [0, 0, 1])
    other = evaluation_of([[0.7, 0.3], [0.8, 0.2], [0.15, 0.85]], [0, 0, 1])
    together = mean_prediction([one, other])
    np.testing.assert_allclose(together.probabilities, [[0.8, 0.2], [0.6, 0.4], [0.35, 0.65]])
    assert together.predictions.tolist() == [0, 0, 1]
    assert (one.num_correct, other.num_correct, together.num_correct) == (1, 3, 3)
    assert together.loss_sum == pytest.approx(-np.log([0.8, 0.6, 0.65]).sum())
    assert together.indices.tolist() == [7, 8, 9]


def test_one_alone_is_itself() -> None:
    one = evaluation_of([[0.9, 0.1], [0.4, 0.6]], [0, 0])
    assert mean_prediction([one]).probabilities.tolist() == one.probabilities.tolist()


def test_a_network_that_is_sure_of_nothing_right_has_a_finite_loss() -> None:
    wrong = replace(evaluation_of([[0.5, 0.5]], [0]), probabilities=np.array([[0.0, 1.0]]))
    assert np.isfinite(mean_prediction([wrong, wrong]).loss_sum)


def test_those_that_answered_for_other_images_are_no_ensemble() -> None:
    one = evaluation_of([[0.9, 0.1], [0.4, 0.6]], [0, 0])
    for other in (replace(one, indices=one.indices + 1), replace(one, labels=1 - one.labels)):
        with pytest.raises(DataError, match="different images"):
            mean_prediction([one, other])
