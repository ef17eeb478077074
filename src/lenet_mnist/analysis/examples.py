"""Which images are worth showing: a few of each cell of the confusion matrix."""

import numpy as np

from lenet_mnist.analysis.evaluate import Counts, Evaluation

PER_CELL = 12


def example_positions(evaluation: Evaluation, limit: int) -> Counts:
    """Return the positions of at most `limit` images, up to 12 of each cell, cell by cell.

    Of mistakes those that the network was surest of; of hits the 6 surest and the 6 least sure.
    """
    cells = evaluation.labels * len(evaluation.class_names) + evaluation.predictions
    order = np.lexsort((-evaluation.confidences, cells))  # by cell, the surest first
    borders = np.flatnonzero(np.diff(cells[order])) + 1
    chosen = [_few(members, evaluation) for members in np.split(order, borders)]
    return np.concatenate(chosen)[:limit]


def _few(members: Counts, evaluation: Evaluation) -> Counts:
    """Choose among the images of one cell, which come surest first."""
    is_mistake = evaluation.labels[members[0]] != evaluation.predictions[members[0]]
    if is_mistake or len(members) <= PER_CELL:
        return members[:PER_CELL]
    return np.concatenate([members[: PER_CELL // 2], members[-PER_CELL // 2 :]])
