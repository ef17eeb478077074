"""Measure the shipped recipes on the test set, over seeds: the accuracies in README.md and configs/.

    python scripts/measure_recipes.py --journal results.jsonl configs/relu.yaml:0-4 configs/sigmoid.yaml:0-19

Each argument is a configuration and its seeds. Run once, after the recipes were chosen on the validation set
(scripts/search_recipes.py) and committed. Trainings are one after the other, with all threads: their seconds count.
"""

import tempfile
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from common import Config, arguments_parser, results, session
from lenet_mnist import provenance
from lenet_mnist.config_file import load_config, parse_seeds
from lenet_mnist.reporting.text import aligned
from lenet_mnist.study.evaluation import evaluate_runs
from lenet_mnist.study.train import require_all_finished, train_seeds

COLUMNS = ("recipe", "seeds", "test accuracy: mean", "sd", "lowest", "highest", "validation accuracy: mean")
COLUMNS += ("highest validation loss after epoch 1", "seconds: mean")


def measure(config: Config) -> dict[str, Any]:
    """Train once and look at the test set once."""
    with tempfile.TemporaryDirectory() as directory:
        runs = train_seeds(config, None, session(), Path(directory))
        require_all_finished(runs)
        (seen,) = evaluate_runs([runs[0].directory], "test", session().access, None, None)
        return {
            "test_accuracy": seen.evaluation.accuracy,
            "val_accuracy": runs[0].manifest.best_val_accuracy,
            "val_loss": runs[0].manifest.best_val_loss,
            "best_epoch": runs[0].manifest.best_epoch,
            "first_val_loss": runs[0].directory.history[0].val_loss,
            "seconds": runs[0].manifest.seconds,
        }


def row_of(name: str, found: list[dict[str, Any]]) -> tuple[str, ...]:
    test = [each["test_accuracy"] for each in found]
    return (
        name,
        str(len(found)),
        f"{mean(test):.3%}",
        f"{stdev(test) if len(test) > 1 else 0:.3%}",
        f"{min(test):.2%}",
        f"{max(test):.2%}",
        f"{mean(each['val_accuracy'] for each in found):.3%}",
        f"{max(each['first_val_loss'] for each in found):.3f}",
        f"{mean(each['seconds'] for each in found):.0f}",
    )


def main() -> None:
    parser = arguments_parser(__doc__)
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("recipes", nargs="+", metavar="CONFIG:SEEDS")
    options = parser.parse_args()
    rows = []
    for path, _, seeds in (each.rpartition(":") for each in options.recipes):
        configs = [load_config(Path(path)).config.replace({"seed": seed}) for seed in parse_seeds(seeds)]
        found = results(options.journal, configs, measure, max_workers=1)
        rows.append(row_of(path, list(found.values())))
    print(aligned(COLUMNS, rows))
    print(f"{provenance.machine()}; {provenance.versions()}")


if __name__ == "__main__":
    main()
