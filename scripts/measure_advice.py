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
from itertools import product
from pathlib import Path

import torch
from pydantic import TypeAdapter

from common import Journal, data_access
from lenet_mnist.config import Activation, Config, Engine, Optimizer
from lenet_mnist.config_file import load_config
from lenet_mnist.data.mnist import load_train_val
from lenet_mnist.devices import set_threads
from lenet_mnist.model.engines import resolve_engine
from lenet_mnist.tuning.trial import Trial, TrialResult, Workbench, train_trial
from lenet_mnist.tuning.workers import Crew, Staff

ROOT = Path(__file__).parent.parent
EPOCHS = 5
RATES = {
    Optimizer.SGD: [10 ** (k / 2) for k in range(-10, 3)],
    Optimizer.ADAM: [10 ** (k / 2) for k in range(-12, 1)],
}
SEEDS = range(6)
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
        staff = Staff.of(set_threads(None), len(wave), math.inf, cpu)
        with Crew(Workbench(config, data, cpu, engine.network), engine.name, access.directory, staff) as crew:
            for result in crew.run(train_trial, wave):
                journal.add([optimizer.value, *key_of(result.trial)], RESULT.dump_python(result, mode="json"))
        print(f"seed {seed}: {activation}, {optimizer}", file=sys.stderr, flush=True)


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


if __name__ == "__main__":
    main()
