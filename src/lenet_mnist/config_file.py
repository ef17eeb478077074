"""Configuration in and out: strict YAML, the layers that make one Config, and messages that name file and key.

Later layers win over earlier ones: defaults, the file, `--set key=value`, flags.
"""

import math
import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lenet_mnist.config import Activation, Config
from lenet_mnist.errors import ConfigError, one_line
from lenet_mnist.files.storage import decode_text, read_bounded
from lenet_mnist.recipes import find_config
from lenet_mnist.sections import flags_of, flat_values

MAX_CONFIG_BYTES = 64 * 1024
MAX_SEEDS = 1000
FLAGS = flags_of(Config)  # by key
KNOWN_KEYS = tuple(FLAGS)
_SECTIONS = {key.partition(".")[0] for key in KNOWN_KEYS if "." in key}
_RECIPE_RATES = {Activation.SIGMOID: 0.2, Activation.TANH: 0.05}  # of configs/


@dataclass(frozen=True)
class Layer:
    """Some values by dotted key, and where they come from: a file's path, `--set` or a flag."""

    origin: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class ResolvedConfig:
    """A complete configuration, and the origin of each value that is not a default."""

    config: Config
    origins: Mapping[str, str]

    @property
    def notes(self) -> tuple[str, ...]:
        """Warnings about values that were left out, one sentence each."""
        config, usual, rate = self.config, Config(), self.config.training.learning_rate
        chosen, wanted = (f"{each.model.activation} with {each.training.optimizer}" for each in (usual, config))
        if "training.learning_rate" in self.origins or wanted == chosen:
            return ()
        recipe, activation = "", config.model.activation
        if config.training.optimizer is usual.training.optimizer and activation in _RECIPE_RATES:
            recipe = f"; --config {activation} is a recipe for it (--lr {_RECIPE_RATES[activation]:g})"
        return (
            f"the learning rate {rate} was chosen for {chosen}, not for {wanted}{recipe}; --lr auto searches for one",
        )

    def with_flag(self, key: str, value: Any) -> "ResolvedConfig":
        """Return the same with one more value. Raises: ConfigError."""
        return ResolvedConfig(self.config.replace({key: value}), {**self.origins, key: FLAGS[key]})

    def naming_origins(self) -> AbstractContextManager[None]:
        """Put the origin of its key before the message of a ConfigError that is raised inside."""
        return _naming(self.origins)


def load_config(
    path: Path | str | None = None, assignments: Sequence[str] = (), flags: Mapping[str, Any] | None = None
) -> ResolvedConfig:
    """Read a file, apply `assignments` ("training.max_epochs=3") and then `flags`, which are values by dotted key.

    `path` may be the name of a recipe, as in "accurate".

    Raises: ConfigError, in one line, for anything that is not a valid configuration.
    """
    layers = [] if path is None else [Layer(str(path), read_yaml_config(find_config(str(path))))]
    layers += [_assignment(text) for text in assignments]
    layers += [Layer(FLAGS[key], {key: value}) for key, value in (flags or {}).items()]
    return resolve(layers)


def read_yaml_config(path: Path) -> dict[str, Any]:
    """Return the values in a configuration file by dotted key. Raises: ConfigError."""
    content = read_bounded(path, max_bytes=MAX_CONFIG_BYTES, error=ConfigError)
    values = parse_yaml(decode_text(content, path, ConfigError), origin=str(path))
    if values is None:
        raise ConfigError(f"{path}: empty. `lenet config show` prints a complete configuration to start from")
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: contains a {type(values).__name__}, expected keys and values")
    return dict(_flatten(values, origin=str(path)))


def resolve(layers: Sequence[Layer]) -> ResolvedConfig:
    """Merge `layers` over the defaults and validate the whole. Raises: ConfigError naming origin and key."""
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for layer in layers:
        merged |= layer.values
        origins |= dict.fromkeys(layer.values, layer.origin)
    with _naming(origins):
        return ResolvedConfig(Config.of(merged), origins)


@contextmanager
def _naming(origins: Mapping[str, str]) -> Iterator[None]:
    try:
        yield
    except ConfigError as error:
        if error.key is None or error.key not in origins:
            raise
        message = str(error).removeprefix(f"{error.key}: ")
        raise ConfigError(f"{origins[error.key]}: {error.key}: {message}") from error


def to_yaml(config: Config) -> str:
    """Return the complete configuration as YAML that `load_config` reads back to an equal one."""
    return _dump(config.model_dump(mode="json"))


