"""Train the most accurate LeNets, twenty of each kind, and look at the test set once: docs/accuracy.md.

    python scripts/record.py teachers sigmoid undecayed students sigmoid-students mixed show

- teachers: configs/accurate.yaml, the seeds 0 to 19, as runs named teacher-0 to teacher-19
- sigmoid: configs/accurate-sigmoid.yaml, the seeds 0 to 19, as sigmoid-0 to sigmoid-19
- undecayed: configs/accurate.yaml without weight decay, the seeds 0 to 19: worse alone, better together
- students: configs/record.yaml, which learns from those of them that it names, the seeds 20 to 39
- sigmoid-students: configs/record-sigmoid.yaml, the same with sigmoid
- mixed: five undecayed and five sigmoid networks, the ten that answer the validation images best together
  (scripts/search_accuracy.py together)
- show: the table

Runs lie in --runs-dir like all others: a training to a core, with a thread each. Interrupted, the script goes on where
it was when it is started again: finished runs stay, those that were under way are resumed. When all twenty of a kind
are there, they are evaluated on the test images, one by one and ten together, once: the figures are kept in
docs/record.jsonl.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from rich.console import Console

from common import ROOT, Journal, data_access, in_workers
from lenet_mnist import provenance
from lenet_mnist.analysis.intervals import mean_interval
from lenet_mnist.analysis.metrics import Evaluation
from lenet_mnist.config import Config
from lenet_mnist.config_file import ResolvedConfig, load_config
from lenet_mnist.data.mnist import DataAccess
from lenet_mnist.reporting.terminal import TrainingProgress
from lenet_mnist.reporting.text import aligned
from lenet_mnist.runs.listing import find_run, list_runs
from lenet_mnist.runs.run import Run
from lenet_mnist.study.ensemble import evaluate_ensemble
from lenet_mnist.study.train import require_all_finished, resume_run, train_seeds
from lenet_mnist.training.rows import EpochRow

TOGETHER = 10
COLUMNS = (
    "networks",
    "test accuracy: mean",
    "95 % interval",
    "sd",
    "lowest",
    "highest",
    "ten together",
    "validation: loss",
    "accuracy",
    "seconds a network",
)


@dataclass(frozen=True)
class Kind:
    """Networks of one configuration."""

    name: str
    file: str
    seeds: range
    changes: dict[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> Config:
        return load_config(ROOT / "configs" / self.file).config.replace(self.changes)

    def config_of(self, seed: int) -> Config:
        values = {"seed": seed, "name": f"{self.name}-{seed}", "training.threads": 1}
        return self.config.replace(values)


KINDS = {
    "teachers": Kind("teacher", "accurate.yaml", range(20)),
    "sigmoid": Kind("sigmoid", "accurate-sigmoid.yaml", range(20)),
    "undecayed": Kind("undecayed", "accurate.yaml", range(20), {"training.weight_decay": 0.0}),
    "students": Kind("student", "record.yaml", range(20, 40)),
    "sigmoid-students": Kind("sigmoid-student", "record-sigmoid.yaml", range(20, 40)),
}
MIXED = {"together": ["undecayed", "sigmoid"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=[*KINDS, "mixed", "show"])
    parser.add_argument("--runs-dir", type=Path, default=ROOT / "runs")
    parser.add_argument("--journal", type=Path, default=ROOT / "docs" / "record.jsonl")
    arguments = parser.parse_args()
    journal, access = Journal(arguments.journal), data_access()
    for name, kind in KINDS.items():
        if name in arguments.parts and journal.get(key_of(kind)) is None:
            journal.add(key_of(kind), evaluated(train_all(kind, arguments.runs_dir), arguments.runs_dir, access))
    if "mixed" in arguments.parts and journal.get(MIXED) is None:
        journal.add(MIXED, mixed_together(arguments.runs_dir, access))
    if "show" in arguments.parts:
        found = [(kind, figures) for kind in KINDS.values() if (figures := journal.get(key_of(kind))) is not None]
        print(aligned(COLUMNS, [row_of(kind, figures) for kind, figures in found]))
        if (mixed := journal.get(MIXED)) is not None:
            print(f"mixed tens together: {', '.join(f'{accuracy:.2%}' for accuracy in mixed['together'])}")
        for kind, figures in found:
            if max(figures["test_looks"]) > 1:
                print(f"some {kind.name} was looked at more than once on the test set: {figures['test_looks']}")


def key_of(kind: Kind) -> dict[str, Any]:
    return {"config": kind.config.model_dump(mode="json"), "seeds": list(kind.seeds)}


def train_all(kind: Kind, runs_dir: Path) -> list[Run]:
    """Return the finished runs of a kind, in the order of their seeds."""
    configs = [kind.config_of(seed) for seed in kind.seeds]
    runs = {config.seed: run for config, run in in_workers(partial(trained, runs_dir=runs_dir), configs)}
    return [runs[seed] for seed in kind.seeds]


def trained(config: Config, runs_dir: Path) -> Run:
    """Return the finished run of that name: found, gone on with, or trained now."""
    access, spectator = data_access(), Lines(str(config.name))
    run = next((run for run in list_runs(runs_dir) if run.name == config.name), None)
    if run is None:
        runs = train_seeds(config, None, runs_dir, access, spectator)
        require_all_finished(runs)
        return runs[0].directory
    named = [find_run(name, runs_dir) for name in config.training.teachers]
    wanted = config.replace({"training.teachers": [teacher.id for teacher in named]})
    if run.config != wanted:
        sys.exit(f"{run.path}: is another training of the same name: move it away")
    if run.manifest.status != "finished":
        require_all_finished([resume_run(run, ResolvedConfig(wanted, {}), False, access, spectator)])
    return run


class Lines(TrainingProgress):
    """Says now and then how far a training is: others go on beside it."""

    def __init__(self, name: str) -> None:
        super().__init__(Console(stderr=True))
        self._name = name

    def note(self, text: str) -> None:
        super().note(f"{self._name}: {text}")

    def begin(self, run: Path, step: int, max_epochs: int, steps_per_epoch: int) -> None:
        """Put up no bar: two would write over each other."""

    def add_epoch(self, row: EpochRow, is_best: bool) -> None:
        if row.epoch % 20 == 0:
            best = ", the best so far" if is_best else ""
            self.note(f"epoch {row.epoch}, validation loss {row.val_loss:.4f}, {row.val_accuracy:.2%}{best}")


def evaluated(runs: Sequence[Run], runs_dir: Path, access: DataAccess) -> dict[str, Any]:
    """Look at the test images once, through each network alone, and through ten together."""
    tens = [runs[first : first + TOGETHER] for first in range(0, len(runs), TOGETHER)]
    ensembles = [evaluate_ensemble(ten, "test", runs_dir, access, None, None) for ten in tens]
    members = [member for ensemble in ensembles for member in ensemble.members]
    manifests = [run.manifest for run in runs]
    return {
        "test_accuracy": [member.evaluation.accuracy for member in members],
        "test_looks": [member.metrics["num_test_looks"] for member in members],
        "together": [ensemble.evaluation.accuracy for ensemble in ensembles],
        "mistakes": [mistakes_of(member.evaluation) for member in members],
        "val_loss": [manifest.best_val_loss for manifest in manifests],
        "val_accuracy": [manifest.best_val_accuracy for manifest in manifests],
        "seconds": [manifest.seconds for manifest in manifests],
        "weights_sha256": [manifest.weights_sha256 for manifest in manifests],
        "teachers_sha256": [record.weights_sha256 for record in manifests[0].teachers],
        "machine": provenance.machine(),
        "versions": provenance.versions(),
    }


def mixed_together(runs_dir: Path, access: DataAccess) -> dict[str, Any]:
    """Look at the test images through five networks of each of two kinds, until all of them have answered."""
    half = TOGETHER // 2
    tens = [
        [
            find_run(f"{KINDS[kind].name}-{n}", runs_dir)
            for kind in MIXED["together"]
            for n in range(first, first + half)
        ]
        for first in range(0, 20, half)
    ]
    ensembles = [evaluate_ensemble(ten, "test", runs_dir, access, None, None) for ten in tens]
    return {
        "together": [ensemble.evaluation.accuracy for ensemble in ensembles],
        "weights_sha256": [[run.manifest.weights_sha256 for run in ten] for ten in tens],
    }


def mistakes_of(evaluation: Evaluation) -> list[tuple[int, int]]:
    """Return where the images lie that were read wrongly, and as what they were read."""
    wrong = evaluation.predictions != evaluation.labels
    return list(zip(evaluation.indices[wrong].tolist(), evaluation.predictions[wrong].tolist(), strict=True))


def row_of(kind: Kind, figures: dict[str, Any]) -> tuple[str, ...]:
    test = figures["test_accuracy"]
    interval = mean_interval(test)
    return (
        f"{kind.name}: {len(test)} of configs/{kind.file}",
        f"{mean(test):.3%}",
        f"{interval.low:.3%} to {interval.high:.3%}",
        f"{stdev(test):.3%}",
        f"{min(test):.2%}",
        f"{max(test):.2%}",
        ", ".join(f"{accuracy:.2%}" for accuracy in figures["together"]),
        f"{mean(figures['val_loss']):.4f}",
        f"{mean(figures['val_accuracy']):.3%}",
        f"{mean(figures['seconds']):.0f}",
    )


if __name__ == "__main__":
    main()
