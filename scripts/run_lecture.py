"""Type every command of docs/lecture.md, one after another, and look for what the page says is seen.

    python scripts/run_lecture.py                                      small, on 1,000 images, as CI does
    python scripts/run_lecture.py --size full --engines native,torch --seeds 0-2    as the page has it
    python scripts/run_lecture.py --size full --engines native,torch --seeds 0-2 --show    docs/lecture-measured.md

EXPECTED has an entry for each command of the page: what is seen, in words that stand on the page below the command, and
the values between which it lies. No command may fail. With --size full each engine and seed has a directory below
--directory, where finished commands are kept: started again, the script goes on, and engines and seeds can be shared
out among processes. Small, only what is sure on so few images is asked for.
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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product
from pathlib import Path
from statistics import mean, median
from typing import Any

from common import ROOT, arguments, table
from lenet_mnist.config_file import parse_seeds
from lenet_mnist.errors import LenetError
from lenet_mnist.files.tables import Journal
from lenet_mnist.runs.listing import find_run
from lenet_mnist.runs.run import Run
from lenet_mnist.training.rows import EpochRow, ProbeRow

SMALLER = ["--limit-train=1000", "--set=data.val_size=500", "--set=training.batch_size=20"]
GUESSING = math.log(10)
VALIDATED = "evaluation/val/metrics.json"
CURVES = ("plots/loss.png", "plots/layers.png")


@dataclass(frozen=True)
class Seen:
    """What a command left behind in `place`; `causes` are those that `lenet diagnose --json` names."""

    command: str
    place: Path
    code: int
    output: str
    causes: Sequence[str]

    @property
    def directory(self) -> Path:
        """What the command wrote into, or the run that it read; else `place`."""
        match shlex.split(self.command)[1:]:
            case ["train", *options]:
                return find_run(options[options.index("--name") + 1], self.place / "runs").path
            case ["evaluate" | "diagnose" | "report", name, *_]:
                return find_run(name, self.place / "runs").path
            case ["compare" | "cross-validate" | "lr-sweep" as kind, *_]:
                [name] = set(re.findall(rf"runs/[\w-]*{kind}-[\w-]+", self.output))
                return self.place / name
        return self.place

    @property
    def run(self) -> Run:
        return Run(self.directory)

    @property
    def history(self) -> list[EpochRow]:
        return self.run.history

    def json(self, name: str) -> Any:
        return json.loads((self.directory / name).read_text(encoding="utf-8"))

    def csv(self, name: str) -> list[dict[str, str]]:
        with (self.directory / name).open(encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def losses(self, first: int, last: int) -> list[float]:
        """Return the training loss of the updates that were recorded, from `first` to `last`."""
        return [row.train_loss for row in self.run.steps if first <= row.step <= last]

    def looks(self) -> list[dict[str, ProbeRow]]:
        """Return what the probe saw of each layer, at epoch 0, 1, and so on."""
        rows = self.run.probe
        return [{row.layer.value: row for row in rows if row.epoch == k} for k in range(rows[-1].epoch + 1)]


@dataclass(frozen=True)
class Check:
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
        except (LenetError, LookupError, OSError, StopIteration, TypeError, ValueError, ZeroDivisionError) as error:
            print(f"{self.said}: {type(error).__name__}: {error}", file=sys.stderr)
            return math.nan


DONE = Check("the exit code is 0", lambda seen: seen.code == 0)


def printed(said: str) -> Check:
    """Words that the command prints."""
    return Check(said, lambda seen: seen.output.count(said))


def drawn(said: str) -> Check:
    """A picture, or the report."""
    return Check(said, lambda seen: (seen.directory / said).is_file())


def found(said: str, *causes: str) -> Check:
    """The first finding of `lenet diagnose`: one of these."""
    return Check(said, lambda seen: seen.causes[:1] in [[cause] for cause in causes])


def full(check: Check) -> Check:
    return replace(check, is_full=True)


def reached(said: str, low: float, high: float, split: str = "val") -> Check:
    """An accuracy in per cent: of the kept weights, or of an evaluation."""

    def accuracy(seen: Seen) -> float:
        is_training = seen.command.startswith("lenet train")
        return 100 * ((seen.run.manifest.best_val_accuracy or 0) if is_training else evaluated(seen, split))

    return full(Check(said, accuracy, low, high))


def evaluated(seen: Seen, split: str) -> float:
    return float(seen.json(f"evaluation/{split}/metrics.json")["accuracy"])


def times_smaller(look: dict[str, ProbeRow]) -> float:
    """Return how many times smaller the gradient is at C1 than at the output."""
    return look["output"].gradient_norm / look["C1"].gradient_norm


def rest(seen: Seen) -> int:
    """Return after how many updates the training loss is below 2 nats."""
    return next(row.step for row in seen.run.steps if row.train_loss < 2)


def speed_ratio(seen: Seen, loss: float) -> float:
    """Return how many times as many updates the second run needs to a training loss."""
    [contrast] = seen.json("comparison.json")["contrasts"]
    return next(float(each["ratio"]) for each in contrast["speed_ratios"] if each["loss"] == loss)


def risen(seen: Seen) -> float:
    """Return how many times its lowest value the validation loss is at the end."""
    return seen.history[-1].val_loss / min(row.val_loss for row in seen.history)


def jumps(seen: Seen) -> float:
    """Count from how many recorded updates to the next the training loss rises by more than that of guessing."""
    return sum(after - before > GUESSING for before, after in pairwise(seen.losses(1, 10**9)))


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


EXPECTED: dict[str, list[Check]] = {
    "lenet data fetch": [],
    "lenet data check": [printed("60000 x 28 x 28"), printed("10000 x 28 x 28"), printed("4,969"), printed("6,180")],
    "lenet data show": [drawn("runs/training-images.png")],
    "lenet --help": [printed(word) for word in ("describe", "train", "lr-sweep", "evaluate", "data")],
    "lenet describe": [printed(word) for word in ("6x28x28", "16x5x5", "48,120", "117,600", "240,000")],
    "lenet describe --json": [printed('"num_parameters": 156'), printed('"num_parameters": 61706')],
    # 5: sigmoid
    "lenet train --config sigmoid --name sigmoid": [
        *map(drawn, CURVES),
        Check("100 to 1,000 times smaller", lambda seen: times_smaller(seen.looks()[0]), 100, 1000),
        full(Check("less than 10 times", lambda seen: times_smaller(seen.looks()[-1]), 0, 10)),
        Check("ln 10 = 2.30", lambda seen: median(seen.losses(1, 100)), 2.25, 2.4),
        full(Check("the first 100 to 800 updates", rest, 100, 800)),
        reached("98.4 to 99.2 %", 98.4, 99.2),
    ],
    "lenet evaluate sigmoid --split val": [drawn("evaluation/val/confusion_matrix.png")],
    "lenet train --config sigmoid --lr 0.002 --epochs 3 --name resting": [
        *map(drawn, CURVES),
        Check("a flat line at 2.30", lambda seen: max(abs(row.val_loss - GUESSING) for row in seen.history), 0, 0.05),
        Check("more than 20 times smaller", lambda seen: min(map(times_smaller, seen.looks())), 20),
    ],
    "lenet diagnose resting": [
        found("the learning rate is too low", "learning rate"),
        Check("the gradients vanish", lambda seen: "vanishing gradients" in seen.causes),
    ],
    "lenet train --config tanh --name tanh": [
        *map(drawn, CURVES),
        Check("less than 5 times smaller", lambda seen: times_smaller(seen.looks()[0]), 0, 5),
        full(Check("after 100 updates the loss is below 1", lambda seen: median(seen.losses(101, 120)), 0, 1)),
        reached("98.7 to 99.3 %", 98.7, 99.3),
    ],
    "lenet evaluate tanh --split val": [],
    # 6: ReLU
    "lenet train --config relu --name relu": [
        drawn("plots/layers.png"),
        reached("98.8 to 99.4 %", 98.8, 99.4),
    ],
    "lenet evaluate relu --split val": [
        drawn("evaluation/val/calibration.png"),
        drawn("evaluation/val/misclassified.png"),
        full(Check("below 1 %", lambda seen: 100 * seen.json(VALIDATED)["expected_calibration_error"], 0, 1)),
        full(Check("30 to 60 mistakes", lambda seen: 5000 - seen.json(VALIDATED)["num_correct"], 30, 60)),
    ],
    "lenet compare relu sigmoid --speed-ratio loss=1 --speed-ratio loss=0.1": [
        drawn("loss.png"),
        full(Check("4 to 20 times as many", lambda seen: speed_ratio(seen, 1), 4, 20)),
        full(Check("1.2 to 3 times", lambda seen: speed_ratio(seen, 0.1), 1.2, 3)),
    ],
    "lenet compare relu tanh --speed-ratio loss=0.1": [
        full(Check("0.4 to 1.5 times as many", lambda seen: speed_ratio(seen, 0.1), 0.4, 1.5)),
    ],
    "lenet train --config relu --lr 0.4 --epochs 1 --set training.schedule=constant --name dead": [
        *map(drawn, CURVES),
        Check("0 to 25 % are dead at epoch 0", lambda seen: 100 * seen.looks()[0]["F6"].dead, 0, 25),
        Check("more than 90 % at epoch 1", lambda seen: 100 * seen.looks()[-1]["F6"].dead, 90),
        Check("the loss comes back to 2.30", lambda seen: abs(seen.history[-1].val_loss - GUESSING), 0, 0.1),
        Check("9 to 13 %", lambda seen: 100 * (seen.run.manifest.best_val_accuracy or 0), 9, 13),
    ],
    "lenet diagnose dead": [
        found("the learning rate is too high", "learning rate", "dead units"),
        Check("units have died", lambda seen: "dead units" in seen.causes),
    ],
    # 7: max pooling
    'python -c "import torch; x = torch.tensor([[12, 20, 30, 0], [8, 12, 2, 0], [34, 70, 37, 4], [112, 100, 25, 12]]); '
    'print(torch.nn.functional.max_pool2d(x[None].float(), 2).tolist())"': [printed("[[[20.0, 30.0], [112.0, 37.0]]]")],
    "lenet report relu": [drawn("report.html")],
    # 9: three sets
    "lenet train --limit-train 1000 --epochs 40 --lr 0.007 --set training.schedule=constant "
    "--set training.weight_decay=0 --set training.patience=null --name by-heart": [
        drawn("plots/loss.png"),
        drawn("plots/accuracy.png"),
        Check("less than 0.01", lambda seen: seen.history[-1].train_loss, 0, 0.01),
        Check("turns after 5 to 25 epochs", lambda seen: seen.run.manifest.best_epoch or 0, 5, 25),
        Check("more than 10 % above its lowest", risen, 1.1),
        Check("all training images right", lambda seen: seen.history[-1].train_accuracy, 0.999),
        reached("90 to 96 %", 90, 96),
    ],
    "lenet diagnose by-heart": [found("the network over-fits", "over-fitting")],
    "lenet evaluate by-heart --split val": [],
    "lenet evaluate relu": [
        drawn("evaluation/test/confusion_matrix.png"),
        reached("98.9 to 99.5 %", 98.9, 99.5, "test"),
    ],
    "lenet runs --test": [printed("test accuracy")],
    # 10 and 11: the sizes of the sets
    "lenet config show relu": [printed("train_size: 55000"), printed("val_size: 5000")],
    "lenet cross-validate --limit-train 1000 --folds 5 --epochs 20 --batch-size 32": [
        drawn("plots/cross_validation.png"),
        Check("93 to 97 %", lambda seen: 100 * seen.json("metrics.json")["accuracy"], 93, 97),
        Check("1 to 10 points", spread_of_folds, 1, 10),
    ],
    # 12: the lecture's rules
    "lenet train --config relu --lr 0.0003 --epochs 5 --name slow": [
        drawn("plots/loss.png"),
        full(Check("0.1 to 0.3", lambda seen: seen.history[-1].val_loss, 0.1, 0.3)),
    ],
    "lenet diagnose slow": [found("the learning rate is too low", "learning rate")],
    "lenet train --config tanh --lr 1 --epochs 5 --name wild": [
        drawn("plots/loss.png"),
        Check("jumps up and down by whole nats", jumps, 10),
        full(Check("far above 2.30", lambda seen: median(row.train_loss for row in seen.history), 10)),
    ],
    "lenet diagnose wild": [found("the learning rate is too high", "learning rate")],
    # 13: the right one
    "lenet lr-sweep --activation sigmoid,relu": [
        drawn("plots/sweep.png"),
        full(Check("more than 5 times", lambda seen: least_rate(seen, "sigmoid") / least_rate(seen, "relu"), 5)),
        full(Check("0.03 to 1 for sigmoid", lambda seen: chosen_rate(seen, "sigmoid"), 0.03, 1)),
        full(Check("0.01 to 0.2 for ReLU", lambda seen: chosen_rate(seen, "relu"), 0.01, 0.2)),
    ],
    "lenet train --lr auto --name found": [
        full(Check("0.01 to 0.15", lambda seen: seen.run.config.training.peak_learning_rate, 0.01, 0.15)),
        reached("98.8 to 99.4 %", 98.8, 99.4),
    ],
    "lenet evaluate found --split val": [drawn("report.html")],
    # after the lecture
    "lenet data show --augment --config accurate": [drawn("runs/training-images.png")],
    "lenet train --config accurate --name accurate": [
        drawn("plots/loss.png"),
        full(
            Check("above the validation loss", lambda seen: mean(r.train_loss > r.val_loss for r in seen.history), 0.9)
        ),
        reached("99.4 to 99.8 %", 99.4, 99.8),
    ],
    "lenet evaluate accurate relu --split val": [],
}


def require_the_page() -> list[str]:
    """Return the commands of docs/lecture.md, if EXPECTED has them, and nothing that the page does not say of them."""
    text = (ROOT / "docs" / "lecture.md").read_text(encoding="utf-8")
    said: dict[str, str] = {}  # by command, all that stands between its blocks and the next
    for block, below in re.findall(r"^```sh\n(.*?)^```\n(.*?)(?=^```sh|\Z)", text, re.DOTALL | re.MULTILINE):
        for command in block.splitlines():
            said[command] = f"{said.get(command, '')} {' '.join(below.split())}"
    wrong = [f"is on the page, or has checks, but not both: {command}" for command in said.keys() ^ EXPECTED.keys()]
    wrong += [
        f"is not said below {command}: {check.said}"
        for command, checks in EXPECTED.items()
        for check in checks
        if check.said not in said.get(command, "")
    ]
    if wrong:
        sys.exit("\n".join(wrong))
    return list(said)


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


def type_command(words: Sequence[str], place: Path) -> tuple[int, str]:
    """Run a command in a directory; return how it ended, and what it printed."""
    program = [sys.executable, "-m", "lenet_mnist"] if words[0] == "lenet" else [sys.executable]
    ended = subprocess.run([*program, *words[1:]], cwd=place, stdout=subprocess.PIPE, text=True, check=False)
    return ended.returncode, ended.stdout


def run_page(commands: Sequence[str], size: str, engine: str, seed: int, place: Path) -> None:
    """Type the commands in `place` that its journal lacks; it keeps how they ended, and what they printed."""
    if not place.is_dir():
        shutil.copytree(ROOT / "configs", place / "configs")
    journal = Journal(place / "journal.jsonl")
    ended = {entry["key"] for entry in journal.documents()}
    for command in (command for command in commands if command not in ended):
        print(f"$ {command}", flush=True)
        words = typed(command, size, engine, seed)
        code, output = type_command(words, place)
        print(output, flush=True)
        causes = []
        if words[1] == "diagnose" and code == 0:
            findings = json.loads(type_command([*words, "--json"], place)[1])["findings"]
            causes = [finding["cause"] for finding in findings]
        journal.add({"key": command, "value": {"code": code, "output": output, "causes": causes}})


def show(values: dict[tuple[str, Check], list[float]]) -> None:
    """Print the figures of the page with the lowest and highest that were found; and how much else was seen."""
    rows, rest_right, rest_all = [], 0, 0
    for (command, check), each in values.items():
        right = sum(check.low <= value <= check.high for value in each)
        if (check.low, check.high) == (1, math.inf):
            rest_right, rest_all = rest_right + right, rest_all + len(each)
            continue
        words = shlex.split(command)
        name = words[words.index("--name") + 1] if "--name" in words else words[2]
        between = f"{min(each):.4g} to {max(each):.4g}"
        rows.append((f"`{words[0]} {words[1]} {name}`", check.said, between, f"{right} of {len(each)}"))
    print(table(("command", "the page says", "found", "trainings in range"), rows))
    print(f"\nElse (exit codes, words, findings, pictures): {rest_right} of {rest_all} as said.")


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--size", choices=("small", "full"), default="small")
    parser.add_argument("--engines", default="auto", help="with --size full, as in native,torch")
    parser.add_argument("--seeds", default="0", help="with --size full, as in 0-2")
    parser.add_argument("--directory", type=Path, default=ROOT / "build" / "lecture", help="with --size full")
    parser.add_argument("--show", action="store_true", help="run nothing; print the table of what was found")
    options = parser.parse_args()
    commands, wrong = require_the_page(), []
    values: dict[tuple[str, Check], list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="lenet-lecture-") as passing:
        root = Path(passing) if options.size == "small" else options.directory
        for seed, engine in product(parse_seeds(options.seeds), options.engines.split(",")):
            place = root / f"{engine}-{seed}"
            if not options.show:
                run_page(commands, options.size, engine, seed, place)
            for entry in Journal(place / "journal.jsonl").documents():
                command = entry["key"]
                for check in [DONE, *EXPECTED.get(command, ())]:
                    if check.is_full and options.size == "small":
                        continue
                    value = check.of(Seen(command, place, **entry["value"]))
                    values.setdefault((command, check), []).append(value)
                    if not check.low <= value <= check.high:
                        wrong.append(f"{engine}, seed {seed}: after `{command}`: {check.said}: found {value:.4g}")
    if options.show:
        show(values)
    if wrong:
        sys.exit("\n".join(["not seen as the page says:", *wrong]))
    print(f"all {len(commands)} commands of docs/lecture.md work, and what it says is seen")


if __name__ == "__main__":
    main()
