"""The scorecard of docs/reliability.md: a training is killed and interrupted, and must not notice.

    python scripts/measure_reliability.py [PART ...] [--count N]

- kills: SIGKILL at a random moment, every second time at a random file operation of a save; then `lenet train --resume`
- signals: SIGINT and SIGTERM in turn at a random moment of the training; exit code, time to the exit, resume
- one-run: one run, killed again and again; then resumed from every checkpoint that it kept
- starts: run directories made at once, trainings started at once, one run resumed by two processes at once
- repeats: fresh processes with other hash seeds, directories, outputs and checkpoint intervals
- offline: every command in a network namespace of its own, in which there is nothing to connect to (Linux)

`--count` is how often, instead of the number in docs/reliability.md. The exit code is 1 if anything was found that is
not promised. Every process is a real one, and dies a real death; they are forks of this one, which has imported torch
already, so that 500 of them take minutes (repeats and offline: fresh ones). Damage, random input and files blown up:
this script at 1b6751d, and tests.
"""

import itertools
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any, NamedTuple

import torch
import typer
from PIL import Image

from common import ROOT, arguments, data_access, data_of
from lenet_mnist.cli.app import app
from lenet_mnist.cli.main import main as lenet
from lenet_mnist.config import Config, DataConfig
from lenet_mnist.data.fetch import fetch_missing
from lenet_mnist.runs.recording import Checkpoint, list_checkpoints
from lenet_mnist.runs.run import Run, create_run

FEW = ["--limit-train=640", "--batch-size=32", "--set=data.val_size=500"]
QUICK = [*FEW, "--epochs=3", "--threads=1", "--set=training.checkpoint_every_steps=3", "--offline"]
RESUME = ["--resume", "latest", "--offline"]
LONGEST_EXIT = 2.0  # seconds
FORKS = multiprocessing.get_context("fork")


class Try(NamedTuple):
    """One disturbance: whether what came of it is what is promised, and what it was or took."""

    holds: bool
    what: str
    seconds: float = 0.0


def type_words(place: Path, words: Sequence[str], prepare: Callable[[], object]) -> None:
    os.chdir(place)
    log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.argv = ["lenet", *words]
    prepare()
    lenet()


@dataclass(frozen=True)
class Place:
    """A directory in which processes type commands. It holds one run."""

    path: Path

    def __post_init__(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)

    def begin(self, *words: str, prepare: Callable[[], object] = lambda: None) -> ForkProcess:
        """Start `lenet` with these words in a process of its own."""
        process = FORKS.Process(target=type_words, args=(self.path, words, prepare))
        process.start()
        return process

    @property
    def log(self) -> str:
        return (self.path / "log.txt").read_text(errors="replace")

    @property
    def runs(self) -> list[Run]:
        """The run, read anew, if it has begun."""
        return [Run(path.parent) for path in (self.path / "runs").glob("*/manifest.json")]

    @property
    def checkpoints(self) -> list[Checkpoint]:
        return [checkpoint for run in self.runs for checkpoint in list_checkpoints(run.checkpoints_path)]

    @property
    def results(self) -> tuple[Any, ...]:
        """All of the run that must be the same, times aside."""
        (run,) = self.runs
        rows = [line.rpartition(",")[0] for line in run.history_path.read_text().splitlines()]
        files = run.steps_path.read_text(), run.probe_path.read_text()
        return run.manifest.weights_sha256, run.manifest.status, tuple(rows), *files

    def train(self, words: Sequence[str] = QUICK, prepare: Callable[[], object] = lambda: None) -> float:
        """Train once without a disturbance; return the seconds."""
        started = time.monotonic()
        assert end_of(self.begin("train", *words, prepare=prepare)) == 0, self.log
        return time.monotonic() - started

    def resumes_as(self, whole: "Place") -> bool:
        """Whether the run goes on to the results of one without a disturbance."""
        return end_of(self.begin("train", *RESUME)) == 0 and self.results == whole.results

    def wait_for_checkpoint(self, process: ForkProcess, after: int = 0) -> int:
        """Return the step of a checkpoint that is later than `after`, as soon as there is one, or the process ends."""
        while process.is_alive():
            if (checkpoints := self.checkpoints) and checkpoints[0].step > after:
                return checkpoints[0].step
            time.sleep(0.005)
        return after

    def copy(self, path: Path) -> "Place":
        return Place(shutil.copytree(self.path, path))


def end_of(process: ForkProcess, which: int | None = None) -> int | None:
    """Wait for a process, after sending it a signal; return its exit code, or minus the signal that ended it."""
    if which is not None and process.pid is not None:
        with suppress(ProcessLookupError):  # it has ended by itself
            os.kill(process.pid, which)
    process.join()
    return process.exitcode


