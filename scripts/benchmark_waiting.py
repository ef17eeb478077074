"""How long an epoch takes where other programs want the cores too: threads that wait for each other must not stall.

    python scripts/benchmark_waiting.py

Times epochs of 10,000 images, of both engines and with one and two threads: on a machine that is idle beside them, and
with a process beside them on each core. Fresh processes in turn.
"""

import os
import subprocess
import sys
from functools import partial

from common import arguments, compare, few, recipe, trained
from lenet_mnist.provenance import machine

ARMS = few([(engine, threads) for engine in ("native", "torch") for threads in (1, 2)])
CHILD = "--print-seconds"


def train(engine: str, threads: str) -> None:
    """Print the seconds of three epochs, after one that does not count."""
    changes = {"model__activation": "sigmoid", "data__limit_train": 10_000, "training__max_epochs": 4}
    state = trained(recipe("relu", training__engine=engine, training__threads=int(threads), **changes)).state
    print(*(row.seconds for row in state.histories.history[1:]))


def epochs(engine: str, threads: int) -> list[float]:
    command = [sys.executable, *sys.argv, CHILD, engine, str(threads)]
    ended = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return list(map(float, ended.stdout.split()))


def main() -> None:
    if CHILD in sys.argv:
        train(*sys.argv[-2:])
        return
    arguments(__doc__).parse_args()
    cores = len(os.sched_getaffinity(0))
    print(f"{machine()}, {cores} cores")
    for title, number in {"alone": 0, "with a process beside it on each core": cores}.items():
        beside = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
        try:
            compare(
                f"seconds per epoch, {title}",
                {f"{engine}, {threads}": partial(epochs, engine, threads) for engine, threads in ARMS},
                3,
            )
        finally:
            for process in beside:
                process.kill()


if __name__ == "__main__":
    main()
