"""The scorecard of docs/reliability.md: a training is killed, interrupted and damaged, and must not notice.

    python scripts/measure_reliability.py [PART ...] [--count N]

- kills: SIGKILL at a random moment, every second time at a random file operation of a save; then `lenet train --resume`
- signals: SIGINT and SIGTERM in turn at a random moment of the training; exit code, time to the exit, resume
- one-run: one run, killed again and again; then resumed from every checkpoint that it kept
- damage: bits flipped and files cut off; each must be noticed before use, and the run go on from an older checkpoint
- starts: run directories made at once, trainings started at once, one run resumed by two processes at once
- repeats: fresh processes with other hash seeds, directories, outputs and checkpoint intervals
- parsers: random input for everything that reads a file or a name
- memory: files of a run blown up, as far as they are read and further; memory and processor time of each command
- offline: every command in a network namespace of its own, in which there is nothing to connect to (Linux)

`--count` is how often, instead of the number in docs/reliability.md. The exit code is 1 if anything was found that is
not promised. Every process is a real one, and dies a real death; they are forks of this one, which has imported torch
already, so that 500 of them take minutes (repeats and offline: fresh ones).
"""

import hashlib
import json
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
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis
import torch
import typer
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load, save

from common import ROOT, arguments, data_access, data_of
from lenet_mnist.cli.app import app
from lenet_mnist.cli.commands import DEFAULT_DATA_DIR
from lenet_mnist.cli.main import main as lenet
from lenet_mnist.config import Config, DataConfig
from lenet_mnist.config_file import load_config, parse_yaml
from lenet_mnist.data.fetch import fetch_missing
from lenet_mnist.data.idx import parse_idx
from lenet_mnist.errors import LenetError
from lenet_mnist.runs.listing import find_run
from lenet_mnist.runs.recording import list_checkpoints
from lenet_mnist.runs.run import Run, create_run
from lenet_mnist.training.checkpoint import read_network

FEW = ["--limit-train=640", "--batch-size=32", "--set=data.val_size=500"]
QUICK = [*FEW, "--epochs=3", "--threads=1", "--set=training.checkpoint_every_steps=3", "--offline"]
SWEEP = ["lr-sweep", *FEW, "--num=3", "--seeds=0"]
RESUME = ["--resume", "latest", "--offline"]
LONGEST_EXIT = 2.0  # seconds
LAYERS = ("C1", "C3", "C5", "F6", "output")
MOST_MEMORY, MOST_SECONDS = 1000, 20.0  # MB, of which torch alone takes 300; of one processor
Results = tuple[Any, ...]


class Try(NamedTuple):
    """One disturbance: whether what came of it is what is promised, and what it was or took."""

    holds: bool
    what: str
    seconds: float = 0.0
    megabytes: int = 0


@dataclass(frozen=True)
class Place:
    """A directory in which processes type commands. It holds one run."""

    path: Path

    def __post_init__(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)

    def begin(self, *words: str, prepare: Callable[[], object] = lambda: None) -> int:
        """Start `lenet` with these words in a process of its own, and return its id."""
        sys.stdout.flush()
        if (process := os.fork()) != 0:
            return process
        code = 99
        try:
            os.chdir(self.path)
            log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            sys.argv = ["lenet", *words]
            prepare()
            lenet()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def type(self, *words: str) -> None:
        assert end_of(self.begin(*words)) == 0, self.log

    @property
    def log(self) -> str:
        return (self.path / "log.txt").read_text(errors="replace")

    @property
    def run(self) -> Run:
        """The run, read anew."""
        return Run(next((self.path / "runs").glob("*/manifest.json")).parent)

    @property
    def has_begun(self) -> bool:
        return any((self.path / "runs").glob("*/manifest.json"))

    @property
    def results(self) -> Results:
        """All of the run that must be the same, times aside."""
        run, manifest = self.run, self.run.manifest
        rows = [line.rpartition(",")[0] for line in run.history_path.read_text().splitlines()]
        return manifest.weights_sha256, manifest.status, rows, run.steps_path.read_text(), run.probe_path.read_text()

    def train(self, words: Sequence[str] = QUICK) -> tuple[Results, float]:
        """Train once without a disturbance; return its results and its seconds."""
        started = time.monotonic()
        self.type("train", *words)
        return self.results, time.monotonic() - started

    def resumes(self, expected: Results) -> bool:
        """Whether the run goes on to the expected results."""
        return end_of(self.begin("train", *RESUME)) == 0 and self.results == expected

    def wait_for_checkpoint(self, process: int, after: int = 0) -> int:
        """Return the step of a checkpoint that is later than `after`, as soon as there is one, or the process ends."""
        while os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            checkpoints = list_checkpoints(self.run.checkpoints_path) if self.has_begun else []
            if checkpoints and checkpoints[0].step > after:
                return checkpoints[0].step
            time.sleep(0.005)
        return after

    def copy(self, path: Path) -> "Place":
        return Place(shutil.copytree(self.path, path))


