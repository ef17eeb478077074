"""What a command has found: one result, as text, as JSON, or for a notebook."""

import base64
import json
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from lenet_mnist.files.tables import plain

_NO_LIMIT = 10_000


@dataclass(frozen=True, repr=False)
class Result:
    """What a command has found: `values`, whose names are the keys of its JSON, the same as text, and its pictures.

    `figures` are Matplotlib's, by name; only what Python called has them.
    """

    values: dict[str, Any]
    text: str
    figures: Mapping[str, Any] = field(default_factory=dict)

    def plain(self) -> Any:
        return plain(self.values)

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return html_of(self.text, self.figures.values())


def html_of(text: str, figures: Iterable[Any] = ()) -> str:
    """Return a text and pictures for a notebook. Every letter of the text is text."""
    pngs = [base64.b64encode(figure._repr_png_()).decode() for figure in figures]
    images = [Markup('<img src="data:image/png;base64,{}">').format(png) for png in pngs]
    return str(Markup("<pre>{}</pre>").format(text) + Markup("").join(images))


def render(result: Any, as_json: bool) -> str:
    """Return a result as its text, `str(result)`, or as one JSON document of its fields.

    Sentences are folded to the terminal's width. A result that is a text, YAML for example, stays as it is.
    """
    if isinstance(result, str):
        return result
    if as_json:
        return to_json(plain(result))
    return "\n".join(map(_folded, str(result).split("\n")))


def _columns() -> int:
    """Return COLUMNS, or the width of the terminal; a file has no limit."""
    if "COLUMNS" in os.environ or (sys.stdout is not None and sys.stdout.isatty()):
        return shutil.get_terminal_size((_NO_LIMIT, 24)).columns
    return _NO_LIMIT


def _folded(line: str) -> str:
    """Return a line on several, where it is too long; a path or a command stays on one, to be copied."""
    if len(line) <= _columns() or "lenet " in line or len(line.split()) < 5:
        return line
    found = re.match(r".{0,20}  (?=\S)", line)  # what follows is folded under itself
    indent = " " * (found.end() if found else 0)
    return textwrap.fill(line, _columns(), subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def to_json(value: Any) -> str:
    """Return one JSON document. Raises: ValueError for a number that is not finite."""
    return json.dumps(value, indent=2, allow_nan=False)


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Return a table with columns of equal width, two spaces apart; the columns in `right` are right-aligned.

    Where the terminal is narrower, the widest column gives way: after a cell that is longer, the row goes on below.
    """
    widths = [max(len(row[k]) for row in (header, *rows)) for k in range(len(header))]
    excess, widest = sum(widths) + 2 * (len(widths) - 1) - _columns(), widths.index(max(widths))
    widths[widest] -= max(0, min(excess, widths[widest] - 3))
    lines = []
    for row in (header, *rows):
        line, start = "", 0
        for k, (cell, width) in enumerate(zip(row, widths, strict=True)):
            if len(line) > max(0, start - 2) and cell:
                lines.append(line)
                line = ""
            line = (line.ljust(start) + (cell.rjust(width) if k in right else cell)).rstrip()
            start += width + 2
        lines.append(line)
    return "\n".join(lines)


def counted(number: int, noun: str) -> str:
    """Return "1 image" or "2,000 images"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def plain_number(value: float, digits: int = 3) -> str:
    """Write a number with a few digits, thousands in full, and as a power of ten only far from one."""
    if 1e3 <= abs(value) < 1e6:
        return f"{value:,.6g}"
    return f"{value:.{digits}g}".replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")
