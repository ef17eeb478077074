"""Pictures made larger and smaller."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lenet_mnist.data.scaling import resampling


@given(st.integers(1, 300), st.integers(1, 20))
def test_resampling_keeps_what_is_even(size: int, new_size: int) -> None:
    weights = resampling(size, new_size)
    assert weights.shape == (new_size, size)
    assert np.allclose(weights.sum(axis=1), 1)
    assert np.allclose(weights, weights[::-1, ::-1])
    if size == new_size:
        assert np.array_equal(weights, np.eye(size))
