"""Choose the recipes of configs/accurate.yaml and configs/record.yaml on the validation set: docs/accuracy.md.

    python scripts/search_accuracy.py alone sigmoid together taught mixed show

- alone: ReLU on distorted images, without teachers
- sigmoid: the lecture's first activation, the same way
- together: who could teach: the mean predictions of networks that `scripts/record.py teachers sigmoid` has trained
- taught: ReLU with the first ten ReLU networks as teachers
- mixed: with five ReLU networks and five sigmoid networks as teachers, or more kinds, ReLU and sigmoid
- show: the table of the arms, best one first

What decides is the validation loss of the best epoch; among arms that it does not tell apart, the accuracy. 5,000
images tell little; so the networks of the best and of the last epoch are also counted on eight views of each validation
image, distorted two fifths as much as training images are: they are no new images, but 40,000 new pictures of them.

Each arm is trained with seeds that no published figure uses (1000, 1001, ...), a thread to a training and a training to
a core. Finished trainings are kept in the journal: start again to go on. The test files are never opened.
"""

import argparse
from collections import Counter
from functools import cache, partial
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import torch
from torch import Tensor

from common import ROOT, Journal, data_access, in_workers
from lenet_mnist.analysis.metrics import mean_prediction
from lenet_mnist.config import AugmentationConfig, Config, DataConfig, Keep, Split
from lenet_mnist.data.augment import draw, resample
from lenet_mnist.data.batches import Batch
from lenet_mnist.data.load import load_train_val
from lenet_mnist.data.sets import TrainVal
from lenet_mnist.model.engines import resolve_engine
from lenet_mnist.model.lenet import LeNet
from lenet_mnist.reporting.text import aligned
from lenet_mnist.runs.listing import find_run
from lenet_mnist.sections import flat_values
from lenet_mnist.study.evaluation import answers_of
from lenet_mnist.study.teachers import find_teachers, teachers_of
from lenet_mnist.tally import count
from lenet_mnist.training.loop import start_training, train
from lenet_mnist.training.rows import EpochRow

FIRST_SEED = 1000
LABORATORY = {"rotation": 10.0, "scale": 0.1, "shear": 0.1, "shift": 1.0, "elastic": 0.85, "elastic_sigma": 5.0}
NEAR = AugmentationConfig(rotation=4, scale=0.04, shear=0.04, shift=0.4, elastic=0.34)
NUM_NEAR_VIEWS = 8


class Arm(NamedTuple):
    """What is tried: the values that an arm sets, and with how many seeds."""

    part: str
    augmentation: dict[str, Any]
    training: dict[str, Any]
    activation: str = "relu"
    num_seeds: int = 2

    @property
    def configs(self) -> list[Config]:
        values = {
            "model": {"activation": self.activation},
            "augmentation": LABORATORY | self.augmentation,
            "training": {"patience": None, "max_epochs": 60, "learning_rate": 0.02, **self.training},
        }
        return [Config.model_validate({"seed": FIRST_SEED + n, **values}) for n in range(self.num_seeds)]


def alone(*, num_seeds: int = 2, **training: Any) -> Arm:
    """Return an arm of ReLU: `augmentation` apart, what it sets in the training."""
    return Arm("alone", training.pop("augmentation", {}), training, num_seeds=num_seeds)


def sigmoid(**training: Any) -> Arm:
    """Return an arm of sigmoid, which takes no weight decay without being asked."""
    distorted = training.pop("augmentation", {})
    return Arm("sigmoid", distorted, {"weight_decay": 0.0, **training}, activation="sigmoid")


def taught(**training: Any) -> Arm:
    """Return an arm of ReLU with ten teachers, who are asked about twenty views of each image."""
    distorted = {"views": 20} | training.pop("augmentation", {})
    return Arm("taught", distorted, {**CHOSEN, "teachers": named(teacher=10), "max_epochs": 100, **training})


def mixed(activation: str = "relu", **training: Any) -> Arm:
    """Return an arm with five teachers of each kind, if nothing else is said."""
    teachers = named(teacher=5, sigmoid=5)
    return taught(**{"teachers": teachers, **training})._replace(part="mixed", activation=activation)


def named(**counts: int) -> list[str]:
    """Return the names of the first so many networks of each kind (scripts/record.py)."""
    return [f"{kind}-{n}" for kind, count in counts.items() for n in range(count)]


