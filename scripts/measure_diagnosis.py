"""Whether `lenet diagnose` names the right cause: docs/diagnosis.md.

    python scripts/measure_diagnosis.py faults rates scatter

- faults: ten trainings are broken on purpose, for each activation and six seeds, on 11,000 images; beside them are
  healthy ones: the shipped recipes, Adam on 11,000 images, and configs/fast.yaml. Thresholds were set on the seeds 0 to
  2, and are scored on 3 to 5.
- rates: nothing is wrong but the learning rate: 1, 2, 4, 8 and 16 times the best, for each activation, optimizer and
  schedule, on 20,000 images; and the training that the first finding's command makes. Thresholds were set on seeds 0, 3
  and 4, and are scored on 11 and 12.
- scatter: how much the loss of one validation image changes in an epoch

What the journal lacks is trained, then the table is printed. The test files are never opened.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path
from statistics import mean
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import TypeAdapter

from common import CPU, Config, arguments, context_of, few, recipe, results, table, trained
from lenet_mnist.analysis.faults import diagnose
from lenet_mnist.analysis.findings import Cause, Finding, TrainingRecord
from lenet_mnist.config import Activation, Optimizer, Schedule
from lenet_mnist.data.sets import TrainSet, TrainVal, ValSet
from lenet_mnist.training.probe import Probe
from lenet_mnist.training.state import TrainState

SEEDS = few(range(6))
RECORD = TypeAdapter(TrainingRecord)
AS_GOOD = 1.25  # times the final validation loss at the best rate: nothing is wrong with that rate


class Fault(NamedTuple):
    """What was done to a training, on 11,000 images; the causes that are right, and the remedy if only one is.

    `wrong_labels` is a share, or 1 for permuted labels; `times_rate` multiplies the recipe's rate.
    """

    changes: Mapping[str, Any] = MappingProxyType({})
    causes: tuple[Cause, ...] = ()
    remedy: str = ""
    wrong_labels: float = 0.0
    times_rate: float = 1.0


FEW = {"data__limit_train": 200, "data__val_size": 1000, "training__max_epochs": 600}
FAULTS = {
    "learning rate 10": Fault(
        {"training__learning_rate": 10.0}, (Cause.LEARNING_RATE, Cause.DIVERGED), remedy="lower it"
    ),
    "learning rate 1e-5": Fault({"training__learning_rate": 1e-5}, (Cause.LEARNING_RATE,), remedy="raise it"),
    "labels permuted": Fault(causes=(Cause.LABELS,), wrong_labels=1),
    "5 % of the labels wrong": Fault(causes=(Cause.LABELS,), wrong_labels=0.05),
    "30 % of the labels wrong": Fault(causes=(Cause.LABELS,), wrong_labels=0.3),
    "30 % of the labels wrong, twice the rate": Fault(causes=(Cause.LABELS,), wrong_labels=0.3, times_rate=2),
    "200 training images, 600 epochs": Fault(FEW, (Cause.OVER_FITTING,)),
    "momentum 0.999": Fault({"training__momentum": 0.999}, (Cause.MOMENTUM,)),
    "weight decay 1": Fault({"training__weight_decay": 1.0}, (Cause.WEIGHT_DECAY,)),
    "patience 1": Fault({"data__val_size": 100, "training__patience": 1}, (Cause.STOPPED_TOO_EARLY,)),
    "healthy: recipe": Fault({"data__limit_train": None}),
    "healthy: Adam": Fault({"training__optimizer": "adam", "training__learning_rate": 0.003}),
    "healthy: fast.yaml": Fault(),
}


class Case(NamedTuple):
    """One training to be made."""

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


class Cell(NamedTuple):
    """A training but for its rate and seed: each has a best rate of its own."""

    activation: Activation
    optimizer: Optimizer
    epochs: int
    schedule: Schedule


class RateCase(NamedTuple):
    """One training in which nothing is wrong but, perhaps, the learning rate."""

    cell: Cell
    lr: float
    seed: int

    @property
    def config(self) -> Config:
        training = {"optimizer": self.cell.optimizer, "max_epochs": self.cell.epochs, "schedule": self.cell.schedule}
        training |= {"learning_rate": self.lr, "engine": "native"}
        changes = {f"training__{name}": value for name, value in training.items()}
        return recipe(self.cell.activation, seed=self.seed, data__limit_train=20_000, **changes)


Records = dict[Any, TrainingRecord]


def record_of(case: Case | RateCase) -> Any:
    """Train, and return what a run's files would tell."""
    config, context = case.config, context_of(case.config)
    if isinstance(case, Case):
        context = replace(context, data=case.damaged(context.data))
    probe = Probe.of(context.data, config.seed, CPU)
    training = trained(config, context, lambda state: state.histories.probe.extend(probe.look(state)))
    sizes, rows = (len(context.data.train), len(context.data.val)), training.state.histories
    histories = (list(rows.history), list(rows.steps), list(rows.probe))
    record = TrainingRecord(config, *sizes, context.guessing_loss, training.stop_reason, *histories)
    return RECORD.dump_python(record, mode="json")


