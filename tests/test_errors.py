"""What can go wrong crosses the border between two processes: a worker's failure is told by its parent."""

import pickle
import signal

from lenet_mnist.errors import ConfigError, InterruptedBySignal, LenetError


def test_an_error_arrives_as_it_was() -> None:
    errors = [kind("a line") for kind in LenetError.__subclasses__()]
    errors += [ConfigError("a line", key="training.teachers"), InterruptedBySignal("a line", signal.SIGTERM)]
    for error in errors:
        arrived = pickle.loads(pickle.dumps(error))  # what a process pool does
        assert (type(arrived), str(arrived), arrived.exit_code) == (type(error), "a line", error.exit_code)
        assert getattr(arrived, "key", None) == getattr(error, "key", None)
    assert arrived.exit_code == 143
