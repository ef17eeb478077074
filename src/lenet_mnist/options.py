"""What the functions of api.py are given: values of the configuration, places, and how a training enters a program."""

import difflib
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np

from lenet_mnist.config import Config
from lenet_mnist.config_file import FLAGS, Layer, ResolvedConfig, layer_of, read_yaml_config, resolve
from lenet_mnist.data.mnist import DataAccess
from lenet_mnist.devices import settings_kept
from lenet_mnist.errors import ConfigError, one_line
from lenet_mnist.files.storage import storage_errors, user_cache
from lenet_mnist.recipes import find_config
from lenet_mnist.reporting.terminal import FetchProgress, StderrConsole, TerminalProgress
from lenet_mnist.sections import flat_values
from lenet_mnist.signals import deferred_interrupt
from lenet_mnist.training.context import Caller, Session

AnyConfig: TypeAlias = str | Path | Config | None  # a recipe's name, a file, a configuration; None: the default recipe
_Word = TypeVar("_Word", bound=StrEnum)
_KEYS = {flag.removeprefix("--").replace("-", "_"): key for key, flag in FLAGS.items()}
_OTHERS = ("set", "runs_dir", "data_dir", "offline", "on_epoch", "on_step", "progress")
_NAMES = {key.rpartition(".")[2]: name for name, key in _KEYS.items()} | {name: name for name in (*_KEYS, *_OTHERS)}
_SECONDS_BETWEEN_PICTURES = 1.0  # each takes a fifth of one


class Places(NamedTuple):
    """Where runs and data are, and whether missing data may be fetched."""

    runs_dir: Path
    data_dir: Path
    offline: bool

    @classmethod
    def taken_from(cls, options: dict[str, Any], only: bool = False) -> "Places":
        """Take them out of `options`. Raises: ConfigError if `only` these are allowed, and there is another."""
        defaults = {"runs_dir": Path("runs"), "data_dir": user_cache()}
        given = {name: options.pop(name, None) or os.environ.get(f"LENET_{name.upper()}") for name in defaults}
        with storage_errors(Path(), "find the current directory"):
            runs_dir, data_dir = (Path(given[name] or defaults[name]).expanduser().absolute() for name in defaults)
        places = cls(runs_dir, data_dir, options.pop("offline", False))
        if only and options:
            raise ConfigError(f"{next(iter(options))}: no such option")
        return places

    def access(self, is_shown: bool = True) -> DataAccess:
        return DataAccess(self.data_dir, self.offline, FetchProgress(StderrConsole(quiet=not is_shown)))


def resolved_options(config: AnyConfig, options: Mapping[str, Any]) -> ResolvedConfig:
    """Return the configuration that `config` and options give; `set` among them has values by key.

    Raises: ConfigError, with the nearest name where there is no such option.
    """
    layers = []
    if isinstance(config, Config):
        layers.append(Layer("the configuration", flat_values(config)))
    elif config is not None:
        path = find_config(str(config))
        layers.append(Layer(str(path), read_yaml_config(path)))
    for name, value in options.items():
        if name == "set":
            if not isinstance(value, Mapping):
                raise ConfigError("set: expected values by key, as {'training.patience': 3}")
            layers += [layer_of(name, str(key), plain_value(each)) for key, each in value.items()]
        elif name in _KEYS:
            is_one = name == "teacher" and not isinstance(value, list | tuple)
            layers.append(Layer(name, {_KEYS[name]: plain_value([value] if is_one else value)}))
        else:
            near = difflib.get_close_matches(name, _NAMES.keys() - {name}, n=1)
            raise ConfigError(f"{name}: no such option{f': did you mean {_NAMES[near[0]]}?' if near else ''}")
    return resolve(layers)


def plain_value(value: Any) -> Any:
    """Return a value as a file would give it: no NumPy, no paths, no ranges."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, list | tuple | range):
        return [plain_value(each) for each in value]
    path = getattr(value, "path", value)  # of a run
    return str(path) if isinstance(path, Path) else value


def one_of(kind: type[_Word], word: str) -> _Word:
    """Return a word as one of its kind. Raises: ConfigError, which lists all."""
    if word not in list(kind):
        raise ConfigError(f"{word!r}: expected {' or '.join(kind)}")
    return kind(word)


@contextmanager
def session_of(name: str, places: Places, is_shown: bool, resolved: ResolvedConfig) -> Iterator[Session]:
    """Yield the session of a function that trains in somebody else's program, which it leaves as it was."""
    shown = progress_of(is_shown)
    for note in resolved.notes if name != "sweep" else ():
        shown.note(f"warning: {note}")
    with resolved.naming_origins(), settings_kept():
        caller = Caller(lambda: f"lenet_mnist.{name}", deferred_interrupt)
        yield Session(places.access(is_shown), shown, caller=caller)


class NotebookProgress(TerminalProgress):
    """Draws what is trained in one place of a cell's output, instead of a line for each epoch; notes stay lines."""

    _handle: Any = None
    _next = 0.0

    def note(self, text: str) -> None:
        if not text.startswith("epoch "):
            super().note(text)

    def show(self, run: object, is_last: bool = False) -> None:
        """Draw `run`, which has a _repr_html_: at most once a second, and at the end."""
        if time.monotonic() < self._next and not is_last:
            return
        try:
            if self._handle is None:
                self._handle = sys.modules["IPython"].display.display(run, display_id=True)
            else:
                self._handle.update(run)
        except Exception as error:  # a training is worth more than its picture
            self.note(f"note: the curve is not drawn: {one_line(str(error)) or type(error).__name__}")
        self._next = time.monotonic() + _SECONDS_BETWEEN_PICTURES


def progress_of(is_shown: bool) -> TerminalProgress:
    """Return what shows how far a training is: nothing, a picture where a notebook's kernel runs this, or lines."""
    ipython, console = sys.modules.get("IPython"), StderrConsole(quiet=not is_shown)
    has_kernel = ipython is not None and getattr(ipython.get_ipython(), "kernel", None) is not None
    return NotebookProgress(console) if has_kernel and is_shown else TerminalProgress(console)
