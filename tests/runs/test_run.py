"""Run directories: made, found by what people type, read; what is damaged is named."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lenet_mnist.config import Config
from lenet_mnist.errors import ConfigError, DataError, StorageError
from lenet_mnist.runs.listing import find_run, list_runs
from lenet_mnist.runs.manifest import Manifest
from lenet_mnist.runs.run import Run, create_run, sha256_of

NOW = datetime(2026, 11, 23, 20, 15, 0, tzinfo=UTC)


def manifest(config_sha256: str = "0" * 64) -> Manifest:
    unsigned = Manifest(
        config_sha256=config_sha256,
        command="lenet train",
        created="2026-11-23T20:15:00+00:00",
        data_source="mnist",
        data_files={},
        split_sha256="0" * 64,
        num_train=1000,
        num_val=500,
        versions={},
        git=None,
        machine="",
        device="cpu",
        threads=2,
        engine="torch",
        engine_reason="asked for",
        guessing_loss=2.3,
    )
    return unsigned.model_copy(update={"sha256": unsigned.digest()})


def make_run(runs_dir: Path, name: str = "relu", now: datetime = NOW) -> Run:
    run = create_run(runs_dir, Config(name=name), now)
    run.write_manifest(manifest())
    return run


@contextmanager
def without_privileges() -> Iterator[None]:
    """Root may write everywhere: be nobody for a while, or a read-only directory is no test."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_runs_of_one_second_get_directories_of_their_own_that_say_when_and_what(tmp_path: Path) -> None:
    ids = {create_run(tmp_path, Config(name="my-run"), NOW).id for _ in range(50)}
    assert len(ids) == 50
    assert all(name.startswith("20261123-201500-my-run-") for name in ids)


def test_what_was_written_comes_back_and_what_was_changed_since_is_refused(tmp_path: Path) -> None:
    config = Config.model_validate({"seed": 7, "training": {"learning_rate": 1e-5}})
    run = create_run(tmp_path, config, NOW)
    run.write_manifest(manifest(sha256_of(run.config_path)))
    again = Run(run.path)
    assert again.manifest == run.manifest == manifest(sha256_of(run.config_path))
    assert again.config == config
    run.config_path.write_text(run.config_path.read_text().replace("seed: 7", "seed: 1"))
    with pytest.raises(DataError, match=r"config\.yaml: not the one of this run"):
        _ = Run(run.path).config
    whole = run.manifest_path.read_text()
    damages = [f"{whole[:place]}{9 - int(was)}{whole[place + 1 :]}" for place, was in enumerate(whole) if was.isdigit()]
    for text in (*damages, "", "{", "[]", '{"schema_version": 1}', '{"schema_version": 2}', "\xff"):
        run.manifest_path.write_text(text, encoding="latin-1")
        with pytest.raises(DataError, match=r"manifest\.json"):
            _ = Run(run.path).manifest
    for text in ("epoch,step\n1,x\n", "a,b\n1,2\n", "epoch,step,lr\n1,2,3,4,5\n", "\0\n1\n"):
        run.history_path.write_text(text)
        with pytest.raises(DataError, match=r"history\.csv"):
            _ = Run(run.path).history


def test_a_run_is_found_by_its_name_the_newest_of_several(tmp_path: Path) -> None:
    make_run(tmp_path, "first")
    make_run(tmp_path, "twice")
    newer = make_run(tmp_path, "twice", NOW + timedelta(seconds=1))
    make_run(tmp_path, "twice-more", NOW + timedelta(seconds=2))
    assert find_run("twice", tmp_path) == newer
    with pytest.raises(ConfigError, match="twic: no such run"):
        find_run("twic", tmp_path)


def test_of_runs_with_one_name_those_of_the_kind_that_is_meant_come_first(tmp_path: Path) -> None:
    training = make_run(tmp_path, "one-name")
    sweep = make_run(tmp_path, "one-name", NOW + timedelta(seconds=1))
    sweep.write_manifest(sweep.manifest.model_copy(update={"kind": "sweep"}))
    for argument in ("one-name", "latest"):
        assert find_run(argument, tmp_path) == training
        assert find_run(argument, tmp_path, ("sweep",)) == sweep
        assert find_run(argument, tmp_path, ("train", "sweep")) == sweep
    assert find_run("one-name", tmp_path, ("cross-validation",)) == sweep  # whoever opens it says what it is


def test_a_run_is_found_by_path_by_id_and_as_the_latest(tmp_path: Path) -> None:
    older = make_run(tmp_path, now=NOW.replace(year=2025))
    newer = make_run(tmp_path)
    assert find_run(str(older.path), tmp_path) == older
    assert find_run(older.id, tmp_path) == older
    assert find_run("latest", tmp_path) == newer
    assert list_runs(tmp_path) == [newer, older]


