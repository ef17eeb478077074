"""Whether `lenet diagnose` names the right cause: docs/diagnosis.md.

    python scripts/measure_diagnosis.py faults rates

- faults: ten trainings are broken on purpose, for each activation and six seeds, on 11,000 images; beside them are
  healthy ones: the shipped recipes, Adam on 11,000 images, and configs/fast.yaml. Thresholds were set on the seeds 0 to
  2, and are scored on 3 to 5.
- rates: nothing is wrong but the learning rate: 1, 2, 4, 8 and 16 times the best, for each activation, optimizer and
  schedule, on 20,000 images; and the training that the first finding's command makes. Thresholds were set on seeds 0, 3
  and 4, and are scored on 11 and 12.

What the journal lacks is trained, then the table is printed. The test files are never opened. (By how much the loss of
one validation image changes in an epoch: this script at 1b6751d.)
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import mean
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from pydantic import TypeAdapter

from common import CPU, Config, arguments, context_of, few, recipe, results, table, trained
from lenet_mnist.analysis.faults import diagnose
from lenet_mnist.analysis.findings import Cause, Finding, TrainingRecord
from lenet_mnist.config import Activation, Optimizer, Schedule
from lenet_mnist.data.sets import TrainSet, TrainVal, ValSet
from lenet_mnist.training.context import Context
from lenet_mnist.training.probe import Probe

SEEDS = few(range(6))
RECORD = TypeAdapter(TrainingRecord)


def record_of(config: Config, context: Context | None = None) -> Any:
    """Train, and return what a run's files would tell."""
    context = context or context_of(config)
    probe = Probe.of(context.data, config.seed, CPU)
    training = trained(config, context, lambda state: state.histories.probe.extend(probe.look(state)))
    sizes, rows = (len(context.data.train), len(context.data.val)), training.state.histories
    histories = (list(rows.history), list(rows.steps), list(rows.probe))
    record = TrainingRecord(config, *sizes, context.guessing_loss, training.stop_reason, *histories)
    return RECORD.dump_python(record, mode="json")


def headlines(findings: Sequence[Finding]) -> str:
    return "; ".join(finding.headline for finding in findings) or "nothing"


class Fault(NamedTuple):
    """What was done to a training, on 11,000 images; the causes that are right, and the remedy if only one is.

    `wrong_labels` is a share, or 1 for permuted labels; `times_rate` multiplies the recipe's rate.
    """

    changes: Mapping[str, Any] = MappingProxyType({})
    causes: tuple[Cause, ...] = ()
    remedy: str = ""
    wrong_labels: float = 0.0
    times_rate: float = 1.0


OF_FEW = {"data__limit_train": 200, "data__val_size": 1000, "training__max_epochs": 600}
TOO_HIGH = (Cause.LEARNING_RATE, Cause.DIVERGED)
FAULTS = {
    "learning rate 10": Fault({"training__learning_rate": 10.0}, TOO_HIGH, remedy="lower it"),
    "learning rate 1e-5": Fault({"training__learning_rate": 1e-5}, (Cause.LEARNING_RATE,), remedy="raise it"),
    "labels permuted": Fault(causes=(Cause.LABELS,), wrong_labels=1),
    "5 % of the labels wrong": Fault(causes=(Cause.LABELS,), wrong_labels=0.05),
    "30 % of the labels wrong": Fault(causes=(Cause.LABELS,), wrong_labels=0.3),
    "30 % of the labels wrong, twice the rate": Fault(causes=(Cause.LABELS,), wrong_labels=0.3, times_rate=2),
    "200 training images, 600 epochs": Fault(OF_FEW, (Cause.OVER_FITTING,)),
    "momentum 0.999": Fault({"training__momentum": 0.999}, (Cause.MOMENTUM,)),
    "weight decay 1": Fault({"training__weight_decay": 1.0}, (Cause.WEIGHT_DECAY,)),
    "patience 1": Fault({"data__val_size": 100, "training__patience": 1}, (Cause.STOPPED_TOO_EARLY,)),
    "healthy: recipe": Fault({"data__limit_train": None}),
    "healthy: Adam": Fault({"training__optimizer": "adam", "training__learning_rate": 0.003}),
    "healthy: fast.yaml": Fault(),
}


