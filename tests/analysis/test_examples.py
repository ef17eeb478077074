"""Which images are kept of an evaluation."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lenet_mnist.analysis.evaluate import Evaluation
from lenet_mnist.analysis.examples import PER_CELL, example_positions

NUM_CLASSES = 3
Answers = list[tuple[int, int, float]]


def evaluation_of(answers: Answers) -> Evaluation:
    """One image for each (label, prediction, confidence)."""
    labels, predictions, confidences = (np.array(column) for column in zip(*answers, strict=True))
    probabilities = np.zeros((len(answers), NUM_CLASSES))
    probabilities[np.arange(len(answers)), predictions] = confidences
    return Evaluation(("a", "b", "c"), np.arange(len(answers)), labels, predictions, probabilities, 0.0)


def test_of_mistakes_the_surest_and_of_hits_the_surest_and_the_least_sure() -> None:
    mistakes = [(0, 1, 0.40 + k / 100) for k in range(30)]
    hits = [(2, 2, 0.40 + k / 100) for k in range(30)]
    chosen = example_positions(evaluation_of(mistakes + hits), limit=100)
    assert chosen[:PER_CELL].tolist() == list(range(29, 17, -1))
    assert chosen[PER_CELL:].tolist() == [59, 58, 57, 56, 55, 54, 35, 34, 33, 32, 31, 30]


answers = st.lists(
    st.tuples(st.integers(0, NUM_CLASSES - 1), st.integers(0, NUM_CLASSES - 1), st.floats(0, 1)),
    min_size=1,
    max_size=80,
)


@given(answers=answers, limit=st.integers(1, 200))
def test_no_image_twice_no_cell_left_out_and_never_more_than_the_limit(answers: Answers, limit: int) -> None:
    chosen = example_positions(evaluation_of(answers), limit).tolist()
    assert len(chosen) == len(set(chosen)) <= limit
    cells = [answers[position][:2] for position in chosen]
    for cell in {answer[:2] for answer in answers} if limit == 200 else ():
        assert cells.count(cell) == min(PER_CELL, sum(answer[:2] == cell for answer in answers))