def end_of(process: int) -> int:
    """Wait for a process, and return its exit code, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def kills(count: int, draw: random.Random, directory: Path) -> Iterator[Try]:
    """Kill at a random moment, or at a random file operation; go on; compare."""
    expected, seconds = Place(directory / "whole").train()
    num_operations = count_operations(Place(directory / "counted"))
    for number in range(count):
        place = Place(directory / str(number))
        if number % 2:
            process = place.begin("train", *QUICK, prepare=partial(die_at, draw.randrange(num_operations) + 1))
        else:
            process = place.begin("train", *QUICK)
            time.sleep(draw.uniform(0.1, seconds))
            os.kill(process, signal.SIGKILL)
        end_of(process)
        is_equal = not place.has_begun or place.resumes(expected)  # before there is a run, nothing can be lost
        what = f"at a {('random moment', f'file operation of {num_operations}')[number % 2]}"
        yield Try(is_equal, f"{what}, {'begun' if place.has_begun else 'not begun yet'}")
        if is_equal:
            shutil.rmtree(place.path)
        else:
            print(f"kept: {shutil.move(place.path, tempfile.mkdtemp())}", file=sys.stderr)


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
    left = [number]

    def before() -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    watch_operations(before)


def count_operations(place: Place) -> int:
    """Return how many file operations a whole training makes."""
    reader, writer = os.pipe()
    write = os.write  # not the watched one
    process = place.begin("train", *QUICK, prepare=partial(watch_operations, lambda: write(writer, b".")))
    os.close(writer)
    number = 0
    while part := os.read(reader, 65536):
        number += len(part)
    assert end_of(process) == 0
    return number


def signals(count: int, draw: random.Random, directory: Path) -> Iterator[Try]:
    """Interrupt in turn with both signals after training has begun; time the exit, go on, compare."""
    expected, seconds = Place(directory / "whole").train()
    for number in range(count):
        place, which = Place(directory / str(number)), (signal.SIGINT, signal.SIGTERM)[number % 2]
        process = place.begin("train", *QUICK)
        place.wait_for_checkpoint(process)
        time.sleep(draw.uniform(0, 0.7 * seconds))
        started = time.monotonic()
        os.kill(process, which)
        code, took = end_of(process), time.monotonic() - started
        was_finished = code in (0, -which) and place.run.manifest.status == "finished"
        is_right = (code == 128 + which or was_finished) and took <= LONGEST_EXIT
        what = f"{which.name}, {'had finished' if was_finished else f'exit code {code}'}"
        yield Try(place.resumes(expected) and is_right, what, took)


def one_run(count: int, draw: random.Random, directory: Path) -> Iterator[Try]:
    """Kill one run again and again, then go on from each of its checkpoints."""
    words = [*(word.replace("epochs=3", "epochs=60") for word in QUICK), "--set=training.patience=null"]
    expected, _ = Place(directory / "whole").train(words)
    place, step = Place(directory / "killed"), 0
    for number in range(count):
        process = place.begin("train", *(RESUME if number else words))
        step = place.wait_for_checkpoint(process, after=step)
        time.sleep(draw.uniform(0, 0.3))
        os.kill(process, signal.SIGKILL)
        yield Try(end_of(process) == -signal.SIGKILL, "killed before its end")
    kept = list_checkpoints(place.run.checkpoints_path)
    yield Try(len(kept) >= 2, "two checkpoints are kept")
    for checkpoint in kept:
        copy = place.copy(directory / checkpoint.sha256[:8])
        for other in list_checkpoints(copy.run.checkpoints_path):
            if other.sha256 != checkpoint.sha256:
                other.path.unlink()
        yield Try(copy.resumes(expected), "from a kept checkpoint to the one final digest")


def damage(count: int, draw: random.Random, directory: Path) -> Iterator[Try]:
    """Flip a bit, or cut off the end, of a checkpoint or of the kept weights; a sixth of them are cuts."""
    place = Place(directory / "whole")
    expected, _ = place.train()
    newest, older = list_checkpoints(place.run.checkpoints_path)[:2]
    for number in range(count):
        path = (newest.path, place.run.model_path)[number % 2]
        whole = path.read_bytes()
        end_of_header = 8 + int.from_bytes(whole[:8], "little")
        damaged = bytearray(whole)
        if number // 2 % 6 == 5:  # of both
            del damaged[draw.randrange(len(whole)) :]
        else:  # half of them in the header
            damaged[draw.randrange(len(whole) if number % 4 < 2 else end_of_header)] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        is_noticed = not newest.is_intact and older.is_intact
        if path != newest.path:
            try:
                read_network(path)
            except LenetError:
                is_noticed = True
        yield Try(is_noticed, "noticed before use")
        path.write_bytes(whole)
    for number in range(min(count, 10)):
        copy = place.copy(directory / f"copy{number}")
        first = list_checkpoints(copy.run.checkpoints_path)[0].path
        content = bytearray(first.read_bytes())
        content[draw.randrange(len(content))] ^= 1
        first.write_bytes(content)
        yield Try(copy.resumes(expected) and first.exists(), "gone on from the older checkpoint")


def starts(count: int, _draw: random.Random, directory: Path) -> Iterator[Try]:
    """Make directories and start trainings at once, and resume one run twice at once."""
    many, twice = Place(directory / "many"), Place(directory / "twice")
    makers = []
    for _ in range(count):
        if (process := os.fork()) == 0:
            create_run(many.path / "runs", Config(), datetime(2026, 1, 1, tzinfo=UTC))
            os._exit(0)
        makers.append(process)
    trainings = [many.begin("train", *QUICK) for _ in range(5)]
    codes = [end_of(process) for process in (*makers, *trainings)]
    num_directories = len(list((many.path / "runs").iterdir()))
    yield Try(num_directories == codes.count(0) == count + 5, f"{num_directories} directories of {count} + 5 at once")

    process = twice.begin("train", *QUICK)
    twice.wait_for_checkpoint(process)
    os.kill(process, signal.SIGKILL)
    end_of(process)
    both = [twice.begin("train", *RESUME) for _ in range(2)]
    ends = sorted(end_of(process) for process in both)
    names_holder = any(f"process {process} on" in twice.log for process in both)
    yield Try(ends == [0, 6] and names_holder, f"two resumes at once end with {ends}, naming the holder")


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
        digests.add((place.run.manifest.weights_sha256, place.run.steps_path.read_text()))
        yield Try(len(digests) == 1, "one digest")


def parsers(count: int, _draw: random.Random, directory: Path) -> Iterator[Try]:
    """Give random input to whatever reads a file or a name; only our own errors may come of it."""
    settings = hypothesis.settings(max_examples=count, deadline=None, database=None, derandomize=True)
    place = Place(directory / "whole")
    place.train()
    run = place.run
    network, manifest, config = (path.read_bytes() for path in (run.model_path, run.manifest_path, run.config_path))
    near_yaml = st.text(alphabet="seed: model\n -[]{}&*!|>'\"#,0123456789.e+tfnu\t", max_size=200)

    def changed(content: bytes) -> st.SearchStrategy[bytes]:
        spliced = st.tuples(st.integers(0, len(content)), st.integers(0, 40), st.binary(max_size=40))
        return spliced.map(lambda change: content[: change[0]] + change[2] + content[change[0] + change[1] :])

    def written(path: Path, content: bytes) -> Path:
        path.write_bytes(content)
        return path

    def only_our_errors(read: Callable[[Any], Any]) -> Callable[[Any], None]:
        def reading(value: Any) -> None:
            with suppress(LenetError):
                read(value)

        return reading

    near_idx = st.binary(max_size=100).map(lambda rest: b"\0\0\x08\x03" + rest)
    small = st.binary(max_size=300)
    cases: dict[str, tuple[st.SearchStrategy[Any], Callable[[Any], Any]]] = {
        "configurations": (near_yaml | st.text(max_size=200), lambda text: parse_yaml(text, "random")),
        "configuration files": (changed(config) | small, lambda c: load_config(written(directory / "config.yaml", c))),
        "IDX files": (small | near_idx, lambda content: parse_idx(content, 3, Path("random"))),
        "networks": (changed(network) | small, lambda content: read_network(written(directory / "model", content))),
        "manifests": (changed(manifest), lambda content: Run(written(run.manifest_path, content).parent).manifest),
        "run names": (st.text(max_size=300), lambda name: find_run(name, place.path / "runs")),
    }
    for name, (strategy, read) in cases.items():
        settings(hypothesis.given(strategy)(only_our_errors(read)))()
        yield Try(True, f"{count:,} {name}, no other error than our own")


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
        " ".join(SWEEP),
        *("runs --test", "describe", "bench --batch-size=64", "data fetch", "data check", "data where"),
        *("config show", f"config check {ROOT / 'configs' / 'relu.yaml'}"),
    ]
    named = {command.split()[0] for command in commands}
    missing = [name for name in typer.main.get_group(app).commands if name not in named]
    assert not missing, f"commands that are not run here: {missing}"
    cut_off = ["unshare", "--map-root-user", "--net", sys.executable]
    connects = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=5)"
    assert b"unreachable" in subprocess.run([*cut_off, "-c", connects], capture_output=True, check=False).stderr
    for command in commands * count:
        words = [*cut_off, "-m", "lenet_mnist", *command.split()]
        ended = subprocess.run(words, cwd=directory, capture_output=True, check=False)
        yield Try(ended.returncode == 0, command if ended.returncode == 0 else f"{command}: {ended.stderr.decode()}")


READERS = (
    *("runs --test", "diagnose relu", "report relu", "evaluate relu --split val --offline", "evaluate relu --offline"),
    *("compare relu other --split val --offline", "verify relu --offline"),
    *("export relu --format safetensors --offline", "train --resume relu --offline"),
)
READERS_OF_SWEEPS = ("diagnose swept", "lr-sweep --resume swept --offline")


def memory(count: int, _draw: random.Random, directory: Path) -> Iterator[Try]:
    """Let every command that reads a run meet files that are far larger than a training makes them."""
    whole = Place(directory / "whole")
    whole.train()
    whole.type("train", *QUICK, "--seed=1", "--name=other")
    fresh = [sys.executable, "-m", "lenet_mnist", *SWEEP, "--set=name=swept", "--offline"]  # its workers are not forks
    subprocess.run(fresh, cwd=whole.path, check=True, capture_output=True)
    whole.type("evaluate", "relu", "--split", "val", "--offline")
    for bomb, command in [*product(BOMBS, READERS), *product(BOMBS_OF_SWEEPS, READERS_OF_SWEEPS)] * count:
        place, is_sweep = whole.copy(directory / "place"), bomb in BOMBS_OF_SWEEPS
        [run] = (place.path / "runs").glob("*-swept-*" if is_sweep else "*-relu-*")
        (BOMBS | BOMBS_OF_SWEEPS)[bomb](Run(run))
        _, status, usage = os.wait4(place.begin(*command.split()), 0)
        peak, seconds = usage.ru_maxrss // 1024, usage.ru_utime + usage.ru_stime
        holds = peak <= MOST_MEMORY and seconds <= MOST_SECONDS and "Traceback" not in place.log
        yield Try(holds, f"{bomb}: {command}: exit code {os.waitstatus_to_exitcode(status)}", seconds, peak)
        shutil.rmtree(place.path)


def rows_of(path: Path, row: Callable[[int], str], num_bytes: int, number: int = 999_999) -> None:
    """Write rows that could be true under the header that is there, up to that size or number."""
    lines, size = [path.read_text().partition("\n")[0] + "\n"], 0
    while size < num_bytes and len(lines) <= number:
        lines.append(row(len(lines)))
        size += len(lines[-1])
    path.write_text("".join(lines))


def long_journal(run: Run) -> None:
    """Repeat a training of a sweep, each time at another rate."""
    lines = run.journal_path.read_text().splitlines(keepends=True)
    entry = next(json.loads(line) for line in lines if line.startswith('{"trial"'))
    entry["trial"]["steps"] *= 100
    size = 0
    with run.journal_path.open("a") as file:
        while size < 190_000_000:
            entry["trial"]["trial"]["lr"] *= 1.0001
            size += file.write(json.dumps(entry) + "\n")


def signed(run: Run, **changes: Any) -> None:
    run.write_manifest(run.manifest.model_copy(update=changes))


def brackets(run: Run) -> None:
    content = b"a: [" + b"[]," * 21_000 + b"0]\n"
    run.config_path.write_bytes(content)
    signed(run, config_sha256=hashlib.sha256(content).hexdigest())


def large_checkpoint(run: Run) -> None:
    """Let the newest checkpoint hold the rows of 14 million updates."""
    newest = list_checkpoints(run.checkpoints_path)[0]
    content = newest.read()
    length = 8 + int.from_bytes(content[:8], "little")
    tensors, header = load(content), json.loads(content[8:length])["__metadata__"]
    tensors["rows.steps"] = torch.frombuffer(bytearray(b"1,1,0.1,0.1,0.1,0.1\n" * 5_000_000), dtype=torch.uint8)
    content = save(tensors, metadata=header)
    digest = hashlib.sha256(content).hexdigest()
    newest.path.with_name(f"step-{newest.step + 1:08d}-{digest}.safetensors").write_bytes(content)


def many_tensors(run: Run) -> None:
    entries = (f'"{k}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}' for k in range(30_000))
    header = ("{" + ",".join(entries) + "}").encode()
    run.model_path.write_bytes(len(header).to_bytes(8, "little") + header)


def epoch_row(k: int) -> str:
    return f"{k},{k},.1,2.1,.5,2.1,.5,1.5\n"


def step_row(k: int) -> str:
    return f"{k},1,0.0123456789,2.123456789,1.123456789,0.123456789\n"


def probe_row(k: int) -> str:
    return f"{(k - 1) // 5},{(k - 1) // 5},{LAYERS[(k - 1) % 5]},1.5,1.5,.1,.1,.1,.1,1.5\n"


def file_of(name: str, content: bytes, times: int, end: bytes = b"", start: bytes = b"") -> Callable[[Run], None]:
    def write(run: Run) -> None:
        (run.path / name).parent.mkdir(parents=True, exist_ok=True)
        (run.path / name).write_bytes(start + content * times + end)

    return write


BOMBS: dict[str, Callable[[Run], None]] = {
    "history.csv, 60 MB of short lines": lambda run: rows_of(run.history_path, lambda _: "1\n" * 60, 60_000_000),
    "history.csv, 100,000 epochs": lambda run: rows_of(run.history_path, epoch_row, 60_000_000, 100_000),
    "steps.csv, a million steps": lambda run: rows_of(run.steps_path, step_row, 64_000_000),
    "probe.csv, 100,000 looks": lambda run: rows_of(run.probe_path, probe_row, 60_000_000, 500_000),
    "probe.csv, 60 MB of commas": file_of("probe.csv", b",", 60_000_000, b"\n"),
    "manifest.json, 60 MB": file_of("manifest.json", b"[],", 20_000_000, b"0]}}", b'{"tuning": {"a": ['),
    "manifest.json, 280,000 values": lambda run: signed(run, tuning={"a": [[]] * 280_000}),
    "manifest.json, a message of 7 MB": lambda run: signed(run, message="\U0001f600" * 1_700_000),
    "config.yaml, 64 kB of brackets": brackets,
    "metrics.json, 60 MB": file_of("evaluation/val/metrics.json", b"[],", 20_000_000, b"0]", b"["),
    "confusion_matrix.csv, 60 MB": file_of("evaluation/val/confusion_matrix.csv", b"," * 200_000 + b"\n", 300),
    "looks.csv, 60 MB": file_of("evaluation/test/looks.csv", b"time\n", 12_000_000),
    "examples.safetensors, 60 MB": file_of("evaluation/val/examples.safetensors", b"\0", 60_000_000),
    "model.safetensors, a header of 30,000 tensors": many_tensors,
    "a checkpoint of 14 million updates": large_checkpoint,
}
BOMBS_OF_SWEEPS: dict[str, Callable[[Run], None]] = {
    "journal.jsonl, 190 MB of trainings": long_journal,
    "journal.jsonl, 200 MB of lists": file_of("journal.jsonl", b"[],", 66_000_000, b"0]\n", b"["),
}
PARTS: dict[str, tuple[Callable[[int, random.Random, Path], Iterator[Try]], int]] = {
    **{"kills": (kills, 500), "signals": (signals, 100), "one-run": (one_run, 25), "damage": (damage, 1200)},
    **{"starts": (starts, 50), "repeats": (repeats, 20), "parsers": (parsers, 10_000)},
    **{"offline": (offline, 1), "memory": (memory, 1)},
}


def summary(tries: Sequence[Try]) -> str:
    """Count the tries that hold, and what they were, if they are of few kinds; name what took longest, and most."""
    text = f"{sum(each.holds for each in tries)} of {len(tries)} as promised"
    kinds = Counter(each.what for each in tries if each.holds)
    if len(kinds) < 8:
        text += "".join(f"; {number} {what}" for what, number in kinds.items())
    longest, largest = max(tries, key=lambda each: each.seconds), max(tries, key=lambda each: each.megabytes)
    text += f"; the longest {longest.seconds:.2f} s ({longest.what})" if longest.seconds else ""
    return text + (f"; the most {largest.megabytes} MB ({largest.what})" if largest.megabytes else "")


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all if none is named")
    parser.add_argument("--count", type=int, help="how often, in each part (with --small: 2)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    fetch_missing(data_access())
    torch.set_num_threads(1)  # a fork cannot use the other threads of the process that it comes from
    os.environ["LENET_DATA_DIR"] = str(Path(os.environ.get("LENET_DATA_DIR", DEFAULT_DATA_DIR)).resolve())
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
