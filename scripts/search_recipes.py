"""Choose the recipes of configs/ on the validation set. The test files are never opened.

    python scripts/search_recipes.py --journal recipes.jsonl

Each arm is trained with two seeds that no published figure uses (1000, 1001); the table shows the mean of the best
validation loss and of its accuracy. Finished trainings are kept in the journal: start again to go on.
"""

import argparse
import json
import time
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from common import Journal, data_access
from lenet_mnist.config import Config
from lenet_mnist.data.load import load_train_val
from lenet_mnist.data.sets import TrainVal
from lenet_mnist.devices import set_threads
from lenet_mnist.model.engines import resolve_engine
from lenet_mnist.training.context import Context
from lenet_mnist.training.loop import train
from lenet_mnist.training.rows import EpochRow
from lenet_mnist.training.state import TrainState

SEEDS = (1000, 1001)


def arm(
    activation: str, epochs: int, optimizer: str, rate: float, warmup: float = 0.1, weight_decay: float = 0.0
) -> dict[str, Any]:
    """Return what an arm sets, beside SGD's momentum of 0.9, batches of 64 and a linear schedule."""
    return {
        "model": {"activation": activation},
        "training": {
            "max_epochs": epochs,
            "optimizer": optimizer,
            "learning_rate": rate,
            "warmup": warmup,
            "weight_decay": weight_decay,
        },
    }


ARMS = [
    arm("relu", 10, "sgd", 0.02),
    arm("relu", 10, "sgd", 0.04),
    arm("relu", 10, "sgd", 0.08),
    arm("relu", 10, "sgd", 0.04, weight_decay=5e-4),
    arm("relu", 10, "adam", 0.002),
    arm("relu", 10, "adam", 0.004, 0.2),
    arm("relu", 8, "sgd", 0.03, weight_decay=5e-4),
    arm("relu", 8, "sgd", 0.04, weight_decay=5e-4),
    arm("relu", 8, "sgd", 0.04, weight_decay=1e-3),
    arm("relu", 8, "sgd", 0.06, weight_decay=5e-4),
    arm("tanh", 10, "sgd", 0.02),
    arm("tanh", 10, "sgd", 0.05),
    arm("tanh", 10, "sgd", 0.05, weight_decay=5e-4),
    arm("tanh", 10, "sgd", 0.03, weight_decay=5e-4),
    arm("sigmoid", 12, "sgd", 0.2),
    arm("sigmoid", 12, "sgd", 0.4),
    arm("sigmoid", 12, "adam", 0.003),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--journal", type=Path, required=True)
    journal = Journal(parser.parse_args().journal)
    set_threads(None)
    data = load_train_val(Config().data, data_access())
    for changes in ARMS:
        results = []
        for seed in SEEDS:
            key = {"arm": changes, "seed": seed}
            if journal.get(key) is None:
                journal.add(key, run(Config.model_validate({"seed": seed, **changes}), data))
            results.append(journal.get(key))
        print(
            f"{changes['model']['activation']} {json.dumps(changes['training'])}: "
            f"validation loss {mean(result['val_loss'] for result in results):.4f}, "
            f"accuracy {mean(result['val_accuracy'] for result in results):.2%}, "
            f"loss after epoch 1 {max(result['first_loss'] for result in results):.3f} at worst, "
            f"{mean(result['seconds'] for result in results):.0f} s",
            flush=True,
        )


def run(config: Config, data: TrainVal) -> dict[str, Any]:
    rows: list[EpochRow] = []
    started = time.perf_counter()
    cpu = torch.device("cpu")
    engine = resolve_engine(config.training.engine, cpu, data.train.image_size)
    state = TrainState.start(config, Context(data, engine=engine.network))
    result = train(config, Context(data), state)
    best = min(rows, key=lambda row: row.val_loss)
    return {
        "stop_reason": result.stop_reason.value,
        "last_loss": rows[-1].val_loss,
        "last_accuracy": rows[-1].val_accuracy,
        "val_loss": best.val_loss,
        "val_accuracy": best.val_accuracy,
        "first_loss": rows[0].val_loss,
        "seconds": time.perf_counter() - started,
    }


if __name__ == "__main__":
    main()
