import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, log_loss, precision_recall_fscore_support, top_k_accuracy_score

from lenet_mnist.analysis.evaluate import Evaluation, evaluate
from lenet_mnist.analysis.intervals import wilson_interval
from lenet_mnist.config import Activation, Config, ModelConfig, TrainingConfig
from lenet_mnist.data.batches import evaluation_batches
from lenet_mnist.data.sets import ImageSet, Normalization, TestSet, TrainVal
from lenet_mnist.errors import DataError
from lenet_mnist.metrics import count
from lenet_mnist.training.checkpoint import TrainedNetwork
from lenet_mnist.training.loop import start_training, train

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def trained(small: TrainVal) -> TrainedNetwork:
    """A network that knows some digits and errs on others."""
    config = Config(model=ModelConfig(activation=Activation.TANH), training=TrainingConfig(max_epochs=2))
    state = start_training(config, small, CPU)
    train(config, small, state, lambda _row: False, lambda _row: None)
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


def predicted(labels: Sequence[int], predictions: Sequence[int], num_classes: int) -> Evaluation:
    """An evaluation with these predictions, each of probability 0.6."""
    shares = np.full((len(labels), num_classes), 0.4 / (num_classes - 1))
    shares[np.arange(len(labels)), predictions] = 0.6
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


def part_of(image_set: ImageSet, chosen: Any) -> TestSet:
    return TestSet(image_set.images[chosen], image_set.labels[chosen], image_set.indices[chosen])


# What is counted from the answers

ASYMMETRIC = predicted(labels=[0, 0, 0, 1, 2], predictions=[0, 1, 1, 1, 0], num_classes=4)


