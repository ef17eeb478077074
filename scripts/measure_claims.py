"""What the lecture claims of activations, neurons, stopping and the validation set, measured: docs/claims.md.

    python scripts/measure_claims.py rates train dead heart show

- rates: `lenet lr-sweep` gives each activation its own best learning rate, over the seeds 50 and 51
- train: every activation at that rate, over the seeds 0 to 9, with every update recorded
- dead: ReLU at rates up to ten times its best, each unit followed from epoch to epoch
- heart: 1,000 training images for 100 epochs at a constant rate, with early stopping watching but not stopping
- show: the tables of docs/claims.md, from these and, for the spread over rates, from docs/learning-rate.jsonl

All train the same recipe but for what is compared: SGD with momentum 0.9, batches of 64, no weight decay, 4 epochs with
a rate that falls to zero. Finished trainings are kept in docs/claims.jsonl, and never done again. The test files are
never opened: where a choice on the test set is studied, halves of the validation set play the two parts.
"""

import argparse
import base64
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import fmean, geometric_mean, stdev
from typing import Any

import numpy as np
import torch

from common import ROOT, Journal, data_access, in_workers
from lenet_mnist.analysis.intervals import mean_interval
from lenet_mnist.analysis.speed import speed_ratio, steps_to_level
from lenet_mnist.config import Activation, Config, Schedule
from lenet_mnist.config_file import load_config
from lenet_mnist.data.load import load_train_val
from lenet_mnist.model.engines import layer_outputs, resolve_engine
from lenet_mnist.tally import Tally
from lenet_mnist.training.context import Context
from lenet_mnist.training.loop import train
from lenet_mnist.training.probe import Probe
from lenet_mnist.training.rows import EpochRow, Layer, StepRow
from lenet_mnist.training.state import TrainState
from measure_learning_rate import CELLS, TRUTH_SEEDS, Cell
from measure_learning_rate import EPOCHS as TRUTH_EPOCHS

CPU = torch.device("cpu")
EPOCHS = 4
SEEDS = range(10)
SWEEP_SEEDS = "50-51"
ERRORS = (0.2, 0.1, 0.05, 0.03, 0.02)  # training error
LOSSES = (1.0, 0.5, 0.2, 0.1, 0.05)  # nats
DEAD_RATES = (1.0, 2.0, 4.0, 10.0)  # times the best
DEAD_SEEDS = range(5)
HEART_IMAGES = 1000
HEART_EPOCHS = 100
CHOICES = (2, 5, 10, 20, 50)
DRAWS = 2000


def config_of(activation: Activation, lr: float, seed: int, **training: Any) -> Config:
    """Return the common recipe."""
    recipe = load_config(ROOT / "configs" / "relu.yaml").config
    changes = {"learning_rate": lr, "max_epochs": EPOCHS, "weight_decay": 0.0, "patience": None, **training}
    return recipe.model_copy(
        update={
            "seed": seed,
            "model": recipe.model.model_copy(update={"activation": activation}),
            "training": recipe.training.model_copy(update=changes),
        }
    )


def measure_rates(journal: Journal) -> None:
    """Let the sweep find each activation's best rate for this recipe."""
    if journal.get(["rates"]) is not None:
        return
    names = ",".join(Activation)
    options = [f"--activation={names}", f"--epochs={EPOCHS}", f"--seeds={SWEEP_SEEDS}", "--json"]
    values = [f"training.max_epochs={EPOCHS}", "training.weight_decay=0.0"]
    with tempfile.TemporaryDirectory() as runs_dir:
        command = [sys.executable, "-m", "lenet_mnist", "lr-sweep", *options, f"--runs-dir={runs_dir}"]
        command += [f"--set={value}" for value in values]
        answer = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    journal.add(["rates"], {name: found["choice"]["lr"] for name, found in answer["activations"].items()})


def best_rate(journal: Journal, activation: Activation) -> float:
    """Return what the sweep has found."""
    return float(f"{journal.get(['rates'])[activation.value]:.3g}")


@dataclass(frozen=True)
class Work:
    """One training to be made, and what is looked at in it."""

    key: list[Any]
    config: Config
    look: Callable[[Config], Any]


def do(work: Work) -> Any:
    return work.look(work.config)


def do_all(journal: Journal, works: Iterable[Work]) -> None:
    """Do what the journal lacks, a thread each."""
    missing = [work for work in works if journal.get(work.key) is None]
    for work, found in in_workers(do, missing):
        journal.add(work.key, found)
        print(*work.key, file=sys.stderr, flush=True)


