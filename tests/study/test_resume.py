"""A training that was interrupted, killed, refused by the disk or damaged resumes to the very same result.

Here on the disk; tests/training/test_loop.py shows the same of the state in memory, for more kinds of training.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.faults import Disk, Interrupter, Killed, faulty_disk
from tests.tiny import part_of

from lenet_mnist.config import Config, Engine
from lenet_mnist.config_file import Layer, resolve
from lenet_mnist.data.mnist import DataAccess
from lenet_mnist.data.sets import TrainVal
from lenet_mnist.distributed import Ranks
from lenet_mnist.errors import ConfigError, DataError, StorageError
from lenet_mnist.files.locks import exclusive_lock
from lenet_mnist.model.engines import TORCH
from lenet_mnist.progress import Progress
from lenet_mnist.runs.listing import list_runs
from lenet_mnist.runs.recording import list_checkpoints
from lenet_mnist.runs.run import Run
from lenet_mnist.study.resume import differences_of_machine
from lenet_mnist.study.train import resume_run, train_seeds
from lenet_mnist.training.context import Context, Session
from lenet_mnist.training.probe import Probe

SETTINGS: dict[str, Any] = {
    "training.max_epochs": 3,
    "training.batch_size": 16,
    "training.threads": 1,
    "training.engine": "torch",
    "training.checkpoint_every_steps": 2,
}
CONSTANT = {"training.schedule": "constant", "training.warmup": 0.0, "training.learning_rate": 0.01}
STEPS_PER_EPOCH = 7
LOAD = "lenet_mnist.training.context.load_train_val"


def config_of(**changes: Any) -> Config:
    return resolve([Layer("the test", SETTINGS | changes)]).config


def result_of(run: Run) -> tuple[Any, ...]:
    """All of a run that must be the same, however it came about."""
    run = Run(run.path)
    manifest, history = run.manifest, [replace(row, seconds=0.0) for row in run.history]
    best = (manifest.best_epoch, manifest.best_val_loss, manifest.best_val_accuracy, manifest.weights_sha256)
    return (*best, manifest.epochs, manifest.status, manifest.stop_reason, history, run.steps, run.probe)


class Watcher(Progress):
    """Keeps what is noted, and kills the process, as far as `disk` can tell, after an update."""

    def __init__(self, disk: Disk | None = None, at_step: int = 0) -> None:
        self.lines: list[str] = []
        self.disk = disk
        self.at_step = at_step
        self.step = 0

    def note(self, text: str) -> None:
        self.lines.append(text)

    def begin(self, text: str, total: int | None) -> None:  # noqa: ARG002
        self.step = 0

    def advance(self, amount: int, text: str = "") -> None:  # noqa: ARG002
        self.step += amount
        if self.disk is not None and self.step == self.at_step > 0:
            self.disk.is_dead = True
            raise Killed


@pytest.fixture(scope="module")
def tiny(small: TrainVal) -> TrainVal:
    """104 training images and 50 for validation: 7 updates an epoch, the last one of 8 images."""
    return part_of(small, 104, 50)


@pytest.fixture(autouse=True)
def _tiny_data(monkeypatch: pytest.MonkeyPatch, tiny: TrainVal) -> None:
    monkeypatch.setattr(LOAD, lambda _config, _access: tiny)


Train = Callable[..., Run]


@pytest.fixture
def new_path(tmp_path: Path) -> Callable[[], Path]:
    return lambda: tmp_path / str(len(list(tmp_path.iterdir())))


@pytest.fixture
def train_anew(new_path: Callable[[], Path], access: DataAccess) -> Train:
    """Train to the end, or until the watcher ends it."""

    def training(watcher: Watcher | None = None, **changes: Any) -> Run:
        runs_dir = new_path()
        with suppress(Killed):
            train_seeds(config_of(**changes), None, Session(access, watcher or Watcher()), runs_dir)
        return Run(next(runs_dir.iterdir(), runs_dir) if runs_dir.exists() else runs_dir)

    return training


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shelf")


@pytest.fixture
def train(
    train_anew: Train, shelf: Path, new_path: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Run]:
    """A run of one's own that came to its end, or was killed at a step: trained once, and copied."""

    def training(kill_at: int | None = None, **changes: Any) -> Run:
        original = shelf / hashlib.sha256(f"{kill_at} {changes}".encode()).hexdigest()[:16]
        if not original.exists():
            with faulty_disk(monkeypatch) as disk:
                made = train_anew(Watcher(disk, kill_at or 0), **changes)
            shutil.copytree(made.path, original)
        return Run(Path(shutil.copytree(original, new_path())))

    return training


