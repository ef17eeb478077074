"""Type every command of docs/lecture.md, one after another, and look for what the page says is seen.

    python scripts/run_lecture.py                                          small, on 1,000 images, as CI does
    python scripts/run_lecture.py --size full --engine native --seed 1     as the page has it: docs/lecture-measured.md

SAID has an entry for each command of the page: words that it prints, pictures that it draws, and figures with the
values between which they lie. All stand on the page below the command. No command may fail. With --size full the runs
stay below --directory. Small, only what is sure on so few images is asked for.
"""

import csv
import json
import math
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

import lenet_mnist
from common import ROOT, arguments, table

SMALLER = ["--limit-train=1000", "--set=data.val_size=500", "--set=training.batch_size=20"]
GUESSING = math.log(10)


class Seen(NamedTuple):
    """What a command left behind in `place`."""

    command: str
    place: Path
    code: int
    output: str

    @property
    def directory(self) -> Path:
        """What the command wrote into, or the run that it read; else `place`."""
        kind, *words = shlex.split(self.command)[1:]
        if kind in ("train", "evaluate", "diagnose", "report"):
            name = words[words.index("--name") + 1] if kind == "train" else words[0]
            return lenet_mnist.load(name, runs_dir=self.place / "runs").path
        if kind in ("compare", "cross-validate", "lr-sweep"):
            [name] = set(re.findall(rf"runs/[\w-]*{kind}-[\w-]+", self.output))
            return self.place / name
        return self.place

    @property
    def run(self) -> lenet_mnist.Run:
        return lenet_mnist.load(self.directory)

    @property
    def train_loss(self) -> Any:
        """The training loss of each epoch."""
        return self.run.history["train_loss"]

    @property
    def val_loss(self) -> Any:
        """The validation loss of each epoch."""
        return self.run.history["val_loss"]

    @property
    def causes(self) -> list[str]:
        """What `lenet diagnose` finds, the first thing first."""
        return [finding["cause"] for finding in self.run.diagnose().values["findings"]]

    @property
    def times_smaller(self) -> Any:
        """How many times smaller the gradient is at C1 than at the output, at epoch 0, 1, and so on."""
        gradients = self.looks("gradient_norm")
        return gradients[:, -1] / gradients[:, 0]

    def looks(self, figure: str) -> Any:
        """Return a figure of the probe. Shape: epochs, from 0 on; C1, C3, C5, F6, output."""
        return self.run.probe[figure].reshape(-1, 5)

    def losses(self, after: int = 0, to: int = sys.maxsize) -> Any:
        """Return the training loss of the recorded updates after one, up to another."""
        steps = self.run.steps
        return steps["train_loss"][(steps["step"] > after) & (steps["step"] <= to)]

    def json(self, name: str) -> Any:
        return json.loads((self.directory / name).read_text(encoding="utf-8"))

    def csv(self, name: str) -> list[dict[str, str]]:
        with (self.directory / name).open(encoding="utf-8") as file:
            return list(csv.DictReader(file))


class Check(NamedTuple):
    """Something to be seen: `said` stands on the page, and `value` lies between `low` and `high`."""

    said: str
    value: Callable[[Seen], float]
    low: float = 1  # with no upper bound: a count of what is there, and no figure
    high: float = math.inf
    is_full: bool = False  # takes more than 1,000 images

    def of(self, seen: Seen) -> float:
        """Return the value that was found; nan, which no range holds, where there is none."""
        try:
            return float(self.value(seen))
        except (lenet_mnist.LenetError, LookupError, OSError, StopIteration, TypeError, ValueError) as error:
            print(f"{self.said}: {type(error).__name__}: {error}", file=sys.stderr)
            return math.nan


DONE = Check("the exit code is 0", lambda seen: seen.code == 0)


def is_there(said: str) -> Check:
    """A picture or the report, by its name; or words that the command prints."""
    if said.endswith((".png", ".html")):
        return Check(said, lambda seen: (seen.directory / said).is_file())
    return Check(said, lambda seen: seen.output.count(said))


def first(said: str, *causes: str) -> Check:
    """The first finding of `lenet diagnose`: one of these."""
    return Check(said, lambda seen: seen.causes[0] in causes)


def full(said: str, value: Callable[[Seen], float], low: float, high: float = math.inf) -> Check:
    return Check(said, value, low, high, is_full=True)


