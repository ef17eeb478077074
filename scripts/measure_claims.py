"""What the lecture claims of activations, neurons, stopping and the validation set, measured: docs/claims.md.

    python scripts/measure_claims.py rates train dead heart show

- rates: `lenet lr-sweep` gives each activation its own best learning rate, over the seeds 50 and 51
- train: each activation at that rate, over the seeds 0 to 9, with every update recorded
- dead: ReLU at up to ten times its best rate, each unit followed from epoch to epoch
- heart: 1,000 training images for 100 epochs at a constant rate; the epoch of early stopping is noted, nothing stops
- show: the tables of docs/claims.md, from these and, for the spread over rates, from docs/learning-rate.jsonl

The recipe is the same but for what is compared: SGD with momentum 0.9, batches of 64, no weight decay, 4 epochs, a
rate that falls to zero. Finished trainings are kept in docs/claims.jsonl. The test files are never opened: where a
choice on the test set is studied, halves of the validation set play the two parts.
"""

import base64
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import fmean, geometric_mean, stdev
from typing import Any

import numpy as np
import torch

import measure_learning_rate as learning_rate
from common import CPU, ROOT, Config, arguments_parser, context_of, recipe, results, table, trained
from lenet_mnist.analysis.groups import speed_ratio, steps_to_level
from lenet_mnist.analysis.intervals import mean_interval
from lenet_mnist.config import Activation
from lenet_mnist.model.engines import layer_outputs
from lenet_mnist.tally import Tally
from lenet_mnist.training.loop import train
from lenet_mnist.training.probe import Probe
from lenet_mnist.training.rows import EpochRow, Layer, StepRow
from lenet_mnist.training.state import TrainState

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
FIGURES = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")


@dataclass(frozen=True)
class Work:
    """One training, and the function that makes it and returns what it measures."""

    key: tuple[Any, ...]
    config: Config
    measure: Callable[[Config], Any]


def config_of(activation: Activation, lr: float, seed: int, **changes: Any) -> Config:
    usual = {"training__max_epochs": EPOCHS, "training__weight_decay": 0.0, "training__patience": None}
    return recipe("relu", seed=seed, model__activation=activation, training__learning_rate=lr, **usual | changes)


def measure_rates(_: Any) -> dict[str, float]:
    """Let the sweep find each activation's best rate for this recipe."""
    with tempfile.TemporaryDirectory() as runs_dir:
        command = [sys.executable, "-m", "lenet_mnist", "lr-sweep", f"--activation={','.join(Activation)}"]
        command += [f"--epochs={EPOCHS}", f"--seeds={SWEEP_SEEDS}", f"--runs-dir={runs_dir}", "--json"]
        command += [f"--set=training.max_epochs={EPOCHS}", "--set=training.weight_decay=0.0"]
        answer = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return {name: found["choice"]["lr"] for name, found in answer["activations"].items()}


def do(work: Work) -> Any:
    return work.measure(work.config)


def measure_speed(config: Config) -> dict[str, Any]:
    """Train, and return the steps to each level of training error and loss, and what each epoch ended with."""
    context = context_of(config)
    data, state = context.data, TrainState.start(config, context)
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
        num_images = state.tally.num_images - before.num_images
        num_wrong = num_images - (state.tally.num_correct - before.num_correct)
        errors.append(replace(row, train_loss=num_wrong / num_images))
        steps.append(row)
        before = state.tally
        if row.step == 1:
            looks.append([each.gradient_norm for each in probe.look(state)])
        return False

    def on_epoch(row: EpochRow) -> None:
        with torch.inference_mode():
            is_right = (state.network(val_images).argmax(dim=1) == data.val.labels).numpy()
        looks.append([each.gradient_norm for each in probe.look(state)])
        epochs.append({name: getattr(row, name) for name in FIGURES})
        epochs[-1]["right"] = base64.b64encode(np.packbits(is_right).tobytes()).decode()

    result = train(config, context, state, on_step, on_epoch)
    return {
        "stop_reason": result.stop_reason.value,
        "error": {str(level): steps_to_level(errors, level) for level in ERRORS},
        "loss": {str(level): steps_to_level(steps, level) for level in LOSSES},
        "epochs": epochs,
        "gradients": looks,
    }


def measure_dead_units(config: Config) -> dict[str, Any]:
    """Train, and return after each epoch which units of C3, C5 and F6 give zero on the whole probe."""
    context = context_of(config)
    state = TrainState.start(config, context)
    images = Probe.of(context.data, config.seed, CPU).batch.images
    dead: list[dict[str, list[bool]]] = []

    def look() -> None:
        network = state.network
        with torch.inference_mode():
            outputs = layer_outputs(images, network.parameters_in_order, network.activation)
        by_unit = {"C3": outputs.s4.flatten(start_dim=2).amax(dim=2), "C5": outputs.c5, "F6": outputs.f6}
        dead.append({layer: (values.amax(dim=0) == 0).tolist() for layer, values in by_unit.items()})

    look()
    result = train(config, context, state, on_epoch=lambda _: look())
    return {"stop_reason": result.stop_reason.value, "dead": dead}


