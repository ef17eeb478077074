"""One arm in a process of its own: reads requests, one JSON document a line, and answers each with another.

    python -m peers.worker MODULE FUNCTION ARRAYS.npz

A request is a Setting, which starts a training, or null, which trains for one epoch. An arm is a function of the split
as arrays and the setting; it returns a function that trains for an epoch, and tells an Epoch. NPROC is how many
threads it has. Imported in both environments: NumPy only.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

MOMENTUM = 0.9
EVALUATION_CHUNK = 1000
THREADS = int(os.environ.get("NPROC", "0"))  # 0: those of this process
Arrays = dict[str, Any]  # train_images N 28 28 float32, normalised; train_labels; train_indices, in MNIST; and of val
Epoch = tuple[float, float, float]  # the seconds of its updates, those of the evaluation, the validation accuracy


@dataclass(frozen=True)
class Setting:
    """One training, on the first `num_images` of the training part.

    The learning rate falls to zero along a line over `decay_epochs`; with 0 of them it stays as it is.
    """

    batch_size: int
    num_images: int
    learning_rate: float
    decay_epochs: int = 0
    seed: int = 0

    @property
    def decay_steps(self) -> int:
        return self.decay_epochs * -(-self.num_images // self.batch_size)


def in_turn(train_epoch: Callable[[], object], accuracy: Callable[[], float]) -> Callable[[], Epoch]:
    """Return what trains for an epoch, evaluates, and takes the time of both."""

    def epoch() -> Epoch:
        started = time.perf_counter()
        train_epoch()
        trained = time.perf_counter()
        found = accuracy()
        return trained - started, time.perf_counter() - trained, found

    return epoch


def main() -> None:
    module_name, function_name, arrays_path = sys.argv[1:]
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no answer
    module = import_module(f"peers.{module_name}")
    start, arrays = getattr(module, function_name), dict(np.load(arrays_path))
    print(json.dumps({package: import_module(package).__version__ for package in module.PACKAGES}), file=answers)
    for line in sys.stdin:
        request = json.loads(line)
        if request is not None:
            epoch = start(arrays, Setting(**request))
        print(json.dumps(epoch() if request is None else None), file=answers)


if __name__ == "__main__":
    main()