def watch_operations(before: Callable[[], object]) -> None:
    """Call `before` ahead of every operation of this process that changes a file."""
    for name in ("open", "write", "fsync", "replace", "unlink", "ftruncate", "mkdir"):
        operation = getattr(os, name)

        def watched(*arguments: Any, _operation: Any = operation, _name: str = name, **options: Any) -> Any:
            if _name != "open" or arguments[1] & (os.O_WRONLY | os.O_RDWR):
                before()
            return _operation(*arguments, **options)

        setattr(os, name, watched)


def die_at(number: int) -> None:
    """Let this process be killed just before its file operation of that number."""
    operations = itertools.count(1)

    def before() -> None:
        if next(operations) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    watch_operations(before)


def count_operations(place: Place) -> int:
    """Return how many file operations a whole training makes."""
    path, write = place.path / "operations", os.write  # not the watched one
    file = os.open(path, os.O_WRONLY | os.O_CREAT)
    place.train(prepare=partial(watch_operations, lambda: write(file, b".")))
    os.close(file)
    return path.stat().st_size


def kills(count: int, draw: random.Random, directory: Path) -> Iterator[Try]:
    """Kill at a random moment, or at a random file operation; go on; compare."""
    whole = Place(directory / "whole")
    seconds, num_operations = whole.train(), count_operations(Place(directory / "counted"))
    for number in range(count):
        place = Place(directory / str(number))
        if number % 2:
            end_of(place.begin("train", *QUICK, prepare=partial(die_at, draw.randrange(num_operations) + 1)))
        else:
            process = place.begin("train", *QUICK)
            time.sleep(draw.uniform(0.1, seconds))
            end_of(process, signal.SIGKILL)
        is_equal = not place.runs or place.resumes_as(whole)  # before there is a run, nothing can be lost
        what = f"at a {('random moment', f'file operation of {num_operations}')[number % 2]}"
        yield Try(is_equal, f"{what}, {'begun' if place.runs else 'not begun yet'}")
        if is_equal:
            shutil.rmtree(place.path)
        else:
            print(f"kept: {shutil.move(place.path, tempfile.mkdtemp())}", file=sys.stderr)


def signals(count: int, draw: random.Random, directory: Path) -> Iterator[Try]:
    """Interrupt in turn with both signals after training has begun; time the exit, go on, compare."""
    whole = Place(directory / "whole")
    seconds = whole.train()
    for number in range(count):
        place, which = Place(directory / str(number)), (signal.SIGINT, signal.SIGTERM)[number % 2]
        process = place.begin("train", *QUICK)
        place.wait_for_checkpoint(process)
        time.sleep(draw.uniform(0, 0.7 * seconds))
        started = time.monotonic()
        code, took = end_of(process, which), time.monotonic() - started
        was_finished = code in (0, -which) and place.runs[0].manifest.status == "finished"
        is_right = (code == 128 + which or was_finished) and took <= LONGEST_EXIT
        what = f"{which.name}, {'had finished' if was_finished else f'exit code {code}'}"
        yield Try(place.resumes_as(whole) and is_right, what, took)


def one_run(count: int, draw: random.Random, directory: Path) -> Iterator[Try]:
    """Kill one run again and again, then go on from each of its checkpoints."""
    words = [*(word.replace("epochs=3", "epochs=60") for word in QUICK), "--set=training.patience=null"]
    whole, place, step = Place(directory / "whole"), Place(directory / "killed"), 0
    whole.train(words)
    for number in range(count):
        process = place.begin("train", *(RESUME if number else words))
        step = place.wait_for_checkpoint(process, after=step)
        time.sleep(draw.uniform(0, 0.3))
        yield Try(end_of(process, signal.SIGKILL) == -signal.SIGKILL, "killed before its end")
    kept = place.checkpoints
    yield Try(len(kept) >= 2, "two checkpoints are kept")
    for checkpoint in kept:
        copy = place.copy(directory / checkpoint.sha256[:8])
        for other in copy.checkpoints:
            if other.sha256 != checkpoint.sha256:
                other.path.unlink()
        yield Try(copy.resumes_as(whole), "from a kept checkpoint to the one final digest")


def starts(count: int, _draw: random.Random, directory: Path) -> Iterator[Try]:
    """Make directories and start trainings at once, and resume one run twice at once."""
    many, twice = Place(directory / "many"), Place(directory / "twice")
    start = datetime(2026, 1, 1, tzinfo=UTC)
    makers = [FORKS.Process(target=create_run, args=(many.path / "runs", Config(), start)) for _ in range(count)]
    for maker in makers:
        maker.start()
    trainings = [many.begin("train", *QUICK) for _ in range(5)]
    codes = [end_of(process) for process in (*makers, *trainings)]
    num_directories = len(list((many.path / "runs").iterdir()))
    yield Try(num_directories == codes.count(0) == count + 5, f"{num_directories} directories of {count} + 5 at once")

    process = twice.begin("train", *QUICK)
    twice.wait_for_checkpoint(process)
    end_of(process, signal.SIGKILL)
    both = [twice.begin("train", *RESUME) for _ in range(2)]
    ends = {end_of(process) for process in both}
    names_holder = any(f"process {process.pid} on" in twice.log for process in both)
    yield Try(ends == {0, 6} and names_holder, f"two resumes at once end with {ends}, naming the holder")