def test_rows_are_true_and_columns_predicted() -> None:
    assert ASYMMETRIC.confusion_matrix.tolist() == [[1, 2, 0, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]


def test_precision_recall_and_f1_of_the_asymmetric_case() -> None:
    scores = [(row.name, row.num_images, row.num_predicted, row.num_correct) for row in ASYMMETRIC.per_class]
    assert scores == [("class 0", 3, 2, 1), ("class 1", 1, 3, 1), ("class 2", 1, 0, 0), ("class 3", 0, 0, 0)]
    assert [row.precision for row in ASYMMETRIC.per_class] == [1 / 2, 1 / 3, 0, 0]
    assert [row.recall for row in ASYMMETRIC.per_class] == [1 / 3, 1, 0, 0]
    assert [row.f1 for row in ASYMMETRIC.per_class] == pytest.approx([2 / 5, 1 / 2, 0, 0])


def test_accuracy_and_interval_of_the_asymmetric_case() -> None:
    assert (len(ASYMMETRIC), ASYMMETRIC.num_correct, ASYMMETRIC.accuracy) == (5, 2, 0.4)
    assert ASYMMETRIC.accuracy_interval == wilson_interval(2, 5)


@given(st.integers(0, 2**32))
def test_the_tables_are_those_of_scikit_learn(seed: int) -> None:
    found = drawn_answers(seed)
    classes = list(range(len(found.class_names)))
    assert (found.confusion_matrix == confusion_matrix(found.labels, found.predictions, labels=classes)).all()
    expected = precision_recall_fscore_support(found.labels, found.predictions, labels=classes, zero_division=0)
    rows = [(row.precision, row.recall, row.f1, row.num_images) for row in found.per_class]
    np.testing.assert_allclose(np.array(rows).T, expected, rtol=0, atol=1e-12)


@given(st.integers(0, 2**32))
def test_the_single_numbers_are_those_of_scikit_learn(seed: int) -> None:
    found = drawn_answers(seed)
    classes = list(range(len(found.class_names)))
    macro = precision_recall_fscore_support(
        found.labels, found.predictions, labels=classes, zero_division=0, average="macro"
    )
    assert list(found.metrics()["macro"].values()) == pytest.approx(macro[:3], abs=1e-12)
    top2 = top_k_accuracy_score(found.labels, found.probabilities, k=2, labels=classes)
    assert found.top2_accuracy == pytest.approx(top2, abs=1e-12)
    assert found.metrics()["loss"] == pytest.approx(log_loss(found.labels, found.probabilities, labels=classes))


def calibration_error(found: Evaluation, num_bins: int = 15) -> float:
    """Guo et al., equation 3, image by image and bin by bin."""
    error = 0.0
    for k in range(num_bins):
        inside = [
            (max(shares), int(np.argmax(shares)) == label)
            for shares, label in zip(found.probabilities.tolist(), found.labels.tolist(), strict=True)
            if k / num_bins < max(shares) <= (k + 1) / num_bins
        ]
        if inside:
            confidence = sum(c for c, _ in inside) / len(inside)
            accuracy = sum(right for _, right in inside) / len(inside)
            error += len(inside) / len(found.labels) * abs(accuracy - confidence)
    return error


@given(st.integers(0, 2**32))
def test_the_calibration_error_is_that_of_its_definition(seed: int) -> None:
    found = drawn_answers(seed)
    assert found.expected_calibration_error == pytest.approx(calibration_error(found), abs=1e-12)


def test_the_calibration_error_of_a_case_done_by_hand() -> None:
    found = answers([0, 1, 0, 1], [[0.9, 0.1], [0.9, 0.1], [0.7, 0.3], [0.3, 0.7]])
    assert found.expected_calibration_error == pytest.approx((2 * 0.4 + 2 * 0.3) / 4)


@given(st.integers(0, 2**32))
def test_each_image_is_in_one_bin_whose_ends_hold_its_confidence(seed: int) -> None:
    found = drawn_answers(seed)
    assert sum(row.num_images for row in found.calibration) == len(found)
    for row in found.calibration:
        assert row.low < row.mean_confidence <= row.high + 1e-12
        assert row.num_images > 0
        inside = (found.confidences > row.low) & (found.confidences <= row.high)
        assert row.num_images == inside.sum()


def test_certainty_falls_into_the_last_bin_and_an_edge_into_the_bin_below() -> None:
    found = answers([0, 0], [[1.0, 1e-300, 0, 0, 0, 0], [0.2, 0.16, 0.16, 0.16, 0.16, 0.16]])
    assert [row.high for row in found.calibration] == [0.2, 1.0]


def test_mistakes_come_with_the_most_confident_first() -> None:
    found = answers([0, 1, 0, 1, 0], [[0.3, 0.7], [0.6, 0.4], [0.8, 0.2], [0.9, 0.1], [0.4, 0.6]])
    assert found.mistakes.tolist() == [3, 0, 1, 4]
    assert found.confidences.tolist() == [0.7, 0.6, 0.8, 0.9, 0.6]


def test_without_a_mistake_there_is_no_mistake() -> None:
    assert predicted([0, 1, 2], [0, 1, 2], 3).mistakes.tolist() == []


def test_top2_asks_for_the_label_among_the_two_most_likely() -> None:
    shares = [[0.5, 0.3, 0.2]] * 4
    assert answers([0, 1, 1, 2], shares).top2_accuracy == 0.75
    assert answers([0, 0, 0], [[0.5, 0.3, 0.2]] * 3).top2_accuracy == 1


@pytest.mark.parametrize("found", [ASYMMETRIC, predicted([1], [1], 2), drawn_answers(3)])
def test_metrics_are_plain_json_without_a_nan(found: Evaluation) -> None:
    metrics = found.metrics()
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


def test_metrics_say_what_the_evaluation_says() -> None:
    metrics = ASYMMETRIC.metrics()
    low, high = wilson_interval(2, 5)
    assert (metrics["num_images"], metrics["num_correct"], metrics["accuracy"]) == (5, 2, 0.4)
    assert metrics["accuracy_interval_95"] == {"method": "wilson", "low": low, "high": high}
    assert metrics["loss"] == ASYMMETRIC.loss_sum / 5
    assert metrics["top2_accuracy"] == ASYMMETRIC.top2_accuracy
    assert metrics["expected_calibration_error"] == ASYMMETRIC.expected_calibration_error
    assert metrics["macro"] == pytest.approx({"precision": 5 / 24, "recall": 1 / 3, "f1": 9 / 40})
    assert metrics["per_class"][0] == {
        "class": "class 0",
        "num_images": 3,
        "num_predicted": 2,
        "num_correct": 1,
        "precision": 1 / 2,
        "recall": 1 / 3,
        "f1": 2 / 5,
    }
    (only_bin,) = metrics["calibration"]
    assert only_bin == pytest.approx(
        {"low": 8 / 15, "high": 9 / 15, "num_images": 5, "mean_confidence": 0.6, "accuracy": 0.4}
    )


# The network's answers


@pytest.mark.parametrize("batch_size", [1, 7, 64, 999, 10_000])
def test_any_batch_size_gives_the_same_answers(
    trained: TrainedNetwork, small: TrainVal, seen: Evaluation, batch_size: int
) -> None:
    found = evaluate(trained, small.train, CPU, batch_size)
    assert len(found) == 2000
    assert (found.predictions == seen.predictions).all()
    assert (found.confusion_matrix == seen.confusion_matrix).all()
    assert (found.labels == seen.labels).all()
    assert (found.indices == seen.indices).all()
    np.testing.assert_allclose(found.probabilities, seen.probabilities, rtol=0, atol=1e-5)
    assert found.loss_sum == pytest.approx(seen.loss_sum, rel=1e-6)


def test_it_agrees_with_the_counts_of_training(trained: TrainedNetwork, small: TrainVal) -> None:
    found = evaluate(trained, small.val, CPU)
    tally = count(trained.network, evaluation_batches(small.val, small.normalization, CPU))
    assert (len(found), found.num_correct, found.accuracy) == (tally.num_images, tally.num_correct, tally.accuracy)
    assert found.mean_loss == pytest.approx(tally.mean_loss, rel=1e-6)
    assert 0.5 < found.accuracy < 1


def test_probabilities_are_the_softmax_and_predictions_their_largest(seen: Evaluation) -> None:
    np.testing.assert_allclose(seen.probabilities.sum(axis=1), 1, rtol=0, atol=1e-12)
    assert (seen.probabilities.argmax(axis=1) == seen.predictions).all()
    assert ((seen.probabilities >= 0) & (seen.probabilities <= 1)).all()
    expected = log_loss(seen.labels, seen.probabilities, labels=range(10), normalize=False)
    assert seen.loss_sum == pytest.approx(expected, rel=1e-9)


def test_images_are_scaled_as_for_the_network_and_not_by_their_own(trained: TrainedNetwork, small: TrainVal) -> None:
    wrongly_scaled = TrainedNetwork(trained.network, Normalization(0.5, 1.0), trained.class_names, 1)
    assert evaluate(wrongly_scaled, small.val, CPU).loss_sum != evaluate(trained, small.val, CPU).loss_sum


def test_an_answer_is_traced_back_to_its_image(trained: TrainedNetwork, small: TrainVal, seen: Evaluation) -> None:
    order = torch.arange(1999, -1, -1)
    backwards = evaluate(trained, part_of(small.train, order), CPU)
    assert (backwards.indices == seen.indices[::-1]).all()
    assert (backwards.labels == seen.labels[::-1]).all()
    assert (backwards.predictions == seen.predictions[::-1]).all()


def test_mistakes_of_a_network_are_all_wrong_and_sorted(seen: Evaluation) -> None:
    confidences = seen.confidences[seen.mistakes]
    assert len(seen.mistakes) == len(seen) - seen.num_correct > 0
    assert (seen.predictions[seen.mistakes] != seen.labels[seen.mistakes]).all()
    assert (np.diff(confidences) <= 0).all()


def test_a_class_that_never_occurs_has_a_row_of_zeros(trained: TrainedNetwork, small: TrainVal) -> None:
    found = evaluate(trained, part_of(small.train, small.train.labels != 3), CPU)
    assert found.confusion_matrix.shape == (10, 10)
    assert found.confusion_matrix[3].sum() == 0
    assert (found.per_class[3].num_images, found.per_class[3].recall, found.per_class[3].f1) == (0, 0.0, 0.0)
    json.dumps(found.metrics(), allow_nan=False)


def test_one_image_can_be_evaluated(trained: TrainedNetwork, small: TrainVal, seen: Evaluation) -> None:
    found = evaluate(trained, part_of(small.train, slice(5, 6)), CPU)
    assert found.predictions.tolist() == [seen.predictions[5]]
    json.dumps(found.metrics(), allow_nan=False)


@pytest.mark.parametrize("label", [10, 255, -1])
def test_a_label_that_names_no_class_of_the_network_is_a_data_error(
    trained: TrainedNetwork, small: TrainVal, label: int
) -> None:
    labels = small.val.labels.clone()
    labels[8] = label
    image = int(small.val.indices[8])
    with pytest.raises(DataError, match=f"image {image} has label {label}, .* 10 classes"):
        evaluate(trained, TestSet(small.val.images, labels, small.val.indices), CPU)


def test_evaluating_changes_no_weight(trained: TrainedNetwork, small: TrainVal) -> None:
    before = [parameter.detach().clone() for parameter in trained.network.parameters()]
    evaluate(trained, small.val, CPU)
    assert all(torch.equal(old, new) for old, new in zip(before, trained.network.parameters(), strict=True))