class FaultCase(NamedTuple):
    """One training that is broken on purpose."""

    fault: str
    activation: Activation
    seed: int

    @property
    def config(self) -> Config:
        if self.fault == "healthy: fast.yaml":
            return recipe("fast", seed=self.seed)
        fault = FAULTS[self.fault]
        config = recipe(self.activation, seed=self.seed, **{"data__limit_train": 11_000, **fault.changes})
        return config.replace({"training.learning_rate": fault.times_rate * config.training.peak_learning_rate})

    def damaged(self, data: TrainVal) -> TrainVal:
        """Return the data with the case's fault, if it lies there."""
        generator, share = np.random.default_rng(self.seed), FAULTS[self.fault].wrong_labels

        def labels_of(part: TrainSet | ValSet) -> torch.Tensor:
            if share == 1:
                return part.labels[torch.from_numpy(generator.permutation(len(part)))]
            is_wrong = torch.from_numpy(generator.random(len(part)) < share)
            others = (part.labels + torch.from_numpy(generator.integers(1, 10, len(part)))) % 10
            return torch.where(is_wrong, others, part.labels)

        train_set = TrainSet(data.train.images, labels_of(data.train), data.train.indices)
        return replace(data, train=train_set, val=ValSet(data.val.images, labels_of(data.val), data.val.indices))


def train_broken(case: FaultCase) -> Any:
    context = context_of(case.config)
    return record_of(case.config, replace(context, data=case.damaged(context.data)))


def faults(journal: Path) -> None:
    """Print how often the right cause is among the findings, and all findings where it is not."""
    cases = [FaultCase(*each) for each in product(FAULTS, Activation, SEEDS)]
    cases = [each for each in cases if each.config.model.activation is each.activation]  # fast.yaml is of one
    right: Counter[tuple[str, bool]] = Counter()
    number: Counter[tuple[str, bool]] = Counter()
    for case, value in results(journal, cases, train_broken).items():
        findings, fault, is_scored = diagnose(RECORD.validate_python(value)), FAULTS[case.fault], case.seed > 2
        named = [each for each in findings if each.cause in fault.causes and fault.remedy in ("", each.remedy)]
        is_right = bool(named) if fault.causes else not findings
        number[case.fault, is_scored] += 1
        right[case.fault, is_scored] += is_right
        if not is_right:
            print(f"{case.fault}, {case.activation}, seed {case.seed}: {headlines(findings)}")
    rows = [(name, *(f"{right[name, k]} of {number[name, k]}" for k in (False, True))) for name in FAULTS]
    print("\n" + table(("what was done", "right: seeds 0 to 2", "seeds 3 to 5"), rows))


# Trainings but for their rates and seeds: each has a best rate of its own.
CELLS = {
    recipe(
        activation,
        data__limit_train=20_000,
        training__optimizer=optimizer,
        training__max_epochs=epochs,
        training__schedule=schedule,
    ): f"{activation} {optimizer} {epochs} {schedule}"
    for activation, optimizer in product(Activation, (Optimizer.SGD, Optimizer.ADAM, Optimizer.ADAMW))
    for epochs, schedule in ((1, Schedule.LINEAR), (4, Schedule.LINEAR), (4, Schedule.CONSTANT))
    # 312 updates at any rate leave this one at chance level
    if (activation, optimizer, epochs) != (Activation.SIGMOID, Optimizer.SGD, 1)
}
TIMES = (1, 2, 4, 8, 16)
# Where the search for the best rate begins, with SGD and Adam; it tries an eighth to 32 times that, by factors of two.
FIRST_RATES = {Activation.RELU: (0.04, 0.008), Activation.TANH: (0.08, 0.006), Activation.SIGMOID: (0.32, 0.016)}
RATE_CAUSES = {Cause.LEARNING_RATE, Cause.DIVERGED, Cause.DEAD_UNITS}
AS_GOOD = 1.25  # times the final validation loss at the best rate: nothing is wrong with that rate