def best_accuracy(seen: Seen) -> float:
    """Return the validation accuracy of the kept weights, in per cent."""
    return 100 * float(seen.json("manifest.json")["best_val_accuracy"])


def speed_ratio(seen: Seen, loss: float) -> float:
    """Return how many times as many updates the second run needs to a training loss."""
    [contrast] = seen.json("comparison.json")["contrasts"]
    return next(float(each["ratio"]) for each in contrast["speed_ratios"] if each["loss"] == loss)


def spread_of_folds(seen: Seen) -> float:
    """Return how many points lie between the most and the least accurate fold."""
    accuracies = [float(row["accuracy"]) for row in seen.csv("folds.csv")]
    return 100 * (max(accuracies) - min(accuracies))


def chosen_rate(seen: Seen, activation: str) -> float:
    return float(seen.json("manifest.json")["tuning"][activation]["lr"])


def least_rate(seen: Seen, activation: str) -> float:
    """Return the lowest rate of a sweep at which a training ends below a loss of 1."""
    rows = [row for row in seen.csv("sweep.csv") if row["activation"] == activation and row["val_loss"]]
    return min(float(row["lr"]) for row in rows if float(row["val_loss"]) < 1)


CURVES = ("plots/loss.png", "plots/layers.png")
VALIDATED, TESTED = (f"evaluation/{split}/metrics.json" for split in ("val", "test"))
F6 = 3  # of the layers of a look
SAID: dict[str, list[str | Check]] = {
    "lenet data fetch": [],
    "lenet data check": ["60000 x 28 x 28", "10000 x 28 x 28", "4,969", "6,180"],
    "lenet data show": ["runs/training-images.png"],
    "lenet --help": ["describe", "train", "lr-sweep", "evaluate", "data"],
    "lenet describe": ["6x28x28", "16x5x5", "48,120", "117,600", "240,000"],
    "lenet describe --json": ['"num_parameters": 156', '"num_parameters": 61706'],
    # 5: sigmoid
    "lenet train --config sigmoid --name sigmoid": [
        *CURVES,
        Check("100 to 1,000 times smaller", lambda seen: seen.times_smaller[0], 100, 1000),
        full("less than 10 times", lambda seen: seen.times_smaller[-1], 0, 10),
        Check("ln 10 = 2.30", lambda seen: median(seen.losses(to=100)), 2.25, 2.4),
        full("the first 100 to 800 updates", lambda seen: seen.run.steps["step"][seen.losses() < 2][0], 100, 800),
        full("98.4 to 99.2 %", best_accuracy, 98.4, 99.2),
    ],
    "lenet evaluate sigmoid --split val": ["evaluation/val/confusion_matrix.png"],
    "lenet train --config sigmoid --lr 0.002 --epochs 3 --name resting": [
        *CURVES,
        Check("a flat line at 2.30", lambda seen: max(abs(seen.val_loss - GUESSING)), 0, 0.05),
        Check("more than 20 times smaller", lambda seen: min(seen.times_smaller), 20),
    ],
    "lenet diagnose resting": [
        first("the learning rate is too low", "learning rate"),
        Check("the gradients vanish", lambda seen: "vanishing gradients" in seen.causes),
    ],
    "lenet train --config tanh --name tanh": [
        *CURVES,
        Check("less than 5 times smaller", lambda seen: seen.times_smaller[0], 0, 5),
        full("after 100 updates the loss is below 1", lambda seen: median(seen.losses(after=100, to=120)), 0, 1),
        full("98.7 to 99.3 %", best_accuracy, 98.7, 99.3),
    ],
    "lenet evaluate tanh --split val": [],
    # 6: ReLU
    "lenet train --config relu --name relu": [
        "plots/layers.png",
        full("98.8 to 99.4 %", best_accuracy, 98.8, 99.4),
    ],
    "lenet evaluate relu --split val": [
        "evaluation/val/calibration.png",
        "evaluation/val/misclassified.png",
        full("below 1 %", lambda seen: 100 * seen.json(VALIDATED)["expected_calibration_error"], 0, 1),
        full("30 to 60 mistakes", lambda seen: 5000 - seen.json(VALIDATED)["num_correct"], 30, 60),
    ],
    "lenet compare relu sigmoid --speed-ratio loss=1 --speed-ratio loss=0.1": [
        "loss.png",
        full("4 to 20 times as many", lambda seen: speed_ratio(seen, 1), 4, 20),
        full("1.2 to 3 times", lambda seen: speed_ratio(seen, 0.1), 1.2, 3),
    ],
    "lenet compare relu tanh --speed-ratio loss=0.1": [
        full("0.4 to 1.5 times as many", lambda seen: speed_ratio(seen, 0.1), 0.4, 1.5),
    ],
    "lenet train --config relu --lr 0.4 --epochs 1 --set training.schedule=constant --name dead": [
        *CURVES,
        Check("0 to 25 % are dead at epoch 0", lambda seen: 100 * seen.looks("dead")[0, F6], 0, 25),
        Check("more than 90 % at epoch 1", lambda seen: 100 * seen.looks("dead")[-1, F6], 90),
        Check("the loss comes back to 2.30", lambda seen: abs(seen.val_loss[-1] - GUESSING), 0, 0.1),
        Check("9 to 13 %", best_accuracy, 9, 13),
    ],
    "lenet diagnose dead": [
        first("the learning rate is too high", "learning rate", "dead units"),
        Check("units have died", lambda seen: "dead units" in seen.causes),
    ],
    # 7: max pooling
    'python -c "import torch; x = torch.tensor([[12, 20, 30, 0], [8, 12, 2, 0], [34, 70, 37, 4], [112, 100, 25, 12]]); '
    'print(torch.nn.functional.max_pool2d(x[None].float(), 2).tolist())"': ["[[[20.0, 30.0], [112.0, 37.0]]]"],
    "lenet report relu": ["report.html"],
    # 9: three sets
    "lenet train --limit-train 1000 --epochs 40 --lr 0.007 --set training.schedule=constant "
    "--set training.weight_decay=0 --set training.patience=null --name by-heart": [
        "plots/loss.png",
        "plots/accuracy.png",
        Check("less than 0.01", lambda seen: seen.train_loss[-1], 0, 0.01),
        Check("turns after 5 to 25 epochs", lambda seen: seen.json("manifest.json")["best_epoch"], 5, 25),
        Check("more than 10 % above its lowest", lambda seen: seen.val_loss[-1] / min(seen.val_loss), 1.1),
        Check("all training images right", lambda seen: seen.run.history["train_accuracy"][-1], 0.999),
        full("90 to 96 %", best_accuracy, 90, 96),
    ],
    "lenet diagnose by-heart": [first("the network over-fits", "over-fitting")],
    "lenet evaluate by-heart --split val": [],
    "lenet evaluate relu": [
        "evaluation/test/confusion_matrix.png",
        full("98.9 to 99.5 %", lambda seen: 100 * seen.json(TESTED)["accuracy"], 98.9, 99.5),
    ],
    "lenet runs --test": ["test accuracy"],
    # 10 and 11: the sizes of the sets
    "lenet config show relu": ["train_size: 55000", "val_size: 5000"],
    "lenet cross-validate --limit-train 1000 --folds 5 --epochs 20 --batch-size 32": [
        "plots/cross_validation.png",
        Check("93 to 97 %", lambda seen: 100 * seen.json("metrics.json")["accuracy"], 93, 97),
        Check("1 to 10 points", spread_of_folds, 1, 10),
    ],
    # 12: the lecture's rules
    "lenet train --config relu --lr 0.0003 --epochs 5 --name slow": [
        "plots/loss.png",
        full("0.1 to 0.3", lambda seen: seen.val_loss[-1], 0.1, 0.3),
    ],
    "lenet diagnose slow": [first("the learning rate is too low", "learning rate")],
    "lenet train --config tanh --lr 1 --epochs 5 --name wild": [
        "plots/loss.png",
        Check("jumps up and down by whole nats", lambda seen: sum(np.diff(seen.losses()) > GUESSING), 10),
        full("far above 2.30", lambda seen: median(seen.train_loss), 10),
    ],
    "lenet diagnose wild": [first("the learning rate is too high", "learning rate")],
    # 13: the right one
    "lenet lr-sweep --activation sigmoid,relu": [
        "plots/sweep.png",
        full("more than 5 times", lambda seen: least_rate(seen, "sigmoid") / least_rate(seen, "relu"), 5),
        full("0.03 to 1 for sigmoid", lambda seen: chosen_rate(seen, "sigmoid"), 0.03, 1),
        full("0.01 to 0.2 for ReLU", lambda seen: chosen_rate(seen, "relu"), 0.01, 0.2),
    ],
    "lenet train --lr auto --name found": [
        full("0.01 to 0.15", lambda seen: seen.run.config.training.peak_learning_rate, 0.01, 0.15),
        full("98.8 to 99.4 %", best_accuracy, 98.8, 99.4),
    ],
    "lenet evaluate found --split val": ["report.html"],
    # after the lecture
    "lenet data show --augment --config accurate": ["runs/training-images.png"],
    "lenet train --config accurate --name accurate": [
        "plots/loss.png",
        full("above the validation loss", lambda seen: np.mean(seen.train_loss > seen.val_loss), 0.9),
        full("99.4 to 99.8 %", best_accuracy, 99.4, 99.8),
    ],
    "lenet evaluate accurate relu --split val": [],
}


