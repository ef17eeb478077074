"""Whether `lenet diagnose` names the right cause: docs/diagnosis.md.

    python scripts/measure_diagnosis.py --journal build/diagnosis.jsonl train rates next show

Faults: nine trainings are broken on purpose, for each activation and six seeds, on 11,000 images; beside them are
healthy ones: the shipped recipes as they are, Adam on 11,000 images, and configs/fast.yaml. Thresholds were set on the
seeds 0 to 2, and are scored on 3 to 5.

Rates: nothing is broken but the learning rate: 1, 2, 4, 8 and 16 times the best, for each activation, optimizer and
schedule, on 20,000 images. Thresholds were set on seeds 0, 3 and 4, and are scored on 11 with the native engine;
12, and 13 with torch's, are still to be trained. `next` follows the command that is printed, once.

Finished trainings are kept in the journal. The test files are never opened.
"""

import argparse
import math
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from itertools import pairwise, product
from pathlib import Path
from statistics import mean

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import TypeAdapter

from common import ROOT, Journal, data_access, in_workers
from lenet_mnist.analysis.diagnosis import diagnose
from lenet_mnist.analysis.findings import Cause, Finding, TrainingRecord
from lenet_mnist.config import Activation, Config, DataConfig, Engine, Optimizer, Schedule
from lenet_mnist.config_file import load_config
from lenet_mnist.data.load import load_train_val
from lenet_mnist.data.sets import TrainSet, TrainVal, ValSet
from lenet_mnist.model.engines import resolve_engine
from lenet_mnist.training.context import Context
from lenet_mnist.training.loop import train
from lenet_mnist.training.probe import Probe
from lenet_mnist.training.rows import EpochRow, ProbeRow, StepRow
from lenet_mnist.training.state import TrainState

SEEDS = range(6)
RECORD = TypeAdapter(TrainingRecord)
CPU = torch.device("cpu")
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


@dataclass(frozen=True)
class Case:
    """One training to be made."""

    fault: Fault
    activation: Activation
    seed: int

    @property
    def key(self) -> list[str | int]:
        return [self.fault.value, self.activation.value, self.seed]

    @property
    def config(self) -> Config:
        name = "fast" if self.fault is Fault.NONE_FAST else self.activation.value
        config = load_config(ROOT / "configs" / f"{name}.yaml").config.model_copy(update={"seed": self.seed})
        data, training = {}, {}
        if self.fault not in (Fault.NONE, Fault.NONE_FAST):
            data["limit_train"] = 11_000
        match self.fault:
            case Fault.RATE_TOO_HIGH:
                training["learning_rate"] = 10.0
            case Fault.RATE_TOO_LOW:
                training["learning_rate"] = 1e-5
            case Fault.WRONG_LABELS_AND_RATE:
                training["learning_rate"] = 2 * config.training.peak_learning_rate
            case Fault.FEW_IMAGES:
                data |= {"limit_train": 200, "val_size": 1000}
                training["max_epochs"] = 600
            case Fault.MOMENTUM:
                training["momentum"] = 0.999
            case Fault.WEIGHT_DECAY:
                training["weight_decay"] = 1.0
            case Fault.IMPATIENT:
                data["val_size"] = 100
                training["patience"] = 1
            case Fault.NONE_ADAM:
                training |= {"optimizer": Optimizer.ADAM, "learning_rate": 0.003}
            case _:
                pass
        return config.model_copy(
            update={
                "data": config.data.model_copy(update=data),
                "training": config.training.model_copy(update=training),
            }
        )


def damaged_data(case: Case, data: TrainVal) -> TrainVal:
    """Return the data with the case's fault, if it lies there."""
    train_set, val_set = data.train, data.val
    generator = np.random.default_rng(case.seed)
    match case.fault:
        case Fault.PERMUTED_LABELS:
            train_labels = train_set.labels[torch.from_numpy(generator.permutation(len(train_set)))]
            val_labels = val_set.labels[torch.from_numpy(generator.permutation(len(val_set)))]
        case Fault.FEW_WRONG_LABELS | Fault.MANY_WRONG_LABELS | Fault.WRONG_LABELS_AND_RATE:
            share = 0.05 if case.fault is Fault.FEW_WRONG_LABELS else 0.3
            train_labels = wrong_labels(train_set.labels, share, generator)
            val_labels = wrong_labels(val_set.labels, share, generator)
        case _:
            return data
    return replace(
        data,
        train=TrainSet(train_set.images, train_labels, train_set.indices),
        val=ValSet(val_set.images, val_labels, val_set.indices),
    )


def wrong_labels(labels: torch.Tensor, share: float, generator: np.random.Generator) -> torch.Tensor:
    """Return `labels`, of which a share names another class."""
    is_wrong = torch.from_numpy(generator.random(len(labels)) < share)
    others = (labels + torch.from_numpy(generator.integers(1, 10, len(labels)))) % 10
    return torch.where(is_wrong, others, labels)