@pytest.fixture
def resume(access: DataAccess) -> Train:
    def again(run: Run, watcher: Watcher | None = None, accept: bool = False, **changes: Any) -> Run:
        wanted = resolve([Layer("--set", changes)])
        resume_run(run, wanted, accept, Session(access, watcher or Watcher()))
        return Run(run.path)

    return again


# Killed.

ADAM = {"training.optimizer": "adam", "training.learning_rate": 1e-3, "training.schedule": "cosine"}
PLATEAU = {
    "model.activation": "sigmoid",
    "training.schedule": "plateau",
    "training.plateau_patience": 0,
    "training.learning_rate": 2.0,
}
LAST = {"training.keep": "last", "training.learning_rate": 0.3, "training.schedule": "constant"}
PATIENT = {"training.patience": 1, "training.learning_rate": 0.3, "training.max_epochs": 8}
KINDS: dict[str, dict[str, Any]] = {
    "sgd": {},
    "adam": ADAM,
    "muon": {"training.optimizer": "muon", "training.momentum": 0.95},
    "plateau": PLATEAU,
    "the last weights": LAST,
    "patience 1": PATIENT,
    "augmented": {"augmentation.rotation": 10.0, "augmentation.shift": 1.0, "augmentation.elastic": 0.85},
    "taught": {"augmentation.shift": 1.0, "augmentation.views": 2},
}


def test_the_kinds_are_what_they_are_there_for(train: Train) -> None:
    assert [row.lr for row in train(**PLATEAU).history] == [2.0, 2.0, 1.0]
    stopped = train(**PATIENT).manifest
    assert stopped.stop_reason == "no-improvement"
    assert stopped.best_epoch < stopped.epochs < PATIENT["training.max_epochs"]
    last = train(**LAST)
    losses = [row.val_loss for row in last.history]
    assert min(losses) < losses[-1] == last.manifest.best_val_loss


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_training_goes_on_to_the_same_result(train: Train, resume: Train, shelf: Path, kind: str) -> None:
    """Within an epoch, before its measurement, and after one."""
    settings = KINDS[kind]
    if kind == "taught":
        if not (shelf / "teacher").exists():
            shutil.copytree(train(seed=7).path, shelf / "teacher")
        settings = settings | {"training.teachers": [str(shelf / "teacher")]}
    whole = train(**settings)
    for at_step in (3, 7, 15):
        run = train(at_step, **settings)
        if len(whole.history) * STEPS_PER_EPOCH >= at_step:
            assert run.manifest.status == "running"  # nobody was left to say otherwise
            resume(run)
        assert result_of(run) == result_of(whole), at_step


# Two updates an epoch: what counts is every file operation.
EPOCHS_ONLY = {"training.max_epochs": 2, "training.batch_size": 52, "training.checkpoint_every_steps": None}