def begin(config: Config) -> tuple[Any, TrainState]:
    data = load_train_val(config.data, data_access())
    engine = resolve_engine(config.training.engine, CPU, data.train.image_size)
    return data, TrainState.start(config, Context(data, engine=engine.network))


def look_at_speed(config: Config) -> dict[str, Any]:
    """Train, and return the steps to each level of training error and loss, and what each epoch ended with."""
    data, state = begin(config)
    probe = Probe.of(data, config.seed, CPU)
    val_images = data.normalization.apply(data.val.images)
    steps: list[StepRow] = []
    errors: list[StepRow] = []
    epochs: list[dict[str, Any]] = []
    looks = [[row.gradient_norm for row in probe.look(state)]]
    before = Tally()

    def on_step(row: StepRow) -> bool:
        nonlocal before
        before = Tally() if state.batches_done == 1 else before
        num_wrong = (state.tally.num_images - before.num_images) - (state.tally.num_correct - before.num_correct)
        errors.append(replace(row, train_loss=num_wrong / (state.tally.num_images - before.num_images)))
        steps.append(row)
        before = state.tally
        if row.step == 1:
            looks.append([each.gradient_norm for each in probe.look(state)])
        return False

    def on_epoch(row: EpochRow) -> None:
        with torch.inference_mode():
            is_right = (state.network(val_images).argmax(dim=1) == data.val.labels).numpy()
        looks.append([each.gradient_norm for each in probe.look(state)])
        epochs.append(
            {
                "train_loss": row.train_loss,
                "train_accuracy": row.train_accuracy,
                "val_loss": row.val_loss,
                "val_accuracy": row.val_accuracy,
                "right": base64.b64encode(np.packbits(is_right).tobytes()).decode(),
            }
        )

    result = train(config, Context(data), state, on_step, on_epoch)
    return {
        "stop_reason": result.stop_reason.value,
        "error": {str(level): steps_to_level(errors, level) for level in ERRORS},
        "loss": {str(level): steps_to_level(steps, level) for level in LOSSES},
        "epochs": epochs,
        "gradients": looks,
    }


def look_at_units(config: Config) -> dict[str, Any]:
    """Train, and return after each epoch which of the units of C3, C5 and F6 give zero on the whole probe."""
    data, state = begin(config)
    images = Probe.of(data, config.seed, CPU).batch.images
    dead: list[dict[str, list[bool]]] = []

    def look() -> None:
        network = state.network
        with torch.inference_mode():
            outputs = layer_outputs(images, network.parameters_in_order, network.activation)
        by_unit = {"C3": outputs.s4.flatten(start_dim=2).amax(dim=2), "C5": outputs.c5, "F6": outputs.f6}
        dead.append({layer: (values.amax(dim=0) == 0).tolist() for layer, values in by_unit.items()})

    look()
    result = train(config, Context(data), state, on_epoch=lambda _: look())
    return {"stop_reason": result.stop_reason.value, "dead": dead}


def look_at_heart(config: Config) -> list[dict[str, float]]:
    """Train, and return training and validation loss and accuracy of every epoch."""
    data, state = begin(config)
    rows: list[dict[str, float]] = []
    names = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")
    train(config, Context(data), state, on_epoch=lambda row: rows.append({name: getattr(row, name) for name in names}))
    return rows


def works_of(journal: Journal, parts: Sequence[str]) -> Iterator[Work]:
    """Yield what the parts consist of."""
    relu = best_rate(journal, Activation.RELU)
    if "train" in parts:
        for seed in SEEDS:
            for activation in Activation:
                config = config_of(activation, best_rate(journal, activation), seed)
                yield Work(["train", activation.value, seed], config, look_at_speed)
    if "dead" in parts:
        for times in DEAD_RATES:
            for seed in DEAD_SEEDS:
                yield Work(["dead", times, seed], config_of(Activation.RELU, times * relu, seed), look_at_units)
    if "heart" in parts:
        for seed in SEEDS:
            config = config_of(
                Activation.RELU, relu / 4, seed, max_epochs=HEART_EPOCHS, schedule=Schedule.CONSTANT, warmup=0.0
            )
            data = config.data.model_copy(update={"limit_train": HEART_IMAGES})
            yield Work(["heart", seed], config.model_copy(update={"data": data}), look_at_heart)


# Tables.


def show(journal: Journal) -> None:
    """Print the tables of docs/claims.md."""
    for section in (show_speed, show_accuracy, show_gradients, show_stability, show_dead, show_heart, show_choices):
        print()
        section(journal)