def test_the_newest_of_one_second_comes_first(tmp_path: Path) -> None:
    for microsecond in (3, 1, 2):
        created = NOW.replace(microsecond=microsecond).isoformat(timespec="microseconds")
        create_run(tmp_path, Config(), NOW).write_manifest(manifest().model_copy(update={"created": created}))
    assert [run.manifest.created[-12:-6] for run in list_runs(tmp_path)] == ["000003", "000002", "000001"]


def test_a_run_that_may_not_be_entered_is_listed_and_named(open_dir: Path) -> None:
    run = make_run(open_dir)
    run.path.chmod(0)
    with without_privileges():
        assert list_runs(open_dir) == [run]
        with pytest.raises(StorageError, match="Permission denied"):
            find_run(str(run.path), open_dir)
    run.path.chmod(0o755)


def test_what_is_no_run_is_not_listed(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "20261123-201500-relu-0000").mkdir()
    (tmp_path / "20261123-201500-relu-0001").write_text("")
    assert list_runs(tmp_path) == []
    assert list_runs(tmp_path / "nowhere") == []


def test_a_path_with_two_points_is_a_run_if_it_leads_to_one(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    beside = run.path.parents[1] / "beside"
    beside.mkdir()
    monkeypatch.chdir(beside)
    assert find_run(f"../{run.path.parent.name}/{run.path.name}", Path("runs")).id == run.id


def test_what_is_no_run_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "directory").mkdir()
    for argument, complaint in (
        ("nope", "no such run"),
        ("", "name is empty"),
        ("latest", "no such runs here yet"),
        ("../x", "no such run"),
        ("a/../b", "no such run"),
        ("file", "is a file"),
        ("directory", r"no manifest\.json"),
        ("x" * 5000, "cannot be the name of a run"),
        ("nul\0character", "no such run"),
    ):
        with pytest.raises(ConfigError, match=complaint):
            find_run(argument, tmp_path)


@pytest.fixture
def open_dir() -> Iterator[Path]:
    """A directory that other users can enter; pytest's own are private."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def test_a_runs_directory_that_cannot_be_written_is_named(open_dir: Path) -> None:
    read_only = open_dir / "runs"
    read_only.mkdir()
    read_only.chmod(0o555)
    with without_privileges(), pytest.raises(StorageError, match=r"runs.*Permission denied"):
        create_run(read_only, Config(), NOW)
    assert list(read_only.iterdir()) == []


def test_looks_at_the_test_set_are_counted(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    assert [run.add_test_look(NOW) for _ in range(3)] == [1, 2, 3]


def test_a_directory_or_file_of_that_name_does_not_hide_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path / "runs", name="letters")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "letters").mkdir()
    assert find_run("letters", tmp_path / "runs") == run
    with pytest.raises(ConfigError, match="is a directory, but no run"):
        find_run("./letters", tmp_path / "runs")
    (tmp_path / "letters").rmdir()
    (tmp_path / "letters").write_text("a letter")
    assert find_run("letters", tmp_path / "runs") == run


def test_a_run_that_is_dated_in_the_future_is_not_the_latest(tmp_path: Path) -> None:
    now, future = make_run(tmp_path), make_run(tmp_path, now=datetime(2199, 1, 1, tzinfo=UTC))
    assert find_run("latest", tmp_path) == now
    assert list_runs(tmp_path) == [now, future]


def test_a_place_for_runs_that_is_no_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dead").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    for name in ("file", "dead", "pipe", "file/runs", "dead/runs", "pipe/a/b"):
        place = tmp_path / name
        for act in (list_runs, lambda place: create_run(place, Config(), NOW)):
            with pytest.raises(StorageError, match=f"{tmp_path / name.partition('/')[0]}: is "):
                act(place)
    assert list_runs(tmp_path / "new" / "place") == []


def test_a_manifest_of_before_there_were_notes_keeps_its_digest() -> None:
    known = manifest()
    later = {"data_notes", "num_ranks", "job", "teachers", "splits_before", "engine_library", "browser"}
    before = known.model_dump_json(exclude={"sha256", *later})
    assert known.digest() == hashlib.sha256(before.encode()).hexdigest()
    notes = {"data_notes": ("odd",), "num_ranks": 2, "job": "a", "splits_before": ("0" * 64,), "engine_library": "a"}
    for change in ({name: value} for name, value in notes.items()):
        assert known.model_copy(update=change).digest() != known.digest()