def test_a_training_that_is_killed_at_any_file_operation_goes_on_to_the_same_result(
    train_anew: Train, resume: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every operation of a run of two epochs, from its directory to its end: the saves of both epochs among them."""
    with faulty_disk(monkeypatch) as disk:
        whole = train_anew(**EPOCHS_ONLY)
    operations = list(disk.log)
    assert {"open", "write", "fsync", "replace"} <= set(operations)
    num_resumed = 0
    for number in range(1, len(operations) + 1):
        with faulty_disk(monkeypatch, kill_at=number) as disk:
            run = train_anew(**EPOCHS_ONLY)
        assert disk.is_dead
        if run.manifest_path.exists():  # else the run had not begun: nothing is listed, and nothing was trained
            assert result_of(resume(run)) == result_of(whole), f"operation {number}, {operations[number - 1]}"
            assert not list(run.path.rglob("*.part"))
            num_resumed += 1
    assert num_resumed >= len(operations) - 30


def test_whatever_the_disk_refuses_is_reported_and_the_training_resumes_later(
    train_anew: Train, resume: Train, access: DataAccess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with faulty_disk(monkeypatch) as disk:
        whole = train_anew(**EPOCHS_ONLY)
    for name, number in (("write", errno.ENOSPC), ("fsync", errno.EIO), ("replace", errno.EIO)):
        for k in range(1, disk.log.count(name) + 1):
            runs_dir = tmp_path / f"{name}-{k}"

            def refuse(which: str, count: int, at: tuple[str, int] = (name, k), number: int = number) -> int | None:
                return number if (which, count) == at else None

            with faulty_disk(monkeypatch, refuse=refuse), pytest.raises(StorageError, match=f"{runs_dir}.*: cannot "):
                train_seeds(config_of(**EPOCHS_ONLY), None, Session(access), runs_dir)
            run = Run(next(runs_dir.iterdir(), runs_dir))  # none where its very name was refused
            if run.manifest_path.exists():
                assert all(checkpoint.is_intact for checkpoint in list_checkpoints(run.checkpoints_path))
                assert run.manifest.status in ("failed", "running")
                assert result_of(resume(run)) == result_of(whole)


def test_a_disk_that_is_full_for_good_keeps_what_was_there(
    train: Train, resume: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train(10)
    before = list_checkpoints(run.checkpoints_path)

    def refuse(name: str, _count: int) -> int | None:
        return errno.ENOSPC if name == "write" else None

    with faulty_disk(monkeypatch, refuse=refuse), pytest.raises(StorageError, match="No space left on device"):
        resume(run)
    assert list_checkpoints(run.checkpoints_path) == before
    assert result_of(resume(run)) == result_of(train())


# Damaged.


def flip(path: Path, place: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    path.write_bytes(content)


def test_a_damaged_checkpoint_is_named_skipped_and_kept(train: Train, resume: Train) -> None:
    for damage in ("flipped", "truncated", "empty", "removed", "both removed", "a directory", "renamed"):
        run = train(13)
        newest, older = list_checkpoints(run.checkpoints_path)
        assert (newest.step, older.step) == (12, 10)
        match damage:
            case "flipped":
                flip(newest.path, 300_000, 3)
            case "truncated":
                newest.path.write_bytes(newest.path.read_bytes()[:-1])
            case "empty":
                newest.path.write_bytes(b"")
            case "removed" | "a directory":
                newest.path.unlink()
            case "both removed":
                newest.path.unlink()
                older.path.unlink()
            case "renamed":  # its step is not in its digest: it is what it says inside
                newest.path.rename(newest.path.with_name(newest.path.name.replace("00000012", "00000099")))
        if damage == "a directory":
            newest.path.mkdir()
        there = {path.name for path in run.checkpoints_path.iterdir()} - {older.path.name}
        watcher = Watcher()
        resume(run, watcher)
        assert result_of(run) == result_of(train()), damage
        skipped = [line for line in watcher.lines if line.startswith("skipped")]
        assert len(skipped) == (damage not in ("removed", "both removed", "renamed"))
        assert all(newest.path.name in line for line in skipped)
        assert damage == "renamed" or there <= {path.name for path in run.checkpoints_path.iterdir()}


def test_the_newest_is_that_of_the_highest_step_whatever_the_files_times(train: Train, resume: Train) -> None:
    run, watcher = train(13), Watcher()
    os.utime(list_checkpoints(run.checkpoints_path)[0].path, (0, 0))
    resume(run, watcher)
    assert any("after step 12" in line for line in watcher.lines)


@pytest.mark.parametrize("name", ["history.csv", "steps.csv", "probe.csv"])
def test_whatever_happens_to_a_history_the_checkpoints_count_and_it_is_written_anew(
    train: Train, resume: Train, name: str
) -> None:
    for damage in ("a bit of the header", "a bit of an early row", "cut off", "empty", "removed", "a pipe"):
        run, watcher = train(13), Watcher()
        path = run.path / name
        content = path.read_bytes()
        match damage:
            case "a bit of the header":
                flip(path, 3)
            case "a bit of an early row":
                flip(path, content.index(b"\n") + 5)
            case "cut off":
                path.write_bytes(content[:-3])
            case "empty":
                path.write_bytes(b"")
            case _:
                path.unlink()
        if damage == "a pipe":
            os.mkfifo(path)
        resume(run, watcher)
        assert any("after step 12" in line for line in watcher.lines), damage
        assert result_of(run) == result_of(train()), damage


@pytest.mark.parametrize("name", ["config.yaml", "manifest.json"])
def test_a_flipped_bit_in_what_the_run_was_made_with_stops_it(train: Train, resume: Train, name: str) -> None:
    run = train(13)
    path = run.path / name
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        flip(path, place)
        if not says_the_same(path.read_bytes(), whole):
            with pytest.raises(DataError, match=name.replace(".", r"\.")):
                resume(run)
        path.write_bytes(whole)
    resume(run)


def says_the_same(content: bytes, other: bytes) -> bool:
    """Whether both are the same JSON: the last of a number's 17 digits may be another one, and mean nothing."""
    try:
        return bool(json.loads(content) == json.loads(other))
    except ValueError:
        return False


# What may change.


def test_a_training_resumes_for_more_epochs_as_if_it_had_been_longer_from_the_start(
    train: Train, resume: Train
) -> None:
    for schedule in ("constant", "plateau"):
        settings = CONSTANT | {"training.schedule": schedule, "training.plateau_patience": 0}
        longer, run = train(**settings, **{"training.max_epochs": 5}), train(**settings)
        resumed = resume(run, **{"training.max_epochs": 5})
        assert result_of(resumed) == result_of(longer)
        assert resumed.config == longer.config
        assert len(resumed.history) == 5


def test_after_an_early_stop_a_raised_patience_goes_on(train: Train, resume: Train) -> None:
    settings = CONSTANT | {"training.max_epochs": 12, "training.learning_rate": 0.1}
    run = train(**settings, **{"training.patience": 1})
    assert run.manifest.stop_reason == "no-improvement"
    assert result_of(resume(run, **{"training.patience": 4})) == result_of(
        train(**settings, **{"training.patience": 4})
    )
    assert len(resume(run, **{"training.patience": None}).history) == 12


CHANGES: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({}, {"training.max_epochs": 5}, "with schedule linear"),
    (CONSTANT | {"training.warmup": 0.1}, {"training.max_epochs": 5}, "the warm-up was a share"),
    (CONSTANT, {"training.max_epochs": 2}, "it may only be raised"),
    ({}, {"training.patience": 2}, "it may only be raised"),
    ({}, {"training.learning_rate": 0.01}, r"training\.learning_rate was 0\.04, and is now 0\.01"),
    ({}, {"training.label_smoothing": 0.1}, r"training\.label_smoothing was 0\.0, and is now 0\.1"),
    ({}, {"seed": 1}, "seed was 0, and is now 1"),
    ({}, {"training.engine": "native"}, "training.engine was torch"),
    ({}, {"training.threads": 2}, "training.threads was 1"),
    ({}, {"data.limit_train": 100}, "data.limit_train was null"),
    ({}, {"name": "other"}, "name was null"),
]
FIXED = [
    ("model.activation", "tanh"),
    ("training.optimizer", "adam"),
    ("training.batch_size", 32),
    ("training.keep", "last"),
    ("training.momentum", 0.0),
]


