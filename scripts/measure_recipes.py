"""Train each shipped recipe over seeds, and look at the test set once: README.md, configs/, docs/accuracy.md.

    python scripts/measure_recipes.py relu tanh sigmoid fast digits --workers 1
    python scripts/measure_recipes.py teachers sigmoid-teachers undecayed-teachers students sigmoid-students

KINDS names the configuration and the seeds of each; the table shows all that the journal has (`show`: only the table).
Trainings are one per core, a thread each, or --workers beside each other that share the threads: with 1 the seconds are
those of a user. Runs lie in --runs-dir like all others. Interrupted, start again: finished runs are kept, unfinished
ones resumed. To be run once a recipe has been chosen on the validation set (scripts/search_recipes.py).
"""

import sys
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

import lenet_mnist
from common import ROOT, Config, arguments, data_access, few, recipe, results, table
from lenet_mnist import provenance
from lenet_mnist.analysis.intervals import mean_interval
from lenet_mnist.config import Split
from lenet_mnist.cores import THREADS
from lenet_mnist.runs.listing import find_run, list_runs
from lenet_mnist.study.evaluation import EvaluatedEnsemble, EvaluatedRun, Evaluator, evaluate_ensemble

JOURNAL = "docs/record.jsonl"
COLUMNS = ("networks", "test accuracy: mean", "95 % interval", "sd", "lowest", "highest", "ten together")
COLUMNS += ("validation: loss", "accuracy", "highest loss after epoch 1", "seconds a network")


class Kind(NamedTuple):
    """Networks of one configuration; runs are called <name>-<seed>, as recipes name their teachers."""

    name: str
    file: str
    seeds: range
    changes: tuple[tuple[str, Any], ...] = ()

    @property
    def config(self) -> Config:
        return recipe(self.file, **dict(self.changes))

    @property
    def key(self) -> dict[str, Any]:
        return {"config": self.config.model_dump(mode="json"), "seeds": list(self.seeds)}

    def trainings(self, threads: int) -> list[Config]:
        values = [{"seed": seed, "name": f"{self.name}-{seed}"} for seed in few(self.seeds)]
        return [self.config.replace({"training.threads": threads, **each}) for each in values]


KINDS = {
    "relu": Kind("relu", "relu", range(5)),
    "tanh": Kind("tanh", "tanh", range(5)),
    "sigmoid": Kind("plain-sigmoid", "sigmoid", range(20)),
    "fast": Kind("fast", "fast", range(20)),
    "digits": Kind("digits", "digits", range(10)),
    "teachers": Kind("teacher", "accurate", range(20)),
    "sigmoid-teachers": Kind("sigmoid", "accurate-sigmoid", range(20)),
    # worse alone, better together
    "undecayed-teachers": Kind("undecayed", "accurate", range(20), (("training__weight_decay", 0.0),)),
    "students": Kind("student", "record", range(20, 40)),
    "sigmoid-students": Kind("sigmoid-student", "record-sigmoid", range(20, 40)),
}


def main() -> None:
    parser = arguments(__doc__, [*KINDS, "show"], JOURNAL)
    parser.add_argument("--runs-dir", type=Path, default=ROOT / "runs")
    parser.add_argument("--workers", type=int, help="trainings beside each other, which share the threads")
    options = parser.parse_args()
    journal, workers = options.journal, options.workers or THREADS
    for kind in [kind for name, kind in KINDS.items() if name in options.parts]:
        if not results(journal, [kind], None):
            trainings = kind.trainings(THREADS // workers)
            results(None, trainings, partial(train_named, runs_dir=options.runs_dir), workers)
            results(journal, [kind], partial(look_at_test, runs_dir=options.runs_dir))
    found = results(journal, KINDS.values(), None)
    print(table(COLUMNS, [row_of(kind, figures) for kind, figures in found.items()]))
    for kind, figures in found.items():
        if max(figures["test_looks"]) > 1:
            print(f"some {kind.name} was looked at more than once on the test set: {figures['test_looks']}")


def train_named(config: Config, runs_dir: Path) -> str:
    """Return the id of the finished run of that name: found, resumed, or trained now."""
    found = next((run.path for run in list_runs(runs_dir) if run.name == config.name), None)
    if found is None:
        run = lenet_mnist.train(config, runs_dir=runs_dir, progress=False)
    else:
        run = lenet_mnist.load(found, runs_dir=runs_dir)
        teachers = [find_run(name, runs_dir).id for name in config.training.teachers]
        if run.config != config.replace({"training.teachers": teachers}):
            sys.exit(f"{run.path}: is another training of the same name: move it away")
        if run.status != "finished":
            run = run.resume(progress=False)
    if run.status != "finished":
        sys.exit(f"{run.path}: {run.status}")
    return run.path.name


def together(names: list[str], runs_dir: Path) -> EvaluatedEnsemble:
    runs = [find_run(name, runs_dir) for name in names]
    return evaluate_ensemble(runs, runs_dir, Split.TEST, Evaluator(data_access()))


def look_at_test(kind: Kind, runs_dir: Path) -> dict[str, Any]:
    """Look at the test images once, through each network alone, and through ten together."""
    names = [f"{kind.name}-{seed}" for seed in few(kind.seeds)]
    ensembles = [together(names[first : first + 10], runs_dir) for first in range(0, len(names), 10)]
    members = [member for ensemble in ensembles for member in ensemble.members]
    manifests = [member.run.manifest for member in members]
    return {
        "test_accuracy": [member.evaluation.accuracy for member in members],
        "test_looks": [member.metrics["num_test_looks"] for member in members],
        "together": [ensemble.evaluation.accuracy for ensemble in ensembles],
        "mistakes": [mistakes_of(member) for member in members],
        "val_loss": [manifest.best_val_loss for manifest in manifests],
        "val_accuracy": [manifest.best_val_accuracy for manifest in manifests],
        "first_val_loss": [member.run.history[0].val_loss for member in members],
        "seconds": [manifest.seconds for manifest in manifests],
        "weights_sha256": [manifest.weights_sha256 for manifest in manifests],
        "teachers_sha256": [record.weights_sha256 for record in manifests[0].teachers],
        "machine": provenance.machine(),
        "versions": provenance.versions(),
    }


def mistakes_of(member: EvaluatedRun) -> list[tuple[int, int]]:
    """Return the indices of the misclassified images, and their predictions."""
    seen = member.evaluation
    wrong = seen.predictions != seen.labels
    return list(zip(seen.indices[wrong].tolist(), seen.predictions[wrong].tolist(), strict=True))


def row_of(kind: Kind, figures: dict[str, Any]) -> tuple[str, ...]:
    test = figures["test_accuracy"]
    low, high = mean_interval(test)
    return (
        f"{kind.name}: {len(test)} of configs/{kind.file}.yaml",
        f"{mean(test):.3%}",
        f"{low:.3%} to {high:.3%}",
        f"{stdev(test):.3%}",
        f"{min(test):.2%}",
        f"{max(test):.2%}",
        ", ".join(f"{accuracy:.2%}" for accuracy in figures["together"]),
        f"{mean(figures['val_loss']):.4f}",
        f"{mean(figures['val_accuracy']):.3%}",
        f"{max(figures['first_val_loss']):.3f}" if "first_val_loss" in figures else "",
        f"{mean(figures['seconds']):.0f}",
    )


if __name__ == "__main__":
    main()
