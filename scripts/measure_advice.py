"""How often the advice on a loss curve (tuning/advice.py) points the right way: docs/learning-rate.md.

    python scripts/measure_advice.py --journal build/advice.jsonl train show

Each activation and optimizer is trained at 13 rates over six decades and six seeds, on 11,000 images for five epochs,
everything else as in its shipped recipe. What is right follows from the losses alone: a rate is wrong where the final
validation loss (mean over seeds) is above 3 times that of the best rate, and fine within 1.1 times. Thresholds were set
on seeds 0 to 2, and are scored on seeds 3 to 5. Finished trainings are kept in the journal.
"""

import argparse
import math
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from statistics import mean

import torch
from pydantic import TypeAdapter

from common import ROOT, Journal, data_access
from lenet_mnist.config import Activation, Config, Engine, Optimizer
from lenet_mnist.config_file import load_config
from lenet_mnist.data.load import load_train_val
from lenet_mnist.devices import set_threads
from lenet_mnist.model.engines import resolve_engine
from lenet_mnist.training.context import Context
from lenet_mnist.training.workers import PoolSize, TrialPool
from lenet_mnist.tuning.advice import Direction, advise
from lenet_mnist.tuning.trial import Trial, TrialResult, curve_of, train_trial

EPOCHS = 5
RATES = {
    Optimizer.SGD: [10 ** (k / 2) for k in range(-10, 3)],
    Optimizer.ADAM: [10 ** (k / 2) for k in range(-12, 1)],
}
SEEDS = range(6)
LN10 = math.log(10)
RESULT = TypeAdapter(TrialResult)


def config_of_cell(activation: Activation, optimizer: Optimizer) -> Config:
    recipe = load_config(ROOT / "configs" / f"{activation}.yaml").config
    data = recipe.data.model_copy(update={"limit_train": 11_000})
    training = recipe.training.model_copy(update={"optimizer": optimizer})
    return recipe.model_copy(update={"data": data, "training": training})


def train(journal: Journal) -> None:
    """Train what the journal lacks, seed after seed."""
    cpu, access = torch.device("cpu"), data_access()
    for seed, activation, optimizer in product(SEEDS, Activation, RATES):
        config = config_of_cell(activation, optimizer)
        wave = [Trial(activation, lr, seed, EPOCHS) for lr in RATES[optimizer]]
        wave = [trial for trial in wave if journal.get([optimizer.value, *key_of(trial)]) is None]
        if not wave:
            continue
        data = load_train_val(config.data, access)
        engine = resolve_engine(Engine.AUTO, cpu, data.train.image_size)
        staff = PoolSize.of(set_threads(None), len(wave), math.inf, cpu)
        with TrialPool((config, Context(data, engine=engine.network)), engine.name, access.directory, staff) as crew:
            for result in crew.run(train_trial, wave):
                journal.add([optimizer.value, *key_of(result.trial)], RESULT.dump_python(result, mode="json"))
        print(f"seed {seed}: {activation}, {optimizer}", file=sys.stderr, flush=True)


def score(journal: Journal, seeds: Sequence[int]) -> None:
    """Print how often the advice is right, and every case where it is not."""
    counts: Counter[str] = Counter()
    for activation, optimizer in product(Activation, RATES):
        results = {
            (lr, seed): RESULT.validate_python(value)
            for lr, seed in product(RATES[optimizer], SEEDS)
            if (value := journal.get([optimizer.value, activation.value, lr, seed])) is not None
        }
        means = {
            lr: mean(final_loss(results[lr, seed]) for seed in SEEDS if (lr, seed) in results)
            for lr in RATES[optimizer]
        }
        best = min(means, key=means.__getitem__)
        for (lr, seed), result in results.items():
            if seed not in seeds:
                continue
            advice = advise(curve_of(result, LN10))
            if means[lr] > 3 * means[best]:
                right = Direction.RAISE if lr < best else Direction.LOWER
                kind = {right: "right", Direction.UNKNOWN: "ambiguous"}.get(advice.direction, "astray")
                counts[f"wrong rate: {kind}"] += 1
                is_told = kind == "right"
            elif means[lr] <= 1.1 * means[best]:
                counts[f"fine rate: {advice.direction}"] += 1
                is_told = advice.direction is Direction.KEEP
            else:
                continue
            if not is_told:
                case = f"{activation}, {optimizer}, rate {lr:.2g}, seed {seed}"
                print(f"  {case}: {advice.verdict}, {'; '.join(advice.evidence)}")
    print(f"seeds {min(seeds)} to {max(seeds)}: {dict(sorted(counts.items()))}")
    wrong = {kind: counts[f"wrong rate: {kind}"] for kind in ("right", "astray", "ambiguous")}
    told, fine = wrong["right"] + wrong["astray"], sum(n for kind, n in counts.items() if kind.startswith("fine"))
    print(
        f"  wrong rates: {wrong['right'] / told:.1%} of {told} point towards the best, "
        f"{wrong['ambiguous'] / sum(wrong.values()):.1%} of {sum(wrong.values())} ambiguous"
    )
    print(f"  fine rates: {counts['fine rate: keep it'] / fine:.1%} of {fine} called fine")


def final_loss(result: TrialResult) -> float:
    """Return the last validation loss; a training that diverged counts as one that has learned nothing."""
    return LN10 if result.val_loss is None else result.val_loss


def key_of(trial: Trial) -> list[float | str]:
    return [trial.activation.value, trial.lr, trial.seed]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=("train", "show"))
    parser.add_argument("--journal", type=Path, required=True)
    arguments = parser.parse_args()
    journal = Journal(arguments.journal)
    if "train" in arguments.parts:
        train(journal)
    if "show" in arguments.parts:
        for seeds in (range(3), range(3, 6)):
            score(journal, seeds)


if __name__ == "__main__":
    main()
