"""Whether `lenet diagnose` names the right cause: docs/diagnosis.md.

    python scripts/measure_diagnosis.py --journal build/diagnosis.jsonl train rates next show

- train: nine trainings are broken on purpose, for each activation and six seeds, on 11,000 images; beside them are
  healthy ones: the shipped recipes, Adam on 11,000 images, and configs/fast.yaml. Thresholds were set on the seeds 0 to
  2, and are scored on 3 to 5.
- rates: nothing is wrong but the learning rate: 1, 2, 4, 8 and 16 times the best, for each activation, optimizer and
  schedule, on 20,000 images. Thresholds were set on seeds 0, 3 and 4, and are scored on 11 with the native engine;
  12, and 13 with torch's, are still to be trained. `next` follows the command that is printed, once.
- scatter: how much the loss of one validation image changes in an epoch
- show: what is found in each training, and how often the right cause is among it

Finished trainings are kept in the journal. The test files are never opened.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import pairwise, product
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import TypeAdapter

from common import CPU, Config, arguments_parser, context_of, recipe, results
from lenet_mnist.analysis.faults import diagnose
from lenet_mnist.analysis.findings import Cause, Finding, TrainingRecord
from lenet_mnist.config import Activation, Engine, Optimizer, Schedule
from lenet_mnist.data.sets import TrainSet, TrainVal, ValSet
from lenet_mnist.training.loop import train
from lenet_mnist.training.probe import Probe
from lenet_mnist.training.rows import EpochRow
from lenet_mnist.training.state import TrainState

SEEDS = range(6)
RECORD = TypeAdapter(TrainingRecord)
AS_GOOD = 1.25  # times the final validation loss at the best rate: nothing is wrong with that rate


class Fault(StrEnum):
    """What was done to a training."""

    RATE_TOO_HIGH = "learning rate 10"
    RATE_TOO_LOW = "learning rate 1e-5"
    PERMUTED_LABELS = "labels permuted"
    FEW_WRONG_LABELS = "5 % of the labels wrong"
    MANY_WRONG_LABELS = "30 % of the labels wrong"
    WRONG_LABELS_AND_RATE = "30 % of the labels wrong, twice the recipe's rate"
    FEW_IMAGES = "200 training images, 600 epochs"
    MOMENTUM = "momentum 0.999"
    WEIGHT_DECAY = "weight decay 1"
    IMPATIENT = "patience 1, 100 validation images"
    NONE = "recipe, whole"
    NONE_ADAM = "Adam, 11,000 images"
    NONE_FAST = "configs/fast.yaml"


HEALTHY = (Fault.NONE, Fault.NONE_ADAM, Fault.NONE_FAST)
CAUSES = {
    Fault.RATE_TOO_HIGH: {Cause.LEARNING_RATE, Cause.DIVERGED},
    Fault.RATE_TOO_LOW: {Cause.LEARNING_RATE},
    Fault.PERMUTED_LABELS: {Cause.LABELS},
    Fault.FEW_WRONG_LABELS: {Cause.LABELS},
    Fault.MANY_WRONG_LABELS: {Cause.LABELS},
    Fault.WRONG_LABELS_AND_RATE: {Cause.LABELS},
    Fault.FEW_IMAGES: {Cause.OVER_FITTING},
    Fault.MOMENTUM: {Cause.MOMENTUM},
    Fault.WEIGHT_DECAY: {Cause.WEIGHT_DECAY},
    Fault.IMPATIENT: {Cause.STOPPED_TOO_EARLY},
}


CHANGES: dict[Fault, dict[str, Any]] = {
    Fault.RATE_TOO_HIGH: {"training__learning_rate": 10.0},
    Fault.RATE_TOO_LOW: {"training__learning_rate": 1e-5},
    Fault.FEW_IMAGES: {"data__limit_train": 200, "data__val_size": 1000, "training__max_epochs": 600},
    Fault.MOMENTUM: {"training__momentum": 0.999},
    Fault.WEIGHT_DECAY: {"training__weight_decay": 1.0},
    Fault.IMPATIENT: {"data__val_size": 100, "training__patience": 1},
    Fault.NONE_ADAM: {"training__optimizer": "adam", "training__learning_rate": 0.003},
}
WRONG_LABELS = {Fault.FEW_WRONG_LABELS: 0.05, Fault.MANY_WRONG_LABELS: 0.3, Fault.WRONG_LABELS_AND_RATE: 0.3}


@dataclass(frozen=True)
class Case:
    """One training to be made."""

    fault: Fault
    activation: Activation
    seed: int

    @property
    def key(self) -> Any:
        return [self.fault, self.activation, self.seed]

    @property
    def config(self) -> Config:
        if self.fault in (Fault.NONE, Fault.NONE_FAST):
            return recipe("fast" if self.fault is Fault.NONE_FAST else self.activation, seed=self.seed)
        usual = {"seed": self.seed, "data__limit_train": 11_000}
        config = recipe(self.activation, **usual | CHANGES.get(self.fault, {}))
        if self.fault is Fault.WRONG_LABELS_AND_RATE:
            return config.replace({"training.learning_rate": 2 * config.training.peak_learning_rate})
        return config

    def damaged(self, data: TrainVal) -> TrainVal:
        """Return the data with the case's fault, if it lies there."""
        if self.fault is not Fault.PERMUTED_LABELS and self.fault not in WRONG_LABELS:
            return data
        generator = np.random.default_rng(self.seed)

        def labels_of(part: TrainSet | ValSet) -> torch.Tensor:
            if self.fault is Fault.PERMUTED_LABELS:
                return part.labels[torch.from_numpy(generator.permutation(len(part)))]
            is_wrong = torch.from_numpy(generator.random(len(part)) < WRONG_LABELS[self.fault])
            others = (part.labels + torch.from_numpy(generator.integers(1, 10, len(part)))) % 10
            return torch.where(is_wrong, others, part.labels)

        train_set = TrainSet(data.train.images, labels_of(data.train), data.train.indices)
        return replace(data, train=train_set, val=ValSet(data.val.images, labels_of(data.val), data.val.indices))


