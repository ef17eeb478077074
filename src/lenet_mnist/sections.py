"""Frozen values in sections, each with a dotted key: what a configuration is made of (config.py declares ours)."""

import difflib
from collections.abc import Mapping
from functools import cache
from operator import attrgetter
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from lenet_mnist.errors import ConfigError


class Section(BaseModel):
    """Frozen; no unknown keys, no conversion between types, no nan, no infinity. A field's docstring is its help."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True, defer_build=True
    )

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Make one of values by dotted key. Raises: ConfigError, whose `key` is that of the first wrong value."""
        nested: dict[str, Any] = {}
        for key, value in values.items():
            if key not in fields_of(cls) and key not in cls.model_fields:
                raise ConfigError(f"{key}: unknown key. {_hint(cls, key)}", key=key)
            section, _, name = key.rpartition(".")
            (nested.setdefault(section, {}) if section else nested)[name] = value
        try:
            return cls.model_validate(nested)
        except ValidationError as error:
            key, message = _first_problem(error)
            raise ConfigError(f"{key}: {message}", key=key) from None

    def replace(self, values: Mapping[str, Any]) -> Self:
        """Return the same with other values, by dotted key, or whole sections. Raises: ConfigError, as `of`."""
        return self.of({**flat_values(self), **values})


def flat_values(section: Section) -> dict[str, Any]:
    """Return all values by dotted key, in declared order."""
    return {key: attrgetter(key)(section) for key in fields_of(type(section))}


@cache
def fields_of(section: type[Section], prefix: str = "") -> dict[str, FieldInfo]:
    """Return what is declared of each value (type, default, help), by dotted key."""
    found: dict[str, FieldInfo] = {}
    for name, field in section.model_fields.items():
        kind: Any = field.annotation
        is_section = isinstance(kind, type) and issubclass(kind, Section)
        found |= fields_of(kind, f"{prefix}{name}.") if is_section else {prefix + name: field}
    return found


def flags_of(section: type[Section]) -> dict[str, str]:
    """Return the flag that sets each value, on the commands that offer it: its own name, if it declares no other."""
    flags = {}
    for key, field in fields_of(section).items():
        other = field.json_schema_extra
        own = "--" + key.rpartition(".")[2].replace("_", "-")
        flags[key] = str(other["flag"]) if isinstance(other, dict) else own
    return flags


def _hint(section: type[Section], key: str) -> str:
    """Return the nearest known key, by all of it or by its last part."""
    by_last_name = {known.rpartition(".")[2]: known for known in fields_of(section)}
    near = difflib.get_close_matches(key, [*fields_of(section), *section.model_fields], n=1)
    near = near or [by_last_name[name] for name in difflib.get_close_matches(key.rpartition(".")[2], by_last_name, n=1)]
    return f"Did you mean {near[0]}?" if near else "`lenet config show` lists all keys"


def _first_problem(error: ValidationError) -> tuple[str, str]:
    """Return the key of the first wrong value, and what is wrong with it."""
    first = error.errors(include_url=False)[0]
    key = ".".join(map(str, first["loc"]))
    message = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    named, _, rule = message.partition(": ")
    if named.startswith(f"{key}."):  # a rule over several values, which names one of them itself
        return named, rule
    shown = repr(first["input"])
    return key, f"{message}, but it is {shown if len(shown) <= 60 else shown[:57] + '...'}"
