"""Where `lenet` begins and ends: signals, and what went wrong in one line and an exit code.

Nothing large is imported before signals are looked after.
"""

import sys
from contextlib import suppress

from lenet_mnist.errors import InterruptedBySignal, LenetError, ProcessLostError, one_line
from lenet_mnist.signals import end_on_signals, raise_on_signals
from lenet_mnist.torchrun import torchrun_rank


def main() -> None:
    """Run the command line, and turn what the user should know into one line and an exit code."""
    try:
        raise_on_signals()
        from lenet_mnist.cli.app import app

        app()
    except (LenetError, InterruptedBySignal) as error:
        _say_why(error)
        sys.exit(error.exit_code)
    except ImportError as error:
        if (error.name or "").startswith("lenet_mnist"):
            raise  # a bug of ours, and no matter of installation
        print(
            f"error: a package is missing or does not fit: {error}. Install lenet-mnist again.",
            file=sys.stderr,
        )
        sys.exit(6)
    finally:
        end_on_signals()


def _say_why(error: LenetError | InterruptedBySignal) -> None:
    """Print what went wrong. Of several ranks, each says what the others cannot know."""
    rank = torchrun_rank() or 0
    if rank > 0 and not (isinstance(error, LenetError) and not isinstance(error, ProcessLostError)):
        return
    prefix = "error: " if isinstance(error, LenetError) else ""
    with suppress(OSError):  # a terminal that is closed
        print(f"rank {rank}: " * (rank > 0) + prefix + one_line(str(error)), file=sys.stderr)
