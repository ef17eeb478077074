"""What can go wrong, as the user sees it: one line that says what, where and what to do, and an exit code."""

import re
from typing import Any, ClassVar


class LenetError(Exception):
    """A failure that is explained to the user in one line, never by a traceback."""

    exit_code: ClassVar[int] = 1


class ConfigError(LenetError):
    """The configuration or the command line asks for something that cannot be.

    `key` names the configuration value at fault where there is one, so that whoever knows where that value
    came from (a file, a flag) can say so; see `config_file.ResolvedConfig.naming_origins`.
    """

    exit_code = 2

    def __init__(self, message: str, *, key: str | None = None) -> None:
        super().__init__(message)
        self.key = key


class DataError(LenetError):
    """Data, or a file of a run, is missing, damaged or not what it should be."""

    exit_code = 3


class DivergedError(LenetError):
    """Training met a loss or gradient that is not finite."""

    exit_code = 4


class CheckFailedError(LenetError):
    """A check that the user asked for did not hold."""

    exit_code = 5


class StorageError(LenetError):
    """The disk, a permission or a lock stood in the way."""

    exit_code = 6


class InstallationError(LenetError):
    """The installed packages cannot do what was asked."""

    exit_code = 6


class ProcessLostError(LenetError):
    """Another of several processes that work together is not there."""

    exit_code = 6


class InterruptedBySignal(BaseException):  # like KeyboardInterrupt, no error and caught by no `except Exception`
    """A signal ended the work; what was worth keeping has been saved."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number  # the shells' convention: 130 for Ctrl-C, 143 for a termination

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how it is made again: a worker process that was interrupted hands it to its parent."""
        return type(self), (str(self), self.exit_code - 128)


_UNUSUAL = re.compile(r"[^\n -~]")


def printable(text: str) -> str:
    """Escape control characters, and bytes of a name that are no text: nothing shown must move the cursor."""
    return _UNUSUAL.sub(lambda found: found[0] if found[0].isprintable() else ascii(found[0])[1:-1], text)


def one_line(text: str) -> str:
    """Escape line ends, too."""
    return printable(text).replace("\n", "\\n")


def per_cent(probability: float) -> str:
    """Write a probability so that it never looks like certainty."""
    return "over 99.9%" if probability > 0.999 else "under 0.1%" if probability < 0.001 else f"{probability:.1%}"
