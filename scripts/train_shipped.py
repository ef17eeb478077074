"""Train the four networks that travel in the wheel, and put them into src/lenet_mnist/networks.

    python scripts/train_shipped.py

Seed 0 of each recipe, whatever comes of it, and the thirty teachers that two of them learn from. Each is looked at on
the test set once; that travels, too. Of the updates and of the looks into the layers only some travel. Interrupted,
start again: finished runs are kept, unfinished ones resumed. Prints the table of docs/networks.md. With --small, the
networks are put into build/small.
"""

import shutil
from functools import partial
from pathlib import Path

from common import ROOT, SMALL, arguments, data_access, recipe, results, table
from lenet_mnist.config import Split
from lenet_mnist.files.storage import write_bytes
from lenet_mnist.files.tables import read_json
from lenet_mnist.runs.listing import NETWORKS, find_run
from lenet_mnist.runs.run import Run
from lenet_mnist.study.evaluation import Evaluator, evaluate_runs
from lenet_mnist.training.rows import Histories
from measure_recipes import KINDS, train_named

PLACE = ROOT / "build" / "small" / "networks" if SMALL else NETWORKS
SHIPPED = ("relu", "sigmoid", "record", "record-sigmoid")
EVALUATION = ("looks.csv", "metrics.json", "per_class.csv", "confusion_matrix.csv", "examples.safetensors")
FILES = (
    *("config.yaml", "manifest.json", "history.csv", "steps.csv", "probe.csv", "checkpoints/model.safetensors"),
    *(f"evaluation/test/{name}" for name in EVALUATION),
)


def thin_out(run: Run) -> None:
    """Leave only every 100th update after the 11,000th in steps.csv, and every 5th epoch after the 20th in probe.csv.

    Of relu and sigmoid nothing is left out. The others are so long that their curves and smoothed losses stay as good.
    """
    histories, last = Histories(), run.history[-1].epoch
    histories.steps.extend(row for row in run.steps if row.step <= 11_000 or row.step % 100 == 0)
    histories.probe.extend(row for row in run.probe if row.epoch <= 20 or row.epoch % 5 == 0 or row.epoch == last)
    for path, rows in ((run.steps_path, histories.steps), (run.probe_path, histories.probe)):
        write_bytes(path, rows.header + rows.lines)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--runs-dir", type=Path, default=ROOT / "build" / "shipped")
    parser.add_argument("--workers", type=int, default=1, help="trainings beside each other, a thread each")
    options = parser.parse_args()
    train = partial(train_named, runs_dir=options.runs_dir)
    kinds = [KINDS[name] for name in ("teachers", "sigmoid-teachers", "undecayed-teachers")]
    results(None, [config for kind in kinds for config in kind.trainings(threads=1)[:10]], train, options.workers)
    results(None, [recipe(name, name=name, training__threads=1) for name in SHIPPED], train, options.workers)
    shutil.rmtree(PLACE, ignore_errors=True)
    rows = []
    for name in SHIPPED:
        run = find_run(name, options.runs_dir)
        if run.num_test_looks() == 0:
            evaluate_runs([run], Split.TEST, Evaluator(data_access()))
        for file in FILES:
            (PLACE / run.id / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(run.path / file, PLACE / run.id / file)
        thin_out(Run(PLACE / run.id))
        accuracy = read_json(run.evaluation_path("test") / "metrics.json")["accuracy"]
        rows.append((name, run.id, f"`{run.manifest.weights_sha256}`", f"{accuracy:.2%}", run.num_test_looks()))
    print(table(("network", "run", "SHA-256 of the weights", "test accuracy", "looks at the test set"), rows))


if __name__ == "__main__":
    main()