def annotated_yaml(resolved: ResolvedConfig) -> str:
    """Return the complete configuration as YAML, the origin of each value in a comment behind it."""
    lines: list[str] = []
    section = ""
    for key, value in flat_values(resolved.config).items():
        outer, _, name = key.rpartition(".")
        if outer != section:
            lines.append(f"{outer}:")
            section = outer
        line = f"{'  ' if outer else ''}{name}: {value_text(value)}"
        lines.append(f"{line:36}  # {one_line(resolved.origins.get(key, 'default'))}")
    return "\n".join(lines) + "\n"


def value_text(value: Any) -> str:
    """Return one value of a configuration as YAML, in one line."""
    plain = list(value) if isinstance(value, tuple) else getattr(value, "value", value)
    return _dump(plain, default_flow_style=True, width=math.inf).removesuffix("...\n").strip()


def parse_seeds(text: str) -> list[int]:
    """Return the seeds in "0-4" or "0,7" or both mixed, without repetition. Raises: ConfigError."""
    seeds: dict[int, None] = {}
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,18})\s*(?:-\s*(\d{1,18})\s*)?", part)
        if match is None:
            raise ConfigError(f"--seeds {text}: expected numbers and ranges, as in 0-4 or 0,7")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last - first >= MAX_SEEDS:
            raise ConfigError(f"--seeds {text}: {part.strip()} is not a range of 1 to {MAX_SEEDS} seeds")
        seeds |= dict.fromkeys(range(first, last + 1))
    return list(seeds)


def _assignment(text: str) -> Layer:
    """Read one `--set key=value`; the value is YAML."""
    key, separator, value = text.partition("=")
    origin = f"--set {text}"
    if not separator:
        raise ConfigError(f"{origin}: expected key=value, as in --set training.max_epochs=3")
    return layer_of(origin, key.strip(), parse_yaml(value, origin))


def layer_of(origin: str, key: str, value: Any) -> Layer:
    """Return one value by its dotted key, or a section of them by name, as a layer. Raises: ConfigError."""
    return Layer(origin, {key: value} if "." in key else dict(_flatten({key: value}, origin)))


def _flatten(values: Mapping[str, Any], origin: str) -> Iterator[tuple[str, Any]]:
    """Yield dotted keys and values; only sections are opened."""
    for name, value in values.items():
        if "." in name.strip("."):
            raise ConfigError(f"{origin}: {name}: a key cannot contain a point: write the section on a line of its own")
        if name not in _SECTIONS:
            yield name, value
        elif isinstance(value, dict):
            yield from ((f"{name}.{inner}", inner_value) for inner, inner_value in value.items())
        elif value is not None:  # an empty section changes nothing
            raise ConfigError(f"{origin}: {name}: is a section with keys of its own, not a value")


# Strict YAML: the plain scalars of YAML 1.2 (`1e-3` is a number, `no` a word); no aliases, tags or duplicate keys.


class _StrictLoader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, list[tuple[str, Any]]] = {}  # noqa: RUF012  # PyYAML's own are of YAML 1.1

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise _refused("aliases (*name) are not allowed here: write the value out", event)
        if getattr(event, "tag", None) is not None:
            raise _refused(f"tags ({event.tag}) are not allowed here: write the value alone", event)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise _refused(f"the key {key!r} is not a word", key_node)
            if key in seen:
                raise _refused(f"duplicate key {key!r}", key_node)
            seen.add(key)
        return super().construct_mapping(node, deep)


class _StrictDumper(yaml.SafeDumper):
    yaml_implicit_resolvers = _StrictLoader.yaml_implicit_resolvers  # a name such as 1e3 is written in quotes


_NUMBER = r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(0|[1-9][0-9]*)", list("-+0123456789")),
    ("float", rf"{_NUMBER}|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", list("-+.0123456789")),
):
    _StrictLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), _first)


def _refused(problem: str, place: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=place.start_mark)


def _dump(value: Any, **style: Any) -> str:
    text: str = yaml.dump(value, Dumper=_StrictDumper, sort_keys=False, allow_unicode=True, **style)
    return text


def parse_yaml(text: str, origin: str) -> Any:
    """Return the value in `text`. Raises: ConfigError naming `origin` and the line."""
    try:
        return yaml.load(text, _StrictLoader)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ConfigError(f"{origin}: {line}{error.problem}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{origin}: not YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ConfigError(f"{origin}: nested too deeply") from None
    except ValueError as error:
        raise ConfigError(f"{origin}: {error}") from None
