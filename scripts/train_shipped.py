"""Train the four networks that travel in the wheel, and put them into src/lenet_mnist/networks.

    python scripts/train_shipped.py

Seed 0 of each recipe, whatever comes of it, and the thirty teachers that two of them learn from. Each is looked at on
the test set once. Interrupted, start again: finished runs are kept, unfinished ones resumed.
"""

import shutil
from functools import partial
from pathlib import Path

from common import ROOT, arguments, recipe, results, session
from lenet_mnist.config import Split
from lenet_mnist.runs.listing import find_run
from lenet_mnist.study.evaluation import Evaluator, evaluate_runs
from measure_recipes import KINDS, train_named

PLACE = ROOT / "src" / "lenet_mnist" / "networks"
SHIPPED = ("relu", "sigmoid", "record", "record-sigmoid")
FILES = ("config.yaml", "manifest.json", "checkpoints/model.safetensors")


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--runs-dir", type=Path, default=ROOT / "build" / "shipped")
    parser.add_argument("--workers", type=int, default=1, help="trainings beside each other, a thread each")
    options = parser.parse_args()
    train = partial(train_named, runs_dir=options.runs_dir)
    kinds = [KINDS[name] for name in ("teachers", "sigmoid-teachers", "undecayed-teachers")]
    one_thread = {"training.threads": 1}
    teachers = [
        kind.config.replace(one_thread | {"seed": seed, "name": f"{kind.name}-{seed}"})
        for kind in kinds
        for seed in range(10)
    ]
    results(None, teachers, train, options.workers)
    results(None, [recipe(name).replace(one_thread | {"name": name}) for name in SHIPPED], train, options.workers)
    for name in SHIPPED:
        run = find_run(name, options.runs_dir)
        looks = run.num_test_looks() or evaluate_runs([run], Split.TEST, Evaluator(session().access))[0].num_test_looks
        for file in FILES:
            (PLACE / name / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(run.path / file, PLACE / name / file)
        print(f"{name}: {run.id}, looked at {looks} time")


if __name__ == "__main__":
    main()
