"""What the lecture claims of activations, neurons, stopping and the validation set, measured: docs/claims.md.

    python scripts/measure_claims.py        makes what docs/claims.jsonl lacks, and prints the tables

- rates: `lenet lr-sweep` gives each activation its own best learning rate, over the seeds 50 and 51
- train: each activation at that rate, over the seeds 0 to 9, with every update recorded
- dead: ReLU at up to ten times its best rate, each unit followed from epoch to epoch
- heart: 1,000 training images for 100 epochs at a constant rate; the epoch of early stopping is noted, nothing stops

The recipe is the same but for what is compared: SGD with momentum 0.9, batches of 64, no weight decay, 4 epochs, a
rate that falls to zero. The spread over rates is that of docs/learning-rate.jsonl. The test files are never opened:
where a choice on the test set is studied, halves of the validation set play the two parts.
"""

import base64
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise, product
from statistics import fmean, geometric_mean, stdev
from typing import Any, NamedTuple

import numpy as np
import torch

import measure_learning_rate as learning_rate
from common import CPU, ROOT, SMALL, Config, arguments, context_of, few, lenet, recipe, results, table, trained
from lenet_mnist.analysis.groups import speed_ratio, steps_to_level
from lenet_mnist.analysis.intervals import mean_interval
from lenet_mnist.config import Activation
from lenet_mnist.model.engines import layer_outputs
from lenet_mnist.tally import Tally
from lenet_mnist.training.probe import Probe
from lenet_mnist.training.rows import Layer, StepRow
from lenet_mnist.training.state import TrainState

EPOCHS = 1 if SMALL else 4
SEEDS = few(range(10))
LEVELS = {"error": (0.2, 0.1, 0.05, 0.03, 0.02), "loss": (1.0, 0.5, 0.2, 0.1, 0.05)}  # in training; the loss in nats
DEAD_RATES = (1.0, 2.0, 4.0, 10.0)  # times the best
DEAD_LAYERS = ("C3", "C5", "F6")
FIGURES = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")


class Work(NamedTuple):
    """One training, by the name of its part; `what` is the activation or the factor of the best rate."""

    part: str
    what: Any
    seed: int
    config: Config

    @property
    def key(self) -> tuple[Any, ...]:
        return tuple(each for each in self[:3] if each is not None)


def config_of(activation: Activation, lr: float, seed: int, **changes: Any) -> Config:
    usual = {"training__max_epochs": EPOCHS, "training__weight_decay": 0.0, "training__patience": None}
    return recipe("relu", seed=seed, model__activation=activation, training__learning_rate=lr, **usual | changes)


def works(rates: dict[str, float]) -> list[Work]:
    relu, seeds = rates["relu"], SEEDS
    of_few = {"training__schedule": "constant", "training__warmup": 0.0, "data__limit_train": 1000}
    of_few["training__max_epochs"] = 100
    return [
        *(Work("train", a.value, seed, config_of(a, rates[a], seed)) for seed in seeds for a in Activation),
        *(Work("dead", k, s, config_of(Activation.RELU, k * relu, s)) for k in DEAD_RATES for s in seeds[:5]),
        *(Work("heart", None, s, config_of(Activation.RELU, relu / 4, s, **of_few)) for s in seeds),
    ]


def measure_rates(_: Any) -> dict[str, float]:
    """Let the sweep find each activation's best rate for this recipe."""
    words = [f"--activation={','.join(Activation)}", f"--epochs={EPOCHS}", "--seeds=50-51", "--runs-dir=build/claims"]
    words += [f"--set=training.max_epochs={EPOCHS}", "--set=training.weight_decay=0.0", "--json"]
    words += ["--limit-train=640", "--set=data.val_size=500"] if SMALL else []
    answer = json.loads(lenet("lr-sweep", *words, directory=ROOT))
    choices = {name: found["choice"] for name, found in answer["activations"].items()}
    return {name: choice["lr"] if choice or not SMALL else 0.1 for name, choice in choices.items()}


def measure(work: Work) -> Any:
    return {"train": speed_of, "dead": dead_units_of, "heart": epochs_of}[work.part](work.config)


