"""Tables and values on disk: CSV with a header, one dataclass a row; JSON. What is read is not trusted."""

import csv
import dataclasses
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO, TypeVar

from pydantic import TypeAdapter, ValidationError

from lenet_mnist.errors import DataError
from lenet_mnist.files.storage import read_bounded, write_text

MAX_TEXT_BYTES = 64 * 1024 * 1024
_Row = TypeVar("_Row")
_Parsed = TypeVar("_Parsed")


def header_line(kind: type[Any]) -> str:
    """Return the first line of a CSV file whose rows are dataclasses of `kind`."""
    return ",".join(field.name for field in dataclasses.fields(kind)) + "\n"


def row_line(row: Any) -> str:
    """Return a dataclass of numbers and plain words as a line of a CSV file.

    Each number comes back as it was, to the last bit.
    """
    cells = dataclasses.astuple(row)
    return ",".join(str(cell) if isinstance(cell, str) else repr(cell) for cell in cells) + "\n"


def read_rows(path: Path, kind: type[_Row]) -> list[_Row]:
    """Return the rows of a CSV file as dataclasses of `kind`. Raises: DataError."""
    header, rows = _parsed_csv(path, _with_header)
    missing = [name for name in header_line(kind).strip().split(",") if name not in header]
    if header and missing:
        raise DataError(f"{path}: not the rows of {kind.__name__}: there is no column {missing[0]}")
    try:
        return TypeAdapter(list[kind]).validate_python(rows)  # type: ignore[valid-type]
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise DataError(f"{path}: not the rows of {kind.__name__}: {where}: {first['msg']}") from None


def read_csv(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file with a header. Raises: DataError."""
    return _parsed_csv(path, _with_header)[1]


def _with_header(text: TextIO) -> tuple[Sequence[str], list[dict[str, str]]]:
    reader = csv.DictReader(text)
    rows = list(reader)
    return reader.fieldnames or (), rows


def read_cells(path: Path) -> list[list[str]]:
    """Return every row of a CSV file, the header included: for columns that may bear one name. Raises: DataError."""
    return _parsed_csv(path, lambda text: list(csv.reader(text)))


def _parsed_csv(path: Path, parse: Callable[[TextIO], _Parsed]) -> _Parsed:
    content = read_bounded(path, max_bytes=MAX_TEXT_BYTES, error=DataError)
    whole_lines = content[: content.rfind(b"\n") + 1]  # a process may have died within the last one
    try:
        return parse(io.StringIO(whole_lines.decode("utf-8")))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV file: {error}") from None


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write a CSV file, whole or not at all. Raises: StorageError."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([_inert(cell) for cell in row] for row in (header, *rows))
    write_text(path, text.getvalue())


def _inert(cell: Any) -> Any:
    """Put an apostrophe before text that a spreadsheet would take for a formula, as the name of a class could be."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@")) else cell


def read_json(path: Path) -> Any:
    """Return the value in a JSON file. Raises: DataError."""
    content = read_bounded(path, max_bytes=MAX_TEXT_BYTES, error=DataError)
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON: {error}") from None


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file, whole or not at all; a number that is not finite is refused. Raises: StorageError."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")
