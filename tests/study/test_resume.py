"""A training that is interrupted, killed, refused by the disk or damaged goes on to the very same result."""

import errno
import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.faults import Killed, faulty_disk

from lenet_mnist.config import Config
from lenet_mnist.config_file import Layer, resolve
from lenet_mnist.data.mnist import DataAccess
from lenet_mnist.data.sets import TrainSet, TrainVal, ValSet
from lenet_mnist.distributed import Ranks
from lenet_mnist.errors import ConfigError, DataError, StorageError
from lenet_mnist.files.locks import exclusive_lock
from lenet_mnist.runs.checkpoints import list_checkpoints
from lenet_mnist.runs.run import Run
from lenet_mnist.study import training, training_series
from lenet_mnist.study.train import resume_run, train_seeds
from lenet_mnist.training.context import Session
from lenet_mnist.training.rows import EpochRow, ProbeRow, StepRow

SETTINGS: dict[str, Any] = {
    "training.max_epochs": 3,
    "training.batch_size": 16,
    "training.threads": 1,
    "training.engine": "torch",
    "training.checkpoint_every_steps": 2,
}
CONSTANT = {"training.schedule": "constant", "training.warmup": 0.0, "training.learning_rate": 0.01}
STEPS_PER_EPOCH = 7


def config_of(**changes: Any) -> Config:
    return resolve([Layer("the test", SETTINGS | changes)]).config


def wanted(**changes: Any) -> Any:
    return resolve([Layer("--set", changes)])


class Result(NamedTuple):
    """All of a run that must be the same, however it came about."""

    digest: str | None
    history: list[EpochRow]
    steps: list[StepRow]
    probe: list[ProbeRow]
    best: tuple[Any, ...]
    status: tuple[Any, ...]


def result_of(run: Run) -> Result:
    manifest = run.manifest
    return Result(
        manifest.weights_sha256,
        [replace(row, seconds=0.0) for row in run.history],
        run.steps,
        run.probe,
        (manifest.best_epoch, manifest.best_val_loss, manifest.best_val_accuracy, manifest.epochs),
        (manifest.status, manifest.stop_reason),
    )


class Killer(Nobody):
    """Kills the process, as far as the disk can tell, after some update."""

    def __init__(self, disk: Any, at_step: int) -> None:
        self.disk = disk
        self.at_step = at_step

    def add_step(self, row: StepRow) -> None:
        if row.step == self.at_step:
            self.disk.is_dead = True
            raise Killed


class Notes(Nobody):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture(scope="module")
def tiny(small: TrainVal) -> TrainVal:
    """104 training images and 50 for validation: 7 updates an epoch, the last one of 8 images."""
    train_set, val_set = small.train, small.val
    return TrainVal(
        TrainSet(train_set.images[:104], train_set.labels[:104], train_set.indices[:104]),
        ValSet(val_set.images[:50], val_set.labels[:50], val_set.indices[:50]),
        small.class_names,
        small.normalization,
        small.fingerprint,
    )


@pytest.fixture(autouse=True)
def _tiny_data(monkeypatch: pytest.MonkeyPatch, tiny: TrainVal) -> None:
    for module in (training, training_series):
        monkeypatch.setattr(module, "load_train_val", lambda _config, _access: tiny)


Train = Callable[..., Run]