# What the first five arms gave: as good as batches of 64, and faster.
CHOSEN = {"weight_decay": 5e-4, "learning_rate": 0.04, "batch_size": 128}
ARMS = [
    alone(weight_decay=0.0),
    alone(weight_decay=5e-4),
    alone(weight_decay=1e-3),
    alone(weight_decay=5e-4, learning_rate=0.04),
    alone(**CHOSEN),
    alone(**CHOSEN, augmentation={"views": 20}),
    alone(**CHOSEN, max_epochs=40),
    alone(**CHOSEN | {"batch_size": 256, "learning_rate": 0.08}),
    alone(**CHOSEN, augmentation={"rotation": 15.0, "shift": 2.0}),
    taught(),
    taught(weight_decay=0.0),
    taught(augmentation={"rotation": 15.0, "shift": 2.0}),
    taught(augmentation={"views": 50}),
    taught(distillation_temperature=4.0),
    taught(max_epochs=200),
    taught(max_epochs=200, distillation_temperature=4.0, augmentation={"rotation": 15.0, "shift": 2.0}),
    sigmoid(learning_rate=0.2),
    sigmoid(learning_rate=0.4),
    sigmoid(optimizer="adam", learning_rate=0.005, batch_size=128),
    sigmoid(optimizer="adam", learning_rate=0.005, batch_size=128, max_epochs=100),
    sigmoid(learning_rate=0.4, max_epochs=100),
    sigmoid(learning_rate=0.4, max_epochs=100, weight_decay=1e-4),
    mixed(),
    mixed(batch_size=64, max_epochs=200),
    mixed("sigmoid", batch_size=64, learning_rate=0.4, weight_decay=0.0),
    mixed("sigmoid", optimizer="adam", learning_rate=0.005, weight_decay=0.0),
    mixed(teachers=named(teacher=10, sigmoid=10, undecayed=10), weight_decay=2e-4, max_epochs=300),
    mixed(optimizer="adam", learning_rate=0.002, weight_decay=0.0),
    mixed(max_epochs=300),
    mixed(weight_decay=0.0),
    mixed(weight_decay=1e-4),
]

TOGETHER = {
    "5 with ReLU": named(teacher=5),
    "10 with ReLU": named(teacher=10),
    "20 with ReLU": named(teacher=20),
    "5 with sigmoid": named(sigmoid=5),
    "10 with sigmoid": named(sigmoid=10),
    "20 with sigmoid": named(sigmoid=20),
    "5 of each": named(teacher=5, sigmoid=5),
    "10 of each": named(teacher=10, sigmoid=10),
    "20 of each": named(teacher=20, sigmoid=20),
    "10 students": named(student=40)[20:30],
    "10 without weight decay": named(undecayed=10),
    "20 without weight decay": named(undecayed=20),
    "5 without weight decay, 5 with sigmoid": named(undecayed=5, sigmoid=5),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=["alone", "sigmoid", "together", "taught", "mixed", "show"])
    parser.add_argument("--journal", type=Path, default=ROOT / "docs" / "accuracy.jsonl")
    parser.add_argument("--runs-dir", type=Path, default=ROOT / "runs", help="where the teachers are")
    arguments = parser.parse_args()
    journal = Journal(arguments.journal)
    arms = [arm for arm in ARMS if arm.part in arguments.parts]
    missing = [config for arm in arms for config in arm.configs if journal.get(key_of(config)) is None]
    for config, result in in_workers(partial(run, runs_dir=arguments.runs_dir), missing):
        journal.add(key_of(config), result)
        print(f"{what_differs(config)}, seed {config.seed}: {result}", flush=True)
    if "together" in arguments.parts:
        show_together(arguments.runs_dir)
    if "show" in arguments.parts:
        show(journal)


def key_of(config: Config) -> dict[str, Any]:
    return config.model_dump(mode="json")


@cache
def data_of(config: DataConfig) -> TrainVal:
    return load_train_val(config, data_access())


def run(config: Config, runs_dir: Path) -> dict[str, Any]:
    """Train one network; what counts is its best validation loss, as in `lenet train`."""
    data, cpu = data_of(config.data), torch.device("cpu")
    rows: list[EpochRow] = []
    engine = resolve_engine(config.training.engine, cpu, data.train.image_size).network
    teachers = teachers_of(find_teachers(config, runs_dir, data).networks, config, cpu, engine)
    state = start_training(config, data, cpu, engine)
    result = train(config, data, state, lambda _: False, rows.append, teachers=teachers)
    if not rows:
        return {"stop_reason": result.stop_reason.value, "val_loss": None}
    assert config.training.keep is Keep.BEST, "the kept network is that of the best epoch"
    best, last = min(rows, key=lambda row: row.val_loss), state.network
    best_network = state.kept_network()
    assert best_network is not None  # an epoch has ended
    near = near_validation_images(config.data)
    return {
        "stop_reason": result.stop_reason.value,
        "val_loss": best.val_loss,
        "val_accuracy": best.val_accuracy,
        "epoch": best.epoch,
        "last_loss": rows[-1].val_loss,
        "last_accuracy": rows[-1].val_accuracy,
        "train_loss": rows[-1].train_loss,
        "near_accuracy": count(best_network, near).accuracy,
        "last_near_accuracy": count(last, near).accuracy,
        "seconds": sum(row.seconds for row in rows),
    }


