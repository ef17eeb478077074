"""How long a thread that waits for another should look for it before it sleeps: GOMP_SPINCOUNT.

    python scripts/benchmark_waiting.py

Times epochs of 10,000 images with two threads, of the native engine: on a machine that is idle beside it, and with a
process beside it on each core. Fresh processes in turn, each with its own GOMP_SPINCOUNT; "default" is what GNU OpenMP
does by itself: it looks 300,000 times.
"""

import os
import subprocess
import sys
from statistics import median

from common import recipe, spread, trained
from lenet_mnist.provenance import machine

COUNTS = ("default", "100", "1000", "3000", "10000", "15000", "30000", "100000")
ROUNDS = 3


def main() -> None:
    if len(sys.argv) == 2:  # a child: print the seconds of epochs, but for the first
        changes = {
            "model__activation": "sigmoid",
            "data__limit_train": 10_000,
            "training__max_epochs": int(sys.argv[1]),
        }
        changes["training__max_epochs"] = int(sys.argv[1])
        state, _ = trained(recipe("relu", training__engine="native", **changes))
        print(*(row.seconds for row in state.histories.history[1:]))
        return
    cores = len(os.sched_getaffinity(0))
    print(f"{machine()}, {cores} threads")
    for title, number in {"alone": 0, "with a process beside it on each core": cores}.items():
        beside = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
        try:
            compare(title)
        finally:
            for process in beside:
                process.kill()


def compare(title: str) -> None:
    seconds: dict[str, list[float]] = {count: [] for count in COUNTS}
    for _ in range(ROUNDS):
        for count in COUNTS:
            environment = os.environ | {"GOMP_SPINCOUNT": "300000" if count == "default" else count}
            command = [sys.executable, __file__, "4"]
            ended = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
            seconds[count] += map(float, ended.stdout.split())
    print(f"\n{title}, seconds per epoch")
    for count, times in seconds.items():
        ratio = median(times) / median(seconds["default"])
        print(f"  GOMP_SPINCOUNT {count:>7}: {spread(times, form='.3f')}  x {ratio:.2f}", flush=True)


if __name__ == "__main__":
    main()
