"""Search for better recipes on the validation set: docs/accuracy.md. No test image is looked at.

    python scripts/search_recipes.py show                       the table of docs/accuracy.jsonl
    python scripts/search_recipes.py record show                with other teachers, for longer, ...
    taskset -c 0 python scripts/search_recipes.py fast show --seeds 1000-1009 --journal build/fast.jsonl

A part is a list of arms: values beside those of the defaults. Each is trained once per seed; 1000, 1001, ... are
seeds of no published figure. `show` prints all arms of the journal, also those that are in no list any more: the lowest
validation loss of a training, the accuracy of that epoch, and its means over the seeds. 5,000 images tell little: where
training images are augmented, the best and the last weights are also measured on eight views of each validation image,
distorted two fifths as much as in training.
"""

import json
from collections import Counter, defaultdict
from dataclasses import replace
from functools import cache, partial
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from common import (
    ROOT,
    Config,
    arguments,
    comparable,
    context_of,
    data_of,
    few,
    plus_minus,
    recipe,
    results,
    table,
    trained,
)
from lenet_mnist.config import AugmentationConfig, DataConfig
from lenet_mnist.config_file import parse_seeds
from lenet_mnist.data.augment import draw, resample
from lenet_mnist.data.batches import Batch
from lenet_mnist.files.tables import Journal
from lenet_mnist.sections import flat_values
from lenet_mnist.study.teachers import find_teachers, teachers_of
from lenet_mnist.tally import count

NEAR = AugmentationConfig(rotation=4, scale=0.04, shear=0.04, shift=0.4, elastic=0.34)
NUM_NEAR_VIEWS = 8
Arm = dict[str, Any]


def arms(base: Arm, **lists: list[Any]) -> list[Arm]:
    """Return an arm for each combination of values."""
    return [base | dict(zip(lists, values, strict=True)) for values in product(*lists.values())]


ONE_PASS = {"max_epochs": 1, "batch_size": 32, "warmup": 0.2, "patience": None}
MUON = ONE_PASS | {"optimizer": "muon", "momentum": 0.95, "learning_rate": 0.05, "label_smoothing": 0.1}
RECORD = {
    **{"rotation": 10.0, "scale": 0.1, "shear": 0.1, "shift": 1.0, "elastic": 0.85, "elastic_sigma": 5.0, "views": 20},
    **{"batch_size": 128, "learning_rate": 0.04, "patience": None},
    "teachers": [f"{kind}-{n}" for kind in ("teacher", "sigmoid", "undecayed") for n in range(10)],
}
RELU = {"max_epochs": 8}
TANH = {"activation": "tanh", "max_epochs": 10, "learning_rate": 0.05, "weight_decay": 5e-4}
SIGMOID = {"activation": "sigmoid", "max_epochs": 12, "learning_rate": 0.2, "weight_decay": 0.0}
BY_MUON = {"optimizer": "muon", "momentum": 0.95, "batch_size": 64}
PARTS = {
    "recipes": [
        each
        for base in (RELU, TANH, SIGMOID)
        for each in (
            *arms(base, label_smoothing=[0.0, 0.1]),
            *arms(base | BY_MUON, learning_rate=[0.02, 0.05], label_smoothing=[0.0, 0.1]),
        )
    ],
    "fast": [
        *arms(ONE_PASS | {"optimizer": "adam", "learning_rate": 4e-3}, label_smoothing=[0.0, 0.1]),
        *arms(MUON, learning_rate=[0.04, 0.05, 0.06, 0.08], momentum=[0.95, 0.97]),
        *arms(MUON, momentum=[0.9], learning_rate=[0.05]),
        *arms(MUON, label_smoothing=[0.0, 0.05, 0.2]),
        *arms(MUON, batch_size=[24, 48, 64]),
        *arms(MUON, warmup=[0.1, 0.3]),
        *arms(MUON, max_epochs=[2, 3]),
    ],
    "record": arms(RECORD, max_epochs=[100, 300], weight_decay=[0.0, 2e-4]),
}
KEYS = {key.rpartition(".")[2]: key.replace(".", "__") for key in flat_values(Config())}