def trained(journal: Journal, activation: Activation) -> dict[int, dict[str, Any]]:
    found = {seed: journal.get(["train", activation.value, seed]) for seed in SEEDS}
    return {seed: value for seed, value in found.items() if value is not None}


def show_speed(journal: Journal) -> None:
    """Print how many times as many updates sigmoid and tanh need as ReLU."""
    rates = ", ".join(f"{activation} {best_rate(journal, activation):g}" for activation in Activation)
    print(f"Learning rates: {rates}.\n")
    print("| until | ReLU, updates | tanh / ReLU | sigmoid / ReLU |")
    print("| --- | --- | --- | --- |")
    by_activation = {activation: trained(journal, activation) for activation in Activation}
    for kind, levels, unit in (("error", ERRORS, "training error {:.0%}"), ("loss", LOSSES, "training loss {:g}")):
        for level in levels:
            steps = {
                activation: {seed: value[kind][str(level)] for seed, value in found.items()}
                for activation, found in by_activation.items()
            }
            relu = steps[Activation.RELU]
            cells = [ratio_text(relu, steps[other]) for other in (Activation.TANH, Activation.SIGMOID)]
            reached = [step for step in relu.values() if step is not None]
            print(f"| {unit.format(level)} | {geometric_mean(reached):.0f} | {' | '.join(cells)} |")


def ratio_text(steps: dict[int, float | None], others: dict[int, float | None]) -> str:
    ratio = speed_ratio(steps, others)
    if ratio is None or ratio.interval_95 is None:
        return f"never reached by {sum(step is None for step in others.values())} of {len(others)}"
    return f"{ratio.value:.2f} ({ratio.interval_95.low:.2f} to {ratio.interval_95.high:.2f})"


def show_accuracy(journal: Journal) -> None:
    """Print how well each activation ends."""
    print("| activation | validation accuracy after 4 epochs | validation loss |")
    print("| --- | --- | --- |")
    for activation in Activation:
        ends = [value["epochs"][-1] for value in trained(journal, activation).values()]
        accuracy = with_interval([end["val_accuracy"] for end in ends], ".2%")
        print(f"| {activation} | {accuracy} | {with_interval([end['val_loss'] for end in ends], '.4f')} |")


def with_interval(values: Sequence[float], form: str) -> str:
    """Return the mean and its 95 % interval over seeds."""
    low, high = mean_interval(values)
    return f"{fmean(values):{form}} ({low:{form}} to {high:{form}})"


def show_gradients(journal: Journal) -> None:
    """Print how much smaller the gradient is at each layer than at the output."""
    print(f"| activation, when | {' | '.join(list(Layer)[:-1])} |")
    print("| --- " * len(Layer) + "|")
    for activation in Activation:
        looks = [value["gradients"] for value in trained(journal, activation).values()]
        for name, k in (("after the first update", 1), ("after epoch 1", 2), (f"after epoch {EPOCHS}", EPOCHS + 1)):
            cells = [
                geometric_mean(look[k][-1] / max(look[k][layer], 1e-30) for look in looks)
                for layer in range(len(Layer) - 1)
            ]
            print(f"| {activation}, {name} | {' | '.join(f'{cell:.3g}' for cell in cells)} |")


def show_stability(_: Journal) -> None:
    """Print, of whole trainings at 16 rates over two decades, how many rates are of use, and how far seeds scatter."""
    truth = Journal(ROOT / "docs" / "learning-rate.jsonl")
    print(
        "| activation, optimizer, batch size | seeds | within 1.5 times the lowest loss | learned nothing | scatter |"
    )
    print("| --- | --- | --- | --- | --- |")
    for cell in CELLS:
        if cell.activation is Activation.RELU:
            continue
        table = {lr: finals(truth, cell, lr) for lr in cell.rates}
        num_seeds = min(len(losses) for losses in table.values())
        means = {lr: fmean(losses[:num_seeds]) for lr, losses in table.items()}
        best = min(means, key=means.__getitem__)
        decades = math.log10(cell.rates[1] / cell.rates[0]) * sum(m <= 1.5 * means[best] for m in means.values())
        num_stuck = sum(loss > 0.9 * math.log(10) for losses in table.values() for loss in losses[:num_seeds])
        scatter = [stdev(table[lr][:num_seeds]) / means[lr] for lr in means if means[lr] <= 1.5 * means[best]]
        name = f"{cell.activation}, {cell.optimizer}, {cell.batch_size}"
        share = num_stuck / (len(table) * num_seeds)
        print(f"| {name} | {num_seeds} | {decades:.1f} decades | {share:.0%} | {fmean(scatter):.1%} |")


