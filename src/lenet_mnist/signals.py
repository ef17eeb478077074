"""Ctrl-C and termination: outside training they end the program at once, inside it after what is under way."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from lenet_mnist.errors import InterruptedBySignal

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class PendingSignal:
    """Remembers the first signal that came."""

    number: int | None = None

    @property
    def has_come(self) -> bool:
        """Whether it is time to stop."""
        return self.number is not None


def raise_on_signals() -> None:
    """Let SIGINT and SIGTERM raise InterruptedBySignal from now on, wherever the program is."""

    def interrupt(number: int, _frame: FrameType | None) -> None:
        raise InterruptedBySignal("interrupted", number)

    for number in _SIGNALS:
        signal.signal(number, interrupt)


def end_on_signals() -> None:
    """Let SIGINT and SIGTERM end the process without a word: nothing is left that an exception could reach."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_DFL)


@contextmanager
def deferred_signals(is_second_ignored: bool = False) -> Iterator[PendingSignal]:
    """Inside the block the first signal is only remembered; a second one ends the process at once.

    With `is_second_ignored` it does not: torchrun answers a Ctrl-C, which all processes get, by terminating each.
    """
    pending = PendingSignal()

    def remember(number: int, _frame: FrameType | None) -> None:
        pending.number = number
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_IGN if is_second_ignored else signal.SIG_DFL)

    before = {number: signal.signal(number, remember) for number in _SIGNALS}
    try:
        yield pending
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