@dataclass(frozen=True)
class Cell:
    """A training but for its rate and seed: each has a best rate of its own."""

    activation: Activation
    optimizer: Optimizer
    epochs: int
    schedule: Schedule


@dataclass(frozen=True)
class RateCase:
    """One training in which nothing is wrong but, perhaps, the learning rate."""

    cell: Cell
    lr: float
    seed: int
    engine: Engine = Engine.NATIVE

    @property
    def key(self) -> Any:
        cell = self.cell
        names = [cell.activation, cell.optimizer, cell.epochs, cell.schedule]
        return ["rate", *names, self.lr, self.seed, self.engine]

    @property
    def config(self) -> Config:
        return recipe(
            self.cell.activation,
            seed=self.seed,
            data__limit_train=20_000,
            training__max_epochs=self.cell.epochs,
            training__optimizer=self.cell.optimizer,
            training__schedule=self.cell.schedule,
            training__learning_rate=self.lr,
            training__engine=self.engine,
        )

    def damaged(self, data: TrainVal) -> TrainVal:
        return data


Records = dict[Any, TrainingRecord]


def record_of(case: Case | RateCase) -> Any:
    """Train, and return what a run's files would tell."""
    config, context = case.config, context_of(case.config)
    context = replace(context, data=case.damaged(context.data))
    state = TrainState.start(config, context)
    rows, look = state.histories, Probe.of(context.data, config.seed, CPU)
    rows.probe.extend(look.look(state))
    result = train(config, context, state, on_epoch=lambda _: rows.probe.extend(look.look(state)))
    sizes, stop_reason = (len(context.data.train), len(context.data.val)), result.stop_reason.value
    histories = (list(rows.history), list(rows.steps), list(rows.probe))
    record = TrainingRecord(config, *sizes, context.guessing_loss, stop_reason, *histories)
    return RECORD.dump_python(record, mode="json")


def read(journal: Path, cases: Iterable[Case | RateCase], is_trained: bool = False) -> Records:
    """Return the trainings that there are, after training those that are missing."""
    found = results(journal, cases, record_of if is_trained else None)
    return {case: RECORD.validate_python(value) for case, value in found.items()}


def all_cases() -> list[Case]:
    every = [Case(fault, activation, seed) for seed, fault, activation in product(SEEDS, Fault, Activation)]
    return [case for case in every if case.fault is not Fault.NONE_FAST or case.activation is Activation.RELU]