def finals(truth: Journal, cell: Cell, lr: float) -> list[float]:
    """Return the last validation loss of each seed, in their order; what diverged counts as guessing."""
    values = [truth.get([*cell.key, TRUTH_EPOCHS, lr, seed]) for seed in TRUTH_SEEDS]
    return [value[-1] if isinstance(value, list) else math.log(10) for value in values if value is not None]


def show_dead(journal: Journal) -> None:
    """Print how many of ReLU's units are dead, and how many of those come back."""
    print("| learning rate | C3 dead at the end | C5 | F6 | died in an epoch, of the living | revived, of the dead |")
    print("| --- | --- | --- | --- | --- | --- |")
    for times in DEAD_RATES:
        runs = [journal.get(["dead", times, seed]) for seed in DEAD_SEEDS]
        looks = [run["dead"] for run in runs if run is not None]
        if not looks:
            continue
        ends = [fmean(fmean(look[-1][layer]) for look in looks) for layer in ("C3", "C5", "F6")]
        died = revived = living = dead = 0
        for look in looks:
            for before, after in pairwise(look):
                for layer in before:
                    for was, is_now in zip(before[layer], after[layer], strict=True):
                        dead, living = dead + was, living + (not was)
                        revived, died = revived + (was and not is_now), died + (not was and is_now)
        cells = [f"{end:.1%}" for end in ends]
        cells += [f"{died / max(living, 1):.2%} ({died:,} of {living:,})"]
        cells += [f"{revived / max(dead, 1):.1%} ({revived:,} of {dead:,})"]
        print(f"| {times:g} times the best | {' | '.join(cells)} |")


def show_heart(journal: Journal) -> None:
    """Print what early stopping is worth where the images are learned by heart."""
    runs = [run for seed in SEEDS if (run := journal.get(["heart", seed])) is not None]
    best = [min(range(len(run)), key=lambda k, run=run: run[k]["val_loss"]) for run in runs]
    chosen = [run[k] for run, k in zip(runs, best, strict=True)]
    ends = [run[-1] for run in runs]
    print(f"| 1,000 images, {len(runs)} seeds | lowest validation loss | after epoch {HEART_EPOCHS} |")
    print("| --- | --- | --- |")
    print(f"| epoch | {min(best) + 1} to {max(best) + 1} | {HEART_EPOCHS} |")
    for name, form in (("train_loss", ".4f"), ("val_loss", ".3f"), ("train_accuracy", ".2%"), ("val_accuracy", ".2%")):
        cells = [with_interval([row[name] for row in rows], form) for rows in (chosen, ends)]
        print(f"| {name.replace('_', ' ')} | {' | '.join(cells)} |")


def show_choices(journal: Journal) -> None:
    """Print by how much the best of several networks looks too good on the images that chose it."""
    candidates_of = (Activation.RELU, Activation.TANH)  # about equally good, so that chance has a say
    packed = [e["right"] for a in candidates_of for run in trained(journal, a).values() for e in run["epochs"][1:]]
    right = np.array([np.unpackbits(np.frombuffer(base64.b64decode(each), np.uint8)) for each in packed], dtype=bool)
    num_images = right.shape[1]
    generator = np.random.default_rng(0)
    print("| chosen among | accuracy on the images that chose, less that on others |")
    print("| --- | --- |")
    for number in CHOICES:
        if number > len(right):
            continue
        gains = []
        for _ in range(DRAWS):
            candidates = right[generator.choice(len(right), number, replace=False)]
            order = generator.permutation(num_images)
            chooser, other = order[: num_images // 2], order[num_images // 2 :]
            accuracies = candidates[:, chooser].mean(axis=1)
            chosen = candidates[accuracies.argmax()]
            gains.append(chosen[chooser].mean() - chosen[other].mean())
        error = np.std(gains) / math.sqrt(len(gains))
        print(f"| {number} networks | {100 * np.mean(gains):+.3f} points (standard error {100 * error:.3f}) |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=("rates", "train", "dead", "heart", "show"))
    parser.add_argument("--journal", type=Path, default=ROOT / "docs" / "claims.jsonl")
    arguments = parser.parse_args()
    journal = Journal(arguments.journal)
    if "rates" in arguments.parts:
        measure_rates(journal)
    do_all(journal, works_of(journal, arguments.parts))
    if "show" in arguments.parts:
        show(journal)


if __name__ == "__main__":
    main()