def record_of(case: "Case | RateCase") -> object:
    """Train, and return what a run's files would tell."""
    config, data = case.config, undamaged_data(case.config.data)
    if isinstance(case, Case):
        data = damaged_data(case, data)
    engine = resolve_engine(config.training.engine, CPU, data.train.image_size)
    state = TrainState.start(config, Context(data, engine=engine.network))
    guessing_loss = state.stopping.guessing_loss
    look = Probe.of(data, config.seed, CPU)
    history: list[EpochRow] = []
    steps: list[StepRow] = []
    probe: list[ProbeRow] = look.look(state)

    def on_step(row: StepRow) -> bool:
        if row.is_recorded:
            steps.append(row)
        return False

    def on_epoch(row: EpochRow) -> None:
        history.append(row)
        probe.extend(look.look(state))

    result = train(config, Context(data), state, on_step, on_epoch)
    sizes = len(data.train), len(data.val)
    record = TrainingRecord(config, *sizes, guessing_loss, result.stop_reason.value, history, steps, probe)
    return RECORD.dump_python(record, mode="json")


@lru_cache(maxsize=2)
def undamaged_data(config: DataConfig) -> TrainVal:
    return load_train_val(config, data_access())


def all_cases() -> Iterator[Case]:
    for seed, fault, activation in product(SEEDS, Fault, Activation):
        if fault is not Fault.NONE_FAST or activation is Activation.RELU:
            yield Case(fault, activation, seed)


def train_all(journal: Journal, cases: "Iterable[Case | RateCase]") -> None:
    """Train what the journal lacks, a thread each."""
    missing = [case for case in dict.fromkeys(cases) if journal.get(case.key) is None]
    for case, record in in_workers(record_of, missing):
        journal.add(case.key, record)
        print(*case.key, file=sys.stderr, flush=True)


def show_scatter() -> None:
    """Print how much the loss of a single validation image changes in an epoch, as a multiple of the mean loss.

    By that much, divided by the root of their number, a validation loss rises or falls by chance.
    """
    for activation, seed in product(Activation, SEEDS[:3]):
        losses = losses_after_epochs(Case(Fault.FEW_WRONG_LABELS, activation, seed).config)
        scatter = [float((b - a).std() / min(a.mean(), b.mean())) for a, b in pairwise(losses)]
        print(f"{activation}, seed {seed}: " + " ".join(f"{each:.1f}" for each in scatter))


def losses_after_epochs(config: Config) -> list[torch.Tensor]:
    """Train, and return the loss of each validation image after each epoch."""
    data = load_train_val(config.data, data_access())
    images = data.normalization.apply(data.val.images)
    engine = resolve_engine(config.training.engine, CPU, data.train.image_size)
    state = TrainState.start(config, Context(data, engine=engine.network))
    losses: list[torch.Tensor] = []

    def on_epoch(_: EpochRow) -> None:
        with torch.inference_mode():
            losses.append(F.cross_entropy(state.network(images), data.val.labels, reduction="none"))

    train(config, Context(data), state, on_epoch=on_epoch)
    return losses


def show(journal: Journal, seeds: Sequence[int]) -> None:
    """Print what is found in each training, and how often the right cause is among it."""
    print(f"\nseeds {min(seeds)} to {max(seeds)}")
    num_right = num_broken = num_alarms = num_healthy = 0
    for fault in Fault:
        cases = [case for case in all_cases() if case.fault is fault and case.seed in seeds]
        records = [(case, journal.get(case.key)) for case in cases]
        found = [(case, diagnose(RECORD.validate_python(record))) for case, record in records if record is not None]
        if fault in HEALTHY:
            num_healthy += len(found)
            num_alarms += sum(bool(findings) for _, findings in found)
            print(f"{fault}: {sum(bool(findings) for _, findings in found)} of {len(found)} false alarms")
        else:
            right = [is_right(case, findings) for case, findings in found]
            num_broken += len(found)
            num_right += sum(right)
            print(f"{fault}: {sum(right)} of {len(found)}")
        for case, findings in found:
            if (fault in HEALTHY and findings) or (fault not in HEALTHY and not is_right(case, findings)):
                print(
                    f"    {case.activation}, seed {case.seed}: "
                    + ("; ".join(f.headline for f in findings) or "nothing")
                )
    print(f"right cause among those named: {num_right} of {num_broken}; false alarms: {num_alarms} of {num_healthy}")


def is_right(case: Case, findings: Sequence[Finding]) -> bool:
    """Whether the cause is among those named, and a rate is sent the right way."""
    named = [finding for finding in findings if finding.cause in CAUSES[case.fault]]
    if case.fault in (Fault.RATE_TOO_HIGH, Fault.RATE_TOO_LOW):
        named = [f for f in named if f.remedy == ("lower it" if case.fault is Fault.RATE_TOO_HIGH else "raise it")]
    return bool(named)


