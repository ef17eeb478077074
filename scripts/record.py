"""Train the most accurate LeNets, twenty of each kind, and look at the test set once: docs/accuracy.md.

    python scripts/record.py teachers sigmoid undecayed students sigmoid-students mixed show

KINDS names the configuration and the seeds of each; `mixed` asks ten of two kinds together; `show` prints the table.
Runs lie in --runs-dir like all others, one training per core. Interrupted, start again: unfinished runs are resumed.
The figures of the test set are kept in docs/record.jsonl.
"""

import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from common import ROOT, Config, arguments_parser, recipe, results, session
from lenet_mnist import provenance
from lenet_mnist.analysis.intervals import mean_interval
from lenet_mnist.config_file import ResolvedConfig
from lenet_mnist.reporting.text import aligned
from lenet_mnist.runs.listing import find_run, list_runs
from lenet_mnist.study.evaluation import EvaluatedEnsemble, EvaluatedRun, evaluate_ensemble
from lenet_mnist.study.train import require_all_finished, resume_run, train_seeds

JOURNAL = ROOT / "docs" / "record.jsonl"
COLUMNS = ("networks", "test accuracy: mean", "95 % interval", "sd", "lowest", "highest", "ten together")
COLUMNS += ("validation: loss", "accuracy", "seconds a network")


@dataclass(frozen=True)
class Kind:
    """Networks of one configuration. `undecayed` ones are worse alone, better together."""

    name: str
    file: str
    seeds: range
    changes: dict[str, Any] = field(default_factory=dict, hash=False)

    @property
    def config(self) -> Config:
        return recipe(self.file, **self.changes)

    @property
    def key(self) -> dict[str, Any]:
        return {"config": self.config.model_dump(mode="json"), "seeds": list(self.seeds)}


KINDS = {
    "teachers": Kind("teacher", "accurate", range(20)),
    "sigmoid": Kind("sigmoid", "accurate-sigmoid", range(20)),
    "undecayed": Kind("undecayed", "accurate", range(20), {"training__weight_decay": 0.0}),
    "students": Kind("student", "record", range(20, 40)),
    "sigmoid-students": Kind("sigmoid-student", "record-sigmoid", range(20, 40)),
}
# Ten networks each of two kinds that answer the validation images best together (scripts/search_accuracy.py together).
MIXED = ("undecayed", "sigmoid")


def main() -> None:
    parser = arguments_parser(__doc__)
    parser.add_argument("parts", nargs="+", choices=[*KINDS, "mixed", "show"])
    parser.add_argument("--runs-dir", type=Path, default=ROOT / "runs")
    parser.add_argument("--journal", type=Path, default=JOURNAL)
    options = parser.parse_args()
    for kind in [kind for name, kind in KINDS.items() if name in options.parts]:
        if kind not in results(options.journal, [kind], None):
            names = {"training.threads": 1}
            configs = [kind.config.replace(names | {"seed": n, "name": f"{kind.name}-{n}"}) for n in kind.seeds]
            results(None, configs, partial(train_named, runs_dir=options.runs_dir))
            results(options.journal, [kind], partial(look_at_test, runs_dir=options.runs_dir))
    if "mixed" in options.parts:
        results(options.journal, [MIXED], partial(look_at_mixed, runs_dir=options.runs_dir), mixed_key)
    if "show" in options.parts:
        found = results(options.journal, KINDS.values(), None)
        print(aligned(COLUMNS, [row_of(kind, figures) for kind, figures in found.items()]))
        for mixed in results(options.journal, [MIXED], None, mixed_key).values():
            print(f"mixed tens together: {', '.join(f'{accuracy:.2%}' for accuracy in mixed['together'])}")
        for kind, figures in found.items():
            if max(figures["test_looks"]) > 1:
                print(f"some {kind.name} was looked at more than once on the test set: {figures['test_looks']}")


def mixed_key(kinds: tuple[str, ...]) -> Any:
    return {"together": list(kinds)}


def train_named(config: Config, runs_dir: Path) -> str:
    """Return the id of the finished run of that name: found, resumed, or trained now."""
    run = next((run for run in list_runs(runs_dir) if run.name == config.name), None)
    if run is None:
        trained = train_seeds(config, None, session(), runs_dir)
        require_all_finished(trained)
        return trained[0].directory.id
    named = [find_run(name, runs_dir).id for name in config.training.teachers]
    wanted = config.replace({"training.teachers": named})
    if run.config != wanted:
        sys.exit(f"{run.path}: is another training of the same name: move it away")
    if run.manifest.status != "finished":
        require_all_finished([resume_run(run, ResolvedConfig(wanted, {}), False, session())])
    return run.id


def together(names: list[str], runs_dir: Path) -> EvaluatedEnsemble:
    runs = [find_run(name, runs_dir) for name in names]
    return evaluate_ensemble(runs, runs_dir, "test", session().access, None, None)


def look_at_test(kind: Kind, runs_dir: Path) -> dict[str, Any]:
    """Look at the test images once, through each network alone, and through ten together."""
    names = [f"{kind.name}-{seed}" for seed in kind.seeds]
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


def look_at_mixed(kinds: tuple[str, ...], runs_dir: Path) -> dict[str, Any]:
    """Look at the test images through five networks of each kind, until all twenty have answered."""
    tens = [[f"{KINDS[kind].name}-{n}" for kind in kinds for n in range(first, first + 5)] for first in range(0, 20, 5)]
    ensembles = [together(ten, runs_dir) for ten in tens]
    return {
        "together": [ensemble.evaluation.accuracy for ensemble in ensembles],
        "weights_sha256": [[member.run.manifest.weights_sha256 for member in each.members] for each in ensembles],
    }


def row_of(kind: Kind, figures: dict[str, Any]) -> tuple[str, ...]:
    test = figures["test_accuracy"]
    low, high = mean_interval(test) if len(test) > 1 else (test[0], test[0])
    return (
        f"{kind.name}: {len(test)} of configs/{kind.file}.yaml",
        f"{mean(test):.3%}",
        f"{low:.3%} to {high:.3%}",
        f"{stdev(test) if len(test) > 1 else 0:.3%}",
        f"{min(test):.2%}",
        f"{max(test):.2%}",
        ", ".join(f"{accuracy:.2%}" for accuracy in figures["together"]),
        f"{mean(figures['val_loss']):.4f}",
        f"{mean(figures['val_accuracy']):.3%}",
        f"{mean(figures['seconds']):.0f}",
    )


if __name__ == "__main__":
    main()
