"""Choose configs/fast.yaml: the shortest training that still reaches 99 %. The test files are never opened.

    taskset -c 0 python scripts/search_fast.py --journal fast.jsonl

Each arm is trained with seeds that no published figure uses (1000 and up); the table shows the means of the last
epoch's validation figures. Arms whose first seeds fall far behind get no more. The rule: the arm of the fewest seconds
whose mean validation accuracy is 99.0 % or more. Finished trainings are kept in the journal: start again to go on.
"""

import argparse
from itertools import product
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from common import Journal, data_access
from lenet_mnist.config import Config
from lenet_mnist.data.load import load_train_val
from lenet_mnist.devices import set_threads
from search_recipes import run

FIRST_SEEDS = range(1000, 1003)
ALL_SEEDS = range(1000, 1010)
PROMISING = 0.988  # mean validation accuracy of the first seeds


def arm(
    epochs: int, batch_size: int, rate: float, optimizer: str = "adam", warmup: float = 0.2, weight_decay: float = 1e-3
) -> dict[str, Any]:
    """Return what an arm sets, beside ReLU and a linear schedule."""
    return {
        "training": {
            "max_epochs": epochs,
            "patience": None,
            "batch_size": batch_size,
            "optimizer": optimizer,
            "learning_rate": rate,
            "warmup": warmup,
            "weight_decay": weight_decay,
        }
    }


ARMS = [
    *(arm(1, batch, rate) for batch, rate in product((32, 64), (2e-3, 4e-3))),
    *(arm(2, batch, rate) for batch, rate in product((32, 64, 128, 256), (2e-3, 4e-3, 6e-3))),
    *(arm(2, batch, rate, "sgd") for batch, rate in product((32, 64), (0.02, 0.04, 0.06))),
    *(arm(3, batch, rate) for batch, rate in product((64, 128, 256), (4e-3, 6e-3, 8e-3))),
    *(arm(3, batch, rate, "sgd") for batch, rate in product((64, 128), (0.04, 0.06))),
    # Two epochs got better with every larger rate: further up, with and without weight decay, and with other warm-ups.
    *(arm(2, batch, rate, weight_decay=0.0) for batch, rate in product((64, 128, 256), (8e-3, 1e-2, 1.4e-2))),
    *(arm(2, 64, 8e-3, warmup=warmup, weight_decay=0.0) for warmup in (0.1, 0.3)),
    *(arm(2, 128, 1e-2, warmup=warmup, weight_decay=0.0) for warmup in (0.1, 0.3)),
    *(arm(3, 256, rate, weight_decay=0.0) for rate in (1e-2, 1.4e-2)),
    arm(2, 32, 8e-3),
    *(arm(2, batch, rate) for batch, rate in product((64, 128), (8e-3, 1e-2))),
    *(arm(3, 256, rate) for rate in (1e-2, 1.4e-2)),
    *(arm(2, 64, rate, weight_decay=3e-3) for rate in (6e-3, 8e-3)),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--journal", type=Path, required=True)
    journal = Journal(parser.parse_args().journal)
    set_threads(1)
    data = load_train_val(Config().data, data_access())
    for changes in ARMS:
        results: list[Any] = []
        for seed in ALL_SEEDS:
            if seed not in FIRST_SEEDS and mean(result["last_accuracy"] for result in results) < PROMISING:
                break
            key = {"arm": changes, "seed": seed}
            if journal.get(key) is None:
                journal.add(key, run(Config.model_validate({"seed": seed, **changes}), data))
            results.append(journal.get(key))
        accuracies = [result["last_accuracy"] for result in results]
        training = changes["training"]
        print(
            f"{training['optimizer']:4} batch {training['batch_size']:3} lr {training['learning_rate']:<5} "
            f"warm-up {training['warmup']} decay {training['weight_decay']:<5} {training['max_epochs']} epochs: "
            f"validation loss {mean(result['last_loss'] for result in results):.4f}, "
            f"accuracy {mean(accuracies):.2%} +- {stdev(accuracies):.2%} ({len(results)} seeds), "
            f"{mean(result['seconds'] for result in results):.1f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
