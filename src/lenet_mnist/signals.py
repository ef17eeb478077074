"""Signals that ask the program to end: outside training they end it at once, inside it after what is under way.

Ctrl-C, a termination, a terminal that is closed, and what clusters send some time before they kill. What this process
was started to ignore (nohup does that, and a script that starts it in the background) stays ignored.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType
from typing import Any

from lenet_mnist.errors import InterruptedBySignal

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
SIGNALS = tuple(signal.Signals[name] for name in _NAMES if hasattr(signal, name))  # Windows has the first two only
_Handler = Callable[[int, FrameType | None], None]


class PendingSignal:
    """Remembers the first signal that came."""

    number: int | None = None

    @property
    def has_come(self) -> bool:
        return self.number is not None


def raise_on_signals() -> None:
    """Let signals raise InterruptedBySignal from now on, or end the process where the exception could be lost.

    It could be lost within an import, whose caller may catch everything or go on with half a module, and in a
    destructor. A second signal ends the process at once.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        _let_the_next_end()
        if _is_within_an_import(frame):
            _end(number, frame)
        raise InterruptedBySignal("interrupted", number)

    def end_if_lost(lost: "sys.UnraisableHookArgs") -> None:
        if isinstance(lost.exc_value, InterruptedBySignal):
            os._exit(lost.exc_value.exit_code)
        sys.__unraisablehook__(lost)

    sys.unraisablehook = end_if_lost
    _handle(interrupt)


def end_on_signals() -> None:
    """Let signals end the process without a word: nothing is left that an exception could reach."""
    _handle(_end)


def deferred_signals(is_second_ignored: bool = False) -> AbstractContextManager[PendingSignal]:
    """Inside the block the first signal is only remembered; a second one ends the process at once.

    With `is_second_ignored` it does not: torchrun answers a Ctrl-C, which all processes get, by terminating each.
    """
    then = signal.SIG_IGN if is_second_ignored else signal.SIG_DFL
    return _deferred(SIGNALS, lambda: _let_the_next_end(then))


def deferred_interrupt(_is_second_ignored: bool = False) -> AbstractContextManager[PendingSignal]:
    """The same in somebody else's program, as in a notebook: of Ctrl-C alone, and a second raises KeyboardInterrupt.

    Off the main thread, where Python allows no handler, and where Ctrl-C is ignored, nothing is remembered.
    """
    ours = (signal.SIGINT,) if threading.current_thread() is threading.main_thread() else ()
    return _deferred(ours, lambda: signal.signal(signal.SIGINT, signal.default_int_handler))


@contextmanager
def _deferred(signals: Iterable[signal.Signals], let_the_next: Callable[[], object]) -> Iterator[PendingSignal]:
    pending = PendingSignal()

    def remember(number: int, _frame: FrameType | None) -> None:
        pending.number = number
        let_the_next()

    before = _handle(remember, signals)
    try:
        yield pending
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def no_signals() -> Iterator[None]:
    """Hold all back for a moment. Processes that are started meanwhile never see one, unless they ask for it.

    (A terminal sends its own to all of its processes: that workers end is for their parent to decide.)
    """
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _handle(handler: _Handler, signals: Iterable[signal.Signals] = SIGNALS) -> dict[signal.Signals, Any]:
    """Set the handler of those that are not ignored, and return the handlers before."""
    return {each: signal.signal(each, handler) for each in signals if not _is_ignored(each)}


def _let_the_next_end(then: signal.Handlers = signal.SIG_DFL) -> None:
    """Let a person's second signal end the process. A closed terminal and a cluster send theirs more than once."""
    for each in SIGNALS:
        if not _is_ignored(each):
            signal.signal(each, then if each in (signal.SIGINT, signal.SIGTERM) else signal.SIG_IGN)


def _is_ignored(each: signal.Signals) -> bool:
    return signal.getsignal(each) in (signal.SIG_IGN, None)  # None: another's, which Python could not put back


def _is_within_an_import(frame: FrameType | None) -> bool:
    while frame is not None and not frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    return frame is not None


def _end(number: int, _frame: FrameType | None) -> None:
    os._exit(128 + number)
