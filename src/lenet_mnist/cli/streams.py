"""Standard output and standard error: whatever is written there can be shown, and a failure is one line."""

import errno
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from lenet_mnist.errors import StorageError, printable


class ShownText:
    """A stream that gets only what a terminal can show, whoever writes: a name must not move the cursor.

    A reader that has gone away (`lenet runs | head -1`, a closed terminal) is no failure of ours, and of standard error
    nothing is: there is no place left to say so. Bars are drawn on the stream behind.
    """

    buffer = None  # click would write to that where it does not like the encoding

    def __init__(self, stream: TextIO, name: str) -> None:
        self.behind = stream
        self._name = name
        with suppress(AttributeError, OSError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[attr-defined]

    def write(self, text: str) -> int:
        """Write text, all but its line ends made printable. Raises: StorageError."""
        if text != "":  # click tries a stream with that, and hides what it raises
            with self._failures():
                self.behind.write(printable(text))
        return len(text)

    def flush(self) -> None:
        """Write what is waiting. Raises: StorageError."""
        with self._failures():
            self.behind.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.behind, name)

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            is_terminal = stat.S_ISCHR(os.fstat(self.fileno()).st_mode)
            is_gone = error.errno == (errno.EIO if is_terminal else errno.EPIPE)
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())  # or Python would try again at its exit
            os.close(nowhere)
            if not is_gone and self._name != "standard error":
                raise StorageError(f"{self._name}: cannot write: {error.strerror}") from error


def guard_streams() -> None:
    """Let all text that the program prints go through ShownText; a closed stream stays silent."""
    while (handle := os.open(os.devnull, os.O_RDWR)) <= 2:  # else a file of ours would be standard output
        pass
    os.close(handle)
    for attribute, name in (("stdout", "standard output"), ("stderr", "standard error")):
        stream = getattr(sys, attribute)
        if stream is not None and not isinstance(stream, ShownText):
            setattr(sys, attribute, ShownText(stream, name))
