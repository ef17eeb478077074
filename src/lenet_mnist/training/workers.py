"""Trials side by side: in worker processes that share out the threads, or one per rank of torchrun.

Where they are long enough to be worth starting processes, two trainings of one thread each finish before two of two
threads one after the other, because much of a step is not parallel (docs/performance.md). A worker comes to the same
weights as a process of its own with as many threads, bit for bit.
"""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from lenet_mnist.config import Config
from lenet_mnist.data.mnist import DataAccess
from lenet_mnist.devices import set_threads
from lenet_mnist.distributed import SINGLE
from lenet_mnist.errors import InstallationError
from lenet_mnist.signals import no_signals
from lenet_mnist.training.context import SILENT, Context, Session

_WORTH_WORKERS = 400_000  # images: fewer are trained on before a worker process has started
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
Task = Callable[[Config, Context, _Item], _Result]


@dataclass(frozen=True)
class PoolSize:
    """How the threads are shared out: `num_workers` workers with `threads` each."""

    num_workers: int
    threads: int

    @classmethod
    def of(cls, context: Context, num_items: int, num_images: float) -> "PoolSize":
        """Return one worker per thread, at most one per item; one alone on a GPU, and where there is little to do.

        `num_images` counts the images of all items and epochs. Each of several ranks is a worker, and has no others.
        """
        is_worth_it = context.device.type == "cpu" and num_images >= _WORTH_WORKERS and context.ranks.is_single
        num_workers = max(1, min(context.threads, num_items)) if is_worth_it else 1
        return cls(num_workers, max(1, context.threads // num_workers))


class TrialPool:
    """Runs tasks of one configuration and context: in this process if there is one worker, else in several.

    Use it as a context manager: at its end, also after an exception, no worker is left.
    """

    def __init__(self, config: Config, context: Context, data_dir: Path, size: PoolSize) -> None:
        self._config = config
        self._context = replace(context, threads=size.threads)
        self._executor: Executor | None = None
        self._threads_before = context.threads
        self._others = set(multiprocessing.active_children())
        set_threads(size.threads, context.engine)
        setup = config.replace(self._context.decided)
        context.ranks.call(_set_up, setup)
        if size.num_workers > 1:
            with no_signals():
                self._executor = ProcessPoolExecutor(
                    max_workers=size.num_workers,
                    mp_context=multiprocessing.get_context("spawn"),
                    initializer=_set_up_worker,
                    initargs=(setup, data_dir),
                )

    def __enter__(self) -> "TrialPool":
        return self

    def __exit__(self, *_: object) -> None:
        if self._executor is not None:
            with no_signals():
                for process in set(multiprocessing.active_children()) - self._others:
                    process.kill()  # what a worker has not finished is done again on resume
                self._executor.shutdown(wait=True, cancel_futures=True)  # its own thread joins them: two would race
        set_threads(self._threads_before, self._context.engine)

    def run(self, task: Task[_Item, _Result], items: Sequence[_Item]) -> Iterator[_Result]:
        """Yield task(config, context, item) for each item, as they finish.

        Raises: InstallationError if a worker dies, or cannot be started.
        """
        ranks = self._context.ranks
        if not ranks.is_single:
            for first in range(0, len(items), ranks.num_ranks):
                round_ = items[first : first + ranks.num_ranks]
                ranks.call(_serve_one, task, round_)
                yield from ranks.all_gather(_one_of(self._config, self._context, task, round_[0]))[: len(round_)]
            return
        if self._executor is None:
            yield from (task(self._config, self._context, item) for item in items)
            return
        try:
            with no_signals():
                try:
                    submitted = [self._executor.submit(_perform, task, item) for item in items]
                except (OSError, RuntimeError) as error:  # BrokenProcessPool is a RuntimeError
                    raise InstallationError(f"no worker process can be started ({error}): use --threads 1") from None
            for done in as_completed(submitted):
                yield done.result()
        except BrokenProcessPool:
            raise InstallationError(
                "a worker process died, perhaps for lack of memory; with --threads 1 there are no workers"
            ) from None


def _one_of(config: Config, context: Context, task: Task[Any, Any], item: Any) -> Any:
    """Train alone: no rank shares this trial."""
    return task(config, replace(context, ranks=SINGLE), item)


_setup: tuple[Config, Context] | None = None  # of a worker process, or of a rank that serves


def _set_up_worker(config: Config, data_dir: Path) -> None:
    """Prepare a worker process: load what its trials share, and end when the parent does."""
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    _set_up(config, Session(DataAccess(data_dir, offline=True, progress=SILENT)))


def _set_up(config: Config, session: Session) -> None:
    global _setup
    _setup = (config, session.context(config))


def _end_with_the_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _perform(task: Task[Any, Any], item: Any) -> Any:
    assert _setup is not None
    return task(*_setup, item)


def _serve_one(task: Task[Any, Any], items: Sequence[Any], session: Session) -> None:
    """Train this rank's item of a round, if there are as many, and hand in the result."""
    assert _setup is not None
    ranks = session.ranks
    ranks.all_gather(_one_of(*_setup, task, items[ranks.rank]) if ranks.rank < len(items) else None)