EXPECTED = {
    command: [DONE, *(is_there(each) if isinstance(each, str) else each for each in said)]
    for command, said in SAID.items()
}


def require_the_page() -> None:
    """Require the commands of docs/lecture.md in SAID, and nothing that the page does not say of them."""
    text = (ROOT / "docs" / "lecture.md").read_text(encoding="utf-8")
    said: dict[str, str] = {}  # by command, all that stands between its blocks and the next
    for block, below in re.findall(r"^```sh\n(.*?)^```\n(.*?)(?=^```sh|\Z)", text, re.DOTALL | re.MULTILINE):
        for command in block.splitlines():
            said[command] = f"{said.get(command, '')} {' '.join(below.split())}"
    wrong = [f"is on the page, or has checks, but not both: {command}" for command in said.keys() ^ EXPECTED.keys()]
    for command, checks in EXPECTED.items():
        text = said.get(command, "")
        wrong += [f"is not said below {command}: {each.said}" for each in checks[1:] if each.said not in text]
    if wrong:
        sys.exit("\n".join(wrong))


def typed(command: str, size: str, engine: str, seed: int) -> list[str]:
    """Return the words of a command, with what engine, seed and size ask for."""
    words = shlex.split(command)
    if words[1] not in ("train", "lr-sweep", "cross-validate"):
        return words
    words += [f"--engine={engine}", "--threads=1"]
    words += [f"--seeds={seed}-{seed + 1}" if words[1] == "lr-sweep" else f"--seed={seed}"]
    if size == "full" or words[1] == "cross-validate" or "--limit-train" in words:
        return words
    short = ["--epochs=1", "--num=3"] if words[1] == "lr-sweep" else [] if "--epochs" in words else ["--epochs=2"]
    return [*words, *SMALLER, *short]