def main() -> None:
    parser = arguments(__doc__, [*PARTS, "show"], "docs/accuracy.jsonl")
    parser.add_argument("--seeds", type=parse_seeds, default=[1000, 1001])
    parser.add_argument("--runs-dir", type=Path, default=ROOT / "runs", help="where the teachers are")
    options = parser.parse_args()
    configs = [
        recipe(None, seed=seed, **{KEYS[name]: value for name, value in arm.items()})
        for part in PARTS.keys() & set(options.parts)
        for arm, seed in product(few(PARTS[part]), few(options.seeds))
    ]
    results(options.journal, configs, partial(measure, runs_dir=options.runs_dir))
    if "show" in options.parts:
        show(options.journal)


def measure(config: Config, runs_dir: Path) -> dict[str, Any]:
    """Train one network; its lowest validation loss counts, as in `lenet train`."""
    context = context_of(config)
    networks = [teacher.network for teacher in find_teachers(config, runs_dir, context.data)]
    training = trained(config, replace(context, teachers=teachers_of(networks, config, context)))
    state, rows, best_network = training.state, training.state.histories.history, training.state.kept_network()
    if best_network is None:
        return {"stop_reason": training.stop_reason, "val_loss": None}
    best, last = min(rows, key=lambda row: row.val_loss), rows[-1]
    figures: dict[str, Any] = {"stop_reason": training.stop_reason, "seconds": sum(row.seconds for row in rows)}
    figures |= {"val_loss": best.val_loss, "val_accuracy": best.val_accuracy, "epoch": best.epoch}
    figures |= {"last_loss": last.val_loss, "last_accuracy": last.val_accuracy, "train_loss": last.train_loss}
    if config.augmentation.is_on:
        near = near_validation_images(config.data)
        figures["near_accuracy"] = count(best_network, near).accuracy
        figures["last_near_accuracy"] = count(state.network, near).accuracy
    return figures


@cache
def near_validation_images(config: DataConfig) -> list[Batch]:
    """Return distorted views of the validation images, the same for all arms."""
    data = data_of(config)
    images, indices, size = data.val.images, data.val.indices.numpy(), data.val.image_size
    black, factor = 255 * data.normalization.mean, 1 / (255 * data.normalization.std)
    views = [draw(NEAR, size, 1000, view, indices) for view in range(1, NUM_NEAR_VIEWS + 1)]
    return [Batch(resample(images, torch.arange(len(images)), view, black, factor), data.val.labels) for view in views]


def show(journal: Path) -> None:
    """Print all arms of the journal, the lowest mean loss first; of each, what most others do not have."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for entry in Journal(journal).documents():
        if "training" in entry["key"]:
            values = flat_values(Config.model_validate(comparable(entry["key"]) | {"seed": 0}))
            found[json.dumps({key: words(value) for key, value in values.items()})].append(entry["value"])
    settings = [json.loads(text) for text in found]
    usual = {key: Counter(str(each[key]) for each in settings).most_common(1)[0][0] for key in settings[0]}
    rows = []
    for each, trainings in zip(settings, found.values(), strict=True):
        name = ", ".join(f"{k.rpartition('.')[2]} {value}" for k, value in each.items() if str(value) != usual[k])
        losses = [training["val_loss"] for training in trainings]
        if None in losses:
            rows.append(("diverged", name))
            continue
        figures = [f"{mean(losses):.4f}", name, ", ".join(f"{loss:.4f}" for loss in losses)]
        figures.append(plus_minus([training["val_accuracy"] for training in trainings], ".2%"))
        for key, form in (("near_accuracy", ".3%"), ("last_near_accuracy", ".3%"), ("seconds", ".1f")):
            known = [training[key] for training in trainings if key in training]
            figures.append(f"{mean(known):{form}}" if known else "")
        rows.append(tuple(figures))
    columns = ("validation loss", "arm", "of each seed", "accuracy", "distorted", "last epoch", "seconds, one thread")
    print(table(columns, sorted(rows)))


def words(value: Any) -> Any:
    """Write the names of teachers as their kinds and numbers."""
    if not isinstance(value, tuple):
        return value
    kinds = Counter(name.partition("-")[0] for name in value)
    return " + ".join(f"{number} {kind}" for kind, number in kinds.items()) or "none"


if __name__ == "__main__":
    main()
