"""With what a result was made: versions, source revision, machine, command."""

import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import lenet_mnist
from lenet_mnist.errors import InstallationError, one_line


def versions() -> dict[str, str]:
    """Return the versions that a result can depend on."""
    return {
        "lenet_mnist": lenet_mnist.__version__,
        "python": platform.python_version(),
        "torch": version("torch"),
        "numpy": version("numpy"),
    }


def require_packages(option: str, *names: str) -> None:
    """Raise InstallationError, with the command that installs them, if packages of an extra are missing.

    The command names the packages: lenet is installed from a file, and is on no index.
    """
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise InstallationError(
            f"{option}: needs {' and '.join(missing)}, which lenet installs only if asked to: "
            f"pip install {' '.join(missing)}"
        )


def machine() -> str:
    """Return system and processor in words."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line for line in cpuinfo.read_text(errors="replace").splitlines() if line.startswith("model name")]
        processor = names[0].partition(":")[2].strip() if names else processor
    return f"{platform.system()} {platform.machine()}, {processor}"


def git_state() -> dict[str, str | bool] | None:
    """Return commit and cleanliness of the checkout that this code runs from, or None where it is not in one."""
    here = Path(__file__)
    if _git("ls-files", "--error-unmatch", here.name, directory=here.parent) is None:
        return None
    commit = _git("rev-parse", "HEAD", directory=here.parent)
    changes = _git("status", "--porcelain", directory=here.parent)
    return None if commit is None or changes is None else {"commit": commit, "dirty": bool(changes)}


def command_line(arguments: Sequence[str]) -> str:
    """Return a command as one would type it; of absolute paths only the last part is kept, so that no home shows."""
    return one_line(shlex.join(["lenet", *map(_without_directory, arguments)]))


def _without_directory(word: str) -> str:
    """Shorten /home/me/my.yaml and --config=/home/me/my.yaml."""
    option, equals, value = word.rpartition("=")
    return option + equals + (Path(value).name if Path(value).is_absolute() else value)


def typed(path: Path) -> str:
    """Return a path as one types it in a command: quoted where it has blanks, and never taken for an option."""
    word = str(path)
    return shlex.quote(f"./{word}" if word.startswith("-") else word)


def without_home(text: str) -> str:
    """Write ~ for the user's home directory, if there is one that is not all of the disk."""
    with suppress(RuntimeError):  # nobody knows where it is
        home = Path.home()
        if home.is_absolute() and home != Path("/"):
            return text.replace(str(home), "~")
    return text


def current_command() -> str:
    """Return the command that this process was started with."""
    return command_line(sys.argv[1:])


def _git(*arguments: str, directory: Path) -> str | None:
    command = ["git", "--no-optional-locks", "-C", str(directory), *arguments]
    try:
        finished = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return finished.stdout.strip()