def records_of(journal: Path, cases: Iterable[Case | RateCase]) -> Records:
    """Return the trainings of these cases, after making those that the journal lacks."""
    return {case: RECORD.validate_python(value) for case, value in results(journal, cases, record_of).items()}


def scatter(_: Path) -> None:
    """Print how much the loss of a single validation image changes in an epoch, as a multiple of the mean loss.

    By that much, divided by the root of their number, a validation loss rises or falls by chance.
    """
    for activation, seed in product(Activation, SEEDS[:3]):
        config = Case("5 % of the labels wrong", activation, seed).config
        data = context_of(config).data
        images, labels = data.normalization.apply(data.val.images), data.val.labels

        def losses_of(state: TrainState, images: torch.Tensor = images, labels: torch.Tensor = labels) -> torch.Tensor:
            with torch.inference_mode():
                return F.cross_entropy(state.network(images), labels, reduction="none")

        losses = trained(config, watch=losses_of).seen[1:]
        changes = [float((b - a).std() / min(a.mean(), b.mean())) for a, b in pairwise(losses)]
        print(f"{activation}, seed {seed}: " + " ".join(f"{each:.1f}" for each in changes), flush=True)


def faults(journal: Path) -> None:
    """Print how often the right cause is among the findings, and all findings where it is not."""
    cases = [Case(*each) for each in product(FAULTS, Activation, SEEDS)]
    is_once = {"healthy: fast.yaml": Activation.RELU}  # a recipe of one activation
    records = records_of(
        journal, [case for case in cases if is_once.get(case.fault, case.activation) == case.activation]
    )
    right: Counter[tuple[str, bool]] = Counter()
    number: Counter[tuple[str, bool]] = Counter()
    for case, record in records.items():
        findings, fault, is_scored = diagnose(record), FAULTS[case.fault], case.seed > 2
        named = [each for each in findings if each.cause in fault.causes and fault.remedy in ("", each.remedy)]
        is_right = bool(named) if fault.causes else not findings
        number[case.fault, is_scored] += 1
        right[case.fault, is_scored] += is_right
        if not is_right:
            print(f"{case.fault}, {case.activation}, seed {case.seed}: {headlines(findings)}")
    rows = [(name, *(f"{right[name, k]} of {number[name, k]}" for k in (False, True))) for name in FAULTS]
    print("\n" + table(("what was done", "right: seeds 0 to 2", "seeds 3 to 5"), rows))


def headlines(findings: Sequence[Finding]) -> str:
    return "; ".join(finding.headline for finding in findings) or "nothing"


