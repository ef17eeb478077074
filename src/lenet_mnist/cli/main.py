"""Where `lenet` begins and ends: signals, and what went wrong in one line and an exit code.

Nothing large is imported before signals are looked after.
"""

import os
import re
import sys
import warnings

from lenet_mnist.cli.streams import guard_streams
from lenet_mnist.errors import (
    InstallationError,
    InterruptedBySignal,
    LenetError,
    ProcessLostError,
    StorageError,
    one_line,
)
from lenet_mnist.signals import end_on_signals, raise_on_signals
from lenet_mnist.torchrun import torchrun_rank

_NO_MEMORY = re.compile("allocate memory|out of memory|failed to map segment|bad_alloc", re.IGNORECASE)


def main() -> None:
    """Run the command line, and turn what the user should know into one line and an exit code."""
    try:
        raise_on_signals()
        guard_streams()
        os.environ["PYTHONSAFEPATH"] = "1"  # a Python that we start imports nothing of the current directory
        if not sys.warnoptions:  # what libraries say to programmers is nothing for users
            warnings.simplefilter("ignore")
            os.environ["PYTHONWARNINGS"] = "ignore"
        from lenet_mnist.cli.app import app

        app()
    except (LenetError, InterruptedBySignal) as error:
        _say_why(error)
        sys.exit(error.exit_code)
    except Exception as error:
        if (explained := _explained(error)) is None:
            raise  # a bug of ours
        _say_why(explained)
        sys.exit(explained.exit_code)
    finally:
        end_on_signals()


def _explained(error: Exception) -> LenetError | None:
    """Return what the user can do about a failure that comes from the machine, or None."""
    if isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)):
        return StorageError(
            "memory ran out: close other programs, or raise the limit on memory (ulimit -v) if one is set"
        )
    if isinstance(error, ImportError) and not (error.name or "").startswith("lenet_mnist"):
        return InstallationError(f"a package is missing or does not fit: {error}. Install lenet-mnist again.")
    if isinstance(error, OSError):
        place = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        return StorageError(f"{place}{error.strerror or error}")
    return None


def _say_why(error: LenetError | InterruptedBySignal) -> None:
    """Print what went wrong. Of several ranks, each says what the others cannot know."""
    rank = torchrun_rank() or 0
    if rank > 0 and not (isinstance(error, LenetError) and not isinstance(error, ProcessLostError)):
        return
    prefix = "error: " if isinstance(error, LenetError) else ""
    print(f"rank {rank}: " * (rank > 0) + prefix + one_line(str(error)), file=sys.stderr)