@pytest.fixture
def train_anew(tmp_path: Path, access: DataAccess) -> Train:
    """Train with other settings, to the end or until the spectator ends it."""

    def training(spectator: Nobody | None = None, **changes: Any) -> Run:
        runs_dir = tmp_path / str(len(list(tmp_path.iterdir())))
        with suppress(Killed):
            train_seeds(config_of(**changes), None, Session(access, spectator or Nobody()), runs_dir)
        return Run(next(runs_dir.iterdir(), runs_dir) if runs_dir.exists() else runs_dir)

    return training


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where runs stand that several tests begin from."""
    return tmp_path_factory.mktemp("shelf")


@pytest.fixture
def copy_of(shelf: Path, tmp_path: Path) -> Callable[[str, Train], Run]:
    """Return a run of one's own that was made in a certain way: made once, and copied."""

    def copy(how: str, make: Callable[[], Run]) -> Run:
        original = shelf / hashlib.sha256(how.encode()).hexdigest()[:16]
        if not original.exists():
            shutil.copytree(make().path, original)
        return Run(Path(shutil.copytree(original, tmp_path / str(len(list(tmp_path.iterdir()))))))

    return copy


@pytest.fixture
def train(train_anew: Train, copy_of: Callable[..., Run]) -> Train:
    """A run that came to its end undisturbed."""

    def training(**changes: Any) -> Run:
        return copy_of(f"whole {changes}", lambda: train_anew(**changes))

    return training


@pytest.fixture
def go_on(access: DataAccess) -> Callable[..., Run]:
    def resume(run: Run, spectator: Nobody | None = None, accept: bool = False, **changes: Any) -> Run:
        resume_run(run, wanted(**changes), accept, access, spectator or Nobody())
        return run

    return resume