def repeats(count: int, draw: random.Random, directory: Path) -> Iterator[Try]:
    """Train in fresh processes whose surroundings differ."""
    digests = set()
    for number in range(count):
        place = Place(directory / f"{draw.randrange(10**6)}" / "deep")
        words = [word for word in QUICK if "checkpoint_every" not in word]
        words.append(f"--set=training.checkpoint_every_steps={(1, 2, 7, 'null')[number % 4]}")
        command = [sys.executable, "-m", "lenet_mnist", "train", *words]
        if number % 2:
            command = ["script", "-qec", " ".join(command), "/dev/null"]  # a terminal: with a progress bar
        environment = os.environ | {"PYTHONHASHSEED": str(draw.randrange(2**32))}
        subprocess.run(command, cwd=place.path, env=environment, check=True, capture_output=True)
        digests.add(place.results)
        yield Try(len(digests) == 1, "one digest")


def offline(count: int, _draw: random.Random, directory: Path) -> Iterator[Try]:
    """Run every command without a network, the data cached."""
    quick = " ".join(QUICK[:-1])  # --offline is what is not said here
    digit = data_of(DataConfig()).val.images[0].numpy()
    Image.fromarray(255 - digit).resize((140, 140)).save(directory / "digit.png")
    commands = [
        *("--version", "--help", f"train {quick} --name=first", f"train {quick} --lr=auto", "train --resume=latest"),
        *("evaluate latest", "verify latest --retrain", "diagnose latest", "compare first latest", "report latest"),
        *("predict digit.png", *(f"export latest --format {each}" for each in ("html", "onnx", "safetensors"))),
        "cross-validate --limit-train=640 --folds=2 --epochs=1 --batch-size=32",
        f"lr-sweep {' '.join(FEW)} --num=3 --seeds=0",
        *("runs --test", "describe", "bench --batch-size=64", "data fetch", "data check", "data where"),
        *("doctor", "recipes", "lab --images=100 --no-open"),
        *("config show", f"config check {ROOT / 'configs' / 'relu.yaml'}"),
    ]
    named = {command.split()[0] for command in commands}
    named.add("import")  # which reads what the lab's page saves
    missing = [name for name in typer.main.get_group(app).commands if name not in named]
    assert not missing, f"commands that are not run here: {missing}"
    cut_off = ["unshare", "--map-root-user", "--net", sys.executable]
    connects = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=5)"
    assert b"unreachable" in subprocess.run([*cut_off, "-c", connects], capture_output=True, check=False).stderr
    for command in commands * count:
        words = [*cut_off, "-m", "lenet_mnist", *command.split()]
        ended = subprocess.run(words, cwd=directory, capture_output=True, check=False)
        yield Try(ended.returncode == 0, command if ended.returncode == 0 else f"{command}: {ended.stderr.decode()}")


PARTS: dict[str, tuple[Callable[[int, random.Random, Path], Iterator[Try]], int]] = {
    **{"kills": (kills, 500), "signals": (signals, 100), "one-run": (one_run, 25)},
    **{"starts": (starts, 50), "repeats": (repeats, 20), "offline": (offline, 1)},
}


def summary(tries: Sequence[Try]) -> str:
    """Count the tries that hold, and what they were, if they are of few kinds; name what took longest."""
    text = f"{sum(each.holds for each in tries)} of {len(tries)} as promised"
    kinds = Counter(each.what for each in tries if each.holds)
    if len(kinds) < 8:
        text += "".join(f"; {number} {what}" for what, number in kinds.items())
    longest = max(tries, key=lambda each: each.seconds)
    return text + (f"; the longest {longest.seconds:.2f} s ({longest.what})" if longest.seconds else "")


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all if none is named")
    parser.add_argument("--count", type=int, help="how often, in each part (with --small: 2)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    access = data_access()
    fetch_missing(access)
    torch.set_num_threads(1)  # a fork cannot use the other threads of the process that it comes from
    os.environ["LENET_DATA_DIR"] = str(access.directory.resolve())
    all_hold = True
    for name in options.parts or PARTS:
        part, usual_count = PARTS[name]
        count = options.count or (min(usual_count, 2) if options.small else usual_count)
        with tempfile.TemporaryDirectory(prefix="lenet-reliability-") as directory:
            started, tries = time.monotonic(), []
            for each in part(count, random.Random(options.seed), Path(directory)):
                tries.append(each)
                if not each.holds:
                    print(f"{name}: FAILED: {each.what}", flush=True)
        all_hold &= all(each.holds for each in tries)
        print(f"{name}: {summary(tries)}; {time.monotonic() - started:.0f} s", flush=True)
    sys.exit(not all_hold)


if __name__ == "__main__":
    main()
