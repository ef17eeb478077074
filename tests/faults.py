"""A disk that refuses, a process that dies at any chosen operation, a signal: for tests of what is then left."""

import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from lenet_mnist.errors import InterruptedBySignal
from lenet_mnist.progress import Progress

OPERATIONS = ("open", "write", "fsync", "replace", "unlink", "ftruncate", "mkdir")


class Killed(BaseException):
    """The process would be dead here: no line of it runs on, and nothing it still does reaches the disk."""


class Disk:
    """Counts the operations that change something, and lets chosen ones fail. `log` names them in their order."""

    def __init__(self, kill_at: int | None, refuse: Callable[[str, int], int | None]) -> None:
        self.log: list[str] = []
        self.kill_at = kill_at
        self.refuse = refuse
        self.is_dead = False

    def before(self, name: str) -> None:
        """Take an operation that is about to happen."""
        if self.is_dead:
            raise Killed
        self.log.append(name)
        if self.kill_at is not None and len(self.log) == self.kill_at:
            self.is_dead = True
            raise Killed
        number = self.refuse(name, self.log.count(name))
        if number is not None:
            raise OSError(number, os.strerror(number))


@contextmanager
def faulty_disk(
    monkeypatch: pytest.MonkeyPatch,
    kill_at: int | None = None,
    refuse: Callable[[str, int], int | None] = lambda _name, _number: None,
) -> Iterator[Disk]:
    """Inside the block every operation of this process that changes a file goes through the Disk.

    `kill_at` counts all operations from 1; `refuse` returns the error for the n-th operation of a name, or None.
    """
    disk = Disk(kill_at, refuse)
    with monkeypatch.context() as patch:
        for name in OPERATIONS:
            patch.setattr(os, name, _watched(name, getattr(os, name), disk))
        yield disk


def _watched(name: str, operation: Callable[..., Any], disk: Disk) -> Callable[..., Any]:
    def watched(*arguments: Any, **options: Any) -> Any:
        if name != "open" or _is_to_change(*arguments):
            disk.before(name)
        return operation(*arguments, **options)

    return watched


def _is_to_change(path: Any, flags: int, *_: Any) -> bool:
    """Whether what is opened could be changed. (Where a process is begun, Python opens /dev/null to write into it.)"""
    return bool(flags & (os.O_WRONLY | os.O_RDWR)) and path != os.devnull


@contextmanager
def full_disk(num_bytes: int) -> Iterator[None]:
    """Let the operating system refuse files of more than `num_bytes`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class Counter(Progress):
    """Counts the trials of a study, and interrupts it after some: their results are kept by then."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.num_done = 0
        self._stop_after = stop_after

    def advance(self, amount: int, text: str = "") -> None:  # noqa: ARG002
        self.num_done += amount
        if self.num_done == self._stop_after:
            raise InterruptedBySignal("interrupted", signal.SIGINT)


class Interrupter(Progress):
    """Sends a termination to this process at a step of a training, which then saves and stops."""

    def __init__(self, at_step: int) -> None:
        self._steps_left = at_step

    def advance(self, amount: int, text: str = "") -> None:  # noqa: ARG002
        self._steps_left -= amount
        if self._steps_left == 0:
            os.kill(os.getpid(), signal.SIGTERM)
