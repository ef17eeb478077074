"""How long a thread that waits for another should look for it before it sleeps: GOMP_SPINCOUNT.

    python scripts/benchmark_waiting.py

Times epochs of 10,000 images with two threads, of the native engine: on a machine that is idle beside it, and with a
process beside it on each core. Fresh processes in turn, each with its own GOMP_SPINCOUNT; "default" is what GNU OpenMP
does by itself: it looks 300,000 times.
"""

import os
import subprocess
import sys
from functools import partial

from common import arguments, compare, few, recipe, trained
from lenet_mnist.provenance import machine

COUNTS = few(("default", "100", "1000", "3000", "10000", "15000", "30000", "100000"))
CHILD = "--print-seconds"


def train() -> None:
    """Print the seconds of three epochs, after one that does not count."""
    changes = {"model__activation": "sigmoid", "data__limit_train": 10_000, "training__max_epochs": 4}
    state = trained(recipe("relu", training__engine="native", **changes)).state
    print(*(row.seconds for row in state.histories.history[1:]))


def epochs(count: str) -> list[float]:
    environment = os.environ | {"GOMP_SPINCOUNT": "300000" if count == "default" else count}
    command = [sys.executable, *sys.argv, CHILD]
    ended = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return list(map(float, ended.stdout.split()))


def main() -> None:
    if CHILD in sys.argv:
        train()
        return
    arguments(__doc__).parse_args()
    cores = len(os.sched_getaffinity(0))
    print(f"{machine()}, {cores} threads")
    for title, number in {"alone": 0, "with a process beside it on each core": cores}.items():
        beside = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
        try:
            compare(f"seconds per epoch, {title}", {count: partial(epochs, count) for count in COUNTS}, 3)
        finally:
            for process in beside:
                process.kill()


if __name__ == "__main__":
    main()
