"""How often the advice on a loss curve (analysis/advice.py) points the right way: docs/learning-rate.md.

    python scripts/measure_advice.py --journal build/advice.jsonl train show

Each activation and optimizer is trained at 13 rates over six decades and six seeds, on 11,000 images for five epochs,
everything else as in its shipped recipe. What is right follows from the losses alone: a rate is wrong where the final
validation loss (mean over seeds) is above 3 times that of the best rate, and fine within 1.1 times. Thresholds were set
on seeds 0 to 2, and are scored on seeds 3 to 5.
"""

import math
from collections import Counter
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from common import arguments_parser, context_of, recipe, results
from lenet_mnist.analysis.advice import Direction, advise_trial
from lenet_mnist.config import Activation, Config, Optimizer
from lenet_mnist.tuning.trial import Trial, TrialResult, train_trial

RATES = {
    Optimizer.SGD: [10 ** (k / 2) for k in range(-10, 3)],
    Optimizer.ADAM: [10 ** (k / 2) for k in range(-12, 1)],
}
SEEDS = range(6)
LN10 = math.log(10)
RESULT = TypeAdapter(TrialResult)


class Case(NamedTuple):
    optimizer: Optimizer
    activation: Activation
    lr: float
    seed: int


def train(case: Case) -> Any:
    config = recipe(case.activation, data__limit_train=11_000, training__optimizer=case.optimizer)
    trial = Trial(case.activation, case.lr, case.seed, 5)
    return RESULT.dump_python(train_trial(config, context_of(config), trial), mode="json")


def score(found: dict[Case, TrialResult], seeds: range) -> None:
    """Print how often the advice is right, and every case where it is not."""
    counts: Counter[str] = Counter()
    for activation, optimizer in product(Activation, RATES):
        mine = {
            case: each for case, each in found.items() if (case.activation, case.optimizer) == (activation, optimizer)
        }
        if not mine:
            continue
        means = {  # a training that diverged counts as chance level
            lr: mean(LN10 if each.val_loss is None else each.val_loss for case, each in mine.items() if case.lr == lr)
            for lr in {case.lr for case in mine}
        }
        best = min(means, key=means.__getitem__)
        for case, result in mine.items():
            ratio = means[case.lr] / means[best]
            if case.seed not in seeds or 1.1 < ratio <= 3:
                continue
            advice = advise_trial(Config(), result, LN10)
            if ratio > 3:
                right = Direction.RAISE if case.lr < best else Direction.LOWER
                kind = {right: "right", Direction.UNKNOWN: "ambiguous"}.get(advice.direction, "astray")
                counts[f"wrong rate: {kind}"] += 1
                is_right = kind == "right"
            else:
                counts[f"fine rate: {advice.direction}"] += 1
                is_right = advice.direction is Direction.KEEP
            if not is_right:
                where = f"{activation}, {optimizer}, rate {case.lr:.2g}, seed {case.seed}"
                print(f"  {where}: {advice.verdict}, {'; '.join(advice.evidence)}")
    print(f"seeds {min(seeds)} to {max(seeds)}: {dict(sorted(counts.items()))}")
    right, astray, ambiguous = (counts[f"wrong rate: {kind}"] for kind in ("right", "astray", "ambiguous"))
    told, wrong = right + astray, right + astray + ambiguous
    fine = sum(number for kind, number in counts.items() if kind.startswith("fine"))
    print(
        f"  wrong rates: {right / max(told, 1):.1%} of {told} point towards the best, "
        f"{ambiguous / max(wrong, 1):.1%} of {wrong} ambiguous"
    )
    print(f"  fine rates: {counts['fine rate: keep it'] / max(fine, 1):.1%} of {fine} called fine")


def main() -> None:
    parser = arguments_parser(__doc__)
    parser.add_argument("parts", nargs="+", choices=("train", "show"))
    parser.add_argument("--journal", type=Path, required=True)
    options = parser.parse_args()
    cases = [Case(o, a, lr, seed) for seed, a, o in product(SEEDS, Activation, RATES) for lr in RATES[o]]
    found = results(options.journal, cases, train if "train" in options.parts else None)
    if "show" in options.parts:
        for seeds in (SEEDS[:3], SEEDS[3:]):
            score({case: RESULT.validate_python(value) for case, value in found.items()}, seeds)


if __name__ == "__main__":
    main()