def measure_epochs(config: Config) -> list[dict[str, float]]:
    """Train, and return training and validation loss and accuracy of every epoch."""
    state, _ = trained(config)
    return [{name: getattr(row, name) for name in FIGURES} for row in state.histories.history]


def works_of(parts: Sequence[str], rates: dict[str, float]) -> Iterator[Work]:
    """Yield the trainings of the parts."""
    relu = rates["relu"]
    if "train" in parts:
        for seed in SEEDS:
            for activation in Activation:
                config = config_of(activation, rates[activation], seed)
                yield Work(("train", activation.value, seed), config, measure_speed)
    if "dead" in parts:
        for times in DEAD_RATES:
            for seed in DEAD_SEEDS:
                yield Work(("dead", times, seed), config_of(Activation.RELU, times * relu, seed), measure_dead_units)
    if "heart" in parts:
        constant = {"training__schedule": "constant", "training__warmup": 0.0, "training__max_epochs": HEART_EPOCHS}
        for seed in SEEDS:
            config = config_of(Activation.RELU, relu / 4, seed, data__limit_train=HEART_IMAGES, **constant)
            yield Work(("heart", seed), config, measure_epochs)


# Tables, of the values in the journal by their keys.

Kept = dict[tuple[Any, ...], Any]


def runs_of(kept: Kept, activation: Activation) -> dict[int, dict[str, Any]]:
    return {seed: kept["train", activation, seed] for seed in SEEDS if ("train", activation, seed) in kept}


def with_interval(values: Sequence[float], form: str) -> str:
    """Return the mean and its 95 % interval over seeds."""
    low, high = mean_interval(values)
    return f"{fmean(values):{form}} ({low:{form}} to {high:{form}})"


def show_speed(kept: Kept, rates: dict[str, float]) -> None:
    """Print how many times as many updates sigmoid and tanh need as ReLU."""
    print(f"Learning rates: {', '.join(f'{name} {rates[name]:g}' for name in Activation)}.\n")
    rows = []
    for kind, levels, unit in (("error", ERRORS, "training error {:.0%}"), ("loss", LOSSES, "training loss {:g}")):
        for level in levels:
            steps = {
                each: {seed: run[kind][str(level)] for seed, run in runs_of(kept, each).items()} for each in Activation
            }
            relu = steps[Activation.RELU]
            reached = geometric_mean([step for step in relu.values() if step is not None])
            others = [ratio_text(relu, steps[each]) for each in (Activation.TANH, Activation.SIGMOID)]
            rows.append((unit.format(level), f"{reached:.0f}", *others))
    print(table(("until", "ReLU, updates", "tanh / ReLU", "sigmoid / ReLU"), rows))


def ratio_text(steps: dict[int, float | None], others: dict[int, float | None]) -> str:
    ratio = speed_ratio(steps, others)
    if ratio is None or ratio.interval_95 is None:
        return f"never reached by {sum(step is None for step in others.values())} of {len(others)}"
    return f"{ratio.value:.2f} ({ratio.interval_95.low:.2f} to {ratio.interval_95.high:.2f})"


def show_accuracy(kept: Kept) -> None:
    rows = []
    for activation in Activation:
        ends = [run["epochs"][-1] for run in runs_of(kept, activation).values()]
        figures = (("val_accuracy", ".2%"), ("val_loss", ".4f"))
        rows.append((activation, *(with_interval([end[name] for end in ends], form) for name, form in figures)))
    print(table(("activation", "validation accuracy after 4 epochs", "validation loss"), rows))


def show_gradients(kept: Kept) -> None:
    """Print how many times smaller the gradient is at each layer than at the output."""
    rows = []
    for activation in Activation:
        looks = [run["gradients"] for run in runs_of(kept, activation).values()]
        for name, k in (("after the first update", 1), ("after epoch 1", 2), (f"after epoch {EPOCHS}", EPOCHS + 1)):
            ratios = [[look[k][-1] / max(norm, 1e-30) for norm in look[k][:-1]] for look in looks]
            rows.append((f"{activation}, {name}", *(f"{geometric_mean(r):.3g}" for r in zip(*ratios, strict=True))))
    print(table(("activation, when", *list(Layer)[:-1]), rows))


def show_stability() -> None:
    """Print, of whole trainings at 16 rates over two decades, how many rates work, and how far seeds scatter."""
    cells = [cell for cell in learning_rate.CELLS if cell.activation is not Activation.RELU]
    finals = learning_rate.final_losses(learning_rate.JOURNAL, cells)
    rows = []
    for cell in cells:
        by_rate = [
            [learning_rate.or_chance(finals[k]) for k in cell.keys(learning_rate.EPOCHS, lr) if k in finals]
            for lr in cell.rates
        ]
        num_seeds = min(map(len, by_rate))
        by_rate = [losses[:num_seeds] for losses in by_rate]
        bound = 1.5 * min(map(fmean, by_rate))
        useful = [losses for losses in by_rate if fmean(losses) <= bound]
        decades = math.log10(cell.rates[1] / cell.rates[0]) * len(useful)
        stuck = fmean(loss > 0.9 * math.log(10) for losses in by_rate for loss in losses)
        scatter = fmean(stdev(losses) / fmean(losses) for losses in useful)
        name = f"{cell.activation}, {cell.optimizer}, {cell.batch_size}"
        rows.append((name, num_seeds, f"{decades:.1f} decades", f"{stuck:.0%}", f"{scatter:.1%}"))
    columns = ("activation, optimizer, batch size", "seeds", "within 1.5 times the lowest loss", "learned nothing")
    print(table((*columns, "scatter"), rows))