@dataclass(frozen=True)
class Cell:
    """What a best rate belongs to."""

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
    def key(self) -> list[str | int | float]:
        cell = self.cell
        names = [cell.activation.value, cell.optimizer.value, cell.epochs, cell.schedule.value]
        return ["rate", *names, self.lr, self.seed, self.engine.value]

    @property
    def config(self) -> Config:
        cell = self.cell
        config = load_config(ROOT / "configs" / f"{cell.activation}.yaml").config
        training = {
            "max_epochs": cell.epochs,
            "optimizer": cell.optimizer,
            "schedule": cell.schedule,
            "learning_rate": self.lr,
            "engine": self.engine,
        }
        return config.model_copy(
            update={
                "seed": self.seed,
                "data": config.data.model_copy(update={"limit_train": 20_000}),
                "training": config.training.model_copy(update=training),
            }
        )


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
    """Return the trainings among which each cell's best rate is found. AdamW takes Adam's."""
    for cell, k in product(CELLS, range(-3, 6)):
        if cell.optimizer is not Optimizer.ADAMW:
            yield RateCase(cell, rounded(FIRST_RATES[cell.activation, cell.optimizer] * 2.0**k), seed=0)


def best_rate(journal: Journal, cell: Cell) -> float:
    """Return the rate with the lowest final validation loss."""
    searched = replace(cell, optimizer=Optimizer.ADAM) if cell.optimizer is Optimizer.ADAMW else cell
    losses = {case.lr: final_loss(read(journal, case)) for case in search_cases() if case.cell == searched}
    return min(losses, key=losses.__getitem__)


def rate_cases(journal: Journal, cell: Cell, scored: str) -> list[RateCase]:
    seeds, engine = SCORED[scored]
    if engine is Engine.TORCH and (cell.epochs, cell.schedule) == (4, Schedule.LINEAR):
        return []  # it takes four times as long
    rates = [rounded(best_rate(journal, cell) * times) for times in TIMES]
    return [RateCase(cell, lr, seed, engine) for seed, lr in product(seeds, rates)]


def rounded(lr: float) -> float:
    return float(f"{lr:.6g}")


def read(journal: Journal, case: RateCase) -> TrainingRecord:
    return RECORD.validate_python(journal.get(case.key))


def final_loss(record: TrainingRecord) -> float:
    """Return the last validation loss, infinity for a training that diverged."""
    return math.inf if record.stop_reason == "diverged" else record.history[-1].val_loss


def following(journal: Journal, case: RateCase) -> RateCase | None:
    """Return the training that the first finding's command makes, if it names a rate."""
    findings = diagnose(read(journal, case))
    words = findings[0].next_command.split() if findings and findings[0].next_command else []
    return replace(case, lr=float(words[words.index("--lr") + 1])) if "--lr" in words else None


def show_rates(journal: Journal, scored: str) -> None:
    """Print how often the first finding is right, how often it is a false cause, and how often its command helps."""
    counts: Counter[str] = Counter()
    for cell in CELLS:
        cases = [case for case in rate_cases(journal, cell, scored) if journal.get(case.key) is not None]
        best = rounded(best_rate(journal, cell))
        at_best = [final_loss(read(journal, case)) for case in cases if case.lr == best]
        for case in cases if at_best else ():
            record = read(journal, case)
            ratio, findings = final_loss(record) / mean(at_best), diagnose(record)
            is_lowered = bool(findings) and findings[0].cause in RATE_CAUSES and "too low" not in findings[0].headline
            is_right = not findings if ratio <= AS_GOOD else is_lowered
            counts["trainings"] += 1
            counts["right"] += is_right
            counts["false cause"] += bool(findings) and not is_lowered
            after = following(journal, case)
            if after is not None and journal.get(after.key) is not None:
                counts["followed"] += 1
                counts["better"] += final_loss(read(journal, after)) < final_loss(record)
            if not is_right:
                told = "; ".join(finding.headline for finding in findings) or "nothing"
                print(f"    {' '.join(map(str, case.key))}: {ratio:.2f} times the best rate's loss: {told}")
    print(
        f"rates, {scored}: first finding right {counts['right']} of {counts['trainings']}, false cause first "
        f"{counts['false cause']}; the next training better {counts['better']} of {counts['followed']}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=("train", "rates", "next", "show", "scatter"))
    parser.add_argument("--journal", type=Path, required=True)
    arguments = parser.parse_args()
    journal = Journal(arguments.journal)
    if "scatter" in arguments.parts:
        show_scatter()
    if "train" in arguments.parts:
        train_all(journal, all_cases())
    if "rates" in arguments.parts:
        train_all(journal, search_cases())
        train_all(
            journal, (case for scored, cell in product(SCORED, CELLS) for case in rate_cases(journal, cell, scored))
        )
    if "next" in arguments.parts:
        made = [case for scored, cell in product(SCORED, CELLS) for case in rate_cases(journal, cell, scored)]
        train_all(
            journal, filter(None, (following(journal, case) for case in made if journal.get(case.key) is not None))
        )
    if "show" in arguments.parts:
        for seeds in (SEEDS[:3], SEEDS[3:]):
            show(journal, seeds)
        for scored in SCORED:
            show_rates(journal, scored)


if __name__ == "__main__":
    main()
