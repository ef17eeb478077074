"""Ctrl-C and termination: the first is remembered, the second ends the process at once."""

import os
import signal

import pytest

from lenet_mnist.signals import deferred_signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("is_second_ignored", "then"), [(False, signal.SIG_DFL), (True, signal.SIG_IGN)])
def test_the_first_signal_is_remembered_and_the_second_is_not_ours(
    number: signal.Signals, is_second_ignored: bool, then: signal.Handlers
) -> None:
    """What the system does by default is to end the process."""
    both = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(each) for each in both]
    with deferred_signals(is_second_ignored=is_second_ignored) as pending:
        assert not pending.has_come
        os.kill(os.getpid(), number)
        assert pending.has_come
        assert pending.number == number
        assert [signal.getsignal(each) for each in both] == [then, then]
    assert [signal.getsignal(each) for each in both] == before