def show_scatter() -> None:
    """Print how much the loss of a single validation image changes in an epoch, as a multiple of the mean loss.

    By that much, divided by the root of their number, a validation loss rises or falls by chance.
    """
    for activation, seed in product(Activation, SEEDS[:3]):
        losses = losses_after_epochs(Case(Fault.FEW_WRONG_LABELS, activation, seed).config)
        scatter = [float((b - a).std() / min(a.mean(), b.mean())) for a, b in pairwise(losses)]
        print(f"{activation}, seed {seed}: " + " ".join(f"{each:.1f}" for each in scatter), flush=True)


def losses_after_epochs(config: Config) -> list[torch.Tensor]:
    """Train, and return the loss of each validation image after each epoch."""
    context = context_of(config)
    images, labels = context.data.normalization.apply(context.data.val.images), context.data.val.labels
    state = TrainState.start(config, context)
    losses: list[torch.Tensor] = []

    def on_epoch(_: EpochRow) -> None:
        with torch.inference_mode():
            losses.append(F.cross_entropy(state.network(images), labels, reduction="none"))

    train(config, context, state, on_epoch=on_epoch)
    return losses


def show(records: Records, seeds: Sequence[int]) -> None:
    """Print what is found in each training, and how often the right cause is among it."""
    print(f"\nseeds {min(seeds)} to {max(seeds)}")
    counts: Counter[str] = Counter()
    for fault in Fault:
        mine = {case: diagnose(each) for case, each in records.items() if case.fault is fault and case.seed in seeds}
        wrong = [case for case, findings in mine.items() if not is_right(case, findings)]
        if fault in HEALTHY:
            counts.update(alarms=len(wrong), healthy=len(mine))
            print(f"{fault}: {len(wrong)} of {len(mine)} false alarms")
        else:
            counts.update(right=len(mine) - len(wrong), broken=len(mine))
            print(f"{fault}: {len(mine) - len(wrong)} of {len(mine)}")
        for case in wrong:
            print(f"    {case.activation}, seed {case.seed}: {headlines(mine[case])}")
    print(
        f"right cause among those named: {counts['right']} of {counts['broken']}; "
        f"false alarms: {counts['alarms']} of {counts['healthy']}"
    )


def headlines(findings: Sequence[Finding]) -> str:
    return "; ".join(finding.headline for finding in findings) or "nothing"


def is_right(case: Case, findings: Sequence[Finding]) -> bool:
    """Whether the cause is among those named, and a rate is sent the right way; a healthy training has no finding."""
    if case.fault in HEALTHY:
        return not findings
    named = [finding for finding in findings if finding.cause in CAUSES[case.fault]]
    if case.fault in (Fault.RATE_TOO_HIGH, Fault.RATE_TOO_LOW):
        named = [f for f in named if f.remedy == ("lower it" if case.fault is Fault.RATE_TOO_HIGH else "raise it")]
    return bool(named)


CELLS = [
    Cell(activation, optimizer, epochs, schedule)
    for activation, optimizer in product(Activation, Optimizer)
    for epochs, schedule in ((1, Schedule.LINEAR), (4, Schedule.LINEAR), (4, Schedule.CONSTANT))
    # 312 updates at any rate leave this one at chance level
    if (activation, optimizer, epochs) != (Activation.SIGMOID, Optimizer.SGD, 1)
]
TIMES = (1, 2, 4, 8, 16)
# Where the search for the best rate begins; it tries an eighth to 32 times that, by factors of two.
FIRST_RATES = {
    (Activation.RELU, Optimizer.SGD): 0.04,
    (Activation.TANH, Optimizer.SGD): 0.08,
    (Activation.SIGMOID, Optimizer.SGD): 0.32,
    (Activation.RELU, Optimizer.ADAM): 0.008,
    (Activation.TANH, Optimizer.ADAM): 0.006,
    (Activation.SIGMOID, Optimizer.ADAM): 0.016,
}
RATE_CAUSES = {Cause.LEARNING_RATE, Cause.DIVERGED, Cause.DEAD_UNITS}
SCORED = {  # seeds and engines
    "thresholds, native engine": ((0, 3, 4), Engine.NATIVE),
    "other seeds, native engine": ((11, 12), Engine.NATIVE),
    "another seed, torch engine": ((13,), Engine.TORCH),
}


