"""Records on disk: CSV with a header, one row per dataclass; JSON; journals. What is read is not trusted."""

import csv
import dataclasses
import io
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from lenet_mnist.errors import DataError
from lenet_mnist.files.storage import append_line, open_in_place, open_regular, read_bounded, storage_errors, write_text

MAX_TEXT_BYTES = 64 * 1024 * 1024
_MAX_ROWS = 1_000_000  # steps.csv has 700,000 after 14 million updates
_MAX_LINE_BYTES = 256 * 1024  # confusion_matrix.csv: 10,000 counts
_MAX_JSON_BYTES = 8 * 1024 * 1024
_MAX_JSON_VALUES = 300_000  # metrics.json of 10,000 classes
_MAX_JOURNAL_LINES = 100_000
_MAX_JOURNAL_LINE_BYTES = 32 * 1024 * 1024
_MAX_JOURNAL_VALUES = 15_000_000  # in total: 2,000 trainings of 20 epochs, or 90 cross-validations of MNIST
_FORMULA = re.compile(r"[\s\0'\"]*[=+\-@＝＋－＠]")  # full-width signs, too: some programs normalise them
_Row = TypeVar("_Row")


def header_line(kind: type[Any]) -> str:
    """Return the first line of a CSV file whose rows are dataclasses of `kind`."""
    return ",".join(field.name for field in dataclasses.fields(kind)) + "\n"


def row_line(row: Any) -> bytes:
    """Return a dataclass of numbers and plain words as a line of a CSV file. Numbers are read back exactly."""
    cells = dataclasses.astuple(row)
    return (",".join(str(cell) if isinstance(cell, str) else repr(cell) for cell in cells) + "\n").encode()


def read_rows(path: Path, kind: type[_Row], max_rows: int = _MAX_ROWS) -> list[_Row]:
    """Return the rows of a CSV file as dataclasses of `kind`. Raises: DataError."""
    records = read_records(path, max_rows)
    header = next(records, [])
    if header and not {field.name for field in dataclasses.fields(kind)} <= set(header):  # type: ignore[arg-type]
        raise DataError(f"{path}: not the rows of {kind.__name__}")  # also where there is no row to show it
    parse = TypeAdapter(kind).validate_python
    rows = []
    for record in records:
        try:
            rows.append(parse(dict(zip(header, record, strict=False))))
        except ValidationError as error:
            said = f"{len(rows)}: {first_error(error)}"
            raise DataError(f"{path}: not the rows of {kind.__name__}: {said}") from None
    return rows


def first_error(error: ValidationError) -> str:
    """Return where the first error is, and what it is."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


def read_records(path: Path, max_rows: int = _MAX_ROWS) -> Iterator[list[str]]:
    """Yield every row of a CSV file, the header included, one at a time; an unfinished last line is skipped.

    Raises: DataError, before the first row if the file is larger than our tables can be.
    """
    content = read_bounded(path, max_bytes=MAX_TEXT_BYTES, error=DataError)
    lines = io.BytesIO(content[: content.rfind(b"\n") + 1])  # a process may have died while it wrote the last one
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
    writer.writerows([_no_formula(cell) for cell in row] for row in (header, *rows))
    write_text(path, text.getvalue())


def _no_formula(cell: Any) -> Any:
    """Put an apostrophe before text that a spreadsheet would run as a formula; a class's name could be one."""
    return f"'{cell}" if isinstance(cell, str) and _FORMULA.match(cell) else cell


def read_json(path: Path) -> Any:
    """Return the value in a JSON file. Raises: DataError."""
    try:
        return json.loads(read_json_text(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON: {error}") from None


def read_json_text(path: Path) -> bytes:
    """Return the content of a JSON file, unless parsing would take far more memory. Raises: DataError."""
    content = read_bounded(path, max_bytes=_MAX_JSON_BYTES, error=DataError)
    if _max_values(content) > _MAX_JSON_VALUES:
        raise DataError(f"{path}: holds more than {_MAX_JSON_VALUES:,} values")
    return content


def _max_values(content: bytes) -> int:
    """Return how many values a JSON text can have at most."""
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


class Journal:
    """One JSON document per line in `path`, in their order, to which more are added: a crash loses only the last.

    An unfinished last line, of a process that died or is still writing it, is skipped, and cut off before the next
    document is added. `require_lock` raises StorageError if nothing may be written.
    """

    def __init__(self, path: Path, require_lock: Callable[[], None] = lambda: None) -> None:
        self._path = path
        self._is_mended = False
        self.require_lock = require_lock

    def documents(self) -> Iterator[Any]:
        """Yield them, one at a time. Raises: DataError if a line is damaged, or the file is too large for a journal."""
        if not os.path.lexists(self._path):
            return
        num_left = _MAX_JOURNAL_VALUES
        with open_regular(self._path, DataError) as file:
            for number, line in enumerate(iter(lambda: file.readline(_MAX_JOURNAL_LINE_BYTES), b""), start=1):
                num_left -= _max_values(line)
                if number > _MAX_JOURNAL_LINES or num_left < 0 or len(line) == _MAX_JOURNAL_LINE_BYTES:
                    raise DataError(f"{self._path}: line {number}: larger than a journal can be")
                if not line.endswith(b"\n"):
                    return
                try:
                    yield json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise DataError(f"{self._path}: line {number}: not JSON: {error}") from None

    def add(self, document: Any) -> None:
        """Append a document; when this returns, it is on disk. Only for the lock's holder. Raises: StorageError."""
        line = json.dumps(document, allow_nan=False) + "\n"
        self.require_lock()
        if not self._is_mended and os.path.lexists(self._path):
            self._mend()
        self._is_mended = True
        append_line(self._path, line.encode())

    def _mend(self) -> None:
        with storage_errors(self._path, "mend"), os.fdopen(open_in_place(self._path, os.O_RDWR), "r+b") as file:
            start = max(0, os.fstat(file.fileno()).st_size - _MAX_JOURNAL_LINE_BYTES)
            file.seek(start)
            rest = file.read()
            if not rest.endswith(b"\n"):
                os.ftruncate(file.fileno(), start + rest.rfind(b"\n") + 1)
