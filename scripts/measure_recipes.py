"""Measure the shipped recipes on the test set, over seeds: the accuracies in README.md and configs/.

    python scripts/measure_recipes.py --journal results.jsonl configs/relu.yaml:0-4 configs/sigmoid.yaml:0-19

Each argument is a configuration and its seeds. Run once, after the recipes were chosen on the validation set
(scripts/search_recipes.py) and committed; a finished training is kept in the journal, and never done again.
"""

import argparse
import tempfile
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from rich.console import Console

from common import Journal, data_access
from lenet_mnist import provenance
from lenet_mnist.config import Config
from lenet_mnist.config_file import load_config, parse_seeds
from lenet_mnist.data.mnist import DataAccess
from lenet_mnist.reporting.terminal import TrainingProgress
from lenet_mnist.reporting.text import aligned
from lenet_mnist.study.evaluation import evaluate_run
from lenet_mnist.study.train import require_all_finished, train_seeds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("recipes", nargs="+", metavar="CONFIG:SEEDS")
    arguments = parser.parse_args()
    journal, access = Journal(arguments.journal), data_access()
    rows = []
    for recipe in arguments.recipes:
        path, _, seeds = recipe.rpartition(":")
        config = load_config(Path(path)).config
        results = []
        for seed in parse_seeds(seeds):
            seeded = config.model_copy(update={"seed": seed})
            key = seeded.model_dump(mode="json")
            if journal.get(key) is None:
                journal.add(key, measure(seeded, access))
            results.append(journal.get(key))
        rows.append(row_of(path, results))
        print(aligned(COLUMNS, rows), flush=True)
    print(f"{provenance.machine()}; {provenance.versions()}")


COLUMNS = (
    "recipe",
    "seeds",
    "test accuracy: mean",
    "sd",
    "lowest",
    "highest",
    "validation accuracy: mean",
    "highest validation loss after epoch 1",
    "seconds: mean",
)


def measure(config: Config, access: DataAccess) -> dict[str, Any]:
    """Train once and look at the test set once."""
    with tempfile.TemporaryDirectory() as directory:
        runs = train_seeds(config, None, Path(directory), access, TrainingProgress(Console(stderr=True)))
        require_all_finished(runs)
        run = runs[0]
        history = run.directory.history
        seen = evaluate_run(run.directory, "test", access, None, None)
        return {
            "test_accuracy": seen.evaluation.accuracy,
            "val_accuracy": run.manifest.best_val_accuracy,
            "val_loss": run.manifest.best_val_loss,
            "best_epoch": run.manifest.best_epoch,
            "first_val_loss": history[0].val_loss,
            "seconds": run.manifest.seconds,
        }


def row_of(name: str, results: list[dict[str, Any]]) -> tuple[str, ...]:
    test = [result["test_accuracy"] for result in results]
    return (
        name,
        str(len(results)),
        f"{mean(test):.3%}",
        f"{stdev(test) if len(test) > 1 else 0:.3%}",
        f"{min(test):.2%}",
        f"{max(test):.2%}",
        f"{mean(result['val_accuracy'] for result in results):.3%}",
        f"{max(result['first_val_loss'] for result in results):.3f}",
        f"{mean(result['seconds'] for result in results):.0f}",
    )


if __name__ == "__main__":
    main()