def show_dead(kept: Kept) -> None:
    """Print how many of ReLU's units are dead, and how many of those come back."""
    rows = []
    for times in DEAD_RATES:
        looks = [kept["dead", times, seed]["dead"] for seed in DEAD_SEEDS if ("dead", times, seed) in kept]
        if not looks:
            continue
        ends = [f"{fmean(fmean(look[-1][layer]) for look in looks):.1%}" for layer in ("C3", "C5", "F6")]
        pairs = [
            (was, is_now)
            for look in looks
            for before, after in pairwise(look)
            for layer in before
            for was, is_now in zip(before[layer], after[layer], strict=True)
        ]
        dead, died = sum(was for was, _ in pairs), sum(is_now and not was for was, is_now in pairs)
        living, revived = len(pairs) - dead, sum(was and not is_now for was, is_now in pairs)
        shares = (
            f"{died / max(living, 1):.2%} ({died:,} of {living:,})",
            f"{revived / max(dead, 1):.1%} ({revived:,} of {dead:,})",
        )
        rows.append((f"{times:g} times the best", *ends, *shares))
    columns = ("learning rate", "C3 dead at the end", "C5", "F6", "died in an epoch, of the living")
    print(table((*columns, "revived, of the dead"), rows))


def show_heart(kept: Kept) -> None:
    """Print what early stopping is worth where the images are learned by heart."""
    runs = [kept["heart", seed] for seed in SEEDS if ("heart", seed) in kept]
    best = [min(range(len(run)), key=lambda k, run=run: run[k]["val_loss"]) for run in runs]
    rows = [("epoch", f"{min(best) + 1} to {max(best) + 1}", HEART_EPOCHS)]
    for name, form in (("train_loss", ".4f"), ("val_loss", ".3f"), ("train_accuracy", ".2%"), ("val_accuracy", ".2%")):
        chosen = [run[k][name] for run, k in zip(runs, best, strict=True)]
        last = [run[-1][name] for run in runs]
        rows.append((name.replace("_", " "), with_interval(chosen, form), with_interval(last, form)))
    print(table((f"1,000 images, {len(runs)} seeds", "lowest validation loss", f"after epoch {HEART_EPOCHS}"), rows))


def show_choices(kept: Kept) -> None:
    """Print by how much the best of several networks looks too good on the images that chose it."""
    candidates_of = (Activation.RELU, Activation.TANH)  # about equally good, so that chance has a say
    packed = [e["right"] for a in candidates_of for run in runs_of(kept, a).values() for e in run["epochs"][1:]]
    right = np.array([np.unpackbits(np.frombuffer(base64.b64decode(each), np.uint8)) for each in packed], dtype=bool)
    num_images = right.shape[1]
    generator = np.random.default_rng(0)
    rows = []
    for number in (number for number in CHOICES if number <= len(right)):
        gains = []
        for _ in range(DRAWS):
            candidates = right[generator.choice(len(right), number, replace=False)]
            order = generator.permutation(num_images)
            chooser, other = order[: num_images // 2], order[num_images // 2 :]
            chosen = candidates[candidates[:, chooser].mean(axis=1).argmax()]
            gains.append(chosen[chooser].mean() - chosen[other].mean())
        error = np.std(gains) / math.sqrt(len(gains))
        gain = f"{100 * np.mean(gains):+.3f} points (standard error {100 * error:.3f})"
        rows.append((f"{number} networks", gain))
    print(table(("chosen among", "accuracy on the images that chose, less that on others"), rows))


def main() -> None:
    parser = arguments_parser(__doc__)
    parser.add_argument("parts", nargs="+", choices=("rates", "train", "dead", "heart", "show"))
    parser.add_argument("--journal", type=Path, default=ROOT / "docs" / "claims.jsonl")
    options = parser.parse_args()
    found = results(options.journal, [("rates",)], measure_rates if "rates" in options.parts else None)
    if not found:
        sys.exit("python scripts/measure_claims.py rates comes first")
    rates = {name: float(f"{lr:.3g}") for name, lr in found["rates",].items()}
    results(options.journal, works_of(options.parts, rates), do)
    if "show" in options.parts:
        keys = [work.key for work in works_of(("train", "dead", "heart"), rates)]
        kept = results(options.journal, keys, None)
        for show in (lambda kept: show_speed(kept, rates), show_accuracy, show_gradients):
            print()
            show(kept)
        print()
        show_stability()
        for show in (show_dead, show_heart, show_choices):
            print()
            show(kept)


if __name__ == "__main__":
    main()