def test_what_would_change_the_result_is_refused_with_the_reason(train: Train, resume: Train) -> None:
    for settings, changes, reason in CHANGES:
        run = train(**settings)
        before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
        with pytest.raises(ConfigError, match=f"{reason}.*--accept-differences"):
            resume(run, **changes)
        assert {path: path.read_bytes() for path in before} == before
    for key, value in FIXED:  # a state fits no other
        with pytest.raises(ConfigError, match="cannot change on resume"):
            resume(train(), accept=True, **{key: value})


def test_accepted_differences_are_noted(train: Train, resume: Train) -> None:
    run = resume(train(10), accept=True, **{"training.learning_rate": 0.01})
    (noted,) = run.manifest.resumes
    assert noted.differences == ("training.learning_rate was 0.04, and is now 0.01",)
    assert run.config.training.learning_rate == 0.01
    assert run.steps[-3].lr < 0.01
    assert run.manifest.weights_sha256 != train().manifest.weights_sha256


def test_another_torch_other_data_and_another_split_are_differences(
    train: Train, resume: Train, monkeypatch: pytest.MonkeyPatch, tiny: TrainVal
) -> None:
    run = train(10)
    other = replace(tiny, fingerprint=replace(tiny.fingerprint, split="0" * 64, files={}))
    monkeypatch.setattr(LOAD, lambda _config, _access: other)
    run.write_manifest(run.manifest.model_copy(update={"versions": {"torch": "1.0"}}))
    with pytest.raises(ConfigError, match=r"train-images.*the split.*torch was 1\.0, and is now"):
        resume(run)
    manifest = resume(run, accept=True).manifest
    assert len(manifest.resumes[0].differences) == 3
    assert manifest.split_sha256 == "0" * 64  # what `evaluate` compares with
    resume(run)