CELLS = [
    Cell(activation, optimizer, epochs, schedule)
    for activation, optimizer in product(Activation, Optimizer)
    for epochs, schedule in ((1, Schedule.LINEAR), (4, Schedule.LINEAR), (4, Schedule.CONSTANT))
    # 312 updates at any rate leave this one at chance level
    if (activation, optimizer, epochs) != (Activation.SIGMOID, Optimizer.SGD, 1)
]
TIMES = (1, 2, 4, 8, 16)
# Where the search for the best rate begins, with SGD and Adam; it tries an eighth to 32 times that, by factors of two.
FIRST_RATES = {Activation.RELU: (0.04, 0.008), Activation.TANH: (0.08, 0.006), Activation.SIGMOID: (0.32, 0.016)}
RATE_CAUSES = {Cause.LEARNING_RATE, Cause.DIVERGED, Cause.DEAD_UNITS}


def searched_rates(cell: Cell) -> list[RateCase]:
    """Return the trainings among which a cell's best rate is found. AdamW takes Adam's."""
    cell = cell._replace(optimizer=Optimizer.ADAM) if cell.optimizer is Optimizer.ADAMW else cell
    first = FIRST_RATES[cell.activation][cell.optimizer is Optimizer.ADAM]
    return [RateCase(cell, rounded(first * 2.0**k), seed=0) for k in range(-3, 6)]


def rounded(lr: float) -> float:
    return float(f"{lr:.6g}")


def final_loss(record: TrainingRecord) -> float:
    """Return the last validation loss, infinity for a training that diverged."""
    return math.inf if record.stop_reason == "diverged" else record.history[-1].val_loss


def following(case: RateCase, record: TrainingRecord) -> RateCase | None:
    """Return the training that the first finding's command makes, if it names a rate."""
    findings = diagnose(record)
    words = findings[0].next_command.split() if findings and findings[0].next_command else []
    return case._replace(lr=float(words[words.index("--lr") + 1])) if "--lr" in words else None


def rates(journal: Path) -> None:
    """Print how often the first finding is right, how often it is a false cause, and how often its command helps."""
    searched = records_of(journal, [case for cell in few(CELLS) for case in searched_rates(cell)])
    best = {cell: min(searched_rates(cell), key=lambda case: final_loss(searched[case])).lr for cell in few(CELLS)}
    rows = []
    for seeds in ((0, 3, 4), (11, 12)):
        cases = [RateCase(cell, rounded(best[cell] * k), seed) for cell, seed, k in product(best, seeds, TIMES)]
        records = records_of(journal, cases)
        next_of = {case: after for case, record in records.items() if (after := following(case, record)) is not None}
        followed = records_of(journal, next_of.values())
        counts: Counter[str] = Counter()
        for case, record in records.items():
            at_best = [final_loss(each) for c, each in records.items() if (c.cell, c.lr) == (case.cell, best[c.cell])]
            ratio, findings = final_loss(record) / mean(at_best), diagnose(record)
            is_lowered = bool(findings) and findings[0].cause in RATE_CAUSES and "too low" not in findings[0].headline
            is_right = not findings if ratio <= AS_GOOD else is_lowered
            counts.update(trainings=1, right=is_right, false=bool(findings) and not is_lowered)
            if case in next_of:
                counts.update(followed=1, better=final_loss(followed[next_of[case]]) < final_loss(record))
            if not is_right:
                where = " ".join(map(str, (*case.cell, *case[1:])))
                print(f"{where}: {ratio:.2f} times the best rate's loss: {headlines(findings)}")
        shares = (f"{counts[a]} of {counts[b]}" for a, b in (("right", "trainings"), ("better", "followed")))
        rows.append((", ".join(map(str, seeds)), *shares, counts["false"]))
    columns = ("rates: seeds", "first finding right", "the next training better", "wrong cause first")
    print("\n" + table(columns, rows))


def main() -> None:
    parts = {"faults": faults, "rates": rates, "scatter": scatter}
    options = arguments(__doc__, parts, "build/diagnosis.jsonl").parse_args()
    for name in options.parts:
        parts[name](options.journal)


if __name__ == "__main__":
    main()