def at_rate(cell: Config, lr: float, seed: int) -> Config:
    return cell.replace({"training.learning_rate": float(f"{lr:.6g}"), "seed": seed})


def searched(cell: Config) -> list[Config]:
    """Return the trainings among which the best rate is found, of one seed; AdamW takes Adam's."""
    is_adam = cell.training.optimizer is not Optimizer.SGD
    cell = cell.replace({"training.optimizer": Optimizer.ADAM}) if is_adam else cell
    return [at_rate(cell, FIRST_RATES[cell.model.activation][is_adam] * 2.0**k, seed=0) for k in range(-3, 6)]


def records_of(journal: Path, configs: Iterable[Config]) -> dict[Config, TrainingRecord]:
    """Return these trainings, after making those that the journal lacks."""
    return {config: RECORD.validate_python(value) for config, value in results(journal, configs, record_of).items()}


def final_loss(record: TrainingRecord) -> float:
    """Return the last validation loss, infinity for a training that diverged."""
    return math.inf if record.stop_reason == "diverged" else record.history[-1].val_loss


def following(config: Config, findings: Sequence[Finding]) -> list[Config]:
    """Return the training that the first finding's command makes, if it names a rate."""
    words = findings[0].next_command.split() if findings and findings[0].next_command else []
    return [at_rate(config, float(words[words.index("--lr") + 1]), config.seed)] if "--lr" in words else []


def rates(journal: Path) -> None:
    """Print how often the first finding is right, how often it is a false cause, and how often its command helps."""
    cells = {cell: searched(cell) for cell in few(list(CELLS))}
    found = records_of(journal, [config for configs in cells.values() for config in configs])
    best = {cell: min(configs, key=lambda each: final_loss(found[each])) for cell, configs in cells.items()}
    rows = []
    for seeds in ((0, 3, 4), (11, 12)):
        at_times = {
            (cell, times): [at_rate(cell, times * best[cell].training.peak_learning_rate, seed) for seed in seeds]
            for cell, times in product(best, TIMES)
        }
        records = records_of(journal, [config for configs in at_times.values() for config in configs])
        findings_of = {config: diagnose(record) for config, record in records.items()}
        next_of = {config: following(config, findings) for config, findings in findings_of.items()}
        followed = records_of(journal, [config for configs in next_of.values() for config in configs])
        counts: Counter[str] = Counter()
        for (cell, times), configs in at_times.items():
            loss_at_best = mean(final_loss(records[each]) for each in at_times[cell, 1])
            for config in configs:
                findings, loss = findings_of[config], final_loss(records[config])
                names_it = bool(findings) and findings[0].cause in RATE_CAUSES
                is_lowered = names_it and "too low" not in findings[0].headline
                is_right = not findings if loss <= AS_GOOD * loss_at_best else is_lowered
                counts.update(trainings=1, right=is_right, false=bool(findings) and not is_lowered)
                counts.update(followed=len(next_of[config]))
                counts.update(better=sum(final_loss(followed[each]) < loss for each in next_of[config]))
                if not is_right:
                    where = f"{CELLS[cell]}, seed {config.seed}, {times} times the best rate"
                    print(f"{where}, {loss / loss_at_best:.2f} times its loss: {headlines(findings)}")
        shares = (f"{counts[a]} of {counts[b]}" for a, b in (("right", "trainings"), ("better", "followed")))
        rows.append((", ".join(map(str, seeds)), *shares, counts["false"]))
    columns = ("rates: seeds", "first finding right", "the next training better", "wrong cause first")
    print("\n" + table(columns, rows))


def main() -> None:
    parts = {"faults": faults, "rates": rates}
    options = arguments(__doc__, parts, "build/diagnosis.jsonl").parse_args()
    for name in options.parts:
        parts[name](options.journal)


if __name__ == "__main__":
    main()