@pytest.fixture
def killed(train_anew: Train, copy_of: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    """A run that was killed after an update."""

    def training(at_step: int, **changes: Any) -> Run:
        def make() -> Run:
            with faulty_disk(monkeypatch) as disk:
                return train_anew(Killer(disk, at_step), **changes)

        return copy_of(f"killed after {at_step} {changes}", make)

    return training


KINDS: dict[str, dict[str, Any]] = {
    "sgd, linear": {},
    "adam, cosine": {"training.optimizer": "adam", "training.learning_rate": 1e-3, "training.schedule": "cosine"},
    "adamw, one-cycle": {
        "training.optimizer": "adamw",
        "training.learning_rate": 1e-3,
        "training.schedule": "one-cycle",
    },
    "plateau, sigmoid": {
        "model.activation": "sigmoid",
        "training.schedule": "plateau",
        "training.plateau_patience": 0,
        "training.learning_rate": 2.0,
    },
    "the last weights": {"training.keep": "last", "training.learning_rate": 0.3, "training.schedule": "constant"},
    "patience 1": {"training.patience": 1, "training.learning_rate": 0.3, "training.max_epochs": 8},
    "only epochs": {"training.checkpoint_every_steps": None},
    "augmented": {"augmentation.rotation": 10.0, "augmentation.shift": 1.0, "augmentation.elastic": 0.85},
}


def test_the_kinds_are_what_they_are_there_for(train: Train) -> None:
    rates = [row.lr for row in train(**KINDS["plateau, sigmoid"]).history]
    assert rates == [2.0, 2.0, 1.0]
    stopped = train(**KINDS["patience 1"]).manifest
    assert stopped.stop_reason == "no-improvement"
    assert stopped.best_epoch < stopped.epochs < KINDS["patience 1"]["training.max_epochs"]
    last = train(**KINDS["the last weights"])
    losses = [row.val_loss for row in last.history]
    assert min(losses) < losses[-1] == last.manifest.best_val_loss


@pytest.mark.parametrize("at_step", [1, 2, 3, 6, 7, 8, 13, 14, 15, 20, 21])
@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_training_goes_on_to_the_same_result(
    train: Train, killed: Train, go_on: Train, kind: str, at_step: int
) -> None:
    whole, run = train(**KINDS[kind]), killed(at_step, **KINDS[kind])
    if len(whole.history) * STEPS_PER_EPOCH >= at_step:
        assert run.manifest.status == "running"  # nobody was left to say otherwise
        go_on(run)
    assert result_of(run) == result_of(whole)


def test_a_training_that_is_killed_after_every_few_steps_comes_to_the_same_result(
    train: Train, killed: Train, go_on: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, run = train(), killed(3)
    for at_step in range(5, 22, 2):
        with faulty_disk(monkeypatch) as disk, pytest.raises(Killed):
            go_on(run, Killer(disk, at_step))
    go_on(run)
    assert result_of(run) == result_of(whole)
    assert len(run.manifest.resumes) == 10


def test_from_every_kept_checkpoint_the_result_is_the_same(
    train: Train, killed: Train, go_on: Train, tmp_path: Path
) -> None:
    whole, halfway = train(), killed(13)
    kept = list_checkpoints(halfway.checkpoints_path)
    assert [checkpoint.step for checkpoint in kept] == [12, 10]
    for number, checkpoint in enumerate(kept):
        copy = Run(Path(shutil.copytree(halfway.path, tmp_path / f"copy{number}")))
        for other in list_checkpoints(copy.checkpoints_path):
            if other.sha256 != checkpoint.sha256:
                other.path.unlink()
        assert result_of(go_on(copy)) == result_of(whole)


# Two updates an epoch: what counts is every file operation.
EPOCHS_ONLY = {"training.max_epochs": 2, "training.batch_size": 52, "training.checkpoint_every_steps": None}


def test_a_training_that_is_killed_at_any_file_operation_goes_on_to_the_same_result(
    train_anew: Train, go_on: Train, monkeypatch: pytest.MonkeyPatch
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
            assert result_of(go_on(run)) == result_of(whole), f"operation {number}, {operations[number - 1]}"
            assert not list(run.path.rglob("*.part"))
            num_resumed += 1
    assert num_resumed >= len(operations) - 30


@pytest.mark.parametrize(("name", "number"), [("write", errno.ENOSPC), ("fsync", errno.EIO), ("replace", errno.EIO)])
def test_whatever_the_disk_refuses_is_reported_and_the_training_goes_on_later(
    train_anew: Train,
    go_on: Train,
    access: DataAccess,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    name: str,
    number: int,
) -> None:
    with faulty_disk(monkeypatch) as disk:
        whole = train_anew(**EPOCHS_ONLY)
    for k in range(1, disk.log.count(name) + 1):
        runs_dir = tmp_path / f"refused{k}"

        def refuse(which: str, count: int, k: int = k) -> int | None:
            return number if which == name and count == k else None

        with faulty_disk(monkeypatch, refuse=refuse), pytest.raises(StorageError, match=f"{runs_dir}.*: cannot "):
            train_seeds(config_of(**EPOCHS_ONLY), None, Session(access), runs_dir)
        run = Run(next(runs_dir.iterdir(), runs_dir))  # none where its very name was refused
        if run.manifest_path.exists():
            assert all(checkpoint.is_intact for checkpoint in list_checkpoints(run.checkpoints_path))
            assert run.manifest.status in ("failed", "running")
            assert result_of(go_on(run)) == result_of(whole)


def test_a_disk_that_is_full_for_good_keeps_what_was_there(
    killed: Train, go_on: Train, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, run = train(), killed(10)
    before = {checkpoint.path.name for checkpoint in list_checkpoints(run.checkpoints_path)}

    def refuse(name: str, _count: int) -> int | None:
        return errno.ENOSPC if name == "write" else None

    with faulty_disk(monkeypatch, refuse=refuse), pytest.raises(StorageError, match="No space left on device"):
        go_on(run)
    assert {checkpoint.path.name for checkpoint in list_checkpoints(run.checkpoints_path)} == before
    assert result_of(go_on(run)) == result_of(whole)


# Damage.


def flip(path: Path, place: int, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    path.write_bytes(content)


@pytest.mark.parametrize("damage", ["flipped", "truncated", "empty", "removed", "a directory", "renamed"])
def test_a_damaged_checkpoint_is_named_passed_over_and_kept(
    train: Train, killed: Train, go_on: Train, damage: str
) -> None:
    whole, run = train(), killed(13)
    newest, older = list_checkpoints(run.checkpoints_path)
    match damage:
        case "flipped":
            flip(newest.path, 300_000, 3)
        case "truncated":
            newest.path.write_bytes(newest.path.read_bytes()[:-1])
        case "empty":
            newest.path.write_bytes(b"")
        case "removed":
            newest.path.unlink()
        case "a directory":
            newest.path.unlink()
            newest.path.mkdir()
        case "renamed":
            newest.path.rename(newest.path.with_name(newest.path.name.replace("00000012", "00000099")))
    there = {path.name for path in run.checkpoints_path.iterdir()} - {older.path.name}
    notes = Notes()
    go_on(run, notes)
    assert result_of(run) == result_of(whole)
    said = [line for line in notes.lines if line.startswith("passed over")]
    if damage == "renamed":  # its step is not in its digest: it is what it says inside
        return
    assert len(said) == (damage != "removed")
    assert all(newest.path.name in line for line in said)
    assert there - {"model.safetensors"} <= {path.name for path in run.checkpoints_path.iterdir()}


def test_the_newest_is_that_of_the_highest_step_whatever_the_files_times(killed: Train, go_on: Train) -> None:
    run = killed(13)
    newest, older = list_checkpoints(run.checkpoints_path)
    assert (newest.step, older.step) == (12, 10)
    os.utime(newest.path, (0, 0))
    notes = Notes()
    go_on(run, notes)
    assert any("after step 12" in line for line in notes.lines)


def test_flips_and_truncations_of_checkpoints_are_all_noticed(killed: Train) -> None:
    (newest, _), draw = list_checkpoints(killed(13).checkpoints_path), random.Random(0)
    whole = newest.path.read_bytes()
    for _ in range(200):
        flip(newest.path, draw.randrange(len(whole)), draw.randrange(8))
        assert not newest.is_intact
        newest.path.write_bytes(whole)
    for _ in range(50):
        newest.path.write_bytes(whole[: draw.randrange(len(whole))])
        assert not newest.is_intact
    newest.path.write_bytes(whole)
    assert newest.is_intact


@pytest.mark.parametrize("name", ["history.csv", "steps.csv", "probe.csv"])
def test_whatever_happens_to_a_history_the_checkpoints_count_and_it_is_written_anew(
    train: Train, killed: Train, go_on: Train, name: str
) -> None:
    whole = train()
    for damage in ("a bit of the header", "a bit of an early row", "cut off", "empty", "removed", "a pipe"):
        run = killed(13)
        path = run.path / name
        content = path.read_bytes()
        match damage:
            case "a bit of the header":
                flip(path, 3, 0)
            case "a bit of an early row":
                flip(path, content.index(b"\n") + 5, 0)
            case "cut off":
                path.write_bytes(content[:-3])
            case "empty":
                path.write_bytes(b"")
            case _:
                path.unlink()
        if damage == "a pipe":
            os.mkfifo(path)
        notes = Notes()
        go_on(run, notes)
        assert any("after step 12" in line for line in notes.lines), damage
        assert result_of(run) == result_of(whole), damage


def test_without_any_checkpoint_the_training_begins_again(train: Train, killed: Train, go_on: Train) -> None:
    whole, run = train(), killed(13)
    for checkpoint in list_checkpoints(run.checkpoints_path):
        flip(checkpoint.path, 1000, 0)
    assert result_of(go_on(run)) == result_of(whole)


@pytest.mark.parametrize("name", ["config.yaml", "manifest.json"])
def test_a_flipped_bit_in_what_the_run_was_made_with_stops_it(killed: Train, go_on: Train, name: str) -> None:
    run = killed(13)
    path = run.path / name
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        flip(path, place, 0)
        if not says_the_same(path.read_bytes(), whole):
            with pytest.raises(DataError, match=name.replace(".", r"\.")):
                go_on(run)
        path.write_bytes(whole)
    go_on(run)


def says_the_same(content: bytes, other: bytes) -> bool:
    """Whether both are the same JSON: the last of a number's 17 digits may be another one, and mean nothing."""
    try:
        same: bool = json.loads(content) == json.loads(other)
    except ValueError:
        return False
    return same


# What may change.


def test_a_training_goes_on_for_more_epochs_as_if_it_had_been_longer_from_the_start(train: Train, go_on: Train) -> None:
    for schedule in ("constant", "plateau"):
        settings = CONSTANT | {"training.schedule": schedule, "training.plateau_patience": 0}
        longer, run = train(**settings, **{"training.max_epochs": 5}), train(**settings)
        go_on(run, **{"training.max_epochs": 5})
        assert result_of(run) == result_of(longer)
        assert run.config == longer.config
        assert len(run.history) == 5


def test_after_an_early_stop_a_raised_patience_goes_on(train: Train, go_on: Train) -> None:
    settings = CONSTANT | {"training.max_epochs": 12, "training.learning_rate": 0.1}
    patient = train(**settings, **{"training.patience": 4})
    for more in (4, None):
        run = train(**settings, **{"training.patience": 1})
        assert run.manifest.stop_reason == "no-improvement"
        go_on(run, **{"training.patience": more})
        if more == 4:
            assert result_of(run) == result_of(patient)
    assert len(run.history) == 12


@pytest.mark.parametrize(
    ("settings", "changes", "reason"),
    [
        ({}, {"training.max_epochs": 5}, "with schedule linear"),
        (CONSTANT | {"training.warmup": 0.1}, {"training.max_epochs": 5}, "the warm-up was a share"),
        (CONSTANT, {"training.max_epochs": 2}, "it may only be raised"),
        ({}, {"training.patience": 2}, "it may only be raised"),
        ({}, {"training.learning_rate": 0.01}, r"training\.learning_rate was 0\.04, and is now 0\.01"),
        ({}, {"seed": 1}, "seed was 0, and is now 1"),
        ({}, {"training.engine": "native"}, "training.engine was torch"),
        ({}, {"training.threads": 2}, "training.threads was 1"),
        ({}, {"data.limit_train": 100}, "data.limit_train was null"),
        ({}, {"name": "other"}, "name was null"),
    ],
    ids=str,
)
def test_what_would_change_the_result_is_refused_with_the_reason(
    train: Train, go_on: Train, settings: dict[str, Any], changes: dict[str, Any], reason: str
) -> None:
    run = train(**settings)
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match=reason) as refusal:
        go_on(run, **changes)
    assert "--accept-differences" in str(refusal.value)
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.activation", "tanh"),
        ("training.optimizer", "adam"),
        ("training.batch_size", 32),
        ("training.keep", "last"),
        ("training.momentum", 0.0),
    ],
)
def test_what_a_state_is_made_for_cannot_be_changed(train: Train, go_on: Train, key: str, value: object) -> None:
    with pytest.raises(ConfigError, match="begin a new one"):
        go_on(train(), accept=True, **{key: value})


def test_accepted_differences_are_noted(killed: Train, go_on: Train, train: Train) -> None:
    run = killed(10)
    go_on(run, accept=True, **{"training.learning_rate": 0.01})
    (resume,) = run.manifest.resumes
    assert resume.differences == ("training.learning_rate was 0.04, and is now 0.01",)
    assert run.config.training.learning_rate == 0.01
    assert run.steps[-3].lr < 0.01
    assert result_of(run).digest != result_of(train()).digest


def test_another_torch_other_data_and_another_split_are_differences(
    killed: Train, go_on: Train, monkeypatch: pytest.MonkeyPatch, tiny: TrainVal
) -> None:
    run = killed(10)
    other = replace(tiny, fingerprint=replace(tiny.fingerprint, split="0" * 64, files={}))
    monkeypatch.setattr(training, "load_train_val", lambda _config, _access: other)
    run.write_manifest(run.manifest.model_copy(update={"versions": {"torch": "1.0"}}))
    with pytest.raises(ConfigError, match=r"the data are others: train-images.*the split.*torch was 1\.0, and is now"):
        go_on(run)
    go_on(run, accept=True)
    manifest = run.manifest
    assert len(manifest.resumes[0].differences) == 3
    assert manifest.split_sha256 == "0" * 64  # what `evaluate` compares with
    go_on(run)


def test_repeating_the_settings_is_no_difference(killed: Train, go_on: Train, train: Train) -> None:
    run = killed(10)
    same = SETTINGS | {"training.learning_rate": "auto", "training.engine": "auto", "training.threads": None}
    assert result_of(go_on(run, **same)) == result_of(train())


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

    monkeypatch.setattr(training.Probe, "of", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        train_anew()
    (path,) = tmp_path.glob("*/*/manifest.json")
    assert Run(path.parent).manifest.status == "failed"


def test_after_a_restart_only_runs_of_this_configuration_are_gone_on_with(train_anew: Train, tmp_path: Path) -> None:
    """Another job may have had the same name, as --rdzv-id gives it; of equal ones the newest run counts."""
    settings = {"seed": 3, "training.learning_rate": 0.01}
    runs_dir = tmp_path / "all"
    runs_dir.mkdir()
    for number, changes in enumerate([settings, settings, {"seed": 4}]):
        run = train_anew(**changes)
        run.write_manifest(run.manifest.model_copy(update={"job": "mnist-1"}))
        shutil.move(run.path, runs_dir / f"2026010{number + 1}-000000-relu-0000")

    def found(**changes: Any) -> dict[int, str]:
        restarted = Ranks(num_ranks=2, restarts=1, job="mnist-1")
        runs = training_series._runs_of_job(restarted, config_of(**changes), runs_dir)
        return {seed: run.path.name for seed, run in runs.items()}

    assert found(**settings) == {3: "20260102-000000-relu-0000"}
    assert found() == {4: "20260103-000000-relu-0000"}
    assert found(**{"training.learning_rate": "auto"}).keys() == {3, 4}
    assert found(**{"training.weight_decay": 0.5}) == {}


def test_a_finished_training_that_is_resumed_stays_as_it_is(train: Train, go_on: Train) -> None:
    run, notes = train(), Notes()
    before = result_of(run)
    go_on(run, notes)
    assert any("nothing is left to be trained" in line for line in notes.lines)
    assert result_of(run) == before


def test_a_diverged_training_diverges_again(train: Train, go_on: Train) -> None:
    run = train(**{"training.learning_rate": 1e6})
    before = result_of(run)
    assert before.status == ("diverged", "diverged")
    assert result_of(go_on(run)) == before


# Who may write.


def test_a_run_that_is_being_trained_is_not_resumed(killed: Train, go_on: Train) -> None:
    run = killed(10)
    with exclusive_lock(run.path, print), pytest.raises(StorageError, match=f"process {os.getpid()} on"):
        go_on(run)


@pytest.mark.parametrize("name", ["checkpoints", "history.csv", "steps.csv", ".lock", "manifest.json", "evaluation"])
def test_nothing_is_written_through_a_link(killed: Train, go_on: Train, outside: Path, name: str) -> None:
    run = killed(10)
    path = run.path / name
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.symlink_to(outside if name in ("checkpoints", "evaluation") else outside / "precious")
    with pytest.raises(StorageError, match=f"{name}: is a symbolic link"):
        go_on(run)


def test_a_run_can_be_moved_and_gone_on_with(killed: Train, go_on: Train, train: Train, tmp_path: Path) -> None:
    run = killed(10)
    moved = Run(Path(shutil.move(run.path, tmp_path / "elsewhere")))
    assert result_of(go_on(moved)) == result_of(train())
