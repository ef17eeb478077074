"""What is counted from a network's answers, against scikit-learn and against cases done by hand."""

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, log_loss, precision_recall_fscore_support, top_k_accuracy_score

from lenet_mnist.analysis.intervals import mcnemar_p_value, wilson_interval
from lenet_mnist.analysis.metrics import (
    PER_CELL,
    Evaluation,
    evaluate,
    mean_prediction,
    pair_answers,
)
from lenet_mnist.config import Activation, Config, ModelConfig, TrainingConfig
from lenet_mnist.data.batches import evaluation_batches
from lenet_mnist.data.sets import Normalization, TestSet, TrainVal
from lenet_mnist.errors import DataError
from lenet_mnist.runs.results import example_positions
from lenet_mnist.tally import count
from lenet_mnist.training.checkpoint import TrainedNetwork
from lenet_mnist.training.context import Context
from lenet_mnist.training.loop import train
from lenet_mnist.training.state import TrainState

CPU = torch.device("cpu")
SEEDS = st.integers(0, 2**32)


@pytest.fixture(scope="module")
def trained(small: TrainVal) -> TrainedNetwork:
    """A network that knows some digits and errs on others."""
    config = Config(model=ModelConfig(activation=Activation.TANH), training=TrainingConfig(max_epochs=2))
    context = Context(small)
    state = TrainState.start(config, context)
    train(config, context, state)
    return TrainedNetwork(state.network, small.normalization, small.class_names, 1)


@pytest.fixture(scope="module")
def seen(trained: TrainedNetwork, small: TrainVal) -> Evaluation:
    """Its answers to the 2,000 training images."""
    return evaluate(trained, small.train, CPU)


def answers(labels: Sequence[int], probabilities: npt.ArrayLike) -> Evaluation:
    """An evaluation with these answers; the prediction is the largest probability."""
    shares = np.array(probabilities, dtype=np.float64)
    truth = np.array(labels, dtype=np.int64)
    names = tuple(f"class {k}" for k in range(shares.shape[1]))
    loss_sum = float(-np.log(shares[np.arange(len(truth)), truth]).sum())
    return Evaluation(names, np.arange(len(truth)), truth, shares.argmax(axis=1), shares, loss_sum)


def predicted(labels: Sequence[int], predictions: Sequence[int], num_classes: int, sure: float = 0.6) -> Evaluation:
    """An evaluation with these predictions, each of the same probability."""
    shares = np.full((len(labels), num_classes), (1 - sure) / (num_classes - 1))
    shares[np.arange(len(labels)), predictions] = sure
    return answers(labels, shares)


def drawn_answers(seed: int) -> Evaluation:
    """Random labels, some classes absent, and random probabilities that lean towards the label."""
    draw = np.random.default_rng(seed)
    num_classes, num_images = draw.integers(3, 12), draw.integers(1, 200)
    labels = draw.integers(0, draw.integers(1, num_classes + 1), num_images)
    logits = draw.normal(0, draw.uniform(0.1, 4), (num_images, num_classes))
    logits[np.arange(num_images), labels] += draw.uniform(-2, 4)
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return answers(labels.tolist(), shares / shares.sum(axis=1, keepdims=True))


ASYMMETRIC = predicted(labels=[0, 0, 0, 1, 2], predictions=[0, 1, 1, 1, 0], num_classes=4)