def test_another_build_of_the_native_engine_is_a_difference(train: Train, tiny: TrainVal) -> None:
    engine = replace(TORCH, name=Engine.NATIVE, library="a", reason="compiled by clang")
    native, other = Context(tiny, engine=engine), Context(tiny, engine=replace(engine, library="b"))
    manifest = train().manifest.model_copy(update={"engine": "native", "engine_library": "a"})
    assert differences_of_machine(manifest, native) == []
    (found,) = differences_of_machine(manifest, other)
    assert "compiled by clang" in found
    assert differences_of_machine(train().manifest, native) == []  # another engine is another configuration


def test_repeating_the_settings_is_no_difference(train: Train, resume: Train) -> None:
    same = SETTINGS | {"training.learning_rate": "auto", "training.engine": "auto", "training.threads": None}
    assert result_of(resume(train(10), **same)) == result_of(train())


def test_an_interrupted_series_says_which_seeds_are_left(tmp_path: Path, access: DataAccess) -> None:
    class Watched(Watcher, Interrupter):
        def __init__(self) -> None:
            Watcher.__init__(self)
            Interrupter.__init__(self, at_step=STEPS_PER_EPOCH * 3 + 2)

        def advance(self, amount: int, text: str = "") -> None:
            Interrupter.advance(self, amount, text)

    watcher = Watched()
    runs = train_seeds(config_of(), "4-7", Session(access, watcher), tmp_path)

    assert [run.manifest.status for run in runs] == ["finished", "interrupted"]
    assert any("--seeds 6,7" in line for line in watcher.lines)


def test_no_two_checkpoints_are_of_one_step(train_anew: Train) -> None:
    """An epoch's end is saved once, also where `checkpoint_every_steps` asks for its last update."""
    run = train_anew(**{"training.checkpoint_every_steps": STEPS_PER_EPOCH})
    steps = [checkpoint.step for checkpoint in list_checkpoints(run.checkpoints_path)]
    assert steps == [3 * STEPS_PER_EPOCH, 2 * STEPS_PER_EPOCH]


def test_whatever_fails_before_the_first_update_is_noted(
    train_anew: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(Probe, "of", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        train_anew()
    (path,) = tmp_path.glob("*/*/manifest.json")
    assert Run(path.parent).manifest.status == "failed"


def test_after_a_restart_only_runs_of_this_configuration_are_gone_on_with(tmp_path: Path, access: DataAccess) -> None:
    """Another job may have had the same name, as --rdzv-id gives it; of equal ones the newest run counts."""

    def trained(restarts: int, **changes: Any) -> dict[int, Run]:
        session = Session(access, ranks=Ranks(restarts=restarts, job="mnist-1"))
        runs = train_seeds(config_of(**changes), "3-4", session, tmp_path)
        return {run.config.seed: run for run in runs}

    trained(0)
    newer = trained(0)
    assert trained(1) == newer
    assert trained(1, **{"training.learning_rate": "auto"}) == newer
    assert len(list_runs(tmp_path)) == 4
    newer[4].write_manifest(newer[4].manifest.model_copy(update={"job": "mnist-2"}))
    assert trained(1)[4] != newer[4]
    assert trained(1, **{"training.weight_decay": 0.5})[3] != newer[3]


def test_a_training_that_has_ended_stays_as_it_is(train: Train, resume: Train) -> None:
    run, watcher = train(), Watcher()
    before = result_of(run)
    assert result_of(resume(run, watcher)) == before
    assert any("nothing is left to train" in line for line in watcher.lines)
    lost = train(**{"training.learning_rate": 1e6})
    assert lost.manifest.status == lost.manifest.stop_reason == "diverged"
    before = result_of(lost)
    assert result_of(resume(lost)) == before


# Who may write.


def test_a_run_that_is_being_trained_is_not_resumed(train: Train, resume: Train) -> None:
    run = train(10)
    with exclusive_lock(run.path, print), pytest.raises(StorageError, match=f"process {os.getpid()} on"):
        resume(run)


@pytest.mark.parametrize("name", ["checkpoints", "history.csv", "steps.csv", ".lock", "manifest.json", "evaluation"])
def test_nothing_is_written_through_a_link(train: Train, resume: Train, outside: Path, name: str) -> None:
    run = train(10)
    path = run.path / name
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.symlink_to(outside if name in ("checkpoints", "evaluation") else outside / "precious")
    with pytest.raises(StorageError, match=f"{name}: is a symbolic link"):
        resume(run)


def test_a_run_can_be_moved_and_resumed(train: Train, resume: Train, tmp_path: Path) -> None:
    moved = Run(Path(shutil.move(train(10).path, tmp_path / "elsewhere")))
    assert result_of(resume(moved)) == result_of(train())
