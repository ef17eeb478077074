"""Whether `lenet diagnose` names the right cause: docs/diagnosis.md.

    python scripts/measure_diagnosis.py --journal build/diagnosis.jsonl train show

Twelve trainings are broken on purpose, for each activation and six seeds, on 11,000 images; beside them are healthy
ones: the shipped recipes as they are, Adam on 11,000 images, and configs/fast.yaml. Thresholds were set on the seeds
0 to 2, and are scored on 3 to 5. Finished trainings are kept in the journal. The test files are never opened.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import pairwise, product
from pathlib import Path
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from pydantic import TypeAdapter

from common import ROOT, Journal, data_access, in_workers
from lenet_mnist.analysis.diagnosis import diagnose
from lenet_mnist.analysis.findings import Cause, Finding, TrainingRecord
from lenet_mnist.config import Activation, Config, Optimizer
from lenet_mnist.config_file import load_config
from lenet_mnist.data import batches
from lenet_mnist.data.sets import Normalization, TrainSet, TrainVal, ValSet
from lenet_mnist.data.sources import load_train_val
from lenet_mnist.model.engines import resolve_engine
from lenet_mnist.randomness import Purpose, random_order
from lenet_mnist.training.loop import EpochRow, start_training, train
from lenet_mnist.training.probe import Probe, ProbeRow
from lenet_mnist.training.state import TrainState
from lenet_mnist.training.updates import StepRow

SEEDS = range(6)
RECORD = TypeAdapter(TrainingRecord)
CPU = torch.device("cpu")


class Fault(StrEnum):
    """What was done to a training."""

    RATE_TOO_HIGH = "learning rate 10"
    RATE_TOO_LOW = "learning rate 1e-5"
    SMALL_WEIGHTS = "starting weights a hundredth"
    NEGATIVE_BIASES = "all biases -10"
    SORTED = "batches sorted by label"
    PERMUTED_LABELS = "labels permuted"
    FEW_WRONG_LABELS = "5 % of the labels wrong"
    MANY_WRONG_LABELS = "30 % of the labels wrong"
    FEW_IMAGES = "200 training images, 600 epochs"
    MOMENTUM = "momentum 0.999"
    NOT_NORMALISED = "inputs from 0 to 255"
    WEIGHT_DECAY = "weight decay 1"
    IMPATIENT = "patience 1, 100 validation images"
    NONE = "recipe, whole"
    NONE_ADAM = "Adam, 11,000 images"
    NONE_FAST = "configs/fast.yaml"


HEALTHY = (Fault.NONE, Fault.NONE_ADAM, Fault.NONE_FAST)
CAUSES = {
    Fault.RATE_TOO_HIGH: {Cause.LEARNING_RATE, Cause.DIVERGED},
    Fault.RATE_TOO_LOW: {Cause.LEARNING_RATE},
    Fault.SMALL_WEIGHTS: {Cause.STARTING_WEIGHTS},
    Fault.NEGATIVE_BIASES: {Cause.DEAD_UNITS},
    Fault.SORTED: {Cause.UNMIXED_BATCHES},
    Fault.PERMUTED_LABELS: {Cause.LABELS},
    Fault.FEW_WRONG_LABELS: {Cause.LABELS},
    Fault.MANY_WRONG_LABELS: {Cause.LABELS},
    Fault.FEW_IMAGES: {Cause.OVER_FITTING},
    Fault.MOMENTUM: {Cause.MOMENTUM},
    Fault.NOT_NORMALISED: {Cause.INPUTS},
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
        case Fault.SORTED:
            order = torch.argsort(train_set.labels, stable=True)
            return replace(
                data, train=TrainSet(train_set.images[order], train_set.labels[order], train_set.indices[order])
            )
        case Fault.PERMUTED_LABELS:
            train_labels = train_set.labels[torch.from_numpy(generator.permutation(len(train_set)))]
            val_labels = val_set.labels[torch.from_numpy(generator.permutation(len(val_set)))]
        case Fault.FEW_WRONG_LABELS | Fault.MANY_WRONG_LABELS:
            share = 0.05 if case.fault is Fault.FEW_WRONG_LABELS else 0.3
            train_labels = wrong_labels(train_set.labels, share, generator)
            val_labels = wrong_labels(val_set.labels, share, generator)
        case Fault.NOT_NORMALISED:
            return replace(data, normalization=Normalization(0.0, 1 / 255))
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


@torch.no_grad()
def damage_state(case: Case, state: TrainState) -> None:
    """Give the network the case's fault, if it lies there."""
    network = state.network
    if case.fault is Fault.SMALL_WEIGHTS:
        for weights in network.weights_in_order:
            weights.mul_(0.01)
    if case.fault is Fault.NEGATIVE_BIASES:
        for layer in (network.c1, network.c3, network.c5, network.f6, network.output):
            layer.bias.fill_(-10.0)


