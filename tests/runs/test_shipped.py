"""Networks that come with lenet: found after one's own, used from where they are, written about in a copy."""

import hashlib
import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import Answer
from tests.once import draw_roughly

import lenet_mnist
from lenet_mnist.runs import listing
from lenet_mnist.runs.listing import find_run, own_run
from lenet_mnist.runs.run import Run

ID = "20200101-000000-record-00ff"
PICTURE = Path(__file__).parents[2] / "docs" / "mistakes.png"


def contents(directory: Path) -> dict[str, str]:
    """Return the digest of every file."""
    files = (path for path in sorted(directory.rglob("*")) if path.is_file())
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def shipped(template_run: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A network that comes with lenet, which was looked at on the test set once."""
    networks = tmp_path_factory.mktemp("package").resolve() / "networks"
    shutil.copytree(template_run, networks / ID, ignore=shutil.ignore_patterns("step-*", ".lock", "plots"))
    looks = networks / ID / "evaluation" / "test" / "looks.csv"
    looks.parent.mkdir(parents=True)
    looks.write_text("time\n2020-01-01T00:00:00+00:00\n")
    monkeypatch.setattr(listing, "NETWORKS", networks)
    return Run(networks / ID)


def test_before_any_training_a_picture_is_read_by_the_one_called_record(
    lenet: Callable[..., Answer], shipped: Run, tmp_path: Path
) -> None:
    lines = shipped.steps_path.read_bytes().splitlines(keepends=True)
    shipped.steps_path.write_bytes(b"".join([*lines[:30], *lines[60::5]]))  # not all rows travel
    before = contents(shipped.path)
    read = lenet("predict", PICTURE, "--json")
    assert read.code == 0, read.err
    assert ID in read.err
    for command in (
        ("diagnose", "record"),
        ("verify", ID, "--retrain"),
        ("export", "record", "--format", "html", "--output", "x.html"),
    ):
        seen = lenet(*command)
        assert (seen.code, f"{ID}, which comes with lenet" in seen.err) == (0, True), seen.err
    assert lenet("evaluate", "latest").code == 2  # only `predict`, which writes nothing, does without a run
    assert not (tmp_path / "runs").exists()
    assert contents(shipped.path) == before


def test_a_copy_of_another_network_is_no_training_of_ones_own(
    lenet: Callable[..., Answer], shipped: Run, tmp_path: Path
) -> None:
    other = Run(shipped.path.with_name("20200102-000000-sigmoid-00ff"))
    shutil.copytree(shipped.path, other.path)
    copy = own_run(other, tmp_path / "runs")
    assert find_run("latest", tmp_path / "runs").path == copy.path
    read = lenet("predict", PICTURE, "--json")
    assert (read.code, ID in read.err) == (0, True), read.err


def test_python_too_reads_with_it_where_it_is_and_writes_into_a_copy(
    shipped: Run, mnist_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_roughly(monkeypatch)
    monkeypatch.chdir(tmp_path)
    before, run = contents(shipped.path), lenet_mnist.load("record", data_dir=mnist_dir)
    assert run.predict(np.zeros((28, 28))).labels.shape == (1,)
    assert not (tmp_path / "runs").exists()
    assert run.evaluate().values["num_test_looks"] == 2
    assert run.plot_confusion().axes
    assert contents(shipped.path) == before


def test_what_is_written_goes_into_a_copy_which_is_used_from_then_on(
    lenet: Callable[..., Answer], shipped: Run, tmp_path: Path
) -> None:
    before = contents(shipped.path)
    for looks in (2, 3):
        seen = lenet("evaluate", "record", "--json")
        assert json.loads(seen.out)["num_test_looks"] == looks
        assert f"record: runs/{ID}, which comes with lenet" in seen.err
    for command in (("report", "record"), ("predict", PICTURE, "--show"), ("export", "record", "--format", "html")):
        assert lenet(*command).code == 0
    assert contents(shipped.path) == before
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [ID]
    assert contents(tmp_path / "runs" / ID).items() >= {k: v for k, v in before.items() if "looks" not in k}.items()
    assert [row["run"] for row in json.loads(lenet("runs", "--json").out)["runs"]] == [ID]
    assert lenet("verify", "record").code == 0


def test_several_processes_make_one_copy(shipped: Run, tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        copies = set(pool.map(lambda _: own_run(shipped, tmp_path / "runs").path, range(8)))
    assert copies == {tmp_path / "runs" / ID} == set((tmp_path / "runs").iterdir())
    assert contents(tmp_path / "runs" / ID) == contents(shipped.path)


def test_ones_own_run_of_the_name_comes_first(lenet: Callable[..., Answer], shipped: Run, run: Run) -> None:
    runs = run.path.parent
    own_run(shipped, runs)
    own = run.path.rename(runs / "20190101-000000-record-0aaa")
    assert find_run("record", runs).path == find_run("latest", runs).path == own
    assert find_run(ID, runs).path == runs / ID
    shutil.rmtree(own)
    assert find_run("record", runs).path == runs / ID
    shutil.rmtree(runs / ID)
    assert find_run("record", runs).path == shipped.path
    assert lenet("evaluate", "./record").code == 2  # a path


def test_it_teaches_but_cannot_be_resumed(lenet: Callable[..., Answer], shipped: Run, tmp_path: Path) -> None:
    config = shipped.path / "config.yaml"
    taught = lenet("train", "--config", config, "--teacher", "record", "--epochs", "1", "--json")
    assert (taught.code, f"teacher {ID} comes with lenet" in taught.err) == (0, True), taught.err
    (run,) = (tmp_path / "runs").iterdir()
    assert Run(run).config.training.teachers == (ID,)  # lenet may be installed anywhere
    for command in ("train", "lr-sweep", "cross-validate"):
        assert lenet(command, "--resume", "record").code == lenet(command, "--resume", shipped.path).code == 2
    assert not (shipped.path / ".lock").exists()