@cache
def near_validation_images(config: DataConfig) -> list[Batch]:
    """Return the validation images, each distorted a little in eight ways."""
    data = data_of(config)
    images, indices, size = data.val.images, data.val.indices.numpy(), data.val.image_size
    black, factor = 255 * data.normalization.mean, 1 / (255 * data.normalization.std)
    views = [draw(NEAR, size, FIRST_SEED, view, indices) for view in range(1, NUM_NEAR_VIEWS + 1)]
    everywhere = torch.arange(len(images))
    return [Batch(resample(images, everywhere, view, black, factor), data.val.labels) for view in views]


def what_differs(config: Config) -> str:
    """Name what an arm sets, beside what most set."""
    usual = flat_values(ARMS[0].configs[0]) | {"seed": config.seed, "training.weight_decay": None}
    changes = {key: value for key, value in flat_values(config).items() if value != usual[key]}
    if "training.teachers" in changes:
        kinds = Counter(name.partition("-")[0] for name in config.training.teachers)
        changes["training.teachers"] = " + ".join(f"{count} {kind}" for kind, count in kinds.items())
    return ", ".join(f"{key.split('.')[-1]} {value}" for key, value in changes.items())


def show_together(runs_dir: Path) -> None:
    """Print what networks answer together for the validation images."""
    members = {name for names in TOGETHER.values() for name in names}
    runs = {name: find_run(name, runs_dir) for name in sorted(members)}
    answers = dict(zip(runs, answers_of(list(runs.values()), Split.VAL, data_access()), strict=True))
    near = near_validation_images(Config().data)
    labels = torch.cat([batch.labels for batch in near])
    distorted = {name: probabilities(answer.trained.network, near) for name, answer in answers.items()}
    rows = []
    for what, names in TOGETHER.items():
        each = [answers[name].evaluation for name in names]
        seen = mean_prediction(each)
        alone = mean(evaluation.mean_loss for evaluation in each)
        is_right = torch.stack([distorted[name] for name in names]).mean(dim=0).argmax(dim=1) == labels
        of_near = f"{is_right.double().mean():.3%}"
        rows.append((what, f"{alone:.4f}", f"{seen.mean_loss:.4f}", f"{seen.accuracy:.2%}", of_near))
    print(aligned(("networks", "validation loss: mean of each", "together", "accuracy together", "distorted"), rows))


@torch.inference_mode()
def probabilities(network: LeNet, batches: list[Batch]) -> Tensor:
    """Return what a network answers to all images. Shapes: result N K."""
    return torch.cat([network(batch.images).softmax(dim=1) for batch in batches])


def show(journal: Journal) -> None:
    """Print the arms of which all seeds are there and none diverged, those of the lowest mean loss first."""
    rows: list[tuple[float, tuple[str, ...]]] = []
    for arm in ARMS:
        results = [journal.get(key_of(config)) for config in arm.configs]
        found = [result for result in results if result is not None and result["val_loss"] is not None]
        if len(found) == len(results):
            loss = mean(result["val_loss"] for result in found)
            accuracy = mean(result["val_accuracy"] for result in found)
            seconds = mean(result["seconds"] for result in found)
            losses = ", ".join(f"{result['val_loss']:.4f}" for result in found)
            near = ("near_accuracy", "last_near_accuracy")
            views = [f"{mean(result[key] for result in found):.3%}" if key in found[0] else "" for key in near]
            row = (what_differs(arm.configs[0]), f"{loss:.4f}", losses, f"{accuracy:.2%}", *views, f"{seconds:.0f}")
            rows.append((loss, row))
    columns = ("arm", "validation loss", "of each seed", "accuracy", "distorted", "last epoch", "seconds, one thread")
    print(aligned(columns, [row for _, row in sorted(rows)]))


if __name__ == "__main__":
    main()
