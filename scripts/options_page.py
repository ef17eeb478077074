"""Write docs/options.md from config.py: every option with its flag, values, default and meaning.

python scripts/options_page.py
"""

from pathlib import Path
from typing import Any

import typer

from lenet_mnist.cli.app import app
from lenet_mnist.config import MAX_SEED, Config
from lenet_mnist.config_file import FLAGS, value_text
from lenet_mnist.sections import flat_values

PAGE = Path(__file__).parent.parent / "docs" / "options.md"
_INTRODUCTION = """\
# Options

<!-- Written by scripts/options_page.py from src/lenet_mnist/config.py. -->

Every value of a configuration, in the order of `lenet config show`. A value can be set in a YAML file
(`lenet train --config my.yaml`), by name (`--set training.warmup=0.2`) or, where the table shows one, by its flag;
flags win over `--set`, and `--set` wins over the file. Not every command has every flag: see `lenet <command> --help`.

`lenet config schema` prints the same as a JSON schema. An editor with a YAML language server (VS Code, Neovim, ...)
then completes, explains and checks configurations:

```sh
lenet config schema > lenet.schema.json
```

with this as the first line of my.yaml, beside it:

```yaml
# yaml-language-server: $schema=lenet.schema.json
```
"""
_LOWER = {"minimum": "≤", "exclusiveMinimum": "<"}
_UPPER = {"maximum": "≤", "exclusiveMaximum": "<"}
_TYPES = {"string": "text", "null": "`null`", "boolean": "`true`, `false`", "array": "list of texts"}


def page() -> str:
    """Return docs/options.md."""
    schema = Config.model_json_schema()
    offered = _flags_of(typer.main.get_command(app))
    defaults = flat_values(Config())
    sections = {"": schema} | {
        name: schema["$defs"][field["$ref"].rpartition("/")[2]]
        for name, field in schema["properties"].items()
        if "$ref" in field
    }
    lines = [_INTRODUCTION]
    for section, declared in sections.items():
        lines += [f"## {section or 'Top level'}", "", *([declared["description"], ""] if section else [])]
        lines += ["| name | flag | values | default | meaning |", "|---|---|---|---|---|"]
        for name, field in declared["properties"].items():
            key = f"{section}.{name}".lstrip(".")
            if key in FLAGS:
                flag = f"`{FLAGS[key]}`" if FLAGS[key] in offered else ""
                values = _values(field, schema["$defs"])
                lines.append(
                    f"| `{key}` | {flag} | {values} | `{value_text(defaults[key])}` | {field['description']} |"
                )
        lines.append("")
    return "\n".join(lines)


def _flags_of(command: Any) -> set[str]:
    below = getattr(command, "commands", {}).values()
    return {option for parameter in command.params for option in parameter.opts}.union(*map(_flags_of, below))


def _values(field: dict[str, Any], definitions: dict[str, Any]) -> str:
    """Say in words what a value may be."""
    if "anyOf" in field:
        return " or ".join(_values(each, definitions) for each in field["anyOf"])
    if "$ref" in field:
        return _values(definitions[field["$ref"].rpartition("/")[2]], definitions)
    if "enum" in field:
        return ", ".join(f"`{word}`" for word in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    kind = field["type"]
    low = "".join(f"{_number(field[bound])} {sign} " for bound, sign in _LOWER.items() if bound in field)
    high = "".join(f" {sign} {_number(field[bound])}" for bound, sign in _UPPER.items() if bound in field)
    return f"{kind}, {low}x{high}" if low or high else _TYPES[kind]


def _number(value: float) -> str:
    return "2^63 - 1" if value == MAX_SEED else f"{value:,.7g}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
