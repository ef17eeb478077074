"""What can go wrong crosses the border between two processes: a worker's failure is told by its parent."""

import pickle
import signal

import pytest

from lenet_mnist.errors import ConfigError, InterruptedBySignal, LenetError


@pytest.mark.parametrize("kind", LenetError.__subclasses__())
def test_an_error_arrives_as_it_was(kind: type[LenetError]) -> None:
    arrived = pickle.loads(pickle.dumps(kind("a line")))  # what a process pool does
    assert type(arrived) is kind
    assert str(arrived) == "a line"
    assert arrived.exit_code == kind.exit_code


def test_a_configuration_error_keeps_its_key() -> None:
    arrived = pickle.loads(pickle.dumps(ConfigError("a line", key="training.teachers")))
    assert (str(arrived), arrived.key) == ("a line", "training.teachers")


def test_an_interruption_keeps_its_exit_code() -> None:
    arrived = pickle.loads(pickle.dumps(InterruptedBySignal("a line", signal.SIGTERM)))
    assert (str(arrived), arrived.exit_code) == ("a line", 143)
