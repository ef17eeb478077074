"""Every random choice of the project, as a pure function of a seed, a purpose and a position.

Nothing here or elsewhere reads a global generator. The bit streams of NumPy's bit generators are guaranteed never to
change between versions (unlike `Generator.permutation` or `torch.randperm`), so orders are made by sorting raw keys:
a split drawn today is the split drawn by any later version.
"""

from enum import IntEnum

import numpy as np
import numpy.typing as npt
import torch


class Purpose(IntEnum):
    """What randomness is used for. Each purpose has its own stream: using more of one never shifts another."""

    SPLIT = 1
    SUBSET = 2
    INITIALISATION = 3
    ORDER = 4
    ENGINE_CHECK = 5
    TRIAL = 6
    PROBE = 7
    AFFINE = 8
    ELASTIC = 9
    FOLDS = 10
    TEST_PART = 11


def random_keys(seed: int, purpose: Purpose, count: int, position: int = 0) -> npt.NDArray[np.uint64]:
    """Return `count` independent 64-bit keys; key i depends on (seed, purpose, position, i) alone."""
    sequence = np.random.SeedSequence((seed, int(purpose), position))
    return np.random.Philox(sequence).random_raw(count)


def random_order(seed: int, purpose: Purpose, count: int, position: int = 0) -> npt.NDArray[np.int64]:
    """Return a permutation of 0 .. count-1: the indices sorted by their random keys."""
    return np.argsort(random_keys(seed, purpose, count, position), kind="stable")


def torch_generator(seed: int, purpose: Purpose) -> torch.Generator:
    """Return a CPU generator for `purpose`, seeded from (seed, purpose)."""
    state = np.random.SeedSequence((seed, int(purpose))).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))
