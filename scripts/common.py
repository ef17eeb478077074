"""What the scripts share."""

import json
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console

from lenet_mnist.cli.flags import DEFAULT_DATA_DIR
from lenet_mnist.data.mnist import DataAccess
from lenet_mnist.devices import set_threads
from lenet_mnist.errors import InterruptedBySignal
from lenet_mnist.files import tables
from lenet_mnist.reporting.terminal import FetchProgress

ROOT = Path(__file__).parent.parent

Item = TypeVar("Item")
Result = TypeVar("Result")


def data_access() -> DataAccess:
    """Return where the commands look for MNIST too."""
    directory = Path(os.environ.get("LENET_DATA_DIR", DEFAULT_DATA_DIR))
    return DataAccess(directory, offline=False, progress=FetchProgress(Console(stderr=True)))


def in_workers(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[tuple[Item, Result]]:
    """Yield each item with what `function` makes of it, as it is finished: a process a core, of one thread each.

    Interrupted, it ends the script: those who use it keep what is finished.
    """
    workers, waiting = set_threads(None), iter(items)
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), set_threads, (1,)) as pool:
        # No item lies ready for a worker before it is free: after Ctrl-C, which reaches all processes, none is begun.
        begun = {pool.submit(function, item): item for item in islice(waiting, workers)}
        try:
            while begun:
                for future in wait(begun, return_when=FIRST_COMPLETED).done:
                    item, result = begun.pop(future), future.result()
                    begun |= {pool.submit(function, following): following for following in islice(waiting, 1)}
                    yield item, result
        except (KeyboardInterrupt, InterruptedBySignal):
            sys.exit("interrupted: start again to go on")


class Journal:
    """Finished measurements, one JSON document a line: a script that is started again goes on where it was."""

    def __init__(self, path: Path) -> None:
        self._file = tables.Journal(path)
        self._entries = {json.dumps(each["key"], sort_keys=True): each["value"] for each in self._file.documents()}

    def get(self, key: Any) -> Any | None:
        """Return the measurement of `key`, or None if it was not made yet."""
        return self._entries.get(json.dumps(key, sort_keys=True))

    def add(self, key: Any, value: Any) -> None:
        """Keep a measurement."""
        self._file.add({"key": key, "value": value})
        self._entries[json.dumps(key, sort_keys=True)] = value