def speed_of(config: Config) -> dict[str, Any]:
    """Train, and return the steps to each level of training error and loss, and what each epoch ended with."""
    context = context_of(config)
    data, probe = context.data, Probe.of(context.data, config.seed, CPU)
    val_images = data.normalization.apply(data.val.images)
    rows: dict[str, list[StepRow]] = {"error": [], "loss": []}
    after_first: list[list[float]] = []
    before = Tally()

    def gradients_of(state: TrainState) -> list[float]:
        return [row.gradient_norm for row in probe.look(state)]

    def on_step(state: TrainState, row: StepRow) -> None:
        nonlocal before
        before = Tally() if state.batches_done == 1 else before
        num_images = state.tally.num_images - before.num_images
        num_wrong = num_images - (state.tally.num_correct - before.num_correct)
        rows["error"].append(replace(row, train_loss=num_wrong / num_images))
        rows["loss"].append(row)
        before = state.tally
        if row.step == 1:
            after_first.append(gradients_of(state))

    def watch(state: TrainState) -> tuple[list[float], str]:
        with torch.inference_mode():
            is_right = (state.network(val_images).argmax(dim=1) == data.val.labels).numpy()
        return gradients_of(state), base64.b64encode(np.packbits(is_right).tobytes()).decode()

    training = trained(config, context, watch, on_step)
    looks = [gradients for gradients, _ in training.seen]
    history = training.state.histories.history
    epochs = [figures_of(row) | {"right": right} for row, (_, right) in zip(history, training.seen[1:], strict=True)]
    steps = {k: {str(level): steps_to_level(rows[k], level) for level in levels} for k, levels in LEVELS.items()}
    return {
        "stop_reason": training.stop_reason,
        **steps,
        "epochs": epochs,
        "gradients": looks[:1] + after_first + looks[1:],
    }


def figures_of(row: Any) -> dict[str, Any]:
    return {name: getattr(row, name) for name in FIGURES}


def dead_units_of(config: Config) -> dict[str, Any]:
    """Train, and return after each epoch which units of C3, C5 and F6 give zero on the whole probe."""
    context = context_of(config)
    images = Probe.of(context.data, config.seed, CPU).batch.images

    def watch(state: TrainState) -> dict[str, list[bool]]:
        network = state.network
        with torch.inference_mode():
            outputs = layer_outputs(images, network.parameters_in_order, network.activation)
        by_unit = {"C3": outputs.s4.flatten(start_dim=2).amax(dim=2), "C5": outputs.c5, "F6": outputs.f6}
        return {layer: (values.amax(dim=0) == 0).tolist() for layer, values in by_unit.items()}

    training = trained(config, context, watch)
    return {"stop_reason": training.stop_reason, "dead": training.seen}


def epochs_of(config: Config) -> list[dict[str, float]]:
    return [figures_of(row) for row in trained(config).state.histories.history]


# Tables, of the values in the journal: by activation, by factor of the rate, and of trainings that learn by heart.


def with_interval(values: Sequence[float], form: str) -> str:
    """Return the mean and its 95 % interval over seeds."""
    low, high = mean_interval(values)
    return f"{fmean(values):{form}} ({low:{form}} to {high:{form}})"


def show_speed(runs: dict[str, list[Any]]) -> None:
    """Print how many times as many updates sigmoid and tanh need as ReLU; what they end with; and their gradients."""
    rows = []
    for kind, level in ((kind, level) for kind, levels in LEVELS.items() for level in levels):
        steps = {name: dict(enumerate(run[kind][str(level)] for run in each)) for name, each in runs.items()}
        reached = [step for step in steps["relu"].values() if step is not None]
        first = f"{geometric_mean(reached):.0f}" if reached else "-"
        rows.append(
            (f"training {kind} {level:g}", first, *(ratio(steps["relu"], steps[a]) for a in ("tanh", "sigmoid")))
        )
    print(table(("until", "ReLU, updates", "tanh / ReLU", "sigmoid / ReLU"), rows))
    ends = {name: [run["epochs"][-1] for run in each] for name, each in runs.items()}
    rows = [
        (
            name,
            *(
                with_interval([end[key] for end in each], form)
                for key, form in (("val_accuracy", ".2%"), ("val_loss", ".4f"))
            ),
        )
        for name, each in ends.items()
    ]
    print("\n" + table(("activation", f"validation accuracy after {EPOCHS} epochs", "validation loss"), rows))
    rows = []
    for name, (when, k) in product(runs, (("after the first update", 1), ("after epoch 1", 2), ("at the end", -1))):
        ratios = [
            [run["gradients"][k][-1] / max(norm, 1e-30) for norm in run["gradients"][k][:-1]] for run in runs[name]
        ]
        rows.append((f"{name}, {when}", *(f"{geometric_mean(r):.3g}" for r in zip(*ratios, strict=True))))
    print("\n" + table(("activation: the gradient is smaller than at the output by", *list(Layer)[:-1]), rows))


def ratio(steps: dict[int, float | None], others: dict[int, float | None]) -> str:
    found = speed_ratio(steps, others)
    if found is None or found.interval_95 is None:
        return f"never reached by {sum(step is None for step in others.values())} of {len(others)}"
    return f"{found.value:.2f} ({found.interval_95.low:.2f} to {found.interval_95.high:.2f})"


