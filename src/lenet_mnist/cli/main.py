"""Where `lenet` begins and ends: signals, the standard streams, and errors, each one line and an exit code.

Nothing large is imported before signals are handled.
"""

import errno
import os
import re
import stat
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from lenet_mnist import errors
from lenet_mnist.cores import torchrun_rank
from lenet_mnist.errors import one_line, printable
from lenet_mnist.signals import end_on_signals, raise_on_signals

_NO_MEMORY = re.compile("allocate memory|out of memory|failed to map segment|bad_alloc", re.IGNORECASE)


def main() -> None:
    """Run the command line; an error that is not a bug becomes one line and an exit code."""
    try:
        raise_on_signals()
        _guard_streams()
        os.environ["PYTHONSAFEPATH"] = "1"  # a Python that we start imports nothing from the current directory
        if not sys.warnoptions:  # warnings of libraries are for programmers
            warnings.simplefilter("ignore")
            os.environ["PYTHONWARNINGS"] = "ignore"
        from lenet_mnist.cli.app import app

        sys.exit(app(prog_name="lenet", standalone_mode=False))
    except (errors.LenetError, errors.InterruptedBySignal) as error:
        _print_error(error)
        sys.exit(error.exit_code)
    except Exception as error:
        if (explained := _explained(error)) is None:
            raise  # a bug of ours
        _print_error(explained)
        sys.exit(explained.exit_code)
    finally:
        end_on_signals()


def _explained(error: Exception) -> errors.LenetError | None:
    """Return what the user can do about a command line that cannot be read or a failure of the machine, or None."""
    if hasattr(error, "format_message"):  # typer's own refusals
        return _refusal(error.format_message(), getattr(error, "ctx", None))
    if isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)):
        return errors.StorageError("out of memory: close other programs, or raise the limit (ulimit -v) if one is set")
    if isinstance(error, ImportError) and not (error.name or "").startswith("lenet_mnist"):
        return errors.InstallationError(f"a package is missing or does not fit: {error}. Install lenet-mnist again.")
    if isinstance(error, OSError):
        place = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        return errors.StorageError(f"{place}{error.strerror or error}")
    if "--install-completion" in sys.argv:  # typer rewrites a file of the shell, in a home that may not be there
        return errors.StorageError(f"cannot install it: {error}. `lenet --show-completion` prints it")
    return None


def _refusal(message: str, context: Any) -> errors.LenetError:
    """Return typer's refusal as one line. A group that is called alone gets its help, of several lines."""
    if "\n" in message:
        print(message, file=sys.stderr)
        sys.exit(2)
    command = "lenet" if context is None else context.command_path
    words = message.replace("Value error, ", "")
    return errors.ConfigError(f"{words}{'' if words.endswith(('.', '?')) else '.'} See {command} --help")


def _print_error(error: errors.LenetError | errors.InterruptedBySignal) -> None:
    """Print what went wrong. Ranks other than 0 print only what rank 0 cannot know."""
    rank = torchrun_rank() or 0
    is_known_to_rank_0 = isinstance(error, errors.InterruptedBySignal | errors.ProcessLostError)
    if rank == 0 or not is_known_to_rank_0:
        prefix = "error: " if isinstance(error, errors.LenetError) else ""
        print(f"rank {rank}: " * (rank > 0) + prefix + one_line(str(error)), file=sys.stderr)


class _PrintableStream:
    """A stream that makes all text printable, so that a name in it cannot move the cursor.

    A reader that has gone away (`lenet runs | head -1`, a closed terminal) is not an error, and neither is any failure
    of standard error: there is no place left to report it. Progress bars are drawn on the stream `behind`.
    """

    buffer = None  # click would write to it where it does not like the encoding

    def __init__(self, stream: TextIO, name: str) -> None:
        self.behind = stream
        self._name = name
        with suppress(AttributeError, OSError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[attr-defined]

    def write(self, text: str) -> int:
        if text != "":  # click tests a stream with "", and hides what that raises
            with self._failures():
                self.behind.write(printable(text))
        return len(text)

    def flush(self) -> None:
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
                raise errors.StorageError(f"{self._name}: cannot write: {error.strerror}") from error


def _guard_streams() -> None:
    """Make all printed text printable; a closed stream stays silent."""
    while (handle := os.open(os.devnull, os.O_RDWR)) <= 2:  # else a file of ours would become standard output
        pass
    os.close(handle)
    for attribute, name in (("stdout", "standard output"), ("stderr", "standard error")):
        stream = getattr(sys, attribute)
        if stream is not None and not isinstance(stream, _PrintableStream):
            setattr(sys, attribute, _PrintableStream(stream, name))