def record_of(case: Case) -> object:
    """Train, and return what a run's files would tell."""
    config = case.config
    data = damaged_data(case, load_train_val(config.data, data_access()))
    engine = resolve_engine(config.training.engine, CPU, data.train.image_size)
    state = start_training(config, data, CPU, engine.network)
    guessing_loss = state.stopping.guessing_loss
    damage_state(case, state)
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

    def order(seed: int, purpose: Purpose, size: int, position: int = 0) -> npt.NDArray[np.int64]:
        return np.arange(size) if case.fault is Fault.SORTED else random_order(seed, purpose, size, position)

    with patch.object(batches, "random_order", order):
        result = train(config, data, state, on_step, on_epoch)
    sizes = len(data.train), len(data.val)
    record = TrainingRecord(config, *sizes, guessing_loss, result.stop_reason.value, history, steps, probe)
    return RECORD.dump_python(record, mode="json")


def all_cases() -> Iterator[Case]:
    for seed, fault, activation in product(SEEDS, Fault, Activation):
        if fault is not Fault.NONE_FAST or activation is Activation.RELU:
            yield Case(fault, activation, seed)


def train_all(journal: Journal) -> None:
    """Train what the journal lacks, a thread each."""
    missing = [case for case in all_cases() if journal.get(case.key) is None]
    for case, record in in_workers(record_of, missing):
        journal.add(case.key, record)
        print(*case.key, file=sys.stderr, flush=True)


def show_scatter() -> None:
    """Print how much the loss of a single validation image changes in an epoch, as a multiple of the mean loss.

    By that much, divided by the root of their number, a validation loss rises or falls by chance.
    """
    for activation, seed in product(Activation, SEEDS[:3]):
        losses = losses_after_epochs(Case(Fault.SMALL_WEIGHTS, activation, seed).config)
        scatter = [float((b - a).std() / min(a.mean(), b.mean())) for a, b in pairwise(losses)]
        print(f"{activation}, seed {seed}: " + " ".join(f"{each:.1f}" for each in scatter))


def losses_after_epochs(config: Config) -> list[torch.Tensor]:
    """Train, and return the loss of each validation image after each epoch."""
    data = load_train_val(config.data, data_access())
    images = data.normalization.apply(data.val.images)
    engine = resolve_engine(config.training.engine, CPU, data.train.image_size)
    state = start_training(config, data, CPU, engine.network)
    losses: list[torch.Tensor] = []

    def on_epoch(_: EpochRow) -> None:
        with torch.inference_mode():
            losses.append(F.cross_entropy(state.network(images), data.val.labels, reduction="none"))

    train(config, data, state, lambda _: False, on_epoch)
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=("train", "show", "scatter"))
    parser.add_argument("--journal", type=Path, required=True)
    arguments = parser.parse_args()
    journal = Journal(arguments.journal)
    if "scatter" in arguments.parts:
        show_scatter()
    if "train" in arguments.parts:
        train_all(journal)
    if "show" in arguments.parts:
        for seeds in (SEEDS[:3], SEEDS[3:]):
            show(journal, seeds)


if __name__ == "__main__":
    main()
