"""Choose the recipes of configs/accurate.yaml and configs/record.yaml on the validation set: docs/accuracy.md.

    python scripts/search_accuracy.py alone sigmoid together taught mixed show

- alone, sigmoid: ReLU, and the lecture's first activation, on augmented images without teachers
- together: which networks could teach: mean predictions of those that `scripts/record.py teachers sigmoid` has trained
- taught, mixed: with the first ten ReLU networks as teachers; with five ReLU and five sigmoid networks, or others
- show: the table of the arms, the best first

The lowest validation loss of a training decides, and where it does not, the accuracy. 5,000 images tell little: the
best and the last weights are also measured on eight augmented views of each validation image, distorted two fifths as
much as in training. Seeds 1000, 1001, ... are those of no published figure. The test files are never opened.
"""

from collections import Counter
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import torch
from torch import Tensor

from common import ROOT, arguments_parser, context_of, data_access, data_of, results, trained
from lenet_mnist.analysis.metrics import mean_prediction
from lenet_mnist.config import AugmentationConfig, Config, DataConfig, Split
from lenet_mnist.data.augment import draw, resample
from lenet_mnist.data.batches import Batch
from lenet_mnist.model.lenet import LeNet
from lenet_mnist.reporting.text import aligned
from lenet_mnist.runs.listing import find_run
from lenet_mnist.sections import flat_values
from lenet_mnist.study.evaluation import answers_of
from lenet_mnist.study.teachers import find_teachers, teachers_of
from lenet_mnist.tally import count

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
    parser = arguments_parser(__doc__)
    parser.add_argument("parts", nargs="+", choices=["alone", "sigmoid", "together", "taught", "mixed", "show"])
    parser.add_argument("--journal", type=Path, default=ROOT / "docs" / "accuracy.jsonl")
    parser.add_argument("--runs-dir", type=Path, default=ROOT / "runs", help="where the teachers are")
    options = parser.parse_args()
    configs = [config for arm in ARMS if arm.part in options.parts for config in arm.configs]
    results(options.journal, configs, partial(run, runs_dir=options.runs_dir))
    if "together" in options.parts:
        show_together(options.runs_dir)
    if "show" in options.parts:
        show(options.journal)


def run(config: Config, runs_dir: Path) -> dict[str, Any]:
    """Train one network; its lowest validation loss counts, as in `lenet train`."""
    context = context_of(config)
    networks = find_teachers(config, runs_dir, context.data).networks
    context = replace(context, teachers=teachers_of(networks, config, context))
    state, result = trained(config, context)
    rows, best_network = state.histories.history, state.kept_network()
    if best_network is None:
        return {"stop_reason": result.stop_reason.value, "val_loss": None}
    best, last = min(rows, key=lambda row: row.val_loss), rows[-1]
    near = near_validation_images(config.data)
    return {
        "stop_reason": result.stop_reason.value,
        "val_loss": best.val_loss,
        "val_accuracy": best.val_accuracy,
        "epoch": best.epoch,
        "last_loss": last.val_loss,
        "last_accuracy": last.val_accuracy,
        "train_loss": last.train_loss,
        "near_accuracy": count(best_network, near).accuracy,
        "last_near_accuracy": count(state.network, near).accuracy,
        "seconds": sum(row.seconds for row in rows),
    }


@cache
def near_validation_images(config: DataConfig) -> list[Batch]:
    """Return eight views of the validation images, each slightly distorted."""
    data = data_of(config)
    images, indices, size = data.val.images, data.val.indices.numpy(), data.val.image_size
    black, factor = 255 * data.normalization.mean, 1 / (255 * data.normalization.std)
    views = [draw(NEAR, size, FIRST_SEED, view, indices) for view in range(1, NUM_NEAR_VIEWS + 1)]
    return [Batch(resample(images, torch.arange(len(images)), view, black, factor), data.val.labels) for view in views]


def what_differs(config: Config) -> str:
    """Name what an arm sets, beside what most set."""
    usual = flat_values(ARMS[0].configs[0]) | {"seed": config.seed, "training.weight_decay": None}
    changes = {key: value for key, value in flat_values(config).items() if value != usual[key]}
    if "training.teachers" in changes:
        kinds = Counter(name.partition("-")[0] for name in config.training.teachers)
        changes["training.teachers"] = " + ".join(f"{count} {kind}" for kind, count in kinds.items())
    return ", ".join(f"{key.split('.')[-1]} {value}" for key, value in changes.items())


def show_together(runs_dir: Path) -> None:
    """Print the mean predictions of several networks for the validation images."""
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


def show(journal: Path) -> None:
    """Print the arms whose seeds are all there, none of them diverged, the lowest mean loss first."""
    found = results(journal, [config for arm in ARMS for config in arm.configs], None)
    rows = []
    for arm in ARMS:
        those = [
            found[config] for config in arm.configs if found.get(config, {"val_loss": None})["val_loss"] is not None
        ]
        if len(those) == arm.num_seeds:
            loss, accuracy, seconds = (
                mean(each[key] for each in those) for key in ("val_loss", "val_accuracy", "seconds")
            )
            losses = ", ".join(f"{each['val_loss']:.4f}" for each in those)
            near = ("near_accuracy", "last_near_accuracy")
            views = [f"{mean(each[key] for each in those):.3%}" if key in those[0] else "" for key in near]
            row = (what_differs(arm.configs[0]), f"{loss:.4f}", losses, f"{accuracy:.2%}", *views, f"{seconds:.0f}")
            rows.append((loss, row))
    columns = ("arm", "validation loss", "of each seed", "accuracy", "distorted", "last epoch", "seconds, one thread")
    print(aligned(columns, [row for _, row in sorted(rows)]))


if __name__ == "__main__":
    main()
