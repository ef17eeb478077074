"""Folds put together, counted by hand; their interval: test_intervals.py."""

from lenet_mnist.analysis.folds import Fold, FoldResult, Folds, pool


def result_of(number: int, labels: list[int], predictions: list[int]) -> FoldResult:
    fold = Fold(Folds(2, 1, None), 1, number)
    indices = tuple(range(100 * number, 100 * number + len(labels)))
    return FoldResult(fold, 7, indices, tuple(labels), tuple(predictions), float(number), (), 1.0)


def test_what_is_pooled_is_counted_by_hand() -> None:
    results = [result_of(2, [0, 1, 1, 0], [1, 1, 1, 0]), result_of(1, [0, 0, 1, 1, 1], [0, 1, 0, 1, 1])]
    pooled = pool(Folds(2, 1, None), ("a", "b"), results)
    assert [result.fold.number for result in pooled.results] == [1, 2]
    assert pooled.num_images == 9
    assert pooled.accuracies == [3 / 5, 3 / 4]
    assert pooled.accuracy == 6 / 9
    assert pooled.mean_loss == 3 / 9
    assert pooled.confusion_matrix.tolist() == [[2, 2], [1, 4]]  # rows are true
    assert [(row.name, row.num_images, row.num_correct) for row in pooled.per_class] == [("a", 4, 2), ("b", 5, 4)]
    assert tuple(pooled.accuracy_interval) == (0.0, 1.0)
