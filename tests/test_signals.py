"""Signals: in training the first is remembered and a second ends the process; elsewhere none is lost."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest

from lenet_mnist.signals import SIGNALS, deferred_signals

PEOPLES = (signal.SIGINT, signal.SIGTERM)


def test_the_first_signal_is_remembered_and_a_second_ctrl_c_is_not_ours() -> None:
    """What the system does by default is to end the process. A closed terminal says so more than once."""
    before = [signal.getsignal(each) for each in SIGNALS]
    for number, (is_ignored, then) in product(SIGNALS, ((False, signal.SIG_DFL), (True, signal.SIG_IGN))):
        with deferred_signals(is_second_ignored=is_ignored) as pending:
            assert not pending.has_come
            os.kill(os.getpid(), number)
            assert (pending.has_come, pending.number) == (True, number)
            for each in SIGNALS:
                assert signal.getsignal(each) == (then if each in PEOPLES else signal.SIG_IGN)
        assert [signal.getsignal(each) for each in SIGNALS] == before


def ended(program: str, tmp_path: Path, before: Callable[[], object] = lambda: None) -> tuple[int, str]:
    """Return exit code and output of a program that finds SIGNAL's number in `number`, and modules in `tmp_path`."""
    done = subprocess.run(
        [sys.executable, "-c", f"import os, signal, sys\n{program}"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        preexec_fn=before,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


SWALLOWS = """
try:
    os.kill(os.getpid(), number)
    for _ in range(1000):
        pass
except BaseException:
    pass
print("went on")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, SIGNALS[-1]])
def test_a_signal_within_an_import_ends_the_process_whatever_is_imported(number: int, tmp_path: Path) -> None:
    """Typer stands for whatever takes time when lenet starts: from there on no signal may be lost."""
    (tmp_path / "typer.py").write_text(f"import os\nnumber = {int(number)}\n{SWALLOWS}")
    code, said = ended("sys.argv = ['lenet', '--version']; from lenet_mnist.cli.main import main; main()", tmp_path)
    assert (code, said) == (128 + number, "")


DIES_IN = {
    "a destructor": "class Last:\n    def __del__(self): os.kill(os.getpid(), number)\nlast = Last()\ndel last",
    "a computation": "os.kill(os.getpid(), number)",
    "its very end": "end_on_signals()\ntry: os.kill(os.getpid(), number)\nexcept BaseException: pass",
}


@pytest.mark.parametrize("place", DIES_IN)
def test_elsewhere_it_is_lost_nowhere_either(place: str, tmp_path: Path) -> None:
    program = f"""
from lenet_mnist.errors import InterruptedBySignal
from lenet_mnist.signals import end_on_signals, raise_on_signals
number = {int(signal.SIGTERM)}
raise_on_signals()
try:
    exec({DIES_IN[place]!r})
    print("went on")
except InterruptedBySignal as error:
    sys.exit(error.exit_code)
"""
    assert ended(program, tmp_path) == (143, "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_what_was_ignored_before_stays_ignored(number: signal.Signals, tmp_path: Path) -> None:
    """As nohup does, or a script that starts a training in the background. The other signals still count."""
    program = f"""
from lenet_mnist.signals import deferred_signals, end_on_signals, raise_on_signals
raise_on_signals()
os.kill(os.getpid(), {int(number)})
with deferred_signals() as pending:
    os.kill(os.getpid(), {int(number)})
    print(pending.number)
    os.kill(os.getpid(), signal.SIGTERM)
    print(pending.number == signal.SIGTERM)
    os.kill(os.getpid(), {int(number)})
end_on_signals()
os.kill(os.getpid(), {int(number)})
"""
    assert ended(program, tmp_path, lambda: signal.signal(number, signal.SIG_IGN)) == (0, "None\nTrue\n")