def test_an_asymmetric_case_done_by_hand() -> None:
    rows = ASYMMETRIC.per_class
    assert ASYMMETRIC.confusion_matrix.tolist() == [[1, 2, 0, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert [(row.num_images, row.num_predicted, row.num_correct) for row in rows] == [
        *((3, 2, 1), (1, 3, 1), (1, 0, 0), (0, 0, 0))
    ]
    assert [row.precision for row in rows] == [1 / 2, 1 / 3, 0, 0]
    assert [row.recall for row in rows] == [1 / 3, 1, 0, 0]
    assert [row.f1 for row in rows] == pytest.approx([2 / 5, 1 / 2, 0, 0])
    metrics = ASYMMETRIC.metrics()
    low, high = wilson_interval(2, 5)
    assert (metrics["num_images"], metrics["num_correct"], metrics["accuracy"]) == (5, 2, 0.4)
    assert metrics["accuracy_interval_95"] == {"method": "wilson", "low": low, "high": high}
    assert metrics["macro"] == pytest.approx({"precision": 5 / 24, "recall": 1 / 3, "f1": 9 / 40})
    assert list(metrics["per_class"][0].items())[:4] == [
        *(("class", "class 0"), ("num_images", 3), ("num_predicted", 2), ("num_correct", 1))
    ]
    (only_bin,) = metrics["calibration"]
    expected = {"low": 8 / 15, "high": 9 / 15, "num_images": 5, "mean_confidence": 0.6, "accuracy": 0.4}
    assert only_bin == pytest.approx(expected)


@given(SEEDS)
def test_tables_and_figures_are_those_of_scikit_learn(seed: int) -> None:
    found = drawn_answers(seed)
    labels, predictions, classes = found.labels, found.predictions, list(range(len(found.class_names)))
    assert (found.confusion_matrix == confusion_matrix(labels, predictions, labels=classes)).all()
    expected = precision_recall_fscore_support(labels, predictions, labels=classes, zero_division=0)
    rows = [(row.precision, row.recall, row.f1, row.num_images) for row in found.per_class]
    np.testing.assert_allclose(np.array(rows).T, expected, rtol=0, atol=1e-12)
    metrics = found.metrics()
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics
    assert list(metrics["macro"].values()) == pytest.approx([np.mean(column) for column in expected[:3]], abs=1e-12)
    top2 = top_k_accuracy_score(labels, found.probabilities, k=2, labels=classes)
    assert metrics["top2_accuracy"] == pytest.approx(top2, abs=1e-12)
    assert metrics["loss"] == pytest.approx(log_loss(labels, found.probabilities, labels=classes))


@given(SEEDS)
def test_the_calibration_is_that_of_its_definition(seed: int) -> None:
    """Guo et al., equation 3, image by image and bin by bin."""
    found, error = drawn_answers(seed), 0.0
    for k in range(15):
        inside = [
            (max(shares), int(np.argmax(shares)) == label)
            for shares, label in zip(found.probabilities.tolist(), found.labels.tolist(), strict=True)
            if k / 15 < max(shares) <= (k + 1) / 15
        ]
        if inside:
            error += abs(sum(right - confidence for confidence, right in inside)) / len(found)
    assert found.expected_calibration_error == pytest.approx(error, abs=1e-12)
    assert sum(row.num_images for row in found.calibration) == len(found)


def test_certainty_is_in_the_last_bin_and_an_edge_in_the_bin_below() -> None:
    found = answers([0, 0], [[1.0, 1e-300, 0, 0, 0, 0], [0.2, 0.16, 0.16, 0.16, 0.16, 0.16]])
    assert [row.high for row in found.calibration] == [0.2, 1.0]


def test_mistakes_come_with_the_most_confident_first() -> None:
    found = answers([0, 1, 0, 1, 0], [[0.3, 0.7], [0.6, 0.4], [0.8, 0.2], [0.9, 0.1], [0.4, 0.6]])
    assert found.mistakes.tolist() == [3, 0, 1, 4]
    assert predicted([0, 1, 2], [0, 1, 2], 3).mistakes.tolist() == []


# Which images are kept for the report


def test_of_mistakes_the_surest_are_kept_and_of_hits_the_surest_and_the_least_sure() -> None:
    shares = [0.51 + k / 100 for k in range(30)]
    found = answers([0] * 30 + [1] * 30, [[1 - p, p] for p in shares] * 2)  # 30 mistakes, 30 hits
    chosen = example_positions(found, limit=100)
    assert chosen[:PER_CELL].tolist() == list(range(29, 17, -1))
    assert chosen[PER_CELL:].tolist() == [59, 58, 57, 56, 55, 54, 35, 34, 33, 32, 31, 30]


@given(SEEDS, st.integers(1, 200))
def test_no_image_is_kept_twice_no_cell_left_out_and_never_more_than_the_limit(seed: int, limit: int) -> None:
    found = drawn_answers(seed)
    chosen = example_positions(found, limit).tolist()
    assert len(chosen) == len(set(chosen)) == min(limit, np.minimum(found.confusion_matrix, PER_CELL).sum())


# Two networks


def test_what_the_first_fixes_is_what_only_it_has_right() -> None:
    labels = [0, 0, 1, 1, 2, 2]
    first = predicted(labels, [0, 0, 0, 1, 0, 2], 3)
    second = predicted(labels, [0, 1, 1, 0, 1, 2], 3)
    second.probabilities[3, 0] = 0.9  # its surest mistake
    paired = pair_answers(first, second)
    assert (paired.fixed.tolist(), paired.broken.tolist()) == ([3, 1], [2])
    assert (paired.num_both_right, paired.num_both_wrong) == (2, 1)
    assert paired.plain()["mcnemar_p_value"] == mcnemar_p_value(2, 1)
    for other in (predicted([0, 0, 1, 1, 2, 1], [0] * 6, 3), predicted(labels[:5], [0] * 5, 3)):
        with pytest.raises(DataError, match="different images"):
            pair_answers(first, other)


# Several networks together


ONE = answers([0, 0, 1], [[0.9, 0.1], [0.4, 0.6], [0.55, 0.45]])


def test_an_ensemble_answers_by_the_mean_of_the_probabilities() -> None:
    other = answers([0, 0, 1], [[0.7, 0.3], [0.8, 0.2], [0.15, 0.85]])
    together = mean_prediction([ONE, other])
    np.testing.assert_allclose(together.probabilities, [[0.8, 0.2], [0.6, 0.4], [0.35, 0.65]])
    assert together.predictions.tolist() == [0, 0, 1]
    assert (ONE.num_correct, other.num_correct, together.num_correct) == (1, 3, 3)
    assert together.loss_sum == pytest.approx(-np.log([0.8, 0.6, 0.65]).sum())
    assert mean_prediction([ONE]).probabilities.tolist() == ONE.probabilities.tolist()
    wrong = replace(ONE, probabilities=np.array([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]]))
    assert np.isfinite(mean_prediction([wrong, wrong]).loss_sum)  # sure of nothing right


def test_those_that_answered_for_other_images_are_no_ensemble() -> None:
    for other in (replace(ONE, indices=ONE.indices + 1), replace(ONE, labels=1 - ONE.labels)):
        with pytest.raises(DataError, match="different images"):
            mean_prediction([ONE, other])


# The network's answers


@pytest.mark.parametrize("batch_size", [1, 64, 999, 10_000])
def test_any_batch_size_gives_the_same_answers(
    trained: TrainedNetwork, small: TrainVal, seen: Evaluation, batch_size: int
) -> None:
    found = evaluate(trained, small.train, CPU, batch_size)
    for name in ("predictions", "labels", "indices"):
        assert (getattr(found, name) == getattr(seen, name)).all()
    np.testing.assert_allclose(found.probabilities, seen.probabilities, rtol=0, atol=1e-5)
    assert found.loss_sum == pytest.approx(seen.loss_sum, rel=1e-6)


def test_answers_agree_with_the_counts_of_training(trained: TrainedNetwork, small: TrainVal, seen: Evaluation) -> None:
    found = evaluate(trained, small.val, CPU)
    tally = count(trained.network, evaluation_batches(small.val, small.normalization, CPU))
    assert (len(found), found.num_correct, found.accuracy) == (tally.num_images, tally.num_correct, tally.accuracy)
    assert found.mean_loss == pytest.approx(tally.mean_loss, rel=1e-6)
    np.testing.assert_allclose(seen.probabilities.sum(axis=1), 1, rtol=0, atol=1e-12)
    wrongly_scaled = TrainedNetwork(trained.network, Normalization(0.5, 1.0), trained.class_names, 1)
    assert evaluate(wrongly_scaled, small.val, CPU).loss_sum != found.loss_sum


def test_any_part_of_the_images_can_be_evaluated(trained: TrainedNetwork, small: TrainVal, seen: Evaluation) -> None:
    for chosen in (torch.arange(1999, -1, -1), torch.tensor([5]), (small.train.labels != 3).nonzero()[:, 0]):
        part = TestSet(small.train.images[chosen], small.train.labels[chosen], small.train.indices[chosen])
        found = evaluate(trained, part, CPU)
        assert (found.indices == seen.indices[chosen]).all()
        assert (found.predictions == seen.predictions[chosen]).all()
        json.dumps(found.metrics(), allow_nan=False)


@pytest.mark.parametrize("label", [10, 255, -1])
def test_a_label_that_names_no_class_is_a_data_error(trained: TrainedNetwork, small: TrainVal, label: int) -> None:
    labels = small.val.labels.clone()
    labels[8] = label
    with pytest.raises(DataError, match=f"image {int(small.val.indices[8])} has label {label}"):
        evaluate(trained, TestSet(small.val.images, labels, small.val.indices), CPU)
