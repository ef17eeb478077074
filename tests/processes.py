"""`lenet` in processes of its own, for what needs one: signals, ranks, two trainings at once.

Each is a copy of a process that has imported torch already, which takes seconds.
"""

import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

from lenet_mnist.cli.main import main

_COPIES = multiprocessing.get_context("forkserver")
_COPIES.set_forkserver_preload(["lenet_mnist.cli.app", "lenet_mnist.study.train", "lenet_mnist.study.cross_validation"])


class Answer(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Started:
    """A process under way; what it prints goes into files."""

    process: BaseProcess
    out: Path
    err: Path

    def send(self, number: int) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def end(self) -> Answer:
        """Wait until it has ended. A process that a signal has ended has its negative number for a code."""
        self.process.join(timeout=120)
        if self.process.exitcode is None:
            self.send(signal.SIGKILL)
        return Answer(self.process.exitcode or 0, self.out.read_text(), self.err.read_text())


def start(function: Callable[..., object], *arguments: object, directory: Path, **environment: str) -> Started:
    """Call function(*arguments) in a process that works in `directory`."""
    number = sum(1 for _ in directory.glob("out-*"))
    out, err = directory / f"out-{number}", directory / f"err-{number}"
    for path in (out, err):
        path.touch()
    given = (function, arguments, directory, environment, out, err)
    process = _COPIES.Process(target=_call, args=given)
    process.start()
    return Started(process, out, err)


def start_ranks(
    num_ranks: int, function: Callable[..., object], *arguments: object, directory: Path, **environment: str
) -> list[Started]:
    """Call function(*arguments) in several processes that find each other, as torchrun's do."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "none"}
    common |= {"WORLD_SIZE": str(num_ranks), "LOCAL_WORLD_SIZE": str(num_ranks)} | environment
    return [
        start(function, *arguments, directory=directory, RANK=str(k), LOCAL_RANK=str(k), **common)
        for k in range(num_ranks)
    ]


def lenet(*words: object) -> None:
    """Run the command line, to the end of the process."""
    sys.argv = ["lenet", *map(str, words)]
    main()


def _call(
    function: Callable[..., object],
    arguments: Sequence[object],
    directory: Path,
    environment: dict[str, str],
    out: Path,
    err: Path,
) -> None:
    os.environ.pop("LENET_RUNS_DIR", None)
    os.environ.update(environment)
    os.chdir(directory)
    for path, handle in ((out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), handle)
    function(*arguments)


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)
