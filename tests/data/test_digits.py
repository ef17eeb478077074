"""scikit-learn's digits."""

import sys

import numpy as np
import pytest

from lenet_mnist.data import digits
from lenet_mnist.data.digits import enlarged, load
from lenet_mnist.data.sets import Part
from lenet_mnist.errors import DataError, InstallationError


def test_all_of_them_are_there_each_in_one_part() -> None:
    from sklearn.datasets import load_digits

    known = load_digits()
    rest, test = (load(part) for part in Part)
    assert (len(rest.labels), len(test.labels)) == (1438, 359)
    assert sorted([*rest.indices, *test.indices]) == list(range(1797))
    for part in (rest, test):
        assert np.array_equal(part.labels, known.target[part.indices])
        assert part.images.shape == (len(part.labels), 28, 28)
        assert part.images.dtype == np.uint8
    assert abs(np.bincount(test.labels) - np.bincount(known.target) / 5).max() < 1


def test_the_test_part_is_the_same_for_ever() -> None:
    indices = load(Part.TEST).indices
    assert indices[:8].tolist() == [13, 14, 30, 32, 43, 47, 69, 70]
    assert int(indices.sum()) == 333_627


def test_they_fill_the_box_of_mnists_digits_with_ink_from_none_to_full() -> None:
    small = np.zeros((2, 8, 8), dtype=np.uint8)
    small[1] = 16
    none, full = enlarged(small)
    assert none.max() == 0
    assert (full[4:24, 4:24] == 255).all()
    assert full.sum() == 255 * 20 * 20


def test_enlarging_keeps_where_the_ink_is() -> None:
    rest = load(Part.TRAIN_VAL)
    from sklearn.datasets import load_digits

    small = load_digits().images[rest.indices]
    large = rest.images[:, 4:24, 4:24].astype(float)
    for axis in (1, 2):
        small_centres = (small.sum(axis=3 - axis) * np.arange(8)).sum(axis=1) / small.sum(axis=(1, 2))
        large_centres = (large.sum(axis=3 - axis) * np.arange(20)).sum(axis=1) / large.sum(axis=(1, 2))
        assert np.abs((small_centres + 0.5) / 8 - (large_centres + 0.5) / 20).max() < 0.02


def test_other_digits_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = digits._read()
    images[700, 3, 3] ^= 1
    monkeypatch.setattr(digits, "_read", lambda: (images, labels))
    with pytest.raises(DataError, match="are not those known here: their SHA-256 is"):
        load(Part.TRAIN_VAL)


def test_without_scikit_learn_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(InstallationError, match=r"pip install scikit-learn$"):
        load(Part.TRAIN_VAL)