def search_cases() -> Iterator[RateCase]:
    """Yield the trainings among which each cell's best rate is found. AdamW takes Adam's."""
    for cell, k in product(CELLS, range(-3, 6)):
        if cell.optimizer is not Optimizer.ADAMW:
            yield RateCase(cell, rounded(FIRST_RATES[cell.activation, cell.optimizer] * 2.0**k), seed=0)


def rounded(lr: float) -> float:
    return float(f"{lr:.6g}")


def final_loss(record: TrainingRecord) -> float:
    """Return the last validation loss, infinity for a training that diverged."""
    return math.inf if record.stop_reason == "diverged" else record.history[-1].val_loss


def best_rate(searched: Records, cell: Cell) -> float:
    """Return the rate with the lowest final validation loss."""
    cell = replace(cell, optimizer=Optimizer.ADAM) if cell.optimizer is Optimizer.ADAMW else cell
    losses = {case.lr: final_loss(record) for case, record in searched.items() if case.cell == cell}
    return min(losses, key=losses.__getitem__)


def rate_cases(searched: Records, scored: str) -> list[RateCase]:
    seeds, engine = SCORED[scored]
    return [
        RateCase(cell, rounded(best_rate(searched, cell) * times), seed, engine)
        for cell in CELLS
        # a linear schedule of four epochs takes the torch engine four times as long
        if engine is not Engine.TORCH or (cell.epochs, cell.schedule) != (4, Schedule.LINEAR)
        for seed, times in product(seeds, TIMES)
    ]


def following(case: RateCase, record: TrainingRecord) -> RateCase | None:
    """Return the training that the first finding's command makes, if it names a rate."""
    findings = diagnose(record)
    words = findings[0].next_command.split() if findings and findings[0].next_command else []
    return replace(case, lr=float(words[words.index("--lr") + 1])) if "--lr" in words else None


def show_rates(journal: Path, searched: Records, scored: str) -> None:
    """Print how often the first finding is right, how often it is a false cause, and how often its command helps."""
    records = read(journal, rate_cases(searched, scored))
    next_of = {case: after for case, record in records.items() if (after := following(case, record)) is not None}
    followed = read(journal, next_of.values())
    counts: Counter[str] = Counter()
    for case, record in records.items():
        best = rounded(best_rate(searched, case.cell))
        at_best = [final_loss(each) for c, each in records.items() if (c.cell, c.lr) == (case.cell, best)]
        if not at_best:
            continue
        ratio, findings = final_loss(record) / mean(at_best), diagnose(record)
        is_lowered = bool(findings) and findings[0].cause in RATE_CAUSES and "too low" not in findings[0].headline
        is_right = not findings if ratio <= AS_GOOD else is_lowered
        counts.update(trainings=1, right=is_right, false=bool(findings) and not is_lowered)
        after = followed.get(next_of.get(case))
        if after is not None:
            counts.update(followed=1, better=final_loss(after) < final_loss(record))
        if not is_right:
            print(f"    {' '.join(map(str, case.key))}: {ratio:.2f} times the best rate's loss: {headlines(findings)}")
    print(
        f"rates, {scored}: first finding right {counts['right']} of {counts['trainings']}, false cause first "
        f"{counts['false']}; the next training better {counts['better']} of {counts['followed']}"
    )


def main() -> None:
    parser = arguments_parser(__doc__)
    parser.add_argument("parts", nargs="+", choices=("train", "rates", "next", "show", "scatter"))
    parser.add_argument("--journal", type=Path, required=True)
    options = parser.parse_args()
    parts, journal = options.parts, options.journal
    if "scatter" in parts:
        show_scatter()
    records = read(journal, all_cases(), is_trained="train" in parts)
    searched = read(journal, search_cases(), is_trained="rates" in parts)
    is_searched = len(searched) == len(set(search_cases()))
    for scored in SCORED if is_searched else ():
        of_rates = read(journal, rate_cases(searched, scored), is_trained="rates" in parts)
        if "next" in parts:
            read(journal, filter(None, (following(*each) for each in of_rates.items())), is_trained=True)
    if "show" in parts:
        for seeds in (SEEDS[:3], SEEDS[3:]):
            show(records, seeds)
        for scored in SCORED if is_searched else ():
            show_rates(journal, searched, scored)


if __name__ == "__main__":
    main()
