"""What the tests share. They run on real MNIST, which is found or fetched once, like everywhere else."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import HealthCheck, settings
from tests.once import draw_roughly, read_once
from tests.processes import Answer
from tests.tiny import part_of

from lenet_mnist import provenance
from lenet_mnist.cli import main as command_line
from lenet_mnist.cli.commands import DEFAULT_DATA_DIR
from lenet_mnist.config import Config, DataConfig, Engine, Source
from lenet_mnist.data.fetch import fetch_missing
from lenet_mnist.data.load import load_train_val
from lenet_mnist.data.mnist import FILES, DataAccess, find
from lenet_mnist.data.sets import TrainVal
from lenet_mnist.model.engines import ResolvedEngine, resolve_engine
from lenet_mnist.progress import Progress
from lenet_mnist.runs.run import Run
from lenet_mnist.study.train import train_seeds
from lenet_mnist.training.context import Session

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from tests.browser import OpenPage


# The same examples every time, however slow the machine is.
settings.register_profile(
    "the same",
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("the same")


class Listener(Progress):
    """Keeps what a download says."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


# Rooms and files whose tests use nothing that only Unix has.
PORTABLE = {
    "analysis",
    "training",
    "tuning",
    "test_lenet",
    "test_layer_table",
    "test_split",
    "test_batches",
    "test_sets",
}
PORTABLE |= {"test_augment", "test_config_file", "test_tally"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest: at the end it would leave all but one process without work."""
    items.sort(key=lambda item: item.path.name != "test_ranks.py")
    for item in items:
        if PORTABLE & {item.path.stem, item.path.parent.name}:
            item.add_marker("portable")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Two threads wait for each other in a busy loop, which takes very long where another program is at work.

    Again before each test: a command without --threads takes one a core.
    """
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _no_wait_for_the_disk() -> Iterator[None]:
    """fsync waits for the disk, for power cuts that no test can make; that it is called is what tests look at.

    Processes that tests start have the real one.
    """

    def fsync(handle: int) -> None:
        os.fstat(handle)  # what is not open is refused as ever

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        yield


@pytest.fixture(scope="session", autouse=True)
def _git_is_asked_once() -> Iterator[None]:
    """Three processes for each training say the same about this checkout."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(provenance, "git_state", cache(provenance.git_state))
        yield


@pytest.fixture(scope="session")
def mnist_dir() -> Path:
    """The directory that holds real MNIST."""
    directory = Path(os.environ.get("LENET_DATA_DIR", DEFAULT_DATA_DIR))
    fetch_missing(DataAccess(directory, offline=False, progress=Listener()))
    return directory


def copy_training_files(mnist_dir: Path, directory: Path) -> None:
    """Let `directory`, which may be a new one, hold MNIST without its test images."""
    directory.mkdir(exist_ok=True)
    for file in FILES[Source.MNIST][:2]:
        path = find(file, mnist_dir)
        assert path is not None
        shutil.copy(path, directory)


@pytest.fixture(scope="session")
def access(mnist_dir: Path) -> DataAccess:
    """Real MNIST without a network."""
    return DataAccess(mnist_dir, offline=True, progress=Listener())


@pytest.fixture(scope="session")
def small(access: DataAccess) -> TrainVal:
    """2,000 real training images and 500 for validation."""
    return load_train_val(DataConfig(limit_train=2000, val_size=500), access)


@pytest.fixture(scope="session")
def tiny(small: TrainVal) -> TrainVal:
    """200 training images and 100 for validation; tests/tiny.py has trainings on them."""
    return part_of(small, 200, 100)


@pytest.fixture(scope="session")
def engine() -> ResolvedEngine:
    """The faster engine, if it is there: for trainings of which the outcome counts, and not what computed it."""
    return resolve_engine(Engine.AUTO, torch.device("cpu"), 28)


@pytest.fixture(scope="session")
def template_run(tmp_path_factory: pytest.TempPathFactory, access: DataAccess) -> Path:
    """A finished run on 1,000 images, trained once; tests work on copies of it."""
    config = Config.model_validate(
        {"data": {"limit_train": 1000, "val_size": 500}, "training": {"max_epochs": 2, "batch_size": 32, "threads": 1}}
    )
    runs_dir = tmp_path_factory.mktemp("template")
    (run,) = train_seeds(config, None, Session(access), runs_dir)
    return run.path


@pytest.fixture
def run(template_run: Path, tmp_path: Path) -> Run:
    """A finished run of one's own, in runs/ of the test's directory."""
    return Run(Path(shutil.copytree(template_run, tmp_path / "runs" / template_run.name)))


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """Files that must stay as they are; what a trap leaves would lie here."""
    directory = tmp_path / "outside"
    directory.mkdir()
    (directory / "precious").write_text("old")
    yield directory
    assert [path.name for path in directory.iterdir()] == ["precious"]
    assert (directory / "precious").read_text() == "old"


@pytest.fixture
def drawn_roughly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are drawn with few dots: that takes most of the time of an evaluation."""
    draw_roughly(monkeypatch)


@pytest.fixture
def lenet(
    mnist_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Answer]:
    """Run the command line in this process, in an empty directory, and return what it left behind."""
    draw_roughly(monkeypatch, dots=0)
    read_once(monkeypatch)
    monkeypatch.setenv("LENET_DATA_DIR", str(mnist_dir))
    monkeypatch.delenv("LENET_RUNS_DIR", raising=False)
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setenv("PYTHONSAFEPATH", "")  # the command sets it
    monkeypatch.setattr(sys, "warnoptions", ["error"])  # as the tests' own settings have it
    monkeypatch.setattr(command_line, "raise_on_signals", lambda: None)
    monkeypatch.setattr(command_line, "end_on_signals", lambda: None)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["lenet", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            command_line.main()
        return Answer(int(stop.value.code or 0), *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def browser() -> "Iterator[Browser]":
    """A headless Chromium, started once. Tests that use it are marked `browser`."""
    from tests.browser import launched

    with launched() as browser:
        yield browser


@pytest.fixture
def open_page(browser: "Browser") -> "Iterator[OpenPage]":
    """Return what opens a file in Chromium: open_page(path, width=360, color_scheme="dark") -> Page.

    At the end of the test, a page that logged an error, opened a dialog or made a request fails it.
    """
    from tests.browser import visited

    with ExitStack() as pages:
        yield lambda path, **options: pages.enter_context(visited(browser, path, **options))
