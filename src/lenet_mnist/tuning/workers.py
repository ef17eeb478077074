"""Independent trainings side by side: worker processes of one share of the threads each, or the ranks of torchrun.

Two trainings of one thread each finish before two of two threads one after the other, because much of a step does not
divide (scripts/benchmark_choices.py workers). A worker trains as a process of its own would with as many threads, bit
for bit.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from lenet_mnist.config import Config, Engine
from lenet_mnist.data.load import load_train_val
from lenet_mnist.data.mnist import DataAccess, Progress
from lenet_mnist.devices import choose_device, set_threads
from lenet_mnist.errors import InstallationError
from lenet_mnist.model.engines import resolve_engine
from lenet_mnist.ranks import ALONE, Ranks
from lenet_mnist.signals import no_signals
from lenet_mnist.tuning.trial import Workbench

_WORTH_WORKERS = 400_000  # images: fewer are trained on before a worker process has started
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Staff:
    """How the threads of this machine are shared out: so many workers, each with so many threads."""

    num_workers: int
    threads: int

    @classmethod
    def of(cls, threads: int, num_items: int, num_images: float, device: torch.device, ranks: Ranks = ALONE) -> "Staff":
        """Return one worker a thread, but no more than there are items; one on a GPU, and where there is little to do.

        `num_images` are those of all items and epochs together. Of several ranks each is a worker, and makes no others.
        """
        is_worth_it = device.type == "cpu" and num_images >= _WORTH_WORKERS and ranks.is_alone
        num_workers = max(1, min(threads, num_items)) if is_worth_it else 1
        return cls(num_workers, max(1, threads // num_workers))


class Crew:
    """Makes trainings: in this process if there is one worker, else in several, or on all ranks.

    Use it as a context manager: at its end, an exception's too, no worker is left.
    """

    def __init__(self, bench: Workbench, engine: Engine, data_dir: Path, staff: Staff, ranks: Ranks = ALONE) -> None:
        self._bench = bench
        self._ranks = ranks
        self._executor: ProcessPoolExecutor | None = None
        self._others = set(multiprocessing.active_children())
        set_threads(staff.threads)
        ranks.say(TrialsTogether(bench.config, engine, staff.threads))
        if staff.num_workers > 1:
            with no_signals():
                self._executor = ProcessPoolExecutor(
                    max_workers=staff.num_workers,
                    mp_context=multiprocessing.get_context("spawn"),
                    initializer=_begin,
                    initargs=(bench.config, engine, data_dir, staff.threads),
                )

    def __enter__(self) -> "Crew":
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is None:
            self._ranks.say(None)
        if self._executor is not None:
            with no_signals():
                for process in set(multiprocessing.active_children()) - self._others:
                    process.kill()  # what a worker has not finished is done again by whoever goes on
                self._executor.shutdown(wait=True, cancel_futures=True)  # its own thread joins them: two would race

    def run(self, task: Callable[[Workbench, _Item], _Result], items: Sequence[_Item]) -> Iterator[_Result]:
        """Yield task(workbench, item) for each item, as they are finished.

        Raises: InstallationError if a worker dies, or cannot be started.
        """
        if not self._ranks.is_alone:
            for first in range(0, len(items), self._ranks.num_ranks):
                yield from _one_each(self._bench, task, items[first : first + self._ranks.num_ranks], self._ranks)
            return
        if self._executor is None:
            yield from (task(self._bench, item) for item in items)
            return
        try:
            with no_signals():
                try:
                    submitted = [self._executor.submit(_perform, task, item) for item in items]
                except (OSError, RuntimeError) as error:  # BrokenProcessPool is such a one too
                    raise InstallationError(f"no worker process can be started ({error}): give --threads 1") from None
            for done in as_completed(submitted):
                yield done.result()
        except BrokenProcessPool:
            raise InstallationError(
                "a worker process has died, perhaps for lack of memory; with --threads 1 there are no workers"
            ) from None


@dataclass(frozen=True)
class TrialsTogether:
    """Trainings, one a rank and round, that rank 0 will ask for next."""

    config: Config
    engine: Engine
    threads: int


def follow_trials(asked: TrialsTogether, ranks: Ranks, access: DataAccess) -> None:
    """Make this rank's trainings, until rank 0 has no more."""
    set_threads(asked.threads)
    device = choose_device(asked.config.training.device, ranks)
    data = load_train_val(asked.config.data, access)
    bench = Workbench(asked.config, data, device, resolve_engine(asked.engine, device, data.train.image_size).network)
    while (round_ := ranks.hear()) is not None:
        task, items = round_
        ranks.gather(task(bench, items[ranks.rank]) if ranks.rank < len(items) else None)


def _one_each(
    bench: Workbench, task: Callable[[Workbench, _Item], _Result], items: Sequence[_Item], ranks: Ranks
) -> list[_Result]:
    """Let each rank make one of `items`, and return their results in that order."""
    ranks.say((task, items))
    return ranks.gather(task(bench, items[0]))[: len(items)]


_bench: Workbench | None = None


def _begin(config: Config, engine: Engine, data_dir: Path, threads: int) -> None:
    """Prepare a worker process: load what its trainings share, and end when the parent does."""
    global _bench
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    set_threads(threads)
    cpu = torch.device("cpu")
    data = load_train_val(config.data, DataAccess(data_dir, True, Progress()), find_duplicates=False)
    _bench = Workbench(config, data, cpu, resolve_engine(engine, cpu, data.train.image_size).network)


def _end_with_the_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _perform(task: Callable[[Workbench, Any], Any], item: Any) -> Any:
    assert _bench is not None
    return task(_bench, item)