def show_stability() -> None:
    """Print, of whole trainings at 16 rates over two decades, how many rates work, and how far seeds scatter."""
    rows = []
    for cell in learning_rate.CELLS:
        if cell.activation is Activation.RELU or SMALL:
            continue
        by_rate = learning_rate.Truth(cell, learning_rate.final_losses(learning_rate.JOURNAL, cell, 8)).by_rate
        useful = [losses for losses in by_rate if fmean(losses) <= 1.5 * min(map(fmean, by_rate))]
        decades = math.log10(cell.rates[1] / cell.rates[0]) * len(useful)
        stuck = fmean(loss > 0.9 * math.log(10) for losses in by_rate for loss in losses)
        scatter = fmean(stdev(losses) / fmean(losses) for losses in useful)
        rows.append((cell, len(by_rate[0]), f"{decades:.1f} decades", f"{stuck:.0%}", f"{scatter:.1%}"))
    columns = ("activation, optimizer, batch size", "seeds", "within 1.5 times the lowest loss", "learned nothing")
    print("\n" + table((*columns, "scatter"), rows))


def show_dead(runs: dict[float, list[Any]]) -> None:
    """Print how many of ReLU's units are dead, and how many of those come back."""
    rows = []
    for times, each in runs.items():
        looks = [run["dead"] for run in each]
        ends = [f"{fmean(fmean(look[-1][layer]) for look in looks):.1%}" for layer in DEAD_LAYERS]
        pairs = [
            pair
            for look, layer in product(looks, DEAD_LAYERS)
            for before, after in pairwise(look)
            for pair in zip(before[layer], after[layer], strict=True)
        ]
        dead, died = sum(was for was, _ in pairs), sum(is_now and not was for was, is_now in pairs)
        living, revived = len(pairs) - dead, sum(was and not is_now for was, is_now in pairs)
        shares = [f"{a / max(b, 1):.2%} ({a:,} of {b:,})" for a, b in ((died, living), (revived, dead))]
        rows.append((f"{times:g} times the best", *ends, *shares))
    columns = ("learning rate", "C3 dead at the end", "C5", "F6", "died in an epoch, of the living")
    print("\n" + table((*columns, "revived, of the dead"), rows))


def show_heart(runs: list[Any]) -> None:
    """Print what early stopping is worth where the images are learned by heart."""
    best = [min(range(len(run)), key=lambda k, run=run: run[k]["val_loss"]) for run in runs]
    rows: list[Any] = [("epoch", f"{min(best) + 1} to {max(best) + 1}", len(runs[0]))]
    for name, form in zip(FIGURES, (".4f", ".2%", ".3f", ".2%"), strict=True):
        chosen = [run[k][name] for run, k in zip(runs, best, strict=True)]
        rows.append((name, with_interval(chosen, form), with_interval([run[-1][name] for run in runs], form)))
    print("\n" + table((f"1,000 images, {len(runs)} seeds", "lowest validation loss", "after the last epoch"), rows))


def show_choices(runs: dict[str, list[Any]]) -> None:
    """Print by how much the best of several networks looks too good on the images that chose it."""
    candidates_of = ("relu", "tanh")  # about equally good, so that chance has a say
    packed = [epoch["right"] for name in candidates_of for run in runs[name] for epoch in run["epochs"][1:]]
    right = np.array([np.unpackbits(np.frombuffer(base64.b64decode(each), np.uint8)) for each in packed], dtype=bool)
    generator, rows = np.random.default_rng(0), []
    for number in (number for number in (2, 5, 10, 20, 50) if number <= len(right)):
        gains = []
        for _ in range(2000):
            candidates = right[generator.choice(len(right), number, replace=False)]
            chooser, other = np.array_split(generator.permutation(right.shape[1]), 2)
            chosen = candidates[candidates[:, chooser].mean(axis=1).argmax()]
            gains.append(100 * (chosen[chooser].mean() - chosen[other].mean()))
        gain = f"{np.mean(gains):+.3f} points (standard error {np.std(gains) / math.sqrt(len(gains)):.3f})"
        rows.append((f"{number} networks", gain))
    print("\n" + table(("chosen among", "accuracy on the images that chose, less that on others"), rows))


def main() -> None:
    journal = arguments(__doc__, journal="docs/claims.jsonl").parse_args().journal
    found = results(journal, [("rates",)], measure_rates)["rates",]
    rates = {name: float(f"{lr:.3g}") for name, lr in found.items()}
    print(f"Learning rates: {', '.join(f'{name} {rates[name]:g}' for name in Activation)}.\n")
    kept: dict[str, dict[Any, list[Any]]] = {}  # by part, and within it by activation or factor of the rate
    for work, value in results(journal, works(rates), measure).items():
        kept.setdefault(work.part, {}).setdefault(work.what, []).append(value)
    show_speed(kept["train"])
    show_stability()
    show_dead(kept["dead"])
    show_heart(kept["heart"][None])
    show_choices(kept["train"])


if __name__ == "__main__":
    main()
