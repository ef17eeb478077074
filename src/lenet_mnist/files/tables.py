"""Tables and values on disk: CSV with a header, one dataclass a row; JSON. What is read is not trusted."""

import csv
import dataclasses
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from lenet_mnist.errors import DataError
from lenet_mnist.files.storage import read_bounded, write_text

MAX_TEXT_BYTES = 64 * 1024 * 1024
_MAX_ROWS = 1_000_000  # steps.csv has 700,000 after 14 million updates
_MAX_LINE_BYTES = 256 * 1024  # confusion_matrix.csv: 10,000 counts
_MAX_JSON_BYTES = 8 * 1024 * 1024
_MAX_JSON_VALUES = 300_000  # metrics.json of 10,000 classes
_FORMULA = re.compile(r"[\s\0'\"]*[=+\-@＝＋－＠]")  # full-width signs, too: some programs make them plain
_Row = TypeVar("_Row")


def header_line(kind: type[Any]) -> str:
    """Return the first line of a CSV file whose rows are dataclasses of `kind`."""
    return ",".join(field.name for field in dataclasses.fields(kind)) + "\n"


def row_line(row: Any) -> bytes:
    """Return a dataclass of numbers and plain words as a line of a CSV file.

    Each number comes back as it was, to the last bit.
    """
    cells = dataclasses.astuple(row)
    return (",".join(str(cell) if isinstance(cell, str) else repr(cell) for cell in cells) + "\n").encode()


def read_rows(path: Path, kind: type[_Row], max_rows: int = _MAX_ROWS) -> list[_Row]:
    """Return the rows of a CSV file as dataclasses of `kind`. Raises: DataError."""
    records = read_records(path, max_rows)
    header = next(records, [])
    names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    if header and (missing := [name for name in names if name not in header]):
        raise DataError(f"{path}: not the rows of {kind.__name__}: there is no column {missing[0]}")
    places = [(name, header.index(name)) for name in names if header]
    parse = TypeAdapter(kind).validate_python
    rows = []
    for record in records:
        try:
            rows.append(parse({name: record[place] for name, place in places}))
        except (IndexError, ValidationError) as error:
            said = "cells are missing" if isinstance(error, IndexError) else first_error(error)
            raise DataError(f"{path}: not the rows of {kind.__name__}: {len(rows)}: {said}") from None
    return rows


def first_error(error: ValidationError) -> str:
    """Say what is wrong first, and where."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


def read_csv(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file with a header. Raises: DataError."""
    header, *rows = read_records(path)
    return [dict(zip(header, row, strict=False)) for row in rows]


def read_records(path: Path, max_rows: int = _MAX_ROWS) -> Iterator[list[str]]:
    """Yield every row of a CSV file, the header included, one at a time; a last line without its end is passed over.

    Raises: DataError, at once for what is too much to be a table of ours.
    """
    content = read_bounded(path, max_bytes=MAX_TEXT_BYTES, error=DataError)
    lines = io.BytesIO(content[: content.rfind(b"\n") + 1])  # a process may have died within the last one
    if content.count(b"\n") > max_rows + 1 or any(len(line) > _MAX_LINE_BYTES for line in lines):
        raise DataError(f"{path}: has more than {max_rows:,} rows, or one of more than {_MAX_LINE_BYTES:,} bytes")
    lines.seek(0)
    try:
        yield from filter(None, csv.reader(io.TextIOWrapper(lines, encoding="utf-8", newline="")))
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
    return f"'{cell}" if isinstance(cell, str) and _FORMULA.match(cell) else cell


def read_json(path: Path) -> Any:
    """Return the value in a JSON file. Raises: DataError."""
    try:
        return json.loads(read_json_text(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON: {error}") from None


def read_json_text(path: Path) -> bytes:
    """Return the content of a JSON file, unless it would take far more memory when it is parsed. Raises: DataError."""
    content = read_bounded(path, max_bytes=_MAX_JSON_BYTES, error=DataError)
    if num_values(content) > _MAX_JSON_VALUES:
        raise DataError(f"{path}: holds more than {_MAX_JSON_VALUES:,} values")
    return content


def num_values(content: bytes) -> int:
    """Return how many values there can be in a JSON text, at most."""
    return sum(map(content.count, (b",", b"[", b"{")))


def plain(value: Any) -> Any:
    """Return `value` as JSON can hold it: a dataclass as its fields, a path as text; `plain()` of what has its own."""
    if hasattr(value, "plain"):
        return value.plain()
    if hasattr(value, "_asdict"):
        value = value._asdict()
    elif dataclasses.is_dataclass(value):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file, whole or not at all; a number that is not finite is refused. Raises: StorageError."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")
