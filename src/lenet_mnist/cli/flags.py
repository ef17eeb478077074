"""Flags: those that set a value of the configuration, made from config.py, and those that several commands share."""

import functools
import inspect
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

import typer

from lenet_mnist.config import Config
from lenet_mnist.config import Device as DeviceName
from lenet_mnist.files.storage import user_cache
from lenet_mnist.recipes import recipe_paths
from lenet_mnist.sections import fields_of, flags_of

if TYPE_CHECKING:
    from lenet_mnist.config_file import ResolvedConfig as ResolvedConfig
else:  # imports YAML, which `lenet --help` does without
    ResolvedConfig = Any

DEFAULT_DATA_DIR = user_cache()
DEFAULT_RUNS_DIR = Path("runs")
Command = Callable[..., None]


def parse_path(text: str) -> Path:
    """Expand ~ in `--data-dir=~/mnist` too, where no shell does it; refuse an empty name."""
    if text == "":
        raise typer.BadParameter("expected the name of a file or directory")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise typer.BadParameter(f"{text}: no such user, or no home directory is known") from None


def run_names(context: typer.Context) -> list[str]:
    """Return what a shell completes a run to: `latest`, names, and ids, the newest first. No run is opened."""
    ids = _run_ids(Path(context.params.get("runs_dir") or DEFAULT_RUNS_DIR))
    shipped = _run_ids(Path(__file__).parents[1] / "networks")
    return ["latest", *dict.fromkeys("-".join(run.split("-")[2:-1]) for run in ids + shipped), *ids]


def _run_ids(directory: Path) -> list[str]:
    with suppress(OSError):
        return sorted((path.name for path in directory.iterdir() if (path / "manifest.json").is_file()), reverse=True)
    return []


CONFIG_HELP = "A recipe (`lenet recipes`), or a YAML file; by default, the recipe relu."
RECIPE: dict[str, Any] = {"metavar": "NAME|FILE", "autocompletion": recipe_paths}
ConfigName = Annotated[str | None, typer.Option("--config", "-c", **RECIPE, help=CONFIG_HELP)]
Assignments = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set any value (docs/options.md); repeatable.")
]
RUN: dict[str, Any] = {"metavar": "RUN", "autocompletion": run_names}
RUNS = RUN | {"metavar": "RUN..."}
RUN_HELP = "A run's path, id or name, or `latest`."
RunName = Annotated[str, typer.Argument(**RUN, help=RUN_HELP)]
Resume = Annotated[str | None, typer.Option("--resume", **RUN, help="Resume an interrupted run.")]
Device = Annotated[DeviceName | None, typer.Option("--device", help="Where to compute; by default, as in training.")]
DataDir = Annotated[
    Path,
    typer.Option(
        "--data-dir",
        parser=parse_path,
        metavar="<path>",
        envvar="LENET_DATA_DIR",
        show_default="the user's cache",
        help="Where the data are.",
    ),
]
RunsDir = Annotated[
    Path,
    typer.Option("--runs-dir", parser=parse_path, metavar="<path>", envvar="LENET_RUNS_DIR", help="Where runs are."),
]
Offline = Annotated[bool, typer.Option("--offline", help="Never use the network.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show results and errors only.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show what is decided: engine, threads, files.")]


def output(help_text: str) -> Any:
    """Return the option --output."""
    return typer.Option("--output", parser=parse_path, metavar="<path>", help=help_text)


_KEYS = {flag: key for key, flag in flags_of(Config).items()}
EXPERIMENT = ("--activation", "--epochs", "--batch-size", "--limit-train", "--seed", "--name")
MACHINE = ("--threads", "--device", "--engine")


def configured(*flags: str) -> Callable[[Command], Command]:
    """Give a command the configuration that --config, --set and some flags of config.py make, as its `resolved`."""

    def decorate(command: Command) -> Command:
        def run(config: str | None, assignments: list[str] | None, **given: Any) -> None:
            from lenet_mnist.config_file import load_config

            typed = {flag: given.pop(_parameter_name(flag)) for flag in flags}
            values = {_KEYS[flag]: _value(flag, words) for flag, words in typed.items() if words not in (None, [])}
            command(resolved=load_config(config, assignments or (), values), **given)

        kinds = {"config": ConfigName, "assignments": Assignments} | {_parameter_name(f): _option(f) for f in flags}
        own = [each for each in inspect.signature(command).parameters.values() if each.name != "resolved"]
        return taking(run, command, [parameter(*kind, None) for kind in kinds.items()] + own)

    return decorate


def parameter(name: str, kind: Any, default: Any) -> inspect.Parameter:
    """Return a parameter, as typer makes a flag of it."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)


def taking(run: Command, command: Command, parameters: Sequence[inspect.Parameter]) -> Command:
    """Let `run`, which stands for `command`, have these parameters, which typer reads."""
    functools.update_wrapper(run, command)
    keywords = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters]
    run.__signature__ = inspect.Signature(keywords)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in keywords}
    return run


_TYPES = ("int", "float", "str", "bool")


def _parameter_name(flag: str) -> str:
    return flag.removeprefix("--").replace("-", "_")


def _option(flag: str) -> Any:
    """Return a flag of config.py as typer wants it. It takes any text: the configuration says what is wrong with it."""
    field = fields_of(Config)[_KEYS[flag]]
    is_list = get_origin(field.annotation) is tuple
    about = f"{field.description}{' Repeatable.' * is_list}"
    words = _words(field.annotation)
    completed = run_names if flag == "--teacher" else lambda: [word for word in words if word not in _TYPES]
    option = typer.Option(flag, metavar=f"<{'|'.join(words)}>", autocompletion=completed, help=about)
    return Annotated[(list[str] if is_list else str) | None, option]


def _value(flag: str, words: Any) -> Any:
    """Return what was typed: YAML, unless the value is text. Nothing is text, too, not null."""
    from lenet_mnist.config_file import parse_yaml

    is_text = words == "" or "str" in _words(fields_of(Config)[_KEYS[flag]].annotation)
    return words if is_text else parse_yaml(words, flag)


def _words(kind: Any) -> list[str]:
    """Return what a value may be: the names of types, and words."""
    if get_origin(kind) is Literal:
        return list(get_args(kind))
    if get_origin(kind) in (Annotated, tuple):
        return _words(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return [word for part in get_args(kind) if part is not NoneType for word in _words(part)]
    return list(kind) if issubclass(kind, StrEnum) else [kind.__name__]
