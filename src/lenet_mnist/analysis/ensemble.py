"""Several networks as one: the mean of their probabilities.

Source: Hansen and Salamon, "Neural network ensembles", IEEE Transactions on Pattern Analysis and Machine Intelligence
12, 1990.
"""

from collections.abc import Sequence

import numpy as np

from lenet_mnist.analysis.evaluate import Evaluation


def mean_prediction(evaluations: Sequence[Evaluation]) -> Evaluation:
    """Return what networks answer together, each having answered for the same images.

    Raises: ValueError if they have not, or there is none.
    """
    if not evaluations:
        raise ValueError("an ensemble of nobody answers nothing")
    first = evaluations[0]
    for other in evaluations[1:]:
        same = (np.array_equal(first.indices, other.indices), np.array_equal(first.labels, other.labels))
        if first.class_names != other.class_names or not all(same):
            raise ValueError("the networks have answered for different images")
    probabilities = np.mean([each.probabilities for each in evaluations], axis=0)
    of_label = probabilities[np.arange(len(first)), first.labels]
    return Evaluation(
        class_names=first.class_names,
        indices=first.indices,
        labels=first.labels,
        predictions=probabilities.argmax(axis=1),
        probabilities=probabilities,
        loss_sum=float(-np.log(np.maximum(of_label, np.finfo(np.float64).tiny)).sum()),
    )