def type_words(words: list[str], place: Path) -> tuple[int, str]:
    """Run a command in a directory; return how it ended, and what it printed."""
    program = [sys.executable, *(["-m", "lenet_mnist"] if words[0] == "lenet" else [])]
    ended = subprocess.run([*program, *words[1:]], cwd=place, stdout=subprocess.PIPE, text=True, check=False)
    return ended.returncode, ended.stdout


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--size", choices=("small", "full"), default="small")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--directory", type=Path, default=ROOT / "build" / "lecture", help="with --size full")
    options = parser.parse_args()
    require_the_page()
    rows, is_small = [], options.size == "small"
    with tempfile.TemporaryDirectory(prefix="lenet-lecture-") as passing:
        place = (Path(passing) if is_small else options.directory) / f"{options.engine}-{options.seed}"
        shutil.copytree(ROOT / "configs", place / "configs")
        for command, checks in EXPECTED.items():
            print(f"$ {command}", flush=True)
            seen = Seen(command, place, *type_words(typed(command, options.size, options.engine, options.seed), place))
            print(seen.output, flush=True)
            for check in [each for each in checks if not (each.is_full and is_small)]:
                value = check.of(seen)
                is_seen = check.low <= value <= check.high
                rows.append((f"`{command[:40]}`", check.said, f"{value:.4g}", "yes" if is_seen else "NO"))
    columns = ("command", "the page says", "found", "as it says")
    wrong = [row for row in rows if row[-1] == "NO"]
    print(table(columns, rows))
    if wrong:
        sys.exit(f"not seen as the page says:\n\n{table(columns, wrong)}")
    print(f"\nall {len(EXPECTED)} commands of docs/lecture.md work, and what it says is seen")


if __name__ == "__main__":
    main()
